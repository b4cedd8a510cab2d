"""Other test images for what CIFAR-10 taught, from the user's disk: CIFAR-10.1, CIFAR-10-C, and what is kept like them.

CIFAR-10.1 (Recht et al., "Do CIFAR-10 classifiers generalize to CIFAR-10?", 2018) is one .npy of images and one of
labels; CIFAR-10-C (Hendrycks and Dietterich, 2019) a folder with one of images for each corruption, five strengths one
after another, and labels.npy.
"""

import numpy as np

from cnnlab.data.cifar10_formats import CIFAR10_CLASSES, SIDE
from cnnlab.data.files import BadDataError, named_path

STRENGTHS = 5


def load_variants(path, limit):
    """[(kind, strength, images uint8 (n, 32, 32, 3), labels (n,)), ...] of what a person called `path`.

    `path`: a .npy of images, or a folder of such, with the labels beside each: images in NAME.npy have them in
    NAME_labels.npy, those in NAME_data.npy too, and else in labels.npy. `kind` is NAME; `strength` 1 to 5 where the
    labels are five times the same, else 0. At most `limit` images of each, taken evenly from all of its kind and
    strength, which may be sorted by class. Raises BadDataError with what is wrong with the first bad file.
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
    """The array in `file`, mapped: a file may claim whatever size it likes."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # A header may claim whatever it likes.
        raise BadDataError(f"{file} is no whole .npy of numbers ({error})") from None
    if not isinstance(array, np.ndarray):
        raise BadDataError(f"{file} holds several arrays; expected a .npy, which holds one")
    return array
