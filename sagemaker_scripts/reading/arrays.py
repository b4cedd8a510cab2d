"""Images as numbers: npy files, and nested lists of JSON."""

import itertools
import re
import struct
from array import array
from collections import namedtuple

from .errors import RequestError

NPY_MAGIC = b"\x93NUMPY"
NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \((\d{1,9}(?:, \d{1,9})*),?\), ?\}\s*"
)

# `shape` (n, height, width, channels); `values` in C order, bytes or array("f").
Pixels = namedtuple("Pixels", "shape values")


def is_npy(body):
    return body.startswith(NPY_MAGIC)


def from_npy(body, shape):
    """Pixels of an npy file; raises RequestError 400 where it is none of uint8 values in `shape`."""
    expected = f"expected a uint8 array in C order of shape {times(shape)} or n x {times(shape)}, as numpy.save writes"
    start, header = _npy_header(body)
    match = NPY_HEADER.fullmatch(header)
    if not match:
        raise RequestError(400, f"the body is no npy file of one plain array; {expected}")
    dtype, fortran, dimensions = match.groups()
    found = tuple(int(size) for size in dimensions.split(","))
    if dtype != "|u1" or fortran == "True":
        raise RequestError(400, f"the array has dtype {dtype!r}, Fortran order {fortran}; {expected}")
    if found == shape:
        found = (1, *shape)
    if found[1:] != shape or not found[0]:
        raise RequestError(400, f"the array has shape ({dimensions}); {expected}")
    values = body[start:]
    if len(values) != found[0] * shape[0] * shape[1] * shape[2]:
        raise RequestError(400, f"the array of shape ({dimensions}) comes with {len(values)} bytes; {expected}")
    return Pixels(found, values)


def from_lists(images, shape, expected):
    """Pixels of `images`, lists of lists of numbers; `expected` ends the sentence of a RequestError.

    set() over map() because it checks a million values in milliseconds.
    """
    values = images
    for part, length in zip(("image", "row", "pixel"), shape):  # noqa: B905 - older images run a Python without strict=
        if set(map(type, values)) != {list} or set(map(len, values)) != {length}:
            raise RequestError(400, f"not every {part} is a list of {length}; {expected}")
        values = list(itertools.chain.from_iterable(values))
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        raise RequestError(400, f"a channel value is not a number; {expected}")
    if min(values) < 0 or max(values) > 255:
        raise RequestError(400, f"a channel value lies outside 0 to 255: send 0..255; {expected}")
    if float in kinds and any(map(_is_scaled, chunks(values, len(images)))):
        raise RequestError(400, f"no channel value is above 1 and not all are whole: send 0..255, not 0..1; {expected}")
    return Pixels((len(images), *shape), bytes(values) if kinds == {int} else array("f", values))


def chunks(values, count):
    """`values` cut into `count` parts of one length."""
    length = len(values) // count
    return (values[i : i + length] for i in range(0, len(values), length))


def times(shape):
    return " x ".join(map(str, shape))


def _is_scaled(values):
    """Whether one image's values were divided by 255: none above 1, and fractions among them."""
    return max(values) <= 1 and any(value != int(value) for value in values)


def _npy_header(body):
    """(start of the data in bytes, header text) of an npy file (format 1 to 3), or (0, "")."""
    size = {1: "<H", 2: "<I", 3: "<I"}.get(body[6] if len(body) > 6 else 0)
    if not is_npy(body) or not size or len(body) < 12:
        return 0, ""
    begin = 8 + struct.calcsize(size)
    end = begin + struct.unpack_from(size, body, 8)[0]
    return end, body[begin : min(end, begin + 1000)].decode("latin-1")
