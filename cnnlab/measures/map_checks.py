"""Do maps of where an answer comes from deserve trust? Deletion, and the same network with its weights shuffled.

`model`, `images` and `classes` as in `attribution`.
"""

import keras
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from cnnlab.measures.attribution import MAPS, asked_classes, cell_numbers, images_at_once, maps_of, mean_colour
from cnnlab.measures.groups import mean_by_group
from cnnlab.training import predict

# Times that a deletion looks at the answer after the first, evenly until all cells are covered.
LOOKS = 16


def deletion_curve(model, images, order, classes=None):
    """Probability of `classes` as cells of the image are covered, in `order` (n, cells): float32 (n, 1 + LOOKS).

    The first column is of the whole image, the last of its mean colour alone. The sooner it falls, the better the order
    knows what the answer rests on.
    Source: Petsiuk, Das and Saenko, RISE: Randomized input sampling for explanation (BMVC 2018), section 4.2.
    """
    (cells, _), classes = cell_numbers(images), asked_classes(model, images, classes)
    ranks = np.argsort(order, axis=1)
    covered = np.linspace(0, order.shape[1], LOOKS + 1).round()[:, None, None]
    curves = []
    for image, rank, asked in zip(np.asarray(images, "float32"), ranks, classes, strict=True):
        hidden = (rank[cells] < covered)[..., None]
        curves.append(predict(model, np.where(hidden, mean_colour(image), image), images_at_once(images))[:, asked])
    return np.stack(curves)


def trust_in_maps(model, images, groups=None, names=None):
    """Whether each kind of map knows what the answer rests on, and depends on what was learned.

    `groups` (n,), what each image was taken together with (None: it is alone); `names` of MAPS (None: `maps_of`).
    Returns a DataFrame, a row a kind: map; images; deletion and random, the mean probability of the answer while cells
    are covered, those first that the map finds important, or in a random order; gain, the latter less the former, with
    its interval low and high over images, or groups; randomised, the mean rank correlation over cells with the map of
    the same network whose weights have changed places within each layer (a map that stays much the same shows the
    image, not the network), with randomised_low and randomised_high; flat, how many images that leaves with a map that
    is the same everywhere, which count as a correlation of 0.
    Source of the last: Adebayo et al., Sanity checks for saliency maps (NeurIPS 2018), section 3.
    """
    generator, classes = np.random.default_rng(0), asked_classes(model, images, None)
    twin = shuffled_weights(model, generator)
    count = cell_numbers(images)[0].max() + 1
    by_chance = generator.permuted(np.tile(np.arange(count), (len(images), 1)), axis=1)
    chance = deletion_curve(model, images, by_chance, classes).mean(axis=1)
    rows = []
    for name in names or maps_of(model):
        of_cells, of_twin = (_over_cells(MAPS[name](each, images, classes), images) for each in (model, twin))
        found = deletion_curve(model, images, np.argsort(-of_cells, axis=1, kind="stable"), classes).mean(axis=1)
        ordered = np.ptp(of_cells, axis=1).astype(bool) & np.ptp(of_twin, axis=1).astype(bool)
        alike = np.zeros(len(images))
        for place in np.flatnonzero(ordered):
            alike[place] = spearmanr(of_cells[place], of_twin[place]).statistic
        gain, low, high = mean_by_group(chance - found, groups)
        ends = ("randomised", "randomised_low", "randomised_high")
        randomised = dict(zip(ends, mean_by_group(alike, groups), strict=True))
        means = {"deletion": found.mean(), "random": chance.mean(), "gain": gain, "low": low, "high": high}
        rows.append({"map": name, "images": len(images), **means, **randomised, "flat": int((~ordered).sum())})
    return pd.DataFrame(rows)


def shuffled_weights(model, generator):
    """A copy of `model` in each of whose arrays of weights the numbers have changed places, by a NumPy `generator`."""
    twin = keras.models.clone_model(model)
    twin.set_weights([generator.permutation(each.ravel()).reshape(each.shape) for each in model.get_weights()])
    twin.jit_compile = model.jit_compile
    return twin


def _over_cells(maps, images):
    """Means of `maps` (n, rows, columns), of any size, over the cells of `images`: float32 (n, cells)."""
    cells, _ = cell_numbers(images)
    resized = np.asarray(keras.ops.image.resize(maps[..., None], images.shape[1:3]))[..., 0]
    sizes = np.bincount(cells.ravel())
    return np.stack([np.bincount(cells.ravel(), each.ravel()) / sizes for each in resized]).astype("float32")
