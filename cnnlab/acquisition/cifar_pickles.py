"""The batches of CIFAR-10's Python version, read without running what a pickle asks to run.

Loading a pickle calls whatever functions it names. Here the only three names that a batch
needs are bound to an inert stand-in, and every other name is refused; NumPy itself never
sees the file's claims about shape and type before they are checked.
"""

import io
import pickle

import numpy as np

from cnnlab.acquisition.cifar_spec import PIXEL_BYTES
from cnnlab.acquisition.errors import BadDataError

# NumPy 2 moved _reconstruct; the published files carry the old name.
_NEEDED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def read_batch(data, count):
    """(pixels uint8 (count, 3072), labels: a list) of a pickled batch `data`.

    Rows are planes: 1,024 red, then green, then blue bytes. Raises BadDataError for a pickle
    that names anything but an array, is damaged, or is not a batch of `count` images.
    """
    try:
        batch = _BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
    except BadDataError:
        raise
    except Exception as error:  # the pickle module promises no particular kind for a damaged stream
        raise BadDataError(f"is no whole pickle ({type(error).__name__}: {error})") from None
    if not isinstance(batch, dict):
        raise BadDataError(f"holds a {type(batch).__name__}, expected the dictionary of a CIFAR-10 batch")
    # Published with byte strings as keys; copies saved again by Python 3 have text.
    pixels, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    if not isinstance(labels, list):
        raise BadDataError("has no list of labels: not a batch of CIFAR-10")
    return _pixels(pixels, count), labels


class _Inert:
    """Stands for a NumPy object: keeps what it is given, does nothing with it."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _NEEDED:
            raise BadDataError(f"is a pickle that asks to run {module}.{name}, which CIFAR-10 never does: refused")
        return _Inert


def _pixels(array, count):
    """uint8 (count, 3072) from the recorded state of an array: (version, shape, dtype, Fortran order, bytes)."""
    expected = f"expected uint8 of shape ({count}, {PIXEL_BYTES})"
    state = getattr(array, "state", None)
    if not isinstance(state, tuple) or len(state) != 5:
        raise BadDataError(f"has no array of pixels; {expected}")
    _, shape, dtype, fortran, raw = state
    kind = getattr(dtype, "arguments", ())[:1]
    if kind not in ((b"u1",), ("u1",)) or shape != (count, PIXEL_BYTES) or not isinstance(raw, bytes):
        raise BadDataError(f"has pixels of type {kind} and shape {shape}; {expected}")
    if len(raw) != count * PIXEL_BYTES:
        raise BadDataError(f"has {len(raw):,} bytes of pixels; {expected}")
    return np.frombuffer(raw, "uint8").reshape(shape, order="F" if fortran else "C")
