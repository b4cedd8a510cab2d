"""Read what a pickle holds without running what it may ask to run.

A pickle names functions to call. Here a few names stand for something harmless, and a file with any
other is refused; those that NumPy writes stand for objects that only keep what they are given.
"""

import io
import pickle

import numpy as np

from cnnlab.data.files import BadDataError, refusing

# Kinds of dtype that hold no Python objects: booleans, integers, floats, text.
_PLAIN = "biufSU"
_DEEPEST = 4


def unpickled(stream, known, title, persistent_load=None, encoding="ASCII"):
    """The next object pickled in `stream`, running only what `known` puts in place of the names in it.

    `known`: (module, name) to what is called in its place; `title`: in messages, what never asks for other names;
    `persistent_load`: as in `pickle.Unpickler`; without it, persistent ids are refused; `encoding` of Python 2's
    strings. Raises BadDataError for any other name, and for an invalid pickle.
    """

    class Restricted(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) not in known:
                raise BadDataError(f"is a pickle that asks to run {module}.{name}, which {title} never does: refused")
            return known[module, name]

        def persistent_load(self, identity):
            if persistent_load is None:
                raise BadDataError(f"is a pickle that refers to something outside it, which {title} never does")
            return persistent_load(identity)

    with refusing("is not a valid pickle"):
        return Restricted(stream, encoding=encoding).load()


def read_pickle(data):
    """What the pickle `data` (bytes) holds, as {name: NumPy array or list}.

    Names are the keys that lead to it, joined by '/': "labels", "0/x_train". Raises
    BadDataError for a pickle that names anything but an array, or is damaged.
    """
    content, found = unpickled(io.BytesIO(data), _KNOWN, "CIFAR-10", encoding="bytes"), {}
    with refusing("is not a valid pickle"):
        _collect(content, (), found)
    return found


class _Inert:
    """Stands for what NumPy would make: keeps what it is given and does nothing with it."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


class _Array(_Inert):
    """`_reconstruct`, then (version, shape, dtype, whether in Fortran order, bytes)."""

    def value(self):
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise BadDataError("has an array without content")
        _, shape, dtype, fortran, raw = self.state
        return _array(raw, dtype, shape, "F" if fortran else "C")


class _Buffer(_Inert):
    """`_frombuffer(bytes, dtype, shape, order)`, of protocol 5."""

    def value(self):
        raw, dtype, shape, order = self.arguments
        return _array(raw, dtype, shape, order)


class _Scalar(_Inert):
    """`scalar(dtype, bytes)`."""

    def value(self):
        dtype, raw = self.arguments
        return _array(raw, dtype, (1,), "C")[0]


class _Type(_Inert):
    """`dtype(code, ...)`, then (version, byte order, ...)."""

    def value(self):
        code = self.arguments[0]
        code = code.decode("ascii") if isinstance(code, bytes) else code
        order = self.state[1] if self.state else "="
        order = order.decode("ascii") if isinstance(order, bytes) else order
        dtype = np.dtype(code).newbyteorder(order)
        if dtype.kind not in _PLAIN:
            raise BadDataError(f"has an array of {dtype}, which may hold anything: refused")
        return dtype


def _array(raw, dtype, shape, order):
    if isinstance(raw, list) or not isinstance(dtype, _Type):
        raise BadDataError("has an array of Python objects, which may be anything: refused")
    dtype = dtype.value()
    expected = int(np.prod(shape, dtype="int64")) * dtype.itemsize
    if not isinstance(raw, bytes | bytearray) or len(raw) != expected:
        size = len(raw) if isinstance(raw, bytes | bytearray) else 0
        raise BadDataError(f"has an array of {size:,} bytes, which its shape {shape} and type {dtype} do not fit")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _encode(text, codec="latin1"):
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
        raise BadDataError(f"has text in an unexpected codec {codec!r}: refused")
    return text.encode("latin1")


# NumPy 2 moved these functions; the published files have the old names.
_KNOWN = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Inert,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
}


def _collect(content, keys, found):
    """Put the arrays and the lists of numbers or text in `content` into `found`, by their joined `keys`."""
    if isinstance(content, _Array | _Buffer):
        found["/".join(keys)] = content.value()
    elif isinstance(content, dict) and len(keys) < _DEEPEST:
        for key, value in content.items():
            _collect(value, (*keys, key.decode("latin1") if isinstance(key, bytes) else str(key)), found)
    elif isinstance(content, list | tuple) and content and len(keys) < _DEEPEST:
        if isinstance(content[0], _Array | _Buffer | dict | list | tuple):
            for number, value in enumerate(content):
                _collect(value, (*keys, str(number)), found)
        else:
            found["/".join(keys)] = [each.value() if isinstance(each, _Scalar) else each for each in content]
