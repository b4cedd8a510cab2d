"""A data set: uint8 images, integer labels, class names, named splits."""

import dataclasses
import hashlib
import re

import numpy as np
import pandas as pd

from cnnlab.data.cifar10 import cifar10_arrays
from cnnlab.data.cifar10_formats import CIFAR10_CLASSES
from cnnlab.data.mars import MARS_PATH_VARIABLE, mars_arrays
from cnnlab.data.mars_files import Listing
from cnnlab.data.pictures import check_side
from cnnlab.machine import forget

SPLITS = ("train", "validation", "test")
LARGEST_MARS_SIZE = 512
# Side in pixels of the images that the lab's networks take: those trained from scratch, and pretrained ones.
MARS_SIZES = (64, 224)


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

    `splits`: {"train", "validation", "test"} to a Split, whose rows are not sorted by class: the first n are a
    random sample of it, contained in any larger one. `metadata`: what else is known about the images, one row for each
    row of the arrays; `content`: a hash of the images, for a set whose name does not identify them.

    Grey images (n, height, width) become (n, height, width, 1), and labels given as class names become numbers. Raises
    ValueError, which names the field, for anything else that is not as `Split` says, for labels that have no class
    name, and for splits whose images differ in size.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    metadata: pd.DataFrame | None = None
    content: str = ""

    def __post_init__(self):
        names = _checked_names(self.class_names)
        if "train" not in self.splits:
            raise ValueError(f"splits are {', '.join(map(str, self.splits)) or 'none'}; expected a 'train' among them")
        splits = {name: _checked_split(name, split, names) for name, split in self.splits.items()}
        shapes = {name: split.images.shape[1:] for name, split in splits.items()}
        for name, shape in shapes.items():
            if shape != shapes["train"]:
                raise ValueError(f"{name}.images are {_by(shape)} pixels; expected {_by(shapes['train'])}, as in train")
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "splits", splits)

    def split(self, name, limit=None):
        """(images uint8 (n, height, width, channels), labels (n,)) of split `name`, or its first `limit`.

        Raises ValueError for an unknown name, or a limit larger than the split.
        """
        if name not in self.splits:
            raise ValueError(f"{self.name} has no split {name!r}; expected one of {', '.join(self.splits)}")
        size = len(self.splits[name])
        if limit is not None and limit > size:
            raise ValueError(f"limit is {limit:,}; expected at most {size:,}, all of {self.name}'s {name} split")
        return self.splits[name].take(limit)

    @property
    def input_shape(self):
        """(height, width, channels) in pixels."""
        return tuple(self.splits["train"].images.shape[1:])

    @property
    def key(self):
        """The name by which a `Trial` and its row refer to it, and `load` loads it."""
        return _KEYS.get(self.name, self.name)

    @property
    def fingerprint(self):
        """12 hex digits over the name, the content, the labels and which rows are in which split."""
        digest = hashlib.sha256((self.name + self.content).encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(np.ascontiguousarray(split.indices, "int64"))
            digest.update(np.ascontiguousarray(split.labels[split.indices], "int64"))
        return digest.hexdigest()[:12]


def _checked_names(names):
    """`names` as a tuple, or ValueError."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names are {names!r}; expected one string for each class")
    names = tuple(names)
    if len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f"class_names are {', '.join(names) or 'none'}; expected two or more, each once")
    return names


def _checked_split(name, split, class_names):
    """`split`, as `Dataset` keeps it; raises ValueError that names the field of the split called `name`."""
    for field in ("images", "labels", "indices"):
        if not isinstance(getattr(split, field), np.ndarray):
            raise ValueError(f"{name}.{field} is a {type(getattr(split, field)).__name__}; expected a NumPy array")
    images = split.images[..., None] if split.images.ndim == 3 else split.images
    if images.ndim != 4 or not images.size:
        raise ValueError(f"{name}.images have the shape {images.shape}; expected (n, height, width, channels)")
    if images.dtype != np.uint8:
        raise ValueError(
            f"{name}.images are {images.dtype}; expected uint8 from 0 to 255, which the networks scale themselves "
            f"(if from 0 to 1: np.rint(255 * images).astype('uint8'))"
        )
    labels = _checked_labels(f"{name}.labels", split.labels, len(images), class_names)
    indices = split.indices
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(f"{name}.indices are {indices.dtype} {indices.shape}; expected whole numbers (n,)")
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(images):
        span = f"from {indices.min():,} to {indices.max():,}"
        raise ValueError(
            f"{name}.indices run {span}; expected rows of its {len(images):,} images, 0 to {len(images) - 1:,}"
        )
    return Split(images, labels, indices)


def _checked_labels(field, labels, count, class_names):
    if labels.shape != (count,):
        hint = " (for one-hot labels, labels.argmax(1))" if labels.shape == (count, len(class_names)) else ""
        raise ValueError(f"{field} have the shape {labels.shape}; expected ({count},), one for each image{hint}")
    if labels.dtype.kind in "UO" and all(isinstance(label, str) for label in labels):
        number_of = {name: number for number, name in enumerate(class_names)}
        if unknown := next((label for label in labels if label not in number_of), None):
            raise ValueError(f"{field} have {str(unknown)!r}, which is not in class_names: {', '.join(class_names)}")
        return np.array([number_of[label] for label in labels])
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{field} are {labels.dtype}; expected whole numbers from 0, or class names")
    if not 0 <= labels.min() <= labels.max() < len(class_names):
        hint = ": they count from 1, so subtract 1" if labels.min() == 1 and labels.max() == len(class_names) else ""
        raise ValueError(
            f"{field} run from {labels.min()} to {labels.max()}; expected 0 to {len(class_names) - 1}, "
            f"the places of the {len(class_names)} class_names{hint}"
        )
    return labels


def _by(shape):
    return " x ".join(map(str, shape))


def load_cifar10(path=None, cache=None, split_seed=0, validation_images=10_000, progress=True):
    """CIFAR-10 (Krizhevsky 2009): 40,000 training, 10,000 validation and 10,000 test images.

    `path`: where the user has the data, in any of the forms that `cifar10_copies` knows (default:
    the environment variable CNNLAB_CIFAR10); `cache`: the cache folder (default: CNNLAB_CACHE,
    else ~/.cache/cnnlab); `split_seed`: decides which of the 50,000 images, the same share of each
    class, are held out for validation; `progress`: whether to show bars.
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

    `path`: the published zip, its folder, or a folder that holds either (default: the environment variable CNNLAB_MARS,
    else a download); `cache`, `progress`: as in `load_cifar10`; `size` of the square images, in pixels; `letterbox`:
    keep the aspect ratio and pad with black, because wheels are round and the pictures' own shapes run from 1:1 to 3:1
    (False: stretch, so that no bars reveal a picture's shape).
    Returns a Dataset, memory-mapped, with the published split by Martian day. Labels count from 0 without the gap of
    the published ids; `metadata` has both, and sol, camera, sequence, frame and group (see
    `mars_files.Listing.metadata`). Raises DataUnavailableError with what was tried, ValueError for an invalid
    size.
    """
    check_side(size, LARGEST_MARS_SIZE, " (the pictures have 256 at most)")
    arrays = mars_arrays(path, cache, size, letterbox, progress)
    listing = Listing.from_bytes(arrays["listing"])
    metadata = listing.metadata()
    labels = metadata["label"].to_numpy("uint8")
    splits = {name: Split(arrays["images"], labels, np.flatnonzero(metadata["split"] == name)) for name in SPLITS}
    return Dataset(f"mars-{size}{'' if letterbox else '-stretch'}", listing.class_names, splits, metadata)


# What a `Trial` calls the Mars images, and their side in pixels.
_MARS = {"mars": 128, "mars64": 64, "mars224": 224}
# What each data set feeds a network: ((height, width, channels) in pixels, classes), known before it is loaded.
SHAPES = {"cifar10": ((32, 32, 3), 10), **{name: ((size, size, 3), 24) for name, size in _MARS.items()}}
# How to load each with a seed. `load_folder` adds an entry for each folder that it loads.
LOADERS = {
    "cifar10": lambda seed: load_cifar10(split_seed=seed),
    # The published split is never redrawn, whatever the seed.
    **{name: lambda seed, size=size: load_mars(size=size) for name, size in _MARS.items()},
}
# The name of a data set to its key there, where the two differ.
_KEYS = {f"mars-{size}": name for name, size in _MARS.items()}


def load(name, seed=0):
    """The data set `name`, split by `seed` where it has no published split of its own."""
    if name not in LOADERS:
        raise ValueError(f"no data set is called {name!r}; expected one of {', '.join(LOADERS)}")
    return LOADERS[name](seed)


def path_variable(name):
    """The environment variable that says where the data set `name` lies on this machine."""
    return MARS_PATH_VARIABLE if name.startswith("mars") else f"CNNLAB_{name.upper()}"


def cache_name(name):
    """The folder within the cache that holds the arrays of the data set `name`."""
    return f"mars-{_MARS[name]}-letterbox" if name in _MARS else name


def is_letterboxed(name):
    """Whether the data set `name` keeps the aspect ratio of its pictures; they fill the input otherwise."""
    return re.fullmatch(r"mars(\d+|-\d+)?|folder-.+", name) is not None


def class_names(name):
    """The class names of the data set `name`, in the order of its labels; loads the set only if it must."""
    return CIFAR10_CLASSES if name == "cifar10" else load(name).class_names
