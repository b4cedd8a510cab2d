"""Serve a model.tar.gz on this machine under SageMaker's contract, with a page to drop pictures on.

GET /ping and POST /invocations answer as an endpoint does, by running the archive's own
inference.py: serve only archives that you trust. GET / is the page; POST /seen returns a picture
as the model sees it. Ctrl-C stops the server.
Only this machine can reach it, unless --host says otherwise: then a token is needed.
"""

import asyncio
import contextlib
import gc
import json
import secrets
import signal
import socket
import sys
import threading
from mimetypes import guess_type
from pathlib import Path

from sagemaker_scripts import common
from sagemaker_scripts.serving import archive as archives
from sagemaker_scripts.serving import guards
from sagemaker_scripts.serving.served import JSON, Served

HOST = "127.0.0.1"
# Addresses that stand for all of a machine's addresses, and how this machine itself reaches them.
EVERYWHERE = {"": HOST, "0.0.0.0": HOST, "::": "::1"}
PORT = 8080
PAGE = Path(__file__).resolve().parent / "page.html"
# The header in which SageMaker passes on a caller's CustomAttributes.
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
EXAMPLES = "/examples/"
TEXT = "text/plain"
# The page loads nothing from elsewhere, and this makes sure of it.
PAGE_HEADERS = [(
    b"content-security-policy",
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)]  # fmt: skip
BODY_SECONDS = 30
# A body that is too large is read up to this multiple of the limit, so that its sender gets to see the reason.
DRAIN = 8
STOP_SECONDS = 5


def make_app(served):
    """The ASGI application that answers for `served`: one function, since every layer would cost every request time."""
    inference = served.inference

    # Each takes a request and returns (status, content type, content, further headers).
    async def ping(_scope, _receive):
        return 200, TEXT, b"", ()

    async def page(_scope, _receive):
        return 200, "text/html; charset=utf-8", PAGE.read_bytes(), PAGE_HEADERS

    async def model_card(_scope, _receive):
        return 200, JSON, json.dumps(served.card, ensure_ascii=False).encode(), ()

    async def example(scope, _receive):
        path = served.examples.get(scope["path"].removeprefix(EXAMPLES))
        return (200, guess_type(path.name)[0], path.read_bytes(), ()) if path else (404, TEXT, b"Not Found", ())

    async def answer(scope, receive):
        headers = dict(scope["headers"])
        asked = [scope["query_string"], headers.get(ATTRIBUTES, b"")]
        why = any(inference.asks_why(text.decode("latin-1")) for text in asked)
        content, kind = await served.answer_soon(await _read(receive, inference), _content_type(headers), why)
        return 200, kind, content, ()

    async def seen(scope, receive):
        body = await _read(receive, inference)
        return 200, "image/png", await served.seen(body, _content_type(dict(scope["headers"]))), ()

    routes = {
        "/invocations": (answer, "POST"), "/seen": (seen, "POST"), "/ping": (ping, "GET, HEAD"),
        "/": (page, "GET, HEAD"), "/model_card": (model_card, "GET, HEAD"),
    }  # fmt: skip

    async def app(scope, receive, send):
        handle, methods = routes.get(scope["path"], (example, "GET, HEAD"))
        if scope["method"] not in methods.split(", "):
            return await guards.respond(send, 405, TEXT, b"Method Not Allowed", [(b"allow", methods.encode())])
        try:
            response = await handle(scope, receive)
        except inference.RequestError as error:
            # The rest of a body that was not read to its end must not be taken for the next request.
            headers = [(b"connection", b"close")] if error.status_code in (408, 413) else ()
            response = error.status_code, JSON, json.dumps({"error": error.message}).encode(), headers
        except ConnectionError:
            return None
        return await guards.respond(send, *response)

    return app


def _content_type(headers):
    return headers.get(b"content-type", b"").decode("latin-1")


async def _read(receive, inference):
    """The request's body, of bounded size and in bounded time; raises ConnectionError if its sender has gone."""
    limit, parts, size, message = inference.MAX_BODY_BYTES, [], 0, {"more_body": True}
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while message.get("more_body") and size <= DRAIN * limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError
                size += len(message["body"])
                if size <= limit:
                    parts.append(message["body"])
    except TimeoutError:
        raise inference.RequestError(408, f"the body did not arrive within {BODY_SECONDS} seconds") from None
    inference.reading.check_size(size, parts[0] if parts else b"")
    return b"".join(parts)


@contextlib.contextmanager
def start(archive, port=0, host=HOST, token=None, names=()):
    """Serve `archive` from threads of this process; yields the URL, and stops when the block ends.

    `port`: 0 picks a free one; `host`: the address to listen on; `token`, which a client has to
    know, and `names`, those of proxies in front: see `guards.Guard`. Raises BadArgumentsError for
    a missing archive or a taken port, ArchiveError for an archive that does not start.
    """
    with _server(archive, port, host, token, names) as (server, listener, url):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def _server(archive, port, host, token, names):
    """(uvicorn server, its listening socket, its URL) for `archive`, not yet running."""
    import uvicorn

    with contextlib.ExitStack() as cleanup:
        # Before the model is loaded, so that a taken port is reported at once.
        listener = cleanup.enter_context(contextlib.closing(_listen(host, port)))
        folder = cleanup.enter_context(archives.unpacked(archive))
        served = cleanup.enter_context(contextlib.closing(Served(folder)))
        # With TensorFlow's objects frozen, garbage collection costs a request ten times less. In a notebook they are
        # frozen already, and stay so.
        if not gc.get_freeze_count():
            gc.collect()
            gc.freeze()
            cleanup.callback(gc.unfreeze)
        config = uvicorn.Config(
            guards.Guard(make_app(served), host, token, names), http=guards.BoundedProtocol, ws="none",
            lifespan="off", proxy_headers=False, log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )  # fmt: skip
        yield uvicorn.Server(config), listener, _url(host, listener.getsockname()[1])


def _url(host, port):
    """The URL by which this machine reaches the server."""
    name = EVERYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise common.BadArgumentsError(
            f"port {port} of {host} cannot be used ({reason}); choose another with --port, or --port 0 for a free one"
        ) from None
    # Connections inherit it; without it, an answer's body waits 40 ms for the client to acknowledge
    # its header (Nagle's algorithm against delayed acknowledgements).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("archive", help="a model.tar.gz from package_model.py")
    parser.add_argument("--port", type=int, default=PORT, help="0 picks a free one (default: %(default)s)")
    parser.add_argument(
        "--host", default=HOST, help="address to listen on; 0.0.0.0 lets others reach it (default: %(default)s)"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="HOST",
        help="a further host name to answer to, such as that of a JupyterHub in front; may be repeated",
    )  # fmt: skip
    return parser


def main(argv=None):
    options = make_parser().parse_args(argv)
    token = None if guards.is_loopback(options.host) else secrets.token_urlsafe(16)
    with _server(options.archive, options.port, options.host, token, options.name) as (server, listener, url):
        # uvicorn stops on these and passes them on, here to a handler that does nothing, so that the exit code is 0.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        address = f"{url}/?token={token}" if token else f"{url}/"
        if token:
            print(
                f"warning: whoever reaches {options.host} with the token can use the server, over plain HTTP that "
                "others on the way can read; give the token only to people whom you trust",
                file=sys.stderr,
            )
        print(f"{options.archive} is served at {address} until Ctrl-C", flush=True)
        common.print_next(f"python sagemaker_scripts/test_endpoint.py --url {address}", "in another terminal")
        server.run(sockets=[listener])
    print("stopped")


if __name__ == "__main__":
    sys.exit(common.run(main))
