"""What serving costs: handlers, local server and payloads, side by side in one run.

The published way is that of most public notebooks: images as nested JSON lists into
`model.predict`. The packed way is sagemaker_scripts/inference.py behind serve_local.py. Both
answer the same images with the same weights; they take turns, so that other load on the machine
slows both. On a busy machine read the ratios, not the times.

The local server is compared with the SavedModel alone, asked in this process: its time for one
image, and its rate in batches. It is also put under a mixed load by many clients at once.
"""

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from asking import ask, mixed, same

from cnnlab.data import CIFAR10_CLASSES, DataUnavailableError, load
from cnnlab.findings import AIMS, HANDLER_LATENCY, MIXED_LOAD, SERVER_LOAD, SERVER_SHARE, run_benchmarks
from cnnlab.training import build
from sagemaker_scripts import package_model, serve_local
from sagemaker_scripts.serving import archive
from sagemaker_scripts.test_endpoint import ENCODERS, encode_npy, encode_png

SERVER = Path(serve_local.__file__)
BATCHES = (1, 64)
CLIENTS = (1, 8, 64)
# Seconds of load before a server's memory is measured: TensorFlow allocates when it first meets a kind of request.
WARM_UP = 10


def handler_latency(model, path, images, rounds, repeats):
    """Milliseconds from a request's bytes to the answer's, within the process: one row per way and batch size.

    Measures `model` and the archive at `path` that it was packed in; each round measures every way `repeats` times. The
    packed ways run as in the server, with existing objects frozen out of garbage collection; the published way as
    published.
    """
    rows = []
    with archive.unpacked(path) as opened, contextlib.closing(serve_local.Served(opened)) as served:
        for batch in BATCHES:
            bodies = {
                "JSON": json.dumps({"instances": images[:batch].tolist()}).encode(),
                "npy": encode_npy(images[:batch]),
            }
            if batch == 1:
                bodies["PNG"] = encode_png(images[0])
            ways = {"published": lambda body=bodies["JSON"]: published(model, body)}
            for form, body in bodies.items():
                kind, _ = ENCODERS[form.lower()]
                ways[f"packed, {form}"] = lambda body=body, kind=kind: served.answer(body, kind)
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


def published(model, body):
    """The usual handler: parse nested lists, call `model.predict`, answer in JSON."""
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
    """Requests per second of serve_local.py, in its own process: one row per form and number of clients.

    Each client has its own connection and sends one image after another.
    """
    rows = []
    with server(path) as (url, _):
        for form in ("npy", "PNG"):
            for count in CLIENTS:
                clients, elapsed = ask(url, count, seconds, same(image, form))
                taken = [value for client in clients for value in client.seconds]
                rows.append(
                    {
                        "form": form,
                        "clients": count,
                        "requests": len(taken),
                        "errors": sum(client.unexpected for client in clients),
                        "requests_per_second": len(taken) / elapsed,
                        **percentiles(taken),
                    }
                )
    return pd.DataFrame(rows)


def server_share(path, images, rounds, repeats, seconds):
    """The local server against the SavedModel alone, in turns: the time for one image, the rate with many clients."""
    alone = {batch: [] for batch in BATCHES}
    taken, rates = [], []
    with archive.unpacked(path) as folder, server(path) as (url, _):
        inference = archive.load_handlers(folder)
        model = inference.model_fn(folder)
        for _ in range(rounds):
            for batch, times in alone.items():
                pixels = images[:batch].astype("float32")
                inference.predict_pixels(pixels, model)
                times += [timed(lambda pixels=pixels: inference.predict_pixels(pixels, model)) for _ in range(repeats)]
            (client,), _ = ask(url, 1, seconds / rounds, same(images[0]))
            taken += client.seconds
            clients, elapsed = ask(url, CLIENTS[-1], seconds / rounds, same(images[0]))
            rates.append(sum(len(client.seconds) for client in clients) / elapsed)
    (one, many), aims = (np.median(alone[batch]) for batch in BATCHES), (AIMS.server_times, AIMS.server_share)
    rows = [
        {"what": "one client, ms", "served": 1000 * np.median(taken), "alone": 1000 * one},
        {"what": f"{CLIENTS[-1]} clients, images a second", "served": np.median(rates), "alone": BATCHES[-1] / many},
    ]
    frame = pd.DataFrame(rows)
    frame["ratio"], frame["aim"] = frame.served / frame.alone, aims
    return frame


def mixed_load(path, image, seconds):
    """Many clients with mixed requests: one row of requests, unexpected answers and the server's memory in MB."""
    count = CLIENTS[-1]
    with server(path) as (url, process):
        memory = psutil.Process(process.pid).memory_info
        ask(url, count, WARM_UP, mixed(image))
        before = memory().rss
        clients, elapsed = ask(url, count, seconds, mixed(image))
        after = memory().rss
    answered = sum(len(client.seconds) for client in clients)
    return pd.DataFrame(
        {
            "clients": [count],
            "seconds": elapsed,
            "requests": answered,
            "unexpected": sum(client.unexpected for client in clients),
            "MB_before": before / 1e6,
            "MB_after": after / 1e6,
        }
    )


@contextlib.contextmanager
def server(path):
    """Run serve_local.py as a user starts it; yields (URL, process)."""
    command = [sys.executable, SERVER, path, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        _, served, address = process.stdout.readline().partition(" is served at ")
        if not served:
            raise SystemExit(f"the server did not start; to see why, run: {' '.join(map(str, command))}")
        yield address.split()[0].rstrip("/"), process
    finally:
        process.terminate()
        process.wait()


def payload_bytes(images):
    """Bytes of a request with one image, mean over `images`: one row per form."""
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
    """(description, uint8 images (count, 32, 32, 3)): CIFAR-10's if available, else noise."""
    try:
        return "CIFAR-10 test images", load("cifar10").split("test", count)[0]
    except (DataUnavailableError, OSError):
        from PIL import Image

        noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), "uint8")
        return "smoothed noise", np.stack([np.asarray(Image.fromarray(image).resize((32, 32))) for image in noise])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns per way (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="requests per turn (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5, help="of load for each number of clients (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=1, help="of mixed load from many clients (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="also write everything to this JSON file")
    options = parser.parse_args()
    # The weights do not affect the times: take the assignment's largest model, untrained.
    model = build("cnn")
    kind, images = test_images(max(BATCHES))
    rounds, repeats, seconds = options.rounds, options.repeats, options.seconds
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "cnn.keras")
        path = package_model.package(
            Path(folder) / "cnn.keras", Path(folder) / "model.tar.gz", class_names=CIFAR10_CLASSES
        )
        measurements = {
            HANDLER_LATENCY: lambda: handler_latency(model, path, images, rounds, repeats),
            SERVER_LOAD: lambda: server_throughput(path, images[0], seconds),
            SERVER_SHARE: lambda: server_share(path, images, rounds, repeats, rounds * seconds),
            MIXED_LOAD: lambda: mixed_load(path, images[0], options.minutes * 60),
            "payload of one image": lambda: payload_bytes(images),
        }
        run_benchmarks(measurements, f"{model.count_params():,} parameters, {kind}", options.output)


if __name__ == "__main__":
    main()
