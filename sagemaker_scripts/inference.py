"""What an endpoint does with a request: bytes in, classes and probabilities out.

This file travels inside model.tar.gz, as code/inference.py beside model_card.json, alone so that
it starts wherever it is loaded from. It serves under two contracts over the same `decode` and
`encode`:

- SageMaker's TensorFlow Serving image calls `input_handler` and `output_handler`, in a process
  that has neither TensorFlow, NumPy nor Pillow: the standard library has to do.
- SageMaker's inference toolkit, and a server of one's own, call `model_fn`, `input_fn`,
  `predict_fn` and `output_fn`.

A request is one of
- application/json: {"instances": [image, ...]}, {"images": [image, ...]} or {"image": image},
  an image being rows of pixels of channel values, numbers from 0 to 255;
- application/x-npy: a uint8 array in C order, (height, width, channels) or (n, ...) of them;
- image/png, image/jpeg: one picture of any size. The SavedModel decodes it and makes it the
  model's size, stretched or centred on black as its training images were (the model card says
  which; an EXIF rotation is not applied, transparency is dropped).

The scale is always 0..255 and never guessed from the values. A request that is none of these is
answered 400, 413 or 415 with a sentence that says what was expected.
"""

import base64
import contextlib
import functools
import importlib
import itertools
import json
import re
import struct
from array import array
from collections import namedtuple
from http import HTTPStatus
from pathlib import Path

CARD_NAME = "model_card.json"
# SageMaker's classic limit of a real-time request; a larger one would not reach the container.
MAX_BODY_BYTES = 5 * 1024**2
# A picture is decoded and resized in float32, 12 bytes a pixel: 192 MB at this limit.
MAX_PICTURE_PIXELS = 16_000_000
TOP = 3
JSON_KEYS = ("instances", "images", "image")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8"
NPY_MAGIC = b"\x93NUMPY"
NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \((\d{1,9}(?:, \d{1,9})*),?\), ?\}\s*"
)
# Start-of-frame markers: the JPEG segments that hold the picture's size.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: restarts, start and end of image, and TEM.
JPEG_BARE = frozenset(range(0xD0, 0xDA)) | {0x01}
JPEG_SEGMENTS = 1000

# Images as numbers: `shape` (n, height, width, channels); `values` in C order, bytes or array("f").
Pixels = namedtuple("Pixels", "shape values")
# One PNG or JPEG file: its bytes.
Picture = namedtuple("Picture", "data")


def _optional(module, name):
    with contextlib.suppress(ImportError):
        return getattr(importlib.import_module(module), name)
    return None


_FALCON = _optional("falcon", "HTTPError")
_TOOLKIT = _optional("sagemaker_inference.errors", "BaseInferenceToolkitError")


class RequestError(*([base for base in (_FALCON, _TOOLKIT) if base] or [Exception])):
    """An answer with a 4xx or 5xx status, in the terms of whichever server is around this file.

    The container's service (falcon) and the toolkit answer errors of their own kinds with the
    status that those carry, and everything else with 500. `status_code` is the HTTP status,
    `message` one sentence for the caller.
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
        """The body of falcon's answer: {"error": message}, as the container's other errors look."""
        return obj_type(error=self.message)


@functools.lru_cache(maxsize=1)
def card():
    """The model card that lies beside this file, as a dict."""
    return json.loads((Path(__file__).parent / CARD_NAME).read_text(encoding="utf-8"))


# The container's contract (TensorFlow Serving behind a Python service)


def input_handler(data, context):
    """Request (a stream) to the body that is posted to TensorFlow Serving's REST interface."""
    length = context.content_length
    check_size(length or 0)
    body = data.read(MAX_BODY_BYTES + 1 if length is None else length)
    return tensorflow_serving_request(decode(body, context.request_content_type, card()))


def output_handler(response, context):
    """TensorFlow Serving's answer to (body, content type) of ours."""
    if response.status_code == HTTPStatus.BAD_REQUEST:
        raise RequestError(400, f"the model cannot read this picture: {_first_line(response.text)}")
    if response.status_code != HTTPStatus.OK:
        raise RequestError(500, f"TensorFlow Serving answered {response.status_code}: {_first_line(response.text)}")
    return encode(json.loads(response.content)["predictions"], card()), "application/json"


