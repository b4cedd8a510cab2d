"""JSON requests: the forms of TensorFlow Serving, of its users, and of this lab.

An image is rows of pixels of channel values from 0 to 255; or the base64 text of a picture file
or a data URL, alone or as {"b64": text}; or {name: image}, as TensorFlow Serving names an input.
A document is one image or a list of them, alone or under one of KEYS, beside which
"signature_name" may stand: which signature is asked follows from the images.
"""

import json

from .arrays import from_lists, times
from .errors import RequestError
from .pictures import check_pictures, from_base64

KEYS = ("instances", "inputs", "images", "image", "b64")
SIGNATURES = ("serving_default", "serve_image", "serve_uint8", "", None)
# Nesting of one image: rows, pixels, channel values.
DEPTH = 3


def from_json(body, shape):
    """`Pixels`, or a list of `Picture`, of a JSON text (bytes); raises RequestError."""
    return _read(_images(_parsed(body, shape), shape), shape)


def from_lines(body, shape):
    """The same of lines with a document each."""
    lines = [line for line in body.splitlines() if line.strip()]
    return _read([image for line in lines for image in _images(_parsed(line, shape), shape)], shape)


def _parsed(text, shape):
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no valid JSON ({error}); {_expected(shape)}") from None


def _images(document, shape):
    """The images of a document, a list."""
    key = "the list"
    if isinstance(document, dict):
        keys = [key for key in document if key != "signature_name"]
        if len(keys) != 1 or keys[0] not in KEYS:
            raise RequestError(400, f"the body has another form than an object of one known key; {_expected(shape)}")
        if document.get("signature_name") not in SIGNATURES:
            raise RequestError(400, f"there is no such signature_name; leave it out; {_expected(shape)}")
        key = repr(keys[0])
        document = _named(document[keys[0]])
    elif not isinstance(document, (list, str)):
        raise RequestError(400, f"the body has another form than an object of one known key; {_expected(shape)}")
    if isinstance(document, str):
        return [document]
    if not isinstance(document, list) or not document:
        raise RequestError(400, f"{key} holds no image; {_expected(shape)}")
    return [document] if _depth(document) == DEPTH else [_named(image) for image in document]


def _named(value):
    """What an object of one key holds, such as {"b64": text}, {"pixels": image} or both; else the value itself."""
    for _ in range(2):
        if isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
    return value


def _depth(value):
    """How deep lists are nested, as their first entries tell."""
    depth = 0
    while isinstance(value, list) and value and depth <= DEPTH:
        value, depth = value[0], depth + 1
    return depth if not isinstance(value, (list, dict, str)) else 0


def _read(images, shape):
    if not images:
        raise RequestError(400, f"the body holds no image; {_expected(shape)}")
    kinds = set(map(type, images))
    if kinds == {str}:
        return check_pictures([from_base64(image) for image in images])
    if str in kinds:
        raise RequestError(400, "the body holds picture files beside numbers; send them apart")
    return from_lists(images, shape, _expected(shape))


def _refuse_constant(name):
    raise RequestError(400, f"the body holds {name}; expected channel values that are numbers from 0 to 255")


def _expected(shape):
    return (
        '{"instances": [image, ...]}, {"images": [image, ...]} or {"image": image} is expected, an image being '
        f"lists of {times(shape)} numbers (height, width, channels) from 0 to 255, or base64 of a picture file; "
        "a picture of another size goes as such a file"
    )
