"""What an endpoint does with a request: bytes in, classes and probabilities out.

This file travels inside model.tar.gz, as code/inference.py beside model_card.json and the package reading/, which
parses requests. It serves under two contracts:

- SageMaker's TensorFlow Serving image calls `handler`, in a process without TensorFlow, NumPy or Pillow: the standard
  library has to suffice.
- SageMaker's inference toolkit, and any server of your own, call `model_fn`, `input_fn`, `predict_fn` and `output_fn`.

reading/__init__.py lists what a request may be. A picture is turned upright by its EXIF orientation, laid on white
where it is transparent, and resized for the model: stretched, or centred on black, as the model card says. With the
custom attribute `explain` (SageMaker's header; at a local server also `?explain`), the answer also shows where the
network looked, if the card has an entry "grad_cam".
"""

import base64
import functools
import http.client
import importlib.util
import json
import re
import sys
import zlib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

CARD_NAME = "model_card.json"
JSON = "application/json"
TOP = 3
# Decimal places of a map's values, which lie between 0 and 1.
MAP_DIGITS = 3
# How long TensorFlow Serving may take to answer; SageMaker itself gives up on a request after 60 seconds.
SERVING_SECONDS = 60
# Created once; json.dumps would create one per call.
TO_JSON = json.JSONEncoder(allow_nan=False)
# Enough of a body to tell what it is.
FIRST_BYTES = 16


def _load_reading():
    """The package reading/ beside this file, under a unique name: two archives in one process must not share it."""
    folder = Path(__file__).resolve().parent / "reading"
    name = f"reading_{zlib.crc32(str(folder).encode()):08x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


reading = _load_reading()
RequestError, Pixels, MAX_BODY_BYTES = reading.RequestError, reading.Pixels, reading.MAX_BODY_BYTES


@functools.lru_cache(maxsize=1)
def card():
    """The model card beside this file, as a dict."""
    return json.loads((Path(__file__).parent / CARD_NAME).read_text(encoding="utf-8"))


def decode(body, content_type):
    """Decode a request body (bytes) into `reading.Pixels` or a list of `reading.Picture`; raises RequestError."""
    return reading.decode(body, content_type, tuple(card()["input_shape"]))


def asks_why(attributes):
    """Whether custom attributes, or a query string, ask for an explanation; both list names and values.

    Raises RequestError 400 if they do and the model cannot explain.
    """
    text = (attributes or "").lower()
    pairs = [part.partition("=") for part in re.split(r"[,;&\s]+", text)] if "explain" in text else ()
    if not any(name == "explain" and value not in ("0", "false", "no") for name, _, value in pairs):
        return False
    if not card().get("grad_cam"):
        raise RequestError(400, "this model cannot explain its answers: it has no convolution; ask without 'explain'")
    return True


# The container's contract (TensorFlow Serving behind a Python service)


def handler(data, context):
    """Answer a request, given as a stream of its body and the service's `context`: (body, content type).

    One function instead of the pair `input_handler`, `output_handler`: newer images skip the
    second when TensorFlow Serving answers with an error, whose text would be lost.
    """
    length = context.content_length
    if (length or 0) > MAX_BODY_BYTES:
        reading.check_size(length, data.read(FIRST_BYTES))
    why = asks_why(context.custom_attributes)
    decoded = decode(data.read(MAX_BODY_BYTES + 1 if length is None else length), context.request_content_type)
    answers = _ask_tensorflow_serving(decoded, context.rest_uri, why)
    if not why:
        return encode(answers, card()), JSON
    return encode([each["probabilities"] for each in answers], card(), [each["grad_cam"] for each in answers]), JSON


