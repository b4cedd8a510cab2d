"""What a set of images looks like in numbers, before any model: counts, pixels, cameras, recurring frames."""

from math import ceil

import numpy as np
import pandas as pd

from cnnlab.data import load_cifar10, mars_original, preprocessing_steps
from cnnlab.wording import listing

LEVELS = 256
CHANNELS = ("red", "green", "blue")
# Images at a time: bincount widens each byte to eight.
_CHUNK = 1_000


def class_counts(dataset):
    """Images of each class in each split: int64 frame, class names (index) by split names (columns)."""
    classes = pd.Index(dataset.class_names, name="class")
    labels = {name: split.labels[split.indices] for name, split in dataset.splits.items()}
    return pd.DataFrame({name: np.bincount(of, minlength=len(classes)) for name, of in labels.items()}, classes)


def majority_share(dataset):
    """The share of test images in the class commonest in training: the accuracy of a constant answer."""
    counts = class_counts(dataset)
    return float(counts.loc[counts["train"].idxmax(), "test"] / counts["test"].sum())


def mean_images(dataset):
    """The mean training image of each class, black if it has none: uint8 (classes, height, width, channels)."""
    images, labels = dataset.split("train")
    groups = [images[labels == label] for label in range(len(dataset.class_names))]
    return np.stack([mine.mean(axis=0) if len(mine) else np.zeros(images.shape[1:]) for mine in groups]).astype("uint8")


def pixel_histogram(images):
    """How often each value occurs in each channel: int64 frame, value 0..255 (index) by channel (columns).

    `images` uint8 (n, height, width, 3). Raises ValueError for another dtype or shape.
    """
    _check_images(images)
    counts = np.zeros((LEVELS, len(CHANNELS)), "int64")
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        for channel in range(len(CHANNELS)):
            counts[:, channel] += np.bincount(chunk[..., channel].ravel(), minlength=LEVELS)
    return pd.DataFrame(counts, index=pd.RangeIndex(LEVELS, name="value"), columns=list(CHANNELS))


def pixel_statistics(histogram):
    """Exact mean and standard deviation (of the population: divided by n) of the pixels, from `pixel_histogram`.

    Frame with the rows all, red, green, blue and the columns mean, std (in 0..255), mean_scaled, std_scaled (in 0..1).
    """
    counts = pd.concat([histogram.sum(axis=1).rename("all"), histogram], axis=1)
    values, total, top = histogram.index.to_numpy("int64"), counts.sum(), LEVELS - 1
    mean = counts.mul(values, axis=0).sum() / total
    std = np.sqrt(counts.mul(values**2, axis=0).sum() / total - mean**2)
    return pd.DataFrame({"mean": mean, "std": std, "mean_scaled": mean / top, "std_scaled": std / top})


def spatial_correlation(images, distances=range(1, 17)):
    """Pearson correlation between two pixels of an image, by their distance: direction, distance, correlation.

    `images` uint8 (n, height, width, 3), a sample: about a thousand are enough; `distances` in pixels. A pair is the
    same channel at two places of one row (horizontal) or column (vertical); all such pairs of all images go into one
    coefficient. Raises ValueError for a distance that does not fit the image.
    """
    _check_images(images)
    height, width = images.shape[1:3]
    for distance in distances:
        if not 1 <= distance < min(height, width):
            raise ValueError(f"distance {distance} pixels; expected 1 to {min(height, width) - 1} in {height}x{width}")
    rows = []
    for direction, axis in (("horizontal", 2), ("vertical", 1)):
        # Rows or columns first: a shift is then a plain slice. Mean subtracted, for the differences of sums below.
        lines = np.moveaxis(images, axis, 0).reshape(images.shape[axis], -1) - images.mean()
        sums, squares = lines.sum(axis=1), np.einsum("ij,ij->i", lines, lines)
        for distance in distances:
            first, second = slice(None, -distance), slice(distance, None)
            products, pairs = np.vdot(lines[first], lines[second]), lines[first].size
            covariance = products - sums[first].sum() * sums[second].sum() / pairs
            variances = [squares[part].sum() - sums[part].sum() ** 2 / pairs for part in (first, second)]
            correlation = covariance / np.sqrt(np.prod(variances))
            rows.append({"direction": direction, "distance": distance, "correlation": correlation})
    return pd.DataFrame(rows)


def channel_correlation(images):
    """Pearson correlation between the channels of the same pixel: frame (3, 3), named by channel."""
    _check_images(images)
    return pd.DataFrame(images.reshape(-1, len(CHANNELS)), columns=CHANNELS).corr()


def _check_images(images):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != len(CHANNELS):
        raise ValueError(
            f"images are {images.dtype} {images.shape}; expected uint8 (n, height, width, {len(CHANNELS)}) in 0..255"
        )


def metadata_of(dataset, split):
    """The metadata of the images of `dataset.split(split)`, in its order, indexed by row of the arrays.

    Raises ValueError for a data set without metadata, such as CIFAR-10.
    """
    if dataset.metadata is None:
        raise ValueError(f"{dataset.name} has no metadata; expected a data set from data.load_mars or data.load_folder")
    return dataset.metadata.iloc[dataset.splits[split].indices]


def _by_split(dataset, summarise):
    """`summarise(metadata)` of each split, a Series each, side by side."""
    return pd.DataFrame({name: summarise(metadata_of(dataset, name)) for name in dataset.splits})


