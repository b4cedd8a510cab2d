"""A packed model that many clients use at once: waiting requests are predicted together, decoding is bounded."""

import asyncio
import collections
import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sagemaker_scripts.serving import archive
from sagemaker_scripts.serving.archive import ArchiveError

JSON = "application/json"
# Images in a pass over the model. Only a few sizes, because TensorFlow keeps code and memory for each that it has
# met; up to FULL images a pass costs much the same, beyond that every image adds its share.
SIZES = (1, 2, 4, 8, 16, 32, 48, 64)
FULL = 16
# Pixels in the largest pass: 16 images of 128x128. Larger images go in smaller passes, for each takes its memory.
LARGEST_PASS = 2**18
# Memory for pictures being decoded at once, in units of what one request may take.
DECODED_AT_ONCE = 2
# Decoding threads; most of the time they wait for TensorFlow's own threads, or for memory.
THREADS = 32
# A body up to this size is read faster than it is handed to a thread and back.
SHORT_BODY = 64 * 1024


class Batcher:
    """Requests that arrive together are predicted together.

    Calls `predict`, arrays (n, ...) to arrays (n, classes), in one thread for all callers, who
    share an event loop.

    What waits while a batch is computed goes into the next one, so that nobody is ever held up
    to fill a batch: alone, a caller has the shortest latency; in a crowd, all share the cost of
    a pass over the weights. Of more than FULL images, as many are taken as fill one of SIZES.
    """

    def __init__(self, predict):
        self._predict = predict
        self._waiting = collections.deque()
        self._thread = ThreadPoolExecutor(1, "batcher")
        self._is_busy = False

    def submit(self, images):
        """A future for the predictions of `images` (n, ...); it raises what `predict` raises."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((images, future))
        if not self._is_busy:
            self._is_busy = True
            # Soon, so that whatever arrived at the same time is read first.
            loop.call_soon(self._start, loop)
        return future

    def close(self):
        """End the thread once it has finished its current batch."""
        self._thread.shutdown(cancel_futures=True)

    def _start(self, loop):
        batch = self._gather()
        self._is_busy = bool(batch)
        if batch:
            # One hand-over to the thread and one back for the whole batch, since each has to wake the other side.
            computed = loop.run_in_executor(
                self._thread, lambda: self._predict(np.concatenate([images for images, _ in batch]))
            )
            computed.add_done_callback(lambda computed: self._finish(loop, batch, computed))

    def _finish(self, loop, batch, computed):
        # Keep the thread busy first.
        self._start(loop)
        end = 0
        for images, future in batch:
            begin, end = end, end + len(images)
            # The caller may have gone.
            if future.done():
                continue
            if error := computed.exception():
                future.set_exception(error)
            else:
                future.set_result(computed.result()[begin:end])

    def _gather(self):
        """The next batch, [(images, future), ...] of waiting requests, in order."""
        self._waiting = collections.deque(item for item in self._waiting if not item[1].done())
        count = sum(len(images) for images, _ in self._waiting)
        most = max((size for size in SIZES if size <= count), default=0) if count > FULL else FULL
        batch = []
        while self._waiting and (not batch or len(self._waiting[0][0]) <= most):
            batch.append(self._waiting.popleft())
            most -= len(batch[-1][0])
        return batch


def in_sizes(compute, images):
    """What `compute` maps `images` (n, ...) to, a tuple of arrays (n, ...), computed in parts of the allowed sizes."""
    most = sizes_of(images.shape[1:])[-1]
    parts = [images[i : i + most] for i in range(0, len(images), most)]
    return tuple(map(np.concatenate, zip(*(_filled_up(compute, part) for part in parts), strict=True)))


def sizes_of(shape):
    """The SIZES in which images of `shape` (height, width, channels) go through the model."""
    return tuple(size for size in SIZES if size == 1 or size * math.prod(shape[:2]) <= LARGEST_PASS)


def _filled_up(compute, images):
    count = len(images)
    missing = next(size for size in SIZES if size >= count) - count
    if missing:
        images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    return [found[:count] for found in compute(images)]


class Budget:
    """A bounded amount that threads take parts of; they wait while too little is left."""

    def __init__(self, amount):
        self._amount = self._left = amount
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, part):
        """Take `part` of the amount while the block runs, or all of it if the amount is smaller."""
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
    """The model of an unpacked archive: request bodies in, answers out, from any thread, or from one event loop.

    Raises ArchiveError if the archive's code, SavedModel and card do not work together.
    """

    def __init__(self, folder):
        from cnnlab import machine

        machine.import_keras()
        self.inference = archive.load_handlers(folder)
        self._threads = ThreadPoolExecutor(THREADS, "decoder")
        self._batcher = Batcher(self._predict)
        try:
            self.card = self.inference.card()
            # {name: path} of the example pictures that the page offers.
            paths = {name: folder / archive.EXAMPLES / name for name in self.card.get("examples") or ()}
            self.examples = {name: path for name, path in paths.items() if path.is_file()}
            self._model = self.inference.model_fn(folder)
            self._budget = Budget(DECODED_AT_ONCE * self.inference.reading.MAX_PICTURE_BYTES)
            outputs = self._warm_up()
        except Exception as error:  # TensorFlow raises many kinds of error for a broken SavedModel.
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
        pixels = self._pixels(self.inference.input_fn(body, content_type))
        if not why:
            return self.inference.output_fn(self._predict(pixels), JSON)
        probabilities, maps = in_sizes(lambda images: self.inference.explain_pixels(images, self._model), pixels)
        return self.inference.encode(probabilities.tolist(), self.card, maps.tolist()), JSON

    async def answer_soon(self, body, content_type, why=False):
        """The same for an event loop, which hands long decoding to threads."""
        if why:
            return await self._in_thread(self.answer, body, content_type, why)
        if len(body) > SHORT_BODY:
            pixels = await self._in_thread(lambda: self._pixels(self.inference.input_fn(body, content_type)))
        else:
            decoded = self.inference.input_fn(body, content_type)
            is_files = isinstance(decoded, list)
            pixels = await self._in_thread(self._pixels, decoded) if is_files else self._pixels(decoded)
        return self.inference.output_fn(await self._batcher.submit(pixels), JSON)

    async def seen(self, body, content_type):
        """The first picture of a request as the model sees it, a PNG file; raises as `answer` does."""

        def shown():
            pixels = self._pixels(self.inference.input_fn(body, content_type))[0]
            return _png(np.rint(np.clip(pixels, 0, 255)).astype("uint8"))

        return await self._in_thread(shown)

    def close(self):
        self._threads.shutdown(cancel_futures=True)
        self._batcher.close()

    def _in_thread(self, function, *arguments):
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _pixels(self, decoded):
        """`inference.decode`'s result as the model sees it: (n, height, width, channels) in 0..255."""
        if not isinstance(decoded, list):
            return self.inference.pixel_array(decoded, self._model)
        with self._budget.taken(sum(picture.work for picture in decoded)):
            return self.inference.pixel_array(decoded, self._model)

    def _predict(self, pixels):
        """Probabilities, float32 (n, classes)."""
        return in_sizes(lambda images: [self.inference.predict_pixels(images, self._model)], pixels)[0]

    def _warm_up(self):
        """Make the first call of each kind, which traces and allocates, so that no user has to wait for it.

        Returns the number of the model's outputs.
        """
        black = np.zeros(self.card["input_shape"], "uint8")
        self._pixels(self.inference.input_fn(_png(black), "image/png"))
        if self.card.get("grad_cam"):
            self.inference.explain_pixels(black[None].astype("float32"), self._model)
        sizes = sizes_of(black.shape)
        return [self._predict(np.zeros((size, *black.shape), "float32")) for size in sizes][0].shape[1]


def _png(image):
    """A uint8 image (height, width, channels) as a PNG file."""
    import tensorflow as tf

    return tf.io.encode_png(image).numpy()
