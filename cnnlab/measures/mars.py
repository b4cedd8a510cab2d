"""What is in the Mars images, before any model: classes, cameras, frames that recur, the way to the input.

Class counts are those of `exploration.class_counts`.
"""

import numpy as np
import pandas as pd

from cnnlab.data import mars_original, preprocessing_steps
from cnnlab.measures.exploration import class_counts


def metadata_of(dataset, split):
    """What is known of the images of `dataset.split(split)`, in its order, indexed by row of the arrays."""
    if dataset.metadata is None:
        raise ValueError(f"{dataset.name} has no metadata; expected a data set of data.load_mars")
    return dataset.metadata.iloc[dataset.splits[split].indices]


def missing_classes(dataset):
    """Classes that some split lacks: `exploration.class_counts` of these, and missing_from (text)."""
    counts = class_counts(dataset)
    gaps = counts[(counts == 0).any(axis=1)]
    return gaps.assign(missing_from=[", ".join(gaps.columns[row == 0]) for row in gaps.to_numpy()])


def camera_shares(dataset):
    """Images of each camera: share of each split, a DataFrame of camera (index) by split (columns)."""
    return _by_split(dataset, lambda table: table["camera"].value_counts(normalize=True)).fillna(0.0)


def recurring_frames(dataset):
    """How many images of a split are new pictures: a DataFrame by split.

    Columns: images, frames (distinct, by name), groups (sol-and-sequence), most_images (of one
    frame), repeated_share (of the images: what is left when each frame counts once), two_classes
    (frames whose images are labelled differently).
    """

    def of(table):
        frames = table.groupby("frame")
        return pd.Series(
            {
                "images": len(table),
                "frames": frames.ngroups,
                "groups": table["group"].nunique(),
                "most_images": frames.size().max(),
                "repeated_share": 1 - frames.ngroups / len(table),
                "two_classes": int((frames["label"].nunique() > 1).sum()),
            }
        )

    whole = ["images", "frames", "groups", "most_images", "two_classes"]
    return _by_split(dataset, of).T.astype(dict.fromkeys(whole, "int64"))


def mars_samples(dataset, split, per_class, seed=0):
    """Rows of up to `per_class` images of each class, no two of one frame, drawn by `seed`.

    Returns a DataFrame: class (name), row (of the arrays: `dataset.splits[split].images[row]`),
    file. A class that the split lacks has no row, one with few frames fewer.
    """
    table = metadata_of(dataset, split)
    table = table.assign(row=table.index).sample(frac=1, random_state=seed)
    chosen = table.drop_duplicates("frame").groupby("label").head(per_class).sort_values("label", kind="stable")
    names = [dataset.class_names[label] for label in chosen["label"]]
    return pd.DataFrame({"class": names, "row": chosen["row"].to_numpy(), "file": chosen["file"].to_numpy()})


def mars_pipeline(file, size=128, letterbox=True, path=None, cache=None):
    """From the published file to the network, as {step: array}: see `mars_images.preprocessing_steps`.

    `file`: a name of the metadata; `path` and `cache` as in `data.load_mars`. The last step,
    "scaled", is what the network's first layer makes of the input: float32 in 0..1.
    Raises DataUnavailableError where the published files are not at hand.
    """
    steps = preprocessing_steps(mars_original(file, path, cache), size, letterbox)
    return {**steps, "scaled": steps["input"].astype("float32") / np.float32(255)}


def nearest_training_image(dataset, split, among=("train",), side=16):
    """The image of the splits `among` that looks most like each image of `split`: a DataFrame in its order.

    Frames of the same commanded sequence on another sol can look alike to the pixel, under a
    name of their own. Likeness is the Pearson correlation of grey thumbnails of `side` x `side`
    pixels (means of blocks; bars of a letterbox included).
    Columns: row, nearest_row (of the arrays), correlation, nearest_label. Raises ValueError
    where `side` does not divide the images' side.
    """
    images, own = dataset.splits[split].images, dataset.splits[split].indices
    if images.shape[1] % side:
        raise ValueError(f"side is {side}; expected a divisor of the images' side, {images.shape[1]} pixels")
    others = np.concatenate([dataset.splits[name].indices for name in among])
    correlation = _thumbnails(images, own, side) @ _thumbnails(images, others, side).T
    chosen = others[correlation.argmax(axis=1)]
    labels = dataset.splits[split].labels
    return pd.DataFrame(
        {
            "row": own,
            "nearest_row": chosen,
            "correlation": correlation.max(axis=1),
            "nearest_label": labels[chosen].astype("int64"),
        }
    )


def _thumbnails(images, rows, side):
    """Grey thumbnails of mean 0 and length 1, so that a product is a correlation: float32 (n, side * side)."""
    block = images.shape[1] // side
    small = np.stack([images[row].reshape(side, block, side, block, 3).mean(axis=(1, 3, 4)).ravel() for row in rows])
    small -= small.mean(axis=1, keepdims=True)
    # A picture of one colour has no correlation with any other: its zeros stay zeros.
    return (small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-9)).astype("float32")


def _by_split(dataset, summarise):
    """`summarise(metadata)` of each split, a Series each, side by side."""
    return pd.DataFrame({name: summarise(metadata_of(dataset, name)) for name in dataset.splits})
