"""TensorFlow's start-up notes, kept out of terminals and notebooks."""

import contextlib
import os
import sys


def import_keras():
    """Import Keras and start its backend while nothing can be written to standard error.

    TensorFlow's C++ part logs there (a missing GPU among other things) before any setting can
    hush it. What really goes wrong is an exception, and is still seen.
    """
    with _no_standard_error():
        import keras

        with contextlib.suppress(AttributeError):  # Keras has no devices to tell for PyTorch.
            keras.distribution.list_devices()


@contextlib.contextmanager
def _no_standard_error():
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is wanted, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
