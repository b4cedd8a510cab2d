"""A network's predictions: probabilities from one or several views of each image, and their scores."""

import math

import numpy as np
from scipy.special import softmax

# Images scored at once by default: fewer need less memory and get the same answers.
SCORING_BATCH = 500
# Smaller probabilities count as this one, as in Keras's loss, because zero has no logarithm.
SMALLEST = 1e-7


def predict(model, images, batch_size=SCORING_BATCH):
    """Probabilities of `model` for uint8 `images`: float32 (n, classes), `batch_size` images at once."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(images[i : i + batch_size]) for i in starts])


def views(images, level):
    """[(weight, view), ...] of `images`, uint8 (n, height, width, channels); weights sum to 1.

    The first view is always `images` themselves. `level` 0: no other; 1: also mirrored left to
    right; 2: also both of these shifted by one pixel, up-left and down-right, edges reflected;
    the shifted views together weigh as much as the others.
    Source: Jordan (2024), "multi-crop evaluation". Raises ValueError for another level.
    """
    if level not in (0, 1, 2):
        raise ValueError(f"tta is {level!r}; expected level 0 (none), 1 (mirrored) or 2 (mirrored and shifted)")
    if level == 0:
        return [(1.0, images)]
    if level == 1:
        return [(0.5, images), (0.5, images[:, :, ::-1])]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    moved = (padded[:, 2:, 2:], padded[:, :-2, :-2])
    both_sides = views(images, 1)
    return [(weight / 2, view) for weight, view in both_sides] + [
        (weight / 4, view) for shifted in moved for weight, view in views(shifted, 1)
    ]


def predict_views(model, images, level, batch_size=SCORING_BATCH, share=1.0):
    """(plain, augmented) probabilities of `model` for uint8 `images`: float32 (n, classes) each.

    "plain" uses the images as they are. "augmented" combines all `views` by the weighted mean of
    their log-probabilities, which amounts to averaging the logits, but only for the `share` of the
    images whose plain prediction is least confident; the others keep that prediction.
    """
    plain = predict(model, images, batch_size)
    if level == 0:
        return plain, plain
    unsure = np.sort(plain.max(axis=1).argsort(kind="stable")[: math.ceil(share * len(images))])
    (weight, _), *others = views(images[unsure], level)
    logarithms = weight * _log(plain[unsure]) + sum(
        weight * _log(predict(model, view, batch_size)) for weight, view in others
    )
    augmented = plain.copy()
    augmented[unsure] = softmax(logarithms, axis=1)
    return plain, augmented


def _log(probabilities):
    return np.log(np.maximum(probabilities, SMALLEST))


def accuracy(probabilities, labels):
    """Share of rows of `probabilities` (n, classes) whose largest value is at their label, in `labels` (n,)."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cross_entropy(probabilities, labels):
    """Mean of -ln p(true class): `probabilities` (n, classes), integer `labels` (n,)."""
    return float(-_log(probabilities[np.arange(len(labels)), labels]).mean())


def score_columns(scores, labels):
    """{"val_accuracy_best": float, ...}: accuracy and loss of `scores` on each split; None for a missing split.

    `scores`: {"best" or another suffix: {split: probabilities}}; `labels`: {split: integers (n,)}.
    """
    columns = {}
    for which, found in scores.items():
        for split, short in (("validation", "val"), ("test", "test")):
            for name, score in (("accuracy", accuracy), ("loss", cross_entropy)):
                columns[f"{short}_{name}_{which}"] = score(found[split], labels[split]) if split in found else None
    return columns
