"""A stand-in for SageMaker's TensorFlow Serving image, run as a program of its own.

    python container.py MODEL_FOLDER TENSORFLOW_SERVING_PORT old|new

It imitates AWS's image: it finds the SavedModels, loads code/inference.py, and answers POST
/invocations with its handler. "old" answers every exception with 500, "new" lets falcon's errors
through.
TensorFlow, Keras, NumPy and Pillow cannot be imported here. Prints the port it listens on.
"""

import collections
import importlib.abc
import importlib.util
import io
import json
import re
import socketserver
import sys
import wsgiref.simple_server
from pathlib import Path

MISSING = ("tensorflow", "keras", "numpy", "PIL", "cv2", "scipy")


class NotInTheImage(importlib.abc.MetaPathFinder):
    """Blocks the imports that fail in the image."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] in MISSING:
            raise ImportError(f"{fullname} is not in the image")


Context = collections.namedtuple(
    "Context",
    "model_name model_version method rest_uri grpc_port channel custom_attributes request_content_type accept_header "
    "content_length timeout",
)


def find_models(folder):
    """Names of the folders that hold a SavedModel in a subfolder whose name is a number."""
    found = (path.relative_to(folder).parts for path in Path(folder).rglob("saved_model.pb"))
    return list(dict.fromkeys(parts[-3] for parts in found if len(parts) >= 3 and re.fullmatch(r"\d+", parts[-2])))


def import_handlers(folder):
    spec = importlib.util.spec_from_file_location("inference", Path(folder) / "code" / "inference.py")
    inference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(inference)
    if not hasattr(inference, "handler"):
        # The image also accepts an input_handler with an output_handler; this stand-in does not.
        raise NotImplementedError("Handlers are not implemented correctly in user script.")
    return inference


class Invocations:
    """falcon's resource for POST /invocations."""

    def __init__(self, inference, uri, image):
        self.inference, self.uri, self.image = inference, uri, image

    def on_post(self, request, response):
        import falcon

        context = Context(
            None, None, None, self.uri, None, None, request.get_header("X-Amzn-SageMaker-Custom-Attributes"),
            request.get_header("Content-Type") or "application/json",
            request.get_header("Accept") or "application/json",
            request.content_length, None,
        )  # fmt: skip
        chunked = request.get_header("Transfer-Encoding") == "chunked"
        body = io.BytesIO(unchunked(request.stream)) if chunked else request.stream
        try:
            response.data, response.content_type = self.inference.handler(body, context)
        except Exception as error:
            if self.image == "new" and isinstance(error, falcon.HTTPError):
                raise
            response.status = falcon.HTTP_500
            response.text = json.dumps({"error": str(error)})


def unchunked(stream):
    """The body of a chunked request, as gunicorn gives it to the service."""
    parts = []
    while size := int(stream.readline(), 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(parts)


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


def main():
    folder, port, image = sys.argv[1:]
    sys.meta_path.insert(0, NotInTheImage())
    import falcon

    models = find_models(folder)
    if not models:
        raise ValueError("no SavedModel bundles found!")
    inference = import_handlers(folder)
    app = falcon.App()
    app.add_route(
        "/invocations", Invocations(inference, f"http://127.0.0.1:{port}/v1/models/{models[0]}:predict", image)
    )
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, Server, Quiet)
    assert not any(name in sys.modules for name in MISSING)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