def missing_classes(dataset):
    """`class_counts` of the classes that some split lacks, with missing_from (text)."""
    counts = class_counts(dataset)
    gaps = counts[(counts == 0).any(axis=1)]
    return gaps.assign(missing_from=[", ".join(gaps.columns[row == 0]) for row in gaps.to_numpy()])


def camera_shares(dataset):
    """Each camera's share of the images in each split: a DataFrame of camera (index) by split (columns)."""
    return _by_split(dataset, lambda table: table["camera"].value_counts(normalize=True)).fillna(0.0)


def recurring_frames(dataset):
    """How many images of each split are distinct frames: a DataFrame by split.

    Columns: images, frames (distinct, by name), groups (sol-and-sequence), most_images (of one frame), repeated_share
    (share of images beyond the first of their frame), two_classes (frames whose images are labelled
    differently).
    """

    rows = {}
    for name in dataset.splits:
        table = metadata_of(dataset, name)
        frames = table.groupby("frame")
        rows[name] = {
            "images": len(table),
            "frames": frames.ngroups,
            "groups": table["group"].nunique(),
            "most_images": frames.size().max(),
            "repeated_share": 1 - frames.ngroups / len(table),
            "two_classes": (frames["label"].nunique() > 1).sum(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def describe_splits(dataset):
    """One row per split: its size, missing classes, sols, largest class and the share of train's largest class."""
    counts = class_counts(dataset)
    shares, common = counts / counts.sum(), counts["train"].idxmax()
    sols = _by_split(dataset, lambda table: table["sol"].agg(["min", "max"]))
    lacking = [counts.index[counts[split] == 0] for split in counts]
    columns = {
        "classes": (counts > 0).sum(), "lacks": [listing(names) if len(names) else "" for names in lacking],
        "first_sol": sols.loc["min"], "last_sol": sols.loc["max"], "largest": counts.idxmax(),
        "largest_share": shares.max(), "common": common, "common_share": shares.loc[common],
    }  # fmt: skip
    sizes = recurring_frames(dataset)[["images", "frames", "groups"]]
    return sizes.assign(**columns).rename_axis("split").reset_index()


def mars_samples(dataset, split, per_class, seed=0):
    """Up to `per_class` images of each class, no two of one frame, drawn by `seed`.

    Returns a DataFrame: class (name), row (of the arrays: `dataset.splits[split].images[row]`), file. A class that the
    split lacks has no rows; one with few frames has fewer.
    """
    table = metadata_of(dataset, split)
    table = table.assign(row=table.index).sample(frac=1, random_state=seed)
    chosen = table.drop_duplicates("frame").groupby("label").head(per_class).sort_values("label", kind="stable")
    names = [dataset.class_names[label] for label in chosen["label"]]
    return pd.DataFrame({"class": names, "row": chosen["row"].to_numpy(), "file": chosen["file"].to_numpy()})


def mars_pipeline(file, size=128, path=None):
    """The steps from the published file to the network, as {step: array}: see `data.preprocessing_steps`.

    `file`: a name from the metadata; `path` as in `data.load_mars`. The last step, "scaled", is the output of the
    network's first layer: float32 in 0..1. Raises DataUnavailableError where the published files are not available.
    """
    steps = preprocessing_steps(mars_original(file, path), size)
    return {**steps, "scaled": steps["input"].astype("float32") / np.float32(255)}


def nearest_training_image(dataset, split):
    """The training image most similar to each image of `split`: a DataFrame in its order.

    Frames of the same commanded sequence on another sol can match pixel for pixel under a different name. Similarity is
    the Pearson correlation of grey thumbnails made of block means; their side is the largest number up to 16 that
    divides the side of the images. Letterbox bars are included. Columns: row, nearest_row (of the arrays), correlation,
    nearest_label.
    """
    images, own, train = dataset.splits[split].images, dataset.splits[split].indices, dataset.splits["train"]
    side = max(size for size in range(1, 17) if images.shape[1] % size == 0)
    known = _thumbnails(train.images, train.indices, side).T
    found = []
    for start in range(0, len(own), _CHUNK):
        correlation = _thumbnails(images, own[start : start + _CHUNK], side) @ known
        best = correlation.argmax(axis=1)
        found.append((train.indices[best], correlation[np.arange(len(best)), best]))
    nearest, likeness = map(np.concatenate, zip(*found, strict=True))
    columns = {"row": own, "nearest_row": nearest, "correlation": likeness}
    return pd.DataFrame({**columns, "nearest_label": train.labels[nearest].astype("int64")})


def nearest_answers(seed):
    """Accuracy of answering CIFAR-10's test images with their `nearest_training_image`'s class, split by `seed`."""
    dataset = load_cifar10(split_seed=seed)
    found = nearest_training_image(dataset, "test")["nearest_label"].to_numpy()
    right = found == dataset.splits["test"].labels[dataset.splits["test"].indices]
    return pd.DataFrame({"label": ["nearest"], "images": len(right), "accuracy": right.mean()})


def _thumbnails(images, rows, side):
    """Grey thumbnails of mean 0 and length 1, so that a product is a correlation: float32 (n, side * side)."""
    block, parts = images.shape[1] // side, np.array_split(rows, ceil(len(rows) / _CHUNK))
    shape = (-1, side, block, side, block, 3)
    sums = [np.einsum("nibjkc->nij", images[part].reshape(shape), dtype="uint32") for part in parts]
    small = np.concatenate(sums).reshape(len(rows), -1) / (3 * block**2)
    small -= small.mean(axis=1, keepdims=True)
    # An image of one colour has no correlation with any other: its zeros stay zeros.
    return (small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-9)).astype("float32")
