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
from sagemaker_scripts.serving import archive, savedmodel

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
        folder=folder, handlers=archive.load_handlers(folder), images=images, labels=labels,
    )  # fmt: skip


@functools.cache
def loaded():
    """What the handlers load from the unpacked archive: loaded once, because it takes about a second."""
    return tiny().handlers.model_fn(tiny().folder)


def export_no_more(monkeypatch):
    """Export the tiny model's existing SavedModel in place of a new one: for tests of everything around it."""
    saved = tiny().folder / "cnn" / "1"
    monkeypatch.setattr(savedmodel, "export", lambda model, folder, *_: shutil.copytree(saved, folder))


def straight(images):
    """Keras's own predictions: float32 (n, classes)."""
    return tiny().model.predict_on_batch(np.asarray(images, "float32"))


def probabilities(body):
    """The probabilities in an answer: (n, classes)."""
    return np.array([list(answer["probabilities"].values()) for answer in json.loads(body)["predictions"]])


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def picture(array, form="PNG", **options):
    """The bytes of an image file that Pillow makes of a uint8 array (height, width, 3) or a Pillow image."""
    file = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(file, form, **options)
    return file.getvalue()
