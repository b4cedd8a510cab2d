"""Small images with real spatial structure: each class is a bright bar at its own angle."""

import numpy as np

from cnnlab.data import Dataset, Split


def bars(count, classes=4, side=16, seed=0):
    """(images uint8 (count, side, side, 3), labels (count,)): noisy bars through a random point."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    angles = np.pi * labels / classes
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    offsets = generator.uniform(-side / 4, side / 4, count)
    distance = rows * np.cos(angles)[:, None, None] - columns * np.sin(angles)[:, None, None] - offsets[:, None, None]
    brightness = 200 * np.exp(-(distance**2) / 2) + generator.normal(30, 10, distance.shape)
    tint = generator.uniform(0.6, 1.0, (count, 1, 1, 3))
    return np.clip(brightness[..., None] * tint, 0, 255).astype("uint8"), labels.astype("uint8")


def dataset(train=256, validation=64, test=64, classes=4, side=16, seed=0):
    """A `data.Dataset` of bars."""
    images, labels = bars(train + validation + test, classes, side, seed)
    edges = np.cumsum([0, train, validation, test])
    names = ("train", "validation", "test")
    splits = {
        name: Split(images, labels, np.arange(start, stop))
        for name, start, stop in zip(names, edges, edges[1:], strict=False)
    }
    return Dataset("bars", tuple(f"angle{i}" for i in range(classes)), splits)


def noise(scale=0.005, seed=0):
    """A function that draws from a normal distribution with mean 0 and standard deviation `scale`."""
    generator = np.random.default_rng(seed)
    return lambda: generator.normal(0, scale)
