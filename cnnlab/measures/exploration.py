"""What a set of images looks like in numbers, before any model: counts, pixel values, correlations."""

import numpy as np
import pandas as pd

LEVELS = 256
CHANNELS = ("red", "green", "blue")
# Images at a time: bincount widens each byte to eight.
_CHUNK = 1_000


def class_counts(dataset):
    """Images of each class in each split: int64 frame, class names (index) by split names (columns)."""
    count = len(dataset.class_names)
    columns = {
        name: np.bincount(split.labels[split.indices], minlength=count) for name, split in dataset.splits.items()
    }
    return pd.DataFrame(columns, index=pd.Index(dataset.class_names, name="class"))


def pixel_histogram(images):
    """How often each value occurs in each channel: int64 frame, value 0..255 (index) by channel (columns).

    `images` uint8 (n, height, width, 3). Counted in chunks, so that the set is never widened.
    Raises ValueError for another dtype or shape.
    """
    _check_images(images)
    counts = np.zeros((LEVELS, len(CHANNELS)), "int64")
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        for channel in range(len(CHANNELS)):
            counts[:, channel] += np.bincount(chunk[..., channel].ravel(), minlength=LEVELS)
    return pd.DataFrame(counts, index=pd.RangeIndex(LEVELS, name="value"), columns=list(CHANNELS))


def pixel_statistics(histogram):
    """Mean and standard deviation of the pixel values, exactly, from `pixel_histogram`'s counts.

    Frame with the rows "all", "red", "green", "blue" and the columns mean, std (in 0..255), and
    mean_scaled, std_scaled (in 0..1). The standard deviation is the population's (divided by n).
    """
    counts = pd.concat([histogram.sum(axis=1).rename("all"), histogram], axis=1)
    values = histogram.index.to_numpy("int64")
    total = counts.sum()
    sums, squares = counts.mul(values, axis=0).sum(), counts.mul(values**2, axis=0).sum()
    mean = sums / total
    std = np.sqrt(squares / total - mean**2)
    top = LEVELS - 1
    return pd.DataFrame({"mean": mean, "std": std, "mean_scaled": mean / top, "std_scaled": std / top})


def spatial_correlation(images, distances=range(1, 17)):
    """Pearson correlation of two pixels of one image against the distance between them.

    `images` uint8 (n, height, width, 3), a sample: about a thousand are enough; `distances` in
    pixels. A pair is the same channel at two places of one row (horizontal) or column
    (vertical); all such pairs of all images go into one coefficient.
    Returns a frame with the columns direction, distance, correlation.
    Raises ValueError for a distance that does not fit the image.
    """
    _check_images(images)
    height, width = images.shape[1:3]
    for distance in distances:
        if not 1 <= distance < min(height, width):
            raise ValueError(f"distance {distance} pixels; expected 1 to {min(height, width) - 1} in {height}x{width}")
    rows = []
    for direction, axis in (("horizontal", 2), ("vertical", 1)):
        # Rows or columns first: a shift is then a plain slice.
        lines = np.moveaxis(images, axis, 0)
        for distance in distances:
            correlation = np.corrcoef(lines[:-distance].ravel(), lines[distance:].ravel())[0, 1]
            rows.append({"direction": direction, "distance": distance, "correlation": correlation})
    return pd.DataFrame(rows)


def channel_correlation(images):
    """Pearson correlation between the channels of the same pixel: frame (3, 3), named by channel."""
    _check_images(images)
    correlation = np.corrcoef(images.reshape(-1, len(CHANNELS)), rowvar=False)
    return pd.DataFrame(correlation, index=list(CHANNELS), columns=list(CHANNELS))


def _check_images(images):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != len(CHANNELS):
        raise ValueError(
            f"images are {images.dtype} {images.shape}; expected uint8 (n, height, width, {len(CHANNELS)}) in 0..255"
        )
