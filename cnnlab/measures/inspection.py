"""What is inside a network: layers, filters and what training makes of them, feature maps, features, inactive units."""

from math import prod

import keras
import numpy as np
import pandas as pd
from keras import layers
from scipy.signal import correlate2d
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from cnnlab.measures.attribution import images_at_once
from cnnlab.measures.receptive_fields import theoretical_fields
from cnnlab.training import predict

# Filters designed by hand; Keras's convolutions learn theirs.
KERNELS = {
    "as it is": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "blur": ((1 / 9,) * 3,) * 3,
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "outline": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "vertical edge": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "horizontal edge": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
}
# Images per batch: the activations of all layers are held at once.
_CHUNK = 100
# How many patches, each from another image, are averaged to show what excites a filter most.
PATCHES = 25


def layer_table(model):
    """The layers of a Sequential `model`, from input to answer.

    Frame with the columns layer (name), kind (class name), detail (text), shape (of the output, without the batch),
    values (numbers a layer outputs for one image), formula (text: a convolution's or dense layer's parameter count),
    parameters, and receptive_field: the side, in pixels, of the square of the input that one output position depends on
    (`theoretical_fields`), no larger than the image; a layer without positions sees all of it.
    """
    whole = max(model.input_shape[1:3])
    fields, seen = theoretical_fields(model), 1
    rows = [("input", "Input", "", model.input_shape[1:], prod(model.input_shape[1:]), "", 0, 1)]
    for layer in model.layers:
        shape = layer.output.shape[1:]
        if len(shape) < 3:
            seen = whole
        elif layer.name in fields:
            seen = fields[layer.name].size
        size = shape, prod(shape), _formula(layer), layer.count_params()
        rows.append((layer.name, type(layer).__name__, _detail(layer), *size, min(seen, whole)))
    columns = ["layer", "kind", "detail", "shape", "values", "formula", "parameters", "receptive_field"]
    return pd.DataFrame(rows, columns=columns)


def _formula(layer):
    if not isinstance(layer, layers.Conv2D | layers.Dense):
        return ""
    *inputs, outputs = layer.kernel.shape
    return f"({' × '.join(map(str, inputs))}{' + 1' * layer.use_bias}) × {outputs}"


def first_layer_filters(model):
    """The filters of the first convolution as images: float32 (filters, size, size, channels) in 0..1.

    Each filter is divided by its own largest weight, so that 0.5 is a weight of zero. Raises ValueError for a model
    without a convolution.
    """
    weights = np.moveaxis(first_convolution(model).get_weights()[0], -1, 0).astype("float32")
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * np.divide(weights, largest, out=np.zeros_like(weights), where=largest > 0)


def first_convolution(model):
    """The first convolution of `model`; ValueError where there is none."""
    convolution = next((layer for layer in model.layers if isinstance(layer, layers.Conv2D)), None)
    if convolution is None:
        raise ValueError(f"model {model.name} has no convolution; its layers are {_names(model)}")
    return convolution


def first_layer_change(model, start, images):
    """Each weight of `model`'s first convolution, before and after training, and what excites its filter most.

    `model` and `start`: the same `keras.Model`, trained and untrained; `images` uint8 (n, height, width, channels).
    Returns a DataFrame, one row per weight: filter, row, column, channel, before, after, and patch, 0..255: that place
    in the mean of the PATCHES patches, each from another image, that activate the filter most.
    """
    before, after = (first_convolution(each).get_weights()[0] for each in (start, model))
    patches = np.moveaxis(_strongest_patches(model, images, after.shape[0]), 0, -1)
    rows, columns, channels, filters = np.indices(after.shape).reshape(4, -1)
    places = {"filter": filters, "row": rows, "column": columns, "channel": channels}
    values = {"before": before.ravel(), "after": after.ravel(), "patch": patches.ravel()}
    return pd.DataFrame({**places, **values}).sort_values(list(places), ignore_index=True)


def first_layer_correlations(rows):
    """How similar first layers are: one row per network and seed of the probe `first_layer`.

    Columns: label, seed, with_start (Pearson's r between all weights before and after training), moved (the norm of a
    filter's change over its norm before training, mean over filters), and with_first (r between the trained weights and
    those of the first label with the same seed; NaN for that label itself, or where shapes differ).
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


def filtered(image, kernel):
    """The grey `image` filtered by one kernel: float64 (height - 2, width - 2) for a 3x3 `kernel`.

    `image` uint8 (height, width, channels), averaged over channels and scaled to 0..1; `kernel` (rows, columns).
    Cross-correlation without padding, bias or activation, as Keras's Conv2D computes it.
    """
    return correlate2d(np.asarray(image, "float64").mean(axis=2) / 255, np.asarray(kernel, "float64"), mode="valid")


def relu_layers(model):
    """Names of the layers of `model` that output ReLU activations, in order."""
    relu = keras.activations.relu
    return [each.name for each in model.layers if isinstance(each, layers.ReLU) or _activation(each) is relu]


def map_layers(model):
    """Names of the layers that output each convolution's maps, after normalisation and activation, in order."""
    active = [each for each in model.layers if isinstance(each, layers.ReLU) or _activation(each)]
    return [layer.name for layer in active if len(layer.output.shape) == 4]


