"""What surrounds the local server: a proxy in front of it, a stand-in for TensorFlow Serving behind it."""

import base64
import contextlib
import http.client
import http.server
import json
import threading

import tensorflow as tf

PREFIX = "/jupyter/proxy/8080"


@contextlib.contextmanager
def running(answer):
    """Answer GET and POST with `answer`, a function of a BaseHTTPRequestHandler; yields the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        do_GET = do_POST = answer  # noqa: N815 - the names that http.server expects

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


@contextlib.contextmanager
def prefixed(port):
    """Proxy the server at `port` below PREFIX, as jupyter-server-proxy does, passing on the browser's Host.

    Yields the address of its root, with a slash at the end.
    """

    def hand_on(request):
        if not request.path.startswith(f"{PREFIX}/"):
            request.send_error(404)
            return
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(request.command, request.path.removeprefix(PREFIX), body, dict(request.headers))
            answer = connection.getresponse()
            content = answer.read()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    with running(hand_on) as own_port:
        yield f"http://127.0.0.1:{own_port}{PREFIX}/"


@contextlib.contextmanager
def tensorflow_serving(name, model):
    """TensorFlow Serving's REST interface (its "row format") over `model`, a loaded SavedModel; yields the port.

    POST /v1/models/<name>:predict with {"signature_name": ..., "instances": [...]}; an instance
    {"b64": text} is a string. Answers {"predictions": [...]}, where a signature with several outputs
    gives [{name: value, ...}, ...], or {"error": ...} with 400 or 404.
    """

    def answer(request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.path != f"/v1/models/{name}:predict":
            return reply(request, 404, {"error": f"Servable not found for request: {request.path}"})
        try:
            return reply(request, 200, {"predictions": predict(model, json.loads(body))})
        except (ValueError, TypeError, KeyError, tf.errors.InvalidArgumentError) as error:
            return reply(request, 400, {"error": str(error)})

    with running(answer) as port:
        yield port


def reply(request, status, document):
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.end_headers()
    request.wfile.write(json.dumps(document).encode())


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
