"""Checks that the container would start with an archive, and that it answers like the original Keras model."""

import subprocess
import sys
from pathlib import Path

from cnnlab.machine import release
from sagemaker_scripts.serving import classifier
from sagemaker_scripts.serving.archive import HANDLERS, ArchiveError, load_handlers, read_card, unpacked

# The most images on which the packed model is compared with the original; TOLERANCE says how near is equal.
PROBES = 8
# Pixels in all of them, unless two already have more: large pictures take much memory.
PROBED_PIXELS = 2**17
TOLERANCE = 1e-5
START_SECONDS = 60
# What the container does with code/inference.py: load it and hand it a request. For that, it asks TensorFlow
# Serving, here a stand-in that knows one answer.
BARE_START = """
import collections, http.server, importlib.util, io, json, sys, threading
spec = importlib.util.spec_from_file_location("inference", sys.argv[1])
inference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(inference)
assert hasattr(inference, "handler"), "no handler"
card = inference.card()
class Serving(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        row = [1 / len(card["class_names"])] * len(card["class_names"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"predictions": [row for _ in asked["instances"]]}).encode())
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Serving)
threading.Thread(target=server.serve_forever, daemon=True).start()
height, width, channels = card["input_shape"]
body = json.dumps({"image": [[[0] * channels] * width] * height}).encode()
uri = f"http://127.0.0.1:{server.server_port}/v1/models/model:predict"
Context = collections.namedtuple("Context", "content_length request_content_type rest_uri custom_attributes")
answer, kind = inference.handler(io.BytesIO(body), Context(len(body), "application/json", uri, None))
assert json.loads(answer)["predictions"][0]["probabilities"], "no answer"
"""


def verify(path, model, class_names=None):
    """Check the archive `path`, from the outside, against the Keras `model` that it was made from.

    Its layout; that its handlers start with nothing but the standard library; that the reloaded
    model answers images, as arrays and as PNG files, like `model`; and that its card has
    `class_names`, those that the model was trained with (None: unknown). Raises ArchiveError.
    """
    import numpy as np
    import tensorflow as tf

    said = read_card(path)["class_names"]
    if class_names and said != list(class_names):
        raise ArchiveError(
            f"the card has the classes {', '.join(said)}; expected those that the model was trained with, in their "
            f"order: {', '.join(class_names)}"
        )
    height, width, _ = model.input_shape[1:]
    count = max(2, min(PROBES, PROBED_PIXELS // (height * width)))
    images = np.random.default_rng(0).integers(0, 256, (count, *model.input_shape[1:]), "uint8")
    expected = classifier.answers(model, images)
    with unpacked(path) as folder:
        release()  # The start runs in a process of its own, beside this one.
        _check_start(folder)
        signatures = load_handlers(folder).model_fn(folder).signatures
        answers = {
            "serving_default": signatures["serving_default"](pixels=tf.constant(images, "float32")),
            "serve_uint8": signatures["serve_uint8"](pixels=tf.constant([image.tobytes() for image in images])),
            "serve_image": signatures["serve_image"](images=tf.stack([tf.io.encode_png(image) for image in images])),
        }
        if "explain" in signatures:
            answers["explain"] = signatures["explain"](pixels=tf.constant(images, "float32"))
    for signature, answer in answers.items():
        difference = np.abs(answer["probabilities"].numpy() - expected).max()
        if not difference <= TOLERANCE:
            raise ArchiveError(
                f"the packed model's {signature} differs from {model.name} by {difference:.2g} in a probability; "
                f"expected at most {TOLERANCE:g}"
            )


def _check_start(folder):
    """Start the handlers of an unpacked archive in a Python that has only its standard library.

    Raises ArchiveError with the last line of the error.
    """
    command = [sys.executable, "-I", "-S", "-c", BARE_START, str(Path(folder) / HANDLERS)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ArchiveError(f"{HANDLERS} did not start within {START_SECONDS} seconds") from None
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        raise ArchiveError(f"{HANDLERS} does not start in the container: {lines[-1]}")