def feature_maps(model, image, names=None):
    """Feature maps of one `image` (uint8 (height, width, channels)) in the layers `names`.

    `names`: by default `map_layers`. Returns {name: float32 (height, width, filters)}. Raises ValueError for a layer
    that `model` does not have.
    """
    names = names or map_layers(model)
    maps = _outputs_of(model, names)([image[None]], training=False)
    return {name: keras.ops.convert_to_numpy(maps[name][0]) for name in names}


def most_active(maps, count):
    """Indices of the `count` channels of `maps` (height, width, channels) with the largest mean, largest first."""
    return np.argsort(-maps.mean(axis=(0, 1)), kind="stable")[:count]


def embeddings(model, images):
    """The input of `model`'s last layer, its classifier, for uint8 `images`: float32 (n, width).

    Raises ValueError for a model whose last layer takes maps.
    """
    given = model.layers[-1].input
    if len(given.shape) != 2:
        raise ValueError(f"the last layer's input has shape {given.shape[1:]}; expected one number per unit")
    return predict(keras.Model(model.inputs, given), images)


def tsne_map(features, seed=0, perplexity=30.0):
    """Two-dimensional t-SNE map of `features` (n, width): float32 (n, 2); the axes have no unit.

    PCA first reduces the features to at most 50 components, which cuts noise and time (van der Maaten and Hinton,
    Visualizing Data using t-SNE, JMLR 2008, section 4.2). Same `seed`, same map. Raises ValueError for too few rows.
    It runs in one thread: sums are then taken in the same order on every machine, and on cores shared with other work
    two threads lose many times more waiting for each other than they save.
    """
    if len(features) <= perplexity:
        raise ValueError(f"{len(features)} rows; t-SNE with perplexity {perplexity:g} needs more rows than that")
    reduced = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def zero_activations(model, images):
    """How sparse each ReLU layer is on uint8 `images` (n, height, width, channels).

    Frame with the columns layer, zero_fraction (of all activations of all images) and never_active (the fraction of
    filters or units that are zero everywhere in every image).
    """
    names = relu_layers(model)
    submodel, zeros, active = _outputs_of(model, names), dict.fromkeys(names, 0), dict.fromkeys(names, False)
    for start in range(0, len(images), _CHUNK):
        outputs = submodel.predict_on_batch(images[start : start + _CHUNK])
        for name in names:
            positive = outputs[name].reshape(-1, outputs[name].shape[-1]) > 0
            zeros[name] += np.count_nonzero(~positive)
            active[name] = active[name] | positive.any(axis=0)
    sizes = {name: prod(model.get_layer(name).output.shape[1:]) * len(images) for name in names}
    rows = [(name, zeros[name] / sizes[name], 1 - np.mean(active[name])) for name in names]
    return pd.DataFrame(rows, columns=["layer", "zero_fraction", "never_active"])


def _strongest_patches(model, images, size):
    """Mean of the patches that excite each filter most: float64 (filters, `size`, `size`, channels)."""
    maps = keras.Model(model.inputs, model.get_layer(map_layers(model)[0]).output)
    reach, width = size // 2, images.shape[2] - size + 1
    strongest, places = [], []
    count = images_at_once(images, with_maps=True)
    for start in range(0, len(images), count):
        seen = maps.predict_on_batch(images[start : start + count])
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


def _outputs_of(model, names):
    """A model from the same input to the outputs of the layers `names`, as a dict: Keras unwraps a list of one."""
    known = [layer.name for layer in model.layers]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        asked = f"has no layer {', '.join(unknown)}" if unknown else "was asked for no layer"
        raise ValueError(f"model {model.name} {asked}; its layers are {_names(model)}")
    return keras.Model(model.inputs, {name: model.get_layer(name).output for name in names})


def _names(model):
    return ", ".join(layer.name for layer in model.layers)


def _activation(layer):
    """The activation function of `layer`; None where it has none or a linear one."""
    activation = getattr(layer, "activation", None)
    return None if activation is keras.activations.linear else activation


def _detail(layer):
    """What a reader wants to know about `layer` besides its kind: window, rate, activation."""
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None) or ()
    rate = f"{layer.rate:.0%}" if isinstance(layer, layers.Dropout) else ""
    activation = _activation(layer).__name__ if _activation(layer) else ""
    parts = ("×".join(map(str, window)), rate, {"relu": "ReLU"}.get(activation, activation))
    return ", ".join(filter(None, parts))
