"""What serving costs: handlers, local server and payloads, side by side in one run.

The published way is the one of most public notebooks: images as nested JSON lists into
`model.predict`. The packed way is sagemaker_scripts/inference.py behind serve_local.py. Both
answer the same images by the same weights; they take turns, so that another load on the machine
slows both. On a busy machine read the ratios, not the times.
"""

import argparse
import contextlib
import gc
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from cnnlab.data import CIFAR10_CLASSES, DataUnavailableError, load
from cnnlab.findings import HANDLER_LATENCY, SERVER_LOAD, benchmark_findings
from cnnlab.measures import run_benchmarks
from cnnlab.training import build
from sagemaker_scripts import package_model, serve_local
from sagemaker_scripts.test_endpoint import encode_npy, encode_png

SERVER = Path(serve_local.__file__)
BATCHES = (1, 64)
CLIENTS = (1, 8, 32)
TYPES = {"JSON": "application/json", "npy": "application/x-npy", "PNG": "image/png"}


def handler_latency(model, served, images, rounds, repeats):
    """Milliseconds from a request's bytes to the answer's, in the process: one row a way and batch.

    Each round measures every way `repeats` times. The packed ways run as the server runs them,
    with the collector blind to what was there before; the published way as it is published.
    """
    rows = []
    for batch in BATCHES:
        bodies = {
            "JSON": json.dumps({"instances": images[:batch].tolist()}).encode(),
            "npy": encode_npy(images[:batch]),
        }
        if batch == 1:
            bodies["PNG"] = encode_png(images[0])
        ways = {"published": lambda body=bodies["JSON"]: published(model, body)}
        for form, body in bodies.items():
            ways[f"packed, {form}"] = lambda body=body, form=form: served.answer(body, TYPES[form])
        seconds = {way: [] for way in ways}
        for _ in range(rounds):
            for way, answer in ways.items():
                with contextlib.nullcontext() if way == "published" else frozen():
                    answer()
                    seconds[way] += [timed(answer) for _ in range(repeats)]
        rows += [{"batch": batch, "way": way, **percentiles(values)} for way, values in seconds.items()]
    frame = pd.DataFrame(rows)
    reference = frame[frame.way == "published"].set_index("batch").p50_ms
    frame["times_faster"] = frame.batch.map(reference) / frame.p50_ms
    return frame


def handlers(model, path, images, rounds, repeats):
    """`handler_latency` of `model` and of the archive `path` that it was packed in."""
    with package_model.unpacked(path) as opened, contextlib.closing(serve_local.Served(opened)) as served:
        return handler_latency(model, served, images, rounds, repeats)


def published(model, body):
    """The usual handler: parse nested lists, `model.predict`, answer as JSON."""
    instances = np.array(json.loads(body)["instances"], dtype="float32")
    return json.dumps({"predictions": model.predict(instances, verbose=0).tolist()})


@contextlib.contextmanager
def frozen():
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def server_throughput(path, image, seconds):
    """Requests a second of serve_local.py, a process of its own: one row a number of clients.

    Each client is a thread here with a connection of its own, sending one npy image after the other.
    """
    rows = []
    with server(path) as url:
        for count in CLIENTS:
            clients = [Client(url, encode_npy(image), seconds) for _ in range(count)]
            begin = time.perf_counter()
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            elapsed = time.perf_counter() - begin
            taken = [value for client in clients for value in client.seconds]
            rows.append(
                {
                    "clients": count,
                    "requests": len(taken),
                    "errors": sum(client.errors for client in clients),
                    "requests_per_second": len(taken) / elapsed,
                    **percentiles(taken),
                }
            )
    return pd.DataFrame(rows)


class Client(threading.Thread):
    """Sends `body` again and again for `seconds`; counts what is not answered with 200."""

    def __init__(self, url, body, duration):
        super().__init__(daemon=True)
        self.address, self.body, self.duration = urlsplit(url), body, duration
        self.seconds, self.errors = [], 0

    def run(self):
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=60)
        end = time.perf_counter() + self.duration
        while (begin := time.perf_counter()) < end:
            try:
                connection.request("POST", "/invocations", self.body, {"Content-Type": TYPES["npy"]})
                response = connection.getresponse()
                response.read()
                self.errors += response.status != http.client.OK
            except (OSError, http.client.HTTPException):
                self.errors += 1
                connection.close()
            self.seconds.append(time.perf_counter() - begin)
        connection.close()


@contextlib.contextmanager
def server(path):
    """serve_local.py as its user starts it; yields the URL."""
    command = [sys.executable, SERVER, path, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        _, served, address = process.stdout.readline().partition(" is served at ")
        if not served:
            raise SystemExit(f"the server did not start; see why: {' '.join(map(str, command))}")
        yield address.split()[0].rstrip("/")
    finally:
        process.terminate()
        process.wait()


def payload_bytes(images):
    """Bytes of one image on its way to the server, mean over `images`: one row a form."""
    forms = {
        "JSON, numbers / 255": lambda image: json.dumps({"instances": [(image / 255).tolist()]}).encode(),
        "JSON, whole numbers": lambda image: json.dumps({"instances": [image.tolist()]}).encode(),
        "npy, uint8": encode_npy,
        "PNG": encode_png,
    }
    rows = [
        {"form": name, "bytes": np.mean([len(encode(image)) for image in images])} for name, encode in forms.items()
    ]
    return pd.DataFrame(rows)


def percentiles(seconds):
    p50, p95 = 1000 * np.percentile(seconds, [50, 95])
    return {"p50_ms": p50, "p95_ms": p95}


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def test_images(count):
    """(what they are, uint8 images (count, 32, 32, 3)): CIFAR-10's where it is at hand."""
    try:
        return "CIFAR-10 test images", load("cifar10").split("test", count)[0]
    except (DataUnavailableError, OSError):
        from PIL import Image

        noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), "uint8")
        return "smoothed noise", np.stack([np.asarray(Image.fromarray(image).resize((32, 32))) for image in noise])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="requests in a turn (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5, help="of load by each number of clients (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="also write everything to this JSON file")
    options = parser.parse_args()
    # Times do not depend on what the weights are: the largest model of the assignment, untrained.
    model = build("cnn")
    kind, images = test_images(max(BATCHES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        model.save(path / "cnn.keras")
        package_model.package(path / "cnn.keras", path / "model.tar.gz", class_names=CIFAR10_CLASSES)
        measurements = {
            HANDLER_LATENCY: lambda: handlers(model, path / "model.tar.gz", images, options.rounds, options.repeats),
            SERVER_LOAD: lambda: server_throughput(path / "model.tar.gz", images[0], options.seconds),
            "payload of one image": lambda: payload_bytes(images),
        }
        run_benchmarks(measurements, benchmark_findings, f"{model.count_params():,} parameters, {kind}", options.output)


if __name__ == "__main__":
    main()
