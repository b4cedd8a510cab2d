"""The course's pictures, none downloaded: digits and photographs from scikit-learn, and Mars where it is at hand."""

import os

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from cnnlab import data, machine
from cnnlab.data import Dataset, Split

# Pictures held out from training: how many to choose by, and how many to test on once.
VALIDATION, TEST = 400, 700


def photograph():
    """A grey photograph, uint8 (height, width)."""
    return _photographs()[0].round().astype("uint8")


def digits(train=600, noise=0.0, seed=0):
    """Handwritten digits (UCI, E. Alpaydin and C. Kaynak 1998): a Dataset of uint8 (8, 8, 1), ten classes.

    `train` images (997 at most) besides VALIDATION and TEST others; `noise`: standard deviation of the noise added to
    each pixel; `seed` sets order and noise.
    """
    digits, generator = load_digits(), np.random.default_rng(seed)
    images = digits.images * (255 / digits.images.max())
    images += generator.normal(0, noise, images.shape)
    names = [f"digit {number}" for number in digits.target_names]
    order = generator.permutation(len(images))[: train + VALIDATION + TEST]
    return _dataset("digits", names, images[order], digits.target[order])


def patches(train=600, seed=0):
    """Pieces of two photographs, labelled by photograph: a Dataset of uint8 (8, 8, 1), each pixel the mean of 4x4."""
    generator, photos = np.random.default_rng(seed), _photographs()
    count, (height, width) = train + VALIDATION + TEST, photos[0].shape
    labels = generator.integers(0, 2, count)
    tops, lefts = (generator.integers(0, side - 32, count) for side in (height, width))
    corners = zip(labels, tops, lefts, strict=True)
    pieces = np.stack([photos[label][top : top + 32, left : left + 32] for label, top, left in corners])
    return _dataset("patches", ["temple", "flower"], pieces.reshape(count, 8, 4, 8, 4).mean((2, 4)), labels)


def thumbnails():
    """Few pictures for many parameters: Curiosity's, grey, uint8 (16, 16, 1), or digits, a hundred of them to train on.

    Mars is used where it is cached or named in CNNLAB_MARS; it is never downloaded.
    """
    cached = machine.cache_folder() / data.cache_name("mars64")
    if not (cached.is_dir() or os.environ.get(data.path_variable("mars"))):
        return digits(train=100)
    mars = data.load("mars64")
    grey = mars.splits["train"].images.reshape(-1, 16, 4, 16, 4, 3).mean((2, 4, 5))
    labels = mars.splits["train"].labels
    splits = {name: Split(_pixels(grey), labels, split.indices) for name, split in mars.splits.items()}
    return Dataset("thumbnails", mars.class_names, splits)


def _photographs():
    return [image.mean(axis=2) for image in load_sample_images().images]


def _pixels(images):
    return np.clip(images.round(), 0, 255).astype("uint8")[..., None]


def _dataset(name, class_names, images, labels):
    """The images split in order: the first to train on, then VALIDATION to choose by, then TEST to test on."""
    first, last = len(images) - VALIDATION - TEST, len(images) - TEST
    rows = np.split(np.arange(len(images)), [first, last])
    splits = {
        split: Split(_pixels(images), labels, indices)
        for split, indices in zip(("train", "validation", "test"), rows, strict=True)
    }
    return Dataset(name, class_names, splits)
