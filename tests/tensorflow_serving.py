"""A stand-in for TensorFlow Serving's REST interface (its "row format"), over a SavedModel.

POST /v1/models/<name>:predict with {"signature_name": ..., "instances": [...]}; an instance
{"b64": text} is a string. Answers {"predictions": [...]}, of a signature with several outputs
[{name: value, ...}, ...], or {"error": ...} with 400 or 404.
"""

import base64
import contextlib
import http.server
import json
import threading
from pathlib import Path

import tensorflow as tf


@contextlib.contextmanager
def serving(model_folder):
    """Serve `model_folder`/<digits> under the folder's name; yields the port."""
    (version,) = (path for path in Path(model_folder).iterdir() if path.name.isdigit())
    model = tf.saved_model.load(str(version))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802 - the name that http.server asks for
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != f"/v1/models/{Path(model_folder).name}:predict":
                return self.reply(404, {"error": f"Servable not found for request: {self.path}"})
            try:
                return self.reply(200, {"predictions": predict(model, json.loads(body))})
            except (ValueError, TypeError, KeyError, tf.errors.InvalidArgumentError) as error:
                return self.reply(400, {"error": str(error)})

        def reply(self, status, document):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def predict(model, request):
    signature = model.signatures[request.get("signature_name", "serving_default")]
    ((name, spec),) = signature.structured_input_signature[1].items()
    values = [
        base64.b64decode(instance["b64"]) if isinstance(instance, dict) else instance
        for instance in request["instances"]
    ]
    outputs = {
        key: value.numpy().tolist() for key, value in signature(**{name: tf.constant(values, spec.dtype)}).items()
    }
    if len(outputs) == 1:
        return outputs.popitem()[1]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
