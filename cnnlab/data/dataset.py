"""A data set: uint8 images, integer labels, class names, named splits."""

import dataclasses
import hashlib

import numpy as np
import pandas as pd

from cnnlab.data.cifar10 import cifar10_arrays
from cnnlab.data.cifar10_formats import CIFAR10_CLASSES
from cnnlab.data.mars import MARS_PATH_VARIABLE, mars_arrays
from cnnlab.data.mars_files import Listing
from cnnlab.machine import forget

SPLITS = ("train", "validation", "test")
LARGEST_MARS_SIZE = 512
# Side in pixels of what the lab's networks take: the convolutional ones, and the dense baseline.
MARS_SIZES = (128, 64)


@dataclasses.dataclass(frozen=True)
class Split:
    """Images of one split: rows `indices` of `images` (n, height, width, channels) uint8 and `labels` (n,)."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self):
        return len(self.indices)

    def take(self, limit=None):
        """(images, labels) of the first `limit` rows (None: all), copied out of the cache."""
        chosen = self.indices[:limit]
        taken = self.images[chosen], self.labels[chosen]
        forget(self.images)
        return taken


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Named splits of images with their class names.

    `splits`: {"train", "validation", "test"} to a Split. The rows of a split are in no order
    of class, so that its first n are a random sample of it, and those of a smaller n lie
    within those of a larger one. `metadata`: what else is known of the images, one row for each
    row of the arrays, where a data set has such knowledge.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    metadata: pd.DataFrame | None = None

    def split(self, name, limit=None):
        """(images uint8 (n, height, width, channels), labels (n,)) of split `name`, or its first `limit`.

        Raises ValueError for an unknown name, or a limit larger than the split.
        """
        if name not in self.splits:
            raise ValueError(f"{self.name} has no split {name!r}; expected one of {', '.join(self.splits)}")
        size = len(self.splits[name])
        if limit is not None and limit > size:
            raise ValueError(f"{limit:,} images asked of {self.name}'s {name} split, which has {size:,}")
        return self.splits[name].take(limit)

    @property
    def input_shape(self):
        """(height, width, channels) in pixels."""
        return tuple(self.splits["train"].images.shape[1:])

    @property
    def fingerprint(self):
        """12 hex digits over the name, the labels and which rows are in which split."""
        digest = hashlib.sha256(self.name.encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(np.ascontiguousarray(split.indices, "int64"))
            digest.update(np.ascontiguousarray(split.labels[split.indices], "int64"))
        return digest.hexdigest()[:12]


def load_cifar10(path=None, cache=None, split_seed=0, validation_images=10_000, progress=True):
    """CIFAR-10 (Krizhevsky 2009): 40,000 training, 10,000 validation and 10,000 test images.

    `path`: where the user has the data, in any of the shapes that `cifar10_copies` knows (default:
    the environment variable CNNLAB_CIFAR10); `cache`: the cache folder (default: CNNLAB_CACHE,
    else ~/.cache/cnnlab); `split_seed`: decides which images, the same share of each class, are
    held out of the 50,000 for validation; `progress`: whether to show bars.
    Returns a Dataset, memory-mapped. Raises DataUnavailableError with what was tried,
    ValueError where `validation_images` leaves no image for training.
    """
    from sklearn.model_selection import train_test_split  # takes a second, and nothing else here needs it

    arrays = cifar10_arrays(path, cache, progress)
    labels = arrays["y_train"]
    if not 0 < validation_images < len(labels):
        raise ValueError(f"validation_images is {validation_images}; expected 1 to {len(labels) - 1:,}")
    train, validation = train_test_split(
        np.arange(len(labels)), test_size=validation_images, stratify=labels, random_state=split_seed
    )
    return Dataset(
        "cifar10",
        CIFAR10_CLASSES,
        {
            "train": Split(arrays["x_train"], labels, train),
            "validation": Split(arrays["x_train"], labels, validation),
            "test": Split(arrays["x_test"], arrays["y_test"], np.arange(len(arrays["y_test"]))),
        },
    )


def load_mars(path=None, cache=None, size=128, letterbox=True, progress=True):
    """Curiosity's surface images (MSL, DOI 10.5281/zenodo.1049137): 3,746, 1,640 and 1,305 in 24 classes.

    `path`: the published zip, its folder, or a folder that holds either (default: the
    environment variable CNNLAB_MARS, else a download); `cache`: the cache folder, as in
    `load_cifar10`; `size` of the square images, in pixels; `letterbox`: keep the aspect ratio
    and fill up with black, because wheels are round and the pictures' own shapes run from 1:1 to
    3:1 (False: stretch, so that no bars tell of the picture's shape); `progress`: whether to
    show bars.
    Returns a Dataset, memory-mapped, with the published split by Martian day. Labels count from
    0 without the gap of the published ids; `metadata` has both, and sol, camera, sequence, frame
    and group (see `mars_files.Listing.metadata`). Raises DataUnavailableError with what was
    tried, ValueError for a size that makes no images.
    """
    if isinstance(size, bool) or int(size) != size or not 8 <= size <= LARGEST_MARS_SIZE:
        raise ValueError(f"size is {size!r}; expected 8 to {LARGEST_MARS_SIZE} pixels (the pictures have 256 at most)")
    arrays = mars_arrays(path, cache, size, letterbox, progress)
    listing = Listing.from_bytes(arrays["listing"])
    metadata = listing.metadata()
    labels = metadata["label"].to_numpy("uint8")
    splits = {name: Split(arrays["images"], labels, np.flatnonzero(metadata["split"] == name)) for name in SPLITS}
    return Dataset(f"mars-{size}{'' if letterbox else '-stretch'}", listing.class_names, splits, metadata)


# What each data set feeds a network: ((height, width, channels) in pixels, classes), known before it is loaded.
SHAPES = {"cifar10": ((32, 32, 3), 10), "mars": ((128, 128, 3), 24), "mars64": ((64, 64, 3), 24)}
LOADERS = {
    "cifar10": lambda seed: load_cifar10(split_seed=seed),
    # The published split is never drawn anew, whatever the seed.
    "mars": lambda seed: load_mars(),
    "mars64": lambda seed: load_mars(size=64),
}


def load(name, seed=0):
    """The data set `name`, split by `seed` where it has no published split of its own."""
    if name not in LOADERS:
        raise ValueError(f"no data set is called {name!r}; expected one of {', '.join(LOADERS)}")
    return LOADERS[name](seed)


def path_variable(name):
    """The environment variable that says where the data set `name` lies on this machine."""
    return MARS_PATH_VARIABLE if name.startswith("mars") else f"CNNLAB_{name.upper()}"


def is_letterboxed(name):
    """Whether `load(name)` keeps the aspect ratio of its pictures; they fill the input otherwise."""
    return name.startswith(("mars", "folder")) and not name.endswith("-stretch")


def class_names(name):
    """The class names of the data set `name`, in the order of its labels; loaded only where it says them itself."""
    return CIFAR10_CLASSES if name == "cifar10" else load(name).class_names
