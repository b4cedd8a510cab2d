"""A tiny trained classifier, packed and unpacked once for all modules that test serving."""

import functools
import io
import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import synthetic
from PIL import Image

from cnnlab.training import Trial, train
from sagemaker_scripts import package_model

TRIAL = Trial("tiny", options={"filters": [4, 8], "dense": 16}, epochs=4, batch_size=32, precision="float32")


@functools.cache
def tiny():
    """The classifier of 16x16 bars: its Keras model, test images, archive, unpacked folder and handlers."""
    keeper = tempfile.TemporaryDirectory(prefix="packed-")
    root = Path(keeper.name)
    dataset = synthetic.dataset()
    result = train(TRIAL, dataset)
    result.model.save(root / "tiny.keras")
    path = package_model.package(
        root / "tiny.keras", root / "model.tar.gz", class_names=dataset.class_names, row=result.row
    )
    folder = root / "opt-ml-model"
    shutil.unpack_archive(path, folder, filter="data")
    images, labels = dataset.split("test")
    return SimpleNamespace(
        keeper=keeper, dataset=dataset, model=result.model, row=result.row, keras=root / "tiny.keras", archive=path,
        folder=folder, handlers=package_model.load_handlers(folder), images=images, labels=labels,
    )  # fmt: skip


def straight(images):
    """What Keras itself answers: float32 (n, classes)."""
    return tiny().model.predict_on_batch(np.asarray(images, "float32"))


def probabilities(body):
    """The probabilities in an answer: (n, classes)."""
    return np.array([list(answer["probabilities"].values()) for answer in json.loads(body)["predictions"]])


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def picture(array, form="PNG", **options):
    """An image file of a uint8 array (height, width, 3), by Pillow."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def requests_of(image):
    """The same image (height, width, 3) in every lossless form: {name: (content type, body)}."""
    pixels = image.tolist()
    return {
        "instances": ("application/json", json.dumps({"instances": [pixels]}).encode()),
        "images": ("application/json; charset=utf-8", json.dumps({"images": [pixels]}).encode()),
        "image": ("application/json", json.dumps({"image": pixels}).encode()),
        "floats": ("application/json", json.dumps({"image": image.astype(float).tolist()}).encode()),
        "npy": ("application/x-npy", npy(image)),
        "npy batch": ("Application/X-Npy", npy(image[None])),
        "png": ("image/png", picture(image)),
    }


def bad_requests():
    """{name: (content type, body, status, words of the message)}: what must be refused, and how."""
    image = tiny().images[0]
    pixels = image.tolist()
    ragged = tiny().images[0].tolist()
    ragged[3] = ragged[3][:-1]
    json_type, npy_type = "application/json", "application/x-npy"

    def with_value(text):
        return json.dumps({"image": pixels}).replace(str(pixels[0][0][0]), text, 1).encode()

    def encoded(document):
        return json.dumps(document).encode()

    huge = picture(np.zeros((1, 1, 3), "uint8"))
    huge = huge[:16] + b"\x00\x00\x40\x00\x00\x00\x40\x00" + huge[24:]
    return {
        "empty": (json_type, b"", 400, "no valid JSON"),
        "cut": (json_type, b'{"image": [[', 400, "no valid JSON"),
        "not utf-8": (json_type, b'{"image": "\xff"}', 400, "no valid JSON"),
        "deep": (json_type, b"[" * 200_000, 400, "no valid JSON"),
        "long number": (json_type, b'{"image": ' + b"9" * 10_000 + b"}", 400, "no valid JSON"),
        "bare list": (json_type, encoded([pixels]), 400, '{"instances"'),
        "other key": (json_type, encoded({"data": [pixels]}), 400, '{"instances"'),
        "two keys": (json_type, encoded({"image": pixels, "images": [pixels]}), 400, "one known key"),
        "empty batch": (json_type, encoded({"instances": []}), 400, "no image"),
        "null": (json_type, encoded({"instances": None}), 400, "no image"),
        "number": (json_type, encoded({"image": 5}), 400, "16 x 16 x 3"),
        "ragged": (json_type, encoded({"image": ragged}), 400, "not every row is a list of 16"),
        "short": (json_type, encoded({"image": pixels[:-1]}), 400, "not every image"),
        "too deep": (json_type, encoded({"image": [pixels]}), 400, "16 x 16 x 3"),
        "one in batch": (json_type, encoded({"images": [pixels, pixels[:-1]]}), 400, "not every image"),
        "grey": (json_type, encoded({"image": image[..., 0].tolist()}), 400, "16 x 16 x 3"),
        "NaN": (json_type, with_value("NaN"), 400, "NaN"),
        "infinity": (json_type, with_value("-Infinity"), 400, "-Infinity"),
        "overflow": (json_type, with_value("1e999"), 400, "0 to 255"),
        "large integer": (json_type, with_value("9" * 400), 400, "0 to 255"),
        "negative": (json_type, with_value("-1"), 400, "0 to 255"),
        "256": (json_type, with_value("256"), 400, "0 to 255"),
        "255.5": (json_type, with_value("255.5"), 400, "0 to 255"),
        "text": (json_type, with_value('"7"'), 400, "not a number"),
        "true": (json_type, with_value("true"), 400, "not a number"),
        "npy empty": (npy_type, b"", 400, "uint8 array"),
        "npy magic": (npy_type, b"\x93NUMPY", 400, "no npy file"),
        "npy cut": (npy_type, npy(image)[:-1], 400, "bytes"),
        "npy long": (npy_type, npy(image) + b"0", 400, "bytes"),
        "npy float": (npy_type, npy(image.astype("float32")), 400, "<f4"),
        "npy Fortran": (npy_type, npy(np.asfortranarray(image)), 400, "Fortran order True"),
        "npy shape": (npy_type, npy(image[:8]), 400, "(8, 16, 3)"),
        "npy none": (npy_type, npy(image[None][:0]), 400, "(0, 16, 16, 3)"),
        "npy objects": (npy_type, npy(np.array([{}])), 400, "'|O'"),
        "npy record": (npy_type, npy(np.zeros(2, [("a", "u1")])), 400, "no npy file"),
        "npy zip": (npy_type, b"PK\x03\x04" + bytes(60), 400, "no npy file"),
        "png cut": ("image/png", picture(image)[:-30], 400, "cannot read"),
        "png header": ("image/png", picture(image)[:20], 400, "no PNG"),
        "png is jpeg": ("image/png", picture(image, "JPEG"), 400, "send it as image/jpeg"),
        "jpeg is png": ("image/jpeg", picture(image), 400, "send it as image/png"),
        "jpeg cut": ("image/jpeg", picture(image, "JPEG")[:100], 400, "how large"),
        "jpeg cut late": ("image/jpeg", picture(image, "JPEG")[:-60], 400, "cannot read"),
        "gif": ("image/png", picture(image, "GIF"), 400, "no PNG"),
        "large picture": ("image/png", huge, 413, "16384 x 16384"),
        "large body": (json_type, b" " * (5 * 1024**2 + 1), 413, "5,242,880"),
        "large picture file": ("image/png", bytes(5 * 1024**2 + 1), 413, "5,242,880"),
        "csv": ("text/csv", b"1,2,3", 415, "text/csv"),
        "webp": ("image/webp", b"RIFF", 415, "image/png, image/jpeg"),
        "no type": ("", b"{}", 415, "expected application/json"),
    }
