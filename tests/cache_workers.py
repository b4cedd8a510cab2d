"""What the tests of the cache run in other processes; few imports, so that these start fast."""

import hashlib
import signal

from cnnlab.data import cifar10_arrays
from cnnlab.data.cache import ArrayCache


def load_and_report(path, cache, spec, start, results):
    """Load at the same moment as the others, and report the SHA-256 of each array."""
    start.wait(60)
    arrays = cifar10_arrays(path, cache, progress=False, spec=spec)
    results.put({name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()})


def hold_the_lock(cache, spec, ready):
    """Begin to fill the cache, and wait to be killed."""
    with ArrayCache(cache, "cifar10", spec.shapes, spec.sha256).locked() as scratch:
        (scratch / "half").write_text("half")
        ready.set()
        signal.pause()
