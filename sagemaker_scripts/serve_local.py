"""Serve a model.tar.gz on this machine under SageMaker's contract, with a page to drop pictures on.

GET /ping and POST /invocations answer as an endpoint does, by the archive's own inference.py,
which is run: serve only archives that you trust. GET / is the page. Ctrl-C stops the server.
"""

import asyncio
import contextlib
import gc
import os
import queue
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from sagemaker_scripts import common, package_model

HOST = "127.0.0.1"
PORT = 8080
PAGE = Path(__file__).resolve().parent / "page.html"
# The page loads nothing from elsewhere, and this lets it load nothing.
PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
BODY_SECONDS = 30
# A body that is too large is read on to this multiple of the limit, so that its sender hears why.
DRAIN = 8
# Pictures decoded at once: each may take 200 MB.
PICTURES = 2
STOP_SECONDS = 5


class Batcher:
    """Requests that arrive together are predicted together.

    Calls `predict`, arrays (n, ...) to arrays (n, classes), from one thread for all callers.

    What waits while a batch is computed goes into the next one, so that nobody is ever held up
    to fill a batch: alone, a caller has the shortest latency; in a crowd, all share the cost of
    a pass over the weights. `largest`: images in one call of `predict` at most.
    """

    def __init__(self, predict, largest=64):
        self._predict = predict
        self._largest = largest
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def __call__(self, images):
        """The predictions of `images` (n, ...), for any thread; raises what `predict` raises."""
        future = Future()
        self._queue.put((images, future))
        return future.result()

    def close(self):
        """Answer what waits, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self):
        last = False
        while not last:
            waiting, last = self._gather()
            if not waiting:
                continue
            try:
                answers = self._predict_all(np.concatenate([images for images, _ in waiting]))
            except Exception as error:  # It belongs to the callers; the thread serves the next ones.
                for _, future in waiting:
                    future.set_exception(error)
                continue
            ends = np.cumsum([len(images) for images, _ in waiting])
            for part, (_, future) in zip(np.split(answers, ends[:-1]), waiting, strict=True):
                future.set_result(part)

    def _gather(self):
        """([(images, future), ...] that wait, up to `largest` images, whether `close` was called)."""
        waiting, count = [], 0
        while not waiting or count < self._largest:
            try:
                item = self._queue.get(block=not waiting)
            except queue.Empty:
                break
            if item is None:
                return waiting, True
            waiting.append(item)
            count += len(item[0])
        return waiting, False

    def _predict_all(self, images):
        starts = range(0, len(images), self._largest)
        return np.concatenate([self._predict(images[i : i + self._largest]) for i in starts])


class Served:
    """The model of an unpacked archive: request bodies in, answers out, from any thread."""

    def __init__(self, folder):
        from cnnlab import machine

        machine.import_keras()
        self.inference = package_model.load_handlers(folder)
        self.card = self.inference.card()
        self._model = self.inference.model_fn(folder)
        self._batcher = Batcher(lambda images: self.inference.predict_pixels(images, self._model))
        self._pictures = threading.Semaphore(PICTURES)
        self._warm_up()

    def answer(self, body, content_type):
        """(body, content type) of the answer; raises the archive's RequestError for a bad request."""
        return self.inference.output_fn(self.predict(self.inference.input_fn(body, content_type)), "application/json")

    def predict(self, decoded):
        """Probabilities, float32 (n, classes), of what `inference.decode` gives."""
        if isinstance(decoded, self.inference.Picture):
            with self._pictures:
                return self.inference.predict_picture(decoded, self._model)
        return self._batcher(self.inference.pixel_array(decoded))

    def close(self):
        self._batcher.close()

    def _warm_up(self):
        """The first call of each signature traces and allocates, which no user should wait for."""
        import tensorflow as tf

        black = tf.zeros(self.card["input_shape"], "uint8")
        self.predict(self.inference.Pixels((1, *black.shape), black.numpy().tobytes()))
        self.predict(self.inference.Picture(tf.io.encode_png(black).numpy()))


def make_app(served):
    """The ASGI application that answers for `served`."""
    from fastapi import FastAPI, Request, Response
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import FileResponse, JSONResponse
    from starlette.requests import ClientDisconnect

    app = FastAPI(title=served.card["name"], docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(served.inference.RequestError)
    async def refuse(_, error):
        # What is left of a body that was not read to its end must not be taken for the next request.
        headers = {"Connection": "close"} if error.status_code in (408, 413) else None
        return JSONResponse({"error": error.message}, error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(*_):
        return Response(status_code=400)

    @app.get("/ping")
    async def ping():
        return Response(status_code=200)

    @app.get("/")
    async def page():
        return FileResponse(PAGE, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/model_card")
    async def model_card():
        return served.card

    @app.post("/invocations")
    async def invocations(request: Request):
        body = await _read(request, served.inference)
        answer, kind = await run_in_threadpool(served.answer, body, request.headers.get("content-type"))
        return Response(answer, media_type=kind)

    return app


async def _read(request, inference):
    """The request's body, of a bounded size and in a bounded time."""
    limit, parts, size = inference.MAX_BODY_BYTES, [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= limit:
                    parts.append(part)
                elif size > DRAIN * limit:
                    break
    except TimeoutError:
        raise inference.RequestError(408, f"the body did not arrive within {BODY_SECONDS} seconds") from None
    inference.check_size(size)
    return b"".join(parts)


@contextlib.contextmanager
def start(archive, port=0):
    """Serve `archive` from threads of this process; yields the URL, and stops when the block ends.

    `port` 0 takes a free one. Raises BadArgumentsError for a missing archive or a taken port,
    ArchiveError for one that does not start.
    """
    with _server(archive, port) as (server, listener, url):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def _server(archive, port):
    """(uvicorn server, its listening socket, its URL) for `archive`, not yet running."""
    import uvicorn

    with contextlib.ExitStack() as cleanup:
        # Before the model is loaded: a taken port is found out at once.
        listener = cleanup.enter_context(contextlib.closing(_listen(port)))
        folder = cleanup.enter_context(package_model.unpacked(archive))
        served = cleanup.enter_context(contextlib.closing(Served(folder)))
        # With TensorFlow's objects out of its sight, the collector costs a request ten times less.
        gc.collect()
        gc.freeze()
        cleanup.callback(gc.unfreeze)
        config = uvicorn.Config(
            make_app(served), log_level="warning", access_log=False, timeout_graceful_shutdown=STOP_SECONDS
        )
        yield uvicorn.Server(config), listener, f"http://{HOST}:{listener.getsockname()[1]}"


def _listen(port):
    try:
        listener = socket.create_server((HOST, port), backlog=512)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) else error
        raise common.BadArgumentsError(
            f"port {port} of {HOST} cannot be used ({reason}); choose another with --port, or --port 0 for a free one"
        ) from None
    # Connections inherit it; without it an answer's body waits 40 ms for the client's acknowledgement
    # of its header (Nagle's algorithm against delayed acknowledgements).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("archive", help="a model.tar.gz of package_model.py")
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)")
    return parser


def main(argv=None):
    options = make_parser().parse_args(argv)
    with _server(options.archive, options.port) as (server, listener, url):
        # uvicorn stops on these and then passes them on: to nobody, so that the exit code is 0.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        print(f"{options.archive} is served at {url}/ until Ctrl-C", flush=True)
        common.print_next(f"python sagemaker_scripts/test_endpoint.py --url {url}", "in another terminal")
        server.run(sockets=[listener])
    print("stopped")


if __name__ == "__main__":
    sys.exit(common.run(main))
