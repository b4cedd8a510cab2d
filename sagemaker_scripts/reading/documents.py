"""Images as numbers or texts: npy files, and the JSON forms of TensorFlow Serving, its users and this lab.

In JSON an image is rows of pixels, each a list of channel values from 0 to 255; or a picture file as base64 text or a
data URL, alone or as {"b64": text}; or {name: image}, as TensorFlow Serving names an input. A document is one image or
a list of them, alone or under one of KEYS. A "signature_name" may stand beside the key, but the images decide.
"""

import contextlib
import importlib
import itertools
import json
import re
import struct
from array import array
from collections import namedtuple
from http import HTTPStatus

KEYS = ("instances", "inputs", "images", "image", "b64")
SIGNATURES = ("serving_default", "serve_image", "serve_uint8", "", None)
# Nesting of one image: rows, pixels, channel values.
DEPTH = 3
NPY_MAGIC = b"\x93NUMPY"
NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \((\d{1,9}(?:, \d{1,9})*),?\), ?\}\s*"
)

# `shape` (n, height, width, channels); `values` in C order, bytes or array("f").
Pixels = namedtuple("Pixels", "shape values")


def _optional(module, name):
    with contextlib.suppress(ImportError):
        return getattr(importlib.import_module(module), name)
    return None


_FALCON = _optional("falcon", "HTTPError")
_TOOLKIT = _optional("sagemaker_inference.errors", "BaseInferenceToolkitError")


class RequestError(*([base for base in (_FALCON, _TOOLKIT) if base] or [Exception])):
    """An answer with a 4xx or 5xx status, as an error that whichever server runs this file understands.

    The container's service (falcon) and the toolkit answer errors of their own classes with the status that these
    carry, and all others with 500. `status_code`: the HTTP status; `message`: one sentence for the caller.
    """

    # Here because falcon has a read-only property of this name, and the toolkit assigns to it.
    status_code = None

    def __init__(self, status_code, message):
        phrase = HTTPStatus(status_code).phrase
        Exception.__init__(self, status_code, message)
        if _FALCON:
            _FALCON.__init__(self, f"{status_code} {phrase}", title=phrase, description=message)
        if _TOOLKIT:
            _TOOLKIT.__init__(self, status_code, message, phrase)
        self.status_code = status_code
        self.message = message

    def __str__(self):
        return self.message

    def to_dict(self, obj_type=dict):
        """The body of falcon's answer: {"error": message}, like the container's other errors."""
        return obj_type(error=self.message)


def is_npy(body):
    return body.startswith(NPY_MAGIC)


def from_npy(body, shape):
    """Pixels of an npy file; raises RequestError 400 unless it holds uint8 values in `shape`."""
    expected = f"expected a uint8 array in C order of shape {times(shape)} or n x {times(shape)}, as numpy.save writes"
    start, header = _npy_header(body)
    match = NPY_HEADER.fullmatch(header)
    if not match:
        raise RequestError(400, f"the body is not an npy file of one plain array; {expected}")
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


def from_lists(images, shape):
    """Pixels of `images`, lists of lists of numbers; raises RequestError.

    set() over map() because it checks a million values in milliseconds.
    """
    values, expected = images, _expected(shape)
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
    """`values` cut into `count` parts of equal length."""
    length = len(values) // count
    return (values[i : i + length] for i in range(0, len(values), length))


def times(shape):
    return " x ".join(map(str, shape))


def from_json(texts, shape):
    """`Pixels`, or a list of base64 texts, for the images in `texts`, each JSON (bytes); raises RequestError."""
    images = [image for text in texts for image in _images(_parsed(text, shape), shape)]
    if not images:
        raise RequestError(400, f"the body holds no image; {_expected(shape)}")
    kinds = set(map(type, images))
    if kinds == {str}:
        return images
    if str in kinds:
        raise RequestError(400, "the body mixes picture files and numbers; send them separately")
    return from_lists(images, shape)


def _parsed(text, shape):
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not valid JSON ({error}); {_expected(shape)}") from None


def _images(document, shape):
    """The images of a document, a list."""
    key = "the list"
    if isinstance(document, dict):
        keys = [key for key in document if key != "signature_name"]
        if len(keys) != 1 or keys[0] not in KEYS:
            raise RequestError(400, f"the body is not an object with one known key; {_expected(shape)}")
        if document.get("signature_name") not in SIGNATURES:
            raise RequestError(400, f"the signature_name is unknown; leave it out; {_expected(shape)}")
        key = repr(keys[0])
        document = _named(document[keys[0]])
    elif not isinstance(document, (list, str)):
        raise RequestError(400, f"the body is not an object with one known key; {_expected(shape)}")
    if isinstance(document, str):
        return [document]
    if not isinstance(document, list) or not document:
        raise RequestError(400, f"{key} holds no image; {_expected(shape)}")
    return [document] if _depth(document) == DEPTH else [_named(image) for image in document]


def _named(value):
    """The content of an object with one key, such as {"b64": text} or {"pixels": image}, or both; else `value`."""
    for _ in range(2):
        if isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
    return value


def _depth(value):
    """How deep lists are nested, judged by their first entries."""
    depth = 0
    while isinstance(value, list) and value and depth <= DEPTH:
        value, depth = value[0], depth + 1
    return depth if not isinstance(value, (list, dict, str)) else 0


def _refuse_constant(name):
    raise RequestError(400, f"the body holds {name}; expected channel values that are numbers from 0 to 255")


def _expected(shape):
    return (
        'expected {"instances": [image, ...]}, {"images": [image, ...]} or {"image": image}, each image being '
        f"lists of {times(shape)} numbers (height, width, channels) from 0 to 255, or base64 of a picture file; "
        "send a picture of another size as such a file"
    )


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
