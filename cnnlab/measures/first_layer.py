"""What training makes of the first convolution's filters, of which a picture shows mostly what they began with."""

import keras
import numpy as np
import pandas as pd

from cnnlab.measures.attribution import images_at_once
from cnnlab.measures.inspection import first_convolution, map_layers

# Patches whose mean is what excites a filter most, of one image each.
PATCHES = 25


def first_layer_change(model, start, images):
    """Each weight of the first convolution of `model`, as it was in `start`, and what excites its filter most.

    `model` and `start`: the same `keras.Model`, trained and as training began; `images` uint8 (n, height, width,
    channels). Returns a DataFrame, a row a weight: filter, row, column, channel, before, after, and patch: at that
    place the mean of the PATCHES patches, each of another image, on which the filter's activation is largest, 0..255.
    """
    before, after = (first_convolution(each).get_weights()[0] for each in (start, model))
    patches = np.moveaxis(_strongest_patches(model, images, after.shape[0]), 0, -1)
    rows, columns, channels, filters = np.indices(after.shape).reshape(4, -1)
    places = {"filter": filters, "row": rows, "column": columns, "channel": channels}
    values = {"before": before.ravel(), "after": after.ravel(), "patch": patches.ravel()}
    return pd.DataFrame({**places, **values}).sort_values(list(places), ignore_index=True)


def first_layer_correlations(rows):
    """How alike first layers are: a row a network and seed of the probe `first_layer`.

    Columns: label, seed, with_start (Pearson's r over all weights before and after training), moved (the length of a
    filter's change as a share of what it began with, the mean over filters), and with_first (r of the trained weights
    with those of the first label and the same seed, NaN for that itself, or where shapes differ).
    """
    found, first = [], {}
    for (label, seed), mine in rows.groupby(["label", "seed"], sort=False):
        change = (mine["after"] - mine["before"]).groupby(mine["filter"]).agg(np.linalg.norm)
        length = mine["before"].groupby(mine["filter"]).agg(np.linalg.norm)
        other, after = first.setdefault(seed, mine["after"].to_numpy()), mine["after"].to_numpy()
        alike = np.nan if other is after or len(other) != len(after) else np.corrcoef(other, after)[0, 1]
        found.append((label, seed, mine["before"].corr(mine["after"]), (change / length).mean(), alike))
    table = pd.DataFrame(found, columns=["label", "seed", "with_start", "moved", "with_first"])
    table.loc[table["label"] == table["label"].iloc[0], "with_first"] = np.nan
    return table


def _strongest_patches(model, images, size):
    """Mean of the patches that excite each filter most: float64 (filters, `size`, `size`, channels)."""
    maps = keras.Model(model.inputs, model.get_layer(map_layers(model)[0]).output)
    reach, width = size // 2, images.shape[2] - size + 1
    strongest, places = [], []
    for start in range(0, len(images), images_at_once(images)):
        seen = maps.predict_on_batch(images[start : start + images_at_once(images)])
        # Where the filter sees no padding.
        inside = seen[:, reach : images.shape[1] - reach, reach : images.shape[2] - reach]
        flat = inside.reshape(len(inside), -1, inside.shape[-1])
        strongest.append(flat.max(axis=1))
        places.append(flat.argmax(axis=1))
    strongest, places = np.concatenate(strongest), np.concatenate(places)
    chosen = np.argsort(-strongest, axis=0, kind="stable")[:PATCHES]
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    means = []
    for number, of_filter in enumerate(chosen.T):
        rows, columns = np.divmod(places[of_filter, number], width)
        means.append(np.moveaxis(windows[of_filter, rows, columns], 1, -1).mean(axis=0))
    return np.stack(means)
