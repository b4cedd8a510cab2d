"""Shift in, shift out? Accuracy and feature maps of a trained network on shifted images."""

import keras
import numpy as np
import pandas as pd

from cnnlab.measures.inspection import theoretical_fields
from cnnlab.training import predict

SHIFTS = tuple(range(9))
DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
# 64 passes over these take a minute or two on two cores.
SHIFT_IMAGES = 5_000
# Enough that the error of a map is known to three digits: each image holds hundreds of positions.
EQUIVARIANCE_IMAGES = 100


def shift_images(images, down, right):
    """`images` (n, height, width, channels) moved by whole pixels; negative is up and left.

    What moves out is lost. What moves in is the mirror image of the border: black would be an
    edge that no network was trained on, repeating the last row draws streaks, and wrapping
    round puts the opposite border there; the mirror keeps the texture of the place.
    Raises ValueError for a shift by the whole image or more, which leaves nothing to mirror.
    """
    height, width = images.shape[1:3]
    if abs(down) >= height or abs(right) >= width:
        raise ValueError(f"shift is ({down}, {right}) pixels; expected less than the image's {height} x {width}")
    margins = ((0, 0), (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)), (0, 0))
    padded = np.pad(images, margins, mode="reflect")
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, top : top + height, left : left + width]


def shift_and_back(images, down, right):
    """`images` where they were, but with the strip mirrored that a shift by (down, right) loses.

    The control of a shift: the same pixels are left, in the same place.
    """
    return shift_images(shift_images(images, down, right), -down, -right)


TREATMENTS = {"shifted": shift_images, "held": shift_and_back}


def shift_accuracy(model, images, labels, shifts=SHIFTS):
    """Accuracy of `model` on uint8 `images` (n, height, width, channels) shifted in four directions.

    `labels`: integers (n,); `shifts`: whole pixels, from 0.
    Returns one row for each shift, direction and treatment: "shifted", or "held", the control
    that has lost the same strip of the image but has not moved, so that the difference between
    the two is what position is worth. Columns: shift (pixels), direction, treatment, accuracy,
    same_answer (share of images whose class is that of the unshifted image: the consistency of
    Zhang 2019, arXiv 1904.11486, section 4), images.
    """
    unshifted = predict(model, images).argmax(axis=1)
    rows = []
    for shift in shifts:
        for direction, (down, right) in DIRECTIONS.items():
            for treatment, transform in TREATMENTS.items():
                moved = transform(images, shift * down, shift * right) if shift else images
                answers = predict(model, moved).argmax(axis=1) if shift else unshifted
                rows.append({
                    "shift": shift, "direction": direction, "treatment": treatment,
                    "accuracy": np.mean(answers == labels), "same_answer": np.mean(answers == unshifted),
                    "images": len(images),
                })  # fmt: skip
    return pd.DataFrame(rows)


def equivariance(model, images, shifts=SHIFTS):
    """How nearly the features of a shifted image are the shifted features, layer by layer.

    `images`: uint8 (n, height, width, channels), shifted right by each of `shifts` pixels.
    A map of stride s (after pooling) can only move by whole positions: the shift is rounded to
    the multiple of s below or above, whichever fits better. Only positions are compared whose
    receptive field lies inside both images, where neither padding nor the mirrored strip is
    seen. A layer without positions (dense) is compared with itself unmoved, for invariance is
    all that is left to ask of it.
    Returns one row for each layer and shift: layer, kind ("map" or "vector"), stride (pixels),
    shift (pixels), relative_error (root mean square of the difference over that of the
    features; 0 is exact, and about 1.4 unrelated), correlation, positions (compared in each
    image, 0 and no error where the receptive field does not fit).
    """
    fields = theoretical_fields(model)
    names = [*fields, *(layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense))]
    features = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    original = features.predict_on_batch(images)
    rows = []
    for shift in shifts:
        moved = features.predict_on_batch(shift_images(images, 0, shift))
        for name, before, after in zip(names, original, moved, strict=True):
            if name in fields:
                comparison = {"kind": "map", "stride": fields[name].stride}
                comparison |= _best_match(before, after, fields[name], shift, images.shape[1:3])
            else:
                comparison = {"kind": "vector", "stride": np.nan, **_difference(before, after), "positions": 1}
            rows.append({"layer": name, "shift": shift, **comparison, "images": len(images)})
    return pd.DataFrame(rows)


def _best_match(before, after, field, shift, size):
    """The difference of two maps at the whole step (in positions) that fits `shift` pixels best."""
    steps = {shift // field.stride, -(-shift // field.stride)}
    matches = [_match(before, after, field, shift, step, size) for step in steps]
    return min(matches, key=lambda match: match["relative_error"])


def _match(before, after, field, shift, step, size):
    height, width = size
    rows = field.inside(before.shape[1], 0, height)
    columns = field.inside(before.shape[2], 0, width)
    # Of the shifted image, the columns from `shift` on are the original's.
    moved = [c for c in field.inside(after.shape[2], shift, width) if c - step in columns]
    if not len(rows) or not moved:
        return {"relative_error": np.nan, "correlation": np.nan, "positions": 0}
    kept = [c - step for c in moved]
    difference = _difference(before[:, rows][:, :, kept], after[:, rows][:, :, moved])
    return {**difference, "positions": len(rows) * len(moved)}


def _difference(before, after):
    before, after = before.astype("float64"), after.astype("float64")
    scale = np.sqrt(np.mean(before**2))
    return {
        "relative_error": np.sqrt(np.mean((after - before) ** 2)) / scale if scale else np.nan,
        "correlation": np.corrcoef(before.ravel(), after.ravel())[0, 1],
    }
