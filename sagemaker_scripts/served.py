"""A packed model that many clients ask at once: what waits is predicted together, what is decoded is bounded."""

import asyncio
import contextlib
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from sagemaker_scripts import archive
from sagemaker_scripts.archive import ArchiveError

JSON = "application/json"
# Memory for the pictures that are decoded at once, in units of what one request may take.
DECODED_AT_ONCE = 2
# Threads that decode; most of the time they wait for TensorFlow's own, or for memory.
THREADS = 32
# A body up to this size is read in less time than handing it to a thread and back takes.
SHORT_BODY = 64 * 1024


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

    def submit(self, images):
        """A Future of the predictions of `images` (n, ...), for any thread; it raises what `predict` raises."""
        future = Future()
        self._queue.put((images, future))
        return future

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
            images, future = item
            # Whoever asked may have gone.
            if future.set_running_or_notify_cancel():
                waiting.append(item)
                count += len(images)
        return waiting, False

    def _predict_all(self, images):
        starts = range(0, len(images), self._largest)
        return np.concatenate([self._predict(images[i : i + self._largest]) for i in starts])


class Budget:
    """A bounded amount that threads take parts of, and wait where too little of it is left."""

    def __init__(self, amount):
        self._amount = self._left = amount
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, part):
        """While the block runs, `part` of it, or all of it where there is less."""
        part = min(part, self._amount)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= part)
            self._left -= part
        try:
            yield
        finally:
            with self._changed:
                self._left += part
                self._changed.notify_all()


class Served:
    """The model of an unpacked archive: request bodies in, answers out, from any thread.

    Raises ArchiveError where the archive's code, SavedModel and card do not work together.
    """

    def __init__(self, folder):
        from cnnlab import machine

        machine.import_keras()
        self.inference = archive.load_handlers(folder)
        self._threads = ThreadPoolExecutor(THREADS, "decoder")
        self._batcher = Batcher(lambda images: self.inference.predict_pixels(images, self._model))
        try:
            self.card = self.inference.card()
            # {name: path} of the pictures that the page offers.
            paths = {name: folder / archive.EXAMPLES / name for name in self.card.get("examples") or ()}
            self.examples = {name: path for name, path in paths.items() if path.is_file()}
            self._model = self.inference.model_fn(folder)
            self._budget = Budget(DECODED_AT_ONCE * self.inference.reading.MAX_PICTURE_BYTES)
            outputs = self._warm_up()
        except Exception as error:  # TensorFlow raises many kinds for a broken SavedModel.
            self.close()
            raise ArchiveError(f"the archive does not start ({archive.reason(error)}); {archive.PACK_AGAIN}") from None
        if outputs != len(self.card["class_names"]):
            self.close()
            raise ArchiveError(
                f"the model has {outputs} outputs and its card {len(self.card['class_names'])} class names; "
                f"{archive.PACK_AGAIN}"
            )

    def answer(self, body, content_type, why=False):
        """(body, content type) of the answer; `why`: with an explanation.

        Raises the archive's RequestError for a bad request.
        """
        decoded = self.inference.input_fn(body, content_type)
        if not why:
            return self._encoded(self._submit(decoded).result())
        probabilities, maps = self.inference.explain_pixels(self._pixels(decoded), self._model)
        return self.inference.encode(probabilities.tolist(), self.card, maps.tolist()), JSON

    async def answer_soon(self, body, content_type, why=False):
        """The same for an event loop, which decodes nothing itself that takes long."""
        loop = asyncio.get_running_loop()
        if why or len(body) > SHORT_BODY:
            return await loop.run_in_executor(self._threads, self.answer, body, content_type, why)
        decoded = self.inference.input_fn(body, content_type)
        if isinstance(decoded, list):
            future = await loop.run_in_executor(self._threads, self._submit, decoded)
        else:
            future = self._submit(decoded)
        return self._encoded(await asyncio.wrap_future(future))

    def seen(self, body, content_type):
        """The first picture of a request as the model sees it, a PNG file; raises as `answer` does."""
        pixels = self._pixels(self.inference.input_fn(body, content_type))[0]
        return _png(np.rint(np.clip(pixels, 0, 255)).astype("uint8"))

    async def seen_soon(self, body, content_type):
        """The same for an event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.seen, body, content_type)

    def close(self):
        self._threads.shutdown(cancel_futures=True)
        self._batcher.close()

    def _pixels(self, decoded):
        """What the model sees of what `inference.decode` gives: float32 (n, height, width, channels)."""
        work = sum(picture.work for picture in decoded) if isinstance(decoded, list) else 0
        with self._budget.taken(work):
            return self.inference.pixel_array(decoded, self._model)

    def _submit(self, decoded):
        """A Future of the probabilities, float32 (n, classes): pictures are batched as arrays are."""
        return self._batcher.submit(self._pixels(decoded))

    def _encoded(self, probabilities):
        return self.inference.output_fn(probabilities, JSON)

    def _warm_up(self):
        """The first call of each signature traces and allocates, which no user should wait for.

        Returns the number of the model's outputs.
        """
        black = np.zeros(self.card["input_shape"], "uint8")
        self._submit(self.inference.Pixels((1, *black.shape), black.tobytes())).result()
        answer = self._submit(self.inference.input_fn(_png(black), "image/png")).result()
        if self.card.get("grad_cam"):
            self.inference.explain_pixels(black[None].astype("float32"), self._model)
        return answer.shape[1]


def _png(image):
    """A uint8 image (height, width, channels) as a PNG file."""
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()
