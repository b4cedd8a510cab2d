"""Requests that arrive together are predicted together."""

import queue
import threading
from concurrent.futures import Future

import numpy as np


class Batcher:
    """Calls `predict`, arrays (n, ...) to arrays (n, classes), from one thread for all callers.

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