def tensorflow_serving_request(decoded, why=False):
    """`decode`'s result as JSON bytes for TensorFlow Serving; with `why`, for the signatures that explain.

    Bytes go as base64 to the signatures that take strings: 4 characters for 3 channel values;
    a list of numbers would take up to 15.
    """
    if isinstance(decoded, list):
        signature = "explain_image" if why else "serve_image"
        instances = [_base64(reading.marked(picture)) for picture in decoded]
    elif isinstance(decoded.values, bytes) and not why:
        signature = "serve_uint8"
        instances = [_base64(part) for part in reading.chunks(decoded.values, decoded.shape[0])]
    else:
        signature, instances = "explain" if why else "serving_default", list(decoded.values)
        for length in reversed(decoded.shape[1:]):
            instances = list(reading.chunks(instances, len(instances) // length))
    return json.dumps({"signature_name": signature, "instances": instances}).encode()


def _ask_tensorflow_serving(decoded, uri, why):
    """Probabilities, lists (n, classes); with `why`, n objects holding the outputs of a signature that explains."""
    status, body = _post(uri, tensorflow_serving_request(decoded, why))
    if status == HTTPStatus.OK:
        return json.loads(body)["predictions"]
    text = body.decode("utf-8", "replace")
    if isinstance(decoded, list) and status == HTTPStatus.BAD_REQUEST:
        if len(decoded) > 1:
            # Ask one by one to find out which picture is at fault.
            return [row for picture in decoded for row in _ask_tensorflow_serving([picture], uri, why)]
        raise reading.fault(decoded[0], text)
    first_line = (text.splitlines() or [""])[0][:300]
    raise RequestError(500, f"TensorFlow Serving answered {status}: {first_line}")


def _post(uri, body):
    """(status, body) of TensorFlow Serving's answer."""
    address = urlsplit(uri)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=SERVING_SECONDS)
    try:
        connection.request("POST", address.path, body, {"Content-Type": JSON})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(503, f"TensorFlow Serving does not answer ({type(error).__name__})") from None
    finally:
        connection.close()


# The toolkit's contract


def model_fn(model_dir):
    """The SavedModel of the highest version under `model_dir`, as `tf.saved_model.load` returns it."""
    import tensorflow as tf

    versions = [path.parent for path in Path(model_dir).glob("*/*/saved_model.pb") if path.parent.name.isdigit()]
    return tf.saved_model.load(str(max(versions, key=lambda folder: int(folder.name))))


def input_fn(body, content_type):
    """Decode a request body (bytes, or JSON text) as `decode` does."""
    return decode(body.encode() if isinstance(body, str) else body, content_type)


def predict_fn(decoded, model):
    """Probabilities, float32 (n, classes), from `decode`'s result and `model_fn`'s model."""
    return predict_pixels(pixel_array(decoded, model), model)


def output_fn(prediction, accept):
    """(body, content type) of the answer, for probabilities (n, classes): JSON, whatever `accept` asks for."""
    return encode(prediction.tolist(), card()), JSON


def pixel_array(decoded, model):
    """`decode`'s result as the model sees it: a NumPy array, float32 (n, height, width, channels) in 0..255."""
    import numpy as np

    if isinstance(decoded, list):
        return np.concatenate([_picture_array(picture, model) for picture in decoded])
    dtype = "uint8" if isinstance(decoded.values, bytes) else "float32"
    return np.frombuffer(decoded.values, dtype).reshape(decoded.shape).astype("float32")


def predict_pixels(images, model):
    """Probabilities, float32 (n, classes), for a float32 array (n, height, width, channels)."""
    import tensorflow as tf

    return model.signatures["serving_default"](pixels=tf.constant(images))["probabilities"].numpy()


def explain_pixels(images, model):
    """(probabilities, float32 (n, classes), maps, float32 (n, rows, columns) in 0..1) for an array as above."""
    import tensorflow as tf

    found = model.signatures["explain"](pixels=tf.constant(images))
    return found["probabilities"].numpy(), found["grad_cam"].numpy()


def _picture_array(picture, model):
    import tensorflow as tf

    try:
        return model.signatures["decode_image"](images=tf.constant([reading.marked(picture)]))["pixels"].numpy()
    except tf.errors.InvalidArgumentError as error:
        raise reading.fault(picture, error.message) from error


# Shared by both


def encode(probabilities, card, maps=None):
    """The answer, JSON bytes, for probabilities, lists (n, classes).

    {"predictions": [{"predicted_class", "predicted_class_index", "confidence",
    "top_3_predictions": [{"class", "index", "probability"}, ...], "probabilities": {class: p}}, ...]}
    with one entry per image, in the order of the request. With `maps`, lists (n, rows, columns) in
    0..1, each also has "grad_cam": which parts of the picture, as the model sees it, point to its class.
    """
    names = card["class_names"]
    predictions = [_answer(row, names) for row in probabilities]
    for answer, rows in zip(predictions, maps or ()):  # noqa: B905 - older images run a Python without strict=
        answer["grad_cam"] = [[round(value, MAP_DIGITS) for value in row] for row in rows]
    try:
        return TO_JSON.encode({"predictions": predictions}).encode()
    except ValueError:
        raise RequestError(500, "the model returned a probability that is not a finite number") from None


def _answer(row, names):
    order = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    return {
        "predicted_class": names[order[0]],
        "predicted_class_index": order[0],
        "confidence": row[order[0]],
        f"top_{TOP}_predictions": [{"class": names[i], "index": i, "probability": row[i]} for i in order[:TOP]],
        "probabilities": dict(zip(names, row)),  # noqa: B905 - older images run a Python without strict=
    }


def _base64(data):
    return {"b64": base64.b64encode(data).decode()}