def tensorflow_serving_request(decoded):
    """`decode`'s result as JSON bytes for TensorFlow Serving.

    Bytes go as base64, to the signatures that take strings: 4 characters for 3 channel values,
    where a list of numbers takes up to 15.
    """
    if isinstance(decoded, Picture):
        signature, instances = "serve_image", [_base64(decoded.data)]
    elif isinstance(decoded.values, bytes):
        signature, instances = "serve_uint8", [_base64(part) for part in _chunks(decoded.values, decoded.shape[0])]
    else:
        nested = decoded.values.tolist()
        for length in reversed(decoded.shape[1:]):
            nested = list(_chunks(nested, len(nested) // length))
        signature, instances = "serving_default", nested
    return json.dumps({"signature_name": signature, "instances": instances}).encode()


# The toolkit's contract


def model_fn(model_dir):
    """The SavedModel of the highest version under `model_dir`, as `tf.saved_model.load` gives it."""
    import tensorflow as tf

    versions = [path.parent for path in Path(model_dir).glob("*/*/saved_model.pb") if path.parent.name.isdigit()]
    return tf.saved_model.load(str(max(versions, key=lambda folder: int(folder.name))))


def input_fn(body, content_type):
    """Request body (bytes, or the text of JSON) to Pixels or a Picture."""
    return decode(body.encode() if isinstance(body, str) else body, content_type, card())


def predict_fn(decoded, model):
    """Probabilities, float32 (n, classes), of `decode`'s result by `model_fn`'s model."""
    if isinstance(decoded, Picture):
        return predict_picture(decoded, model)
    return predict_pixels(pixel_array(decoded), model)


def output_fn(prediction, accept):
    """Probabilities (n, classes) to (body, content type); the answer is JSON whatever `accept` asks."""
    return encode(prediction.tolist(), card()), "application/json"


def pixel_array(pixels):
    """Pixels as a NumPy array: float32 (n, height, width, channels) in 0..255."""
    import numpy as np

    dtype = "uint8" if isinstance(pixels.values, bytes) else "float32"
    return np.frombuffer(pixels.values, dtype).reshape(pixels.shape).astype("float32")


def predict_pixels(images, model):
    """Probabilities, float32 (n, classes), of a float32 array (n, height, width, channels)."""
    import tensorflow as tf

    return model.signatures["serving_default"](pixels=tf.constant(images))["probabilities"].numpy()


def predict_picture(picture, model):
    """Probabilities, float32 (1, classes), of one encoded picture."""
    import tensorflow as tf

    try:
        return model.signatures["serve_image"](images=tf.constant([picture.data]))["probabilities"].numpy()
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(400, f"the model cannot read this picture: {_first_line(error.message)}") from error


# What both share


def decode(body, content_type, card):
    """Request body (bytes) to Pixels or a Picture for the model that `card` describes.

    Raises RequestError: 413 for a body or a picture that is too large, 415 for a content type
    that is not known, 400 for all else.
    """
    check_size(len(body))
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind not in DECODERS:
        raise RequestError(415, f"content type is {kind[:80]!r}; expected {', '.join(DECODERS)}")
    return DECODERS[kind](body, tuple(card["input_shape"]))


def encode(probabilities, card):
    """Probabilities, lists (n, classes), to the answer: JSON bytes.

    {"predictions": [{"predicted_class", "predicted_class_index", "confidence",
    "top_3_predictions": [{"class", "index", "probability"}, ...], "probabilities": {class: p}}, ...]}
    with one entry an image, in the order of the request.
    """
    names = card["class_names"]
    try:
        return json.dumps({"predictions": [_answer(row, names) for row in probabilities]}, allow_nan=False).encode()
    except ValueError:
        raise RequestError(500, "the model answered a probability that is not a finite number") from None


def check_size(size):
    """Raise RequestError 413 for a body of more bytes than are accepted."""
    if size > MAX_BODY_BYTES:
        raise RequestError(
            413,
            f"the body has more than {MAX_BODY_BYTES:,} bytes; send fewer images at a time, or uint8 "
            "(application/x-npy), PNG or JPEG instead of JSON numbers",
        )


def _answer(row, names):
    order = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    return {
        "predicted_class": names[order[0]],
        "predicted_class_index": order[0],
        "confidence": row[order[0]],
        f"top_{TOP}_predictions": [{"class": names[i], "index": i, "probability": row[i]} for i in order[:TOP]],
        "probabilities": dict(zip(names, row)),  # noqa: B905 - older images run a Python without strict=
    }


def _from_json(body, shape):
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no valid JSON ({error}); {_expected_json(shape)}") from None
    if not isinstance(document, dict) or len(document) != 1 or not set(document) <= set(JSON_KEYS):
        raise RequestError(400, f"the body has another form than an object of one known key; {_expected_json(shape)}")
    key, images = document.popitem()
    return _nested_pixels(key, [images] if key == "image" else images, shape)


def _nested_pixels(key, images, shape):
    """Pixels of nested lists; set() over map() because it checks a million values in milliseconds."""
    if not isinstance(images, list) or not images:
        raise RequestError(400, f"{key!r} holds no image; {_expected_json(shape)}")
    values = images
    for part, length in zip(("image", "row", "pixel"), shape):  # noqa: B905
        if set(map(type, values)) != {list} or set(map(len, values)) != {length}:
            raise RequestError(400, f"not every {part} is a list of {length}; {_expected_json(shape)}")
        values = list(itertools.chain.from_iterable(values))
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        raise RequestError(400, f"a channel value is not a number; {_expected_json(shape)}")
    if min(values) < 0 or max(values) > 255:
        raise RequestError(400, f"a channel value lies outside 0 to 255; {_expected_json(shape)}")
    return Pixels((len(images), *shape), bytes(values) if kinds == {int} else array("f", values))


def _refuse_constant(name):
    raise RequestError(400, f"the body holds {name}; expected channel values that are numbers from 0 to 255")


def _expected_json(shape):
    return (
        '{"instances": [image, ...]}, {"images": [image, ...]} or {"image": image} is expected, an image being '
        f"lists of {_times(shape)} numbers (height, width, channels) from 0 to 255; "
        "a picture of another size goes as image/png or image/jpeg"
    )


def _from_npy(body, shape):
    expected = (
        f"expected a uint8 array in C order of shape {_times(shape)} or n x {_times(shape)}, as numpy.save writes"
    )
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


def _npy_header(body):
    """(start of the data in bytes, header text) of an npy file (format 1 to 3), or (0, "")."""
    size = {1: "<H", 2: "<I", 3: "<I"}.get(body[6] if len(body) > 6 else 0)
    if not body.startswith(NPY_MAGIC) or not size or len(body) < 12:
        return 0, ""
    begin = 8 + struct.calcsize(size)
    end = begin + struct.unpack_from(size, body, 8)[0]
    return end, body[begin : min(end, begin + 1000)].decode("latin-1")


def _from_png(body, shape):
    # Signature, then the first chunk: length 13, type IHDR, width, height.
    if not body.startswith(PNG_MAGIC) or body[12:16] != b"IHDR" or len(body) < 33:
        raise RequestError(400, f"the body is no PNG file{_hint(body)}")
    return _picture(body, *struct.unpack_from(">II", body, 16))


def _from_jpeg(body, shape):
    if not body.startswith(JPEG_MAGIC):
        raise RequestError(400, f"the body is no JPEG file{_hint(body)}")
    size = _jpeg_size(body)
    if not size:
        raise RequestError(400, "the JPEG file says nowhere how large its picture is; expected a whole file")
    return _picture(body, *size)


def _jpeg_size(body):
    """(width, height) of a JPEG file, or None: walks the segments up to the first frame (ITU T.81, B.1)."""
    position = len(JPEG_MAGIC)
    for _ in range(JPEG_SEGMENTS):
        if position + 9 > len(body) or body[position] != 0xFF:
            return None
        marker = body[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in JPEG_BARE:
            position += 2
        elif marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", body, position + 5)
            return width, height
        else:
            position += 2 + max(2, struct.unpack_from(">H", body, position + 2)[0])
    return None


def _picture(body, width, height):
    if not width or not height:
        raise RequestError(400, f"the picture has {width} x {height} pixels; expected at least one")
    if width * height > MAX_PICTURE_PIXELS:
        raise RequestError(
            413, f"the picture has {width} x {height} pixels; expected at most {MAX_PICTURE_PIXELS:,}: make it smaller"
        )
    return Picture(body)


def _hint(body):
    if body.startswith(PNG_MAGIC):
        return " but a PNG: send it as image/png"
    if body.startswith(JPEG_MAGIC):
        return " but a JPEG: send it as image/jpeg"
    return "; expected the bytes of a whole file, as they lie on disk"


DECODERS = {
    "application/json": _from_json,
    "application/x-npy": _from_npy,
    "image/png": _from_png,
    "image/jpeg": _from_jpeg,
}


def _chunks(values, count):
    """`values` cut into `count` parts of one length."""
    length = len(values) // count
    return (values[i : i + length] for i in range(0, len(values), length))


def _base64(data):
    return {"b64": base64.b64encode(data).decode()}


def _times(shape):
    return " x ".join(map(str, shape))


def _first_line(text):
    return (text.splitlines() or [""])[0][:300]
