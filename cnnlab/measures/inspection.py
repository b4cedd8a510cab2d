"""What is inside a network: receptive fields, layers, filters, feature maps, features and their silence."""

import dataclasses
from math import prod

import keras
import numpy as np
import pandas as pd
from keras import layers
from scipy.signal import correlate2d
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from cnnlab.measures.attribution import input_gradient
from cnnlab.training import predict

# Filters that a person would write down; Keras's convolutions learn theirs.
KERNELS = {
    "as it is": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "blur": ((1 / 9,) * 3,) * 3,
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "outline": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "vertical edge": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "horizontal edge": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
}
# Images at a time where gradients, or the activations of all layers, are held at once.
_CHUNK = 100


@dataclasses.dataclass(frozen=True)
class Field:
    """The theoretical receptive field of a map, in pixels along one side.

    `size`; `stride` between the fields of neighbouring positions; `start`, the first pixel of position 0 (negative: in
    the padding).
    """

    size: int
    stride: int
    start: int

    def span(self, position):
        """(first, last + 1) pixel that `position` sees, padding included."""
        first = self.start + position * self.stride
        return first, first + self.size

    def inside(self, positions, first, last):
        """Those of `positions` (their number) whose field lies within the pixels first..last - 1."""
        spans = (self.span(p) for p in range(positions))
        return [p for p, (start, end) in enumerate(spans) if start >= first and end <= last]


def theoretical_fields(model):
    """{layer name: Field} of the convolutions and poolings of a sequential `model`, in order; kernels are square here.

    Recurrence of Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks, Distill 2019,
    equations 2 and 3.
    """
    fields, size, stride, start = {}, 1, 1, 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            reach = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        elif isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
            reach = layer.pool_size[0] - 1
        else:
            continue
        step = layer.strides[0]
        start -= _padding(layer, reach, step) * stride
        size += reach * stride
        stride *= step
        fields[layer.name] = Field(size, stride, start)
    return fields


def _padding(layer, reach, step):
    """Pixels before the first: with "same" and a stride of 1 reach // 2, with another one it depends on the width."""
    if layer.padding == "valid":
        return 0
    width = layer.input.shape[1]
    return max((-(-width // step) - 1) * step + reach + 1 - width, 0) // 2


def effective_field(model, images):
    """Sensitivity of the centre unit of each convolution to every pixel that it can see.

    The effective receptive field of Luo, Li, Urtasun and Zemel, Understanding the effective receptive field in deep
    convolutional neural networks, NIPS 2016, section 3: the gradient of the centre position (summed over filters) with
    respect to the pixels; here its absolute value, summed over colours and averaged over `images`, (n, height, width,
    channels) in 0..255. Returns one row for each layer and pixel of its theoretical field: layer, theoretical (its
    side, pixels), row, column, sensitivity (1 at its greatest), images.
    """
    fields, frames = theoretical_fields(model), []
    for name in [layer.name for layer in model.layers if isinstance(layer, layers.Conv2D)]:
        sensitivity = sensitivity_map(model, name, images)
        positions = model.get_layer(name).output.shape[1:3]
        (top, bottom), (left, right) = (
            np.clip(fields[name].span(count // 2), 0, extent)
            for count, extent in zip(positions, images.shape[1:3], strict=True)
        )
        rows, columns = np.mgrid[top:bottom, left:right]
        frames.append(pd.DataFrame({
            "layer": name, "theoretical": fields[name].size, "row": rows.ravel(), "column": columns.ravel(),
            "sensitivity": sensitivity[rows, columns].ravel() / sensitivity.max(), "images": len(images),
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def effective_diameters(rows):
    """How wide each map among `rows` (as `effective_field` returns them) is, in pixels.

    Returns one row for each layer, and label and seed where `rows` have them: theoretical, and effective, the square
    root of the number of the fewest pixels that hold half of all sensitivity. It tells a peak from a plateau, which has
    1 / sqrt(2) of the theoretical width; of the pixels that are noticed at all (Luo et al., section 3) a network this
    small has nearly all, peak or plateau.
    """
    keys = [name for name in ("label", "seed", "layer") if name in rows]
    groups = rows.groupby(keys, sort=False)
    widths = groups["sensitivity"].agg(effective=_half_width)
    widths.insert(0, "theoretical", groups["theoretical"].first())
    return widths.reset_index()


def _half_width(sensitivity):
    falling = np.cumsum(np.sort(sensitivity)[::-1])
    return np.sqrt(np.searchsorted(falling, falling[-1] / 2) + 1)


def sensitivity_map(model, layer_name, images):
    """Mean absolute gradient of `layer_name`'s centre position: float64 (height, width)."""
    output = model.get_layer(layer_name).output
    centre = keras.Model(model.inputs, output[:, output.shape[1] // 2, output.shape[2] // 2])
    total = np.zeros(images.shape[1:3])
    for start in range(0, len(images), _CHUNK):
        total += np.abs(input_gradient(centre, images[start : start + _CHUNK])).sum(axis=(0, 3))
    return total / len(images)


def layer_table(model):
    """The layers of a Sequential `model`, read from itself, from the input to the answer.

    Frame with the columns layer (name), kind (class name), detail (text), shape (of the output, without the batch),
    values (numbers a layer puts out for one image), formula (text: of a convolution's or dense layer's parameters),
    parameters, and receptive_field: the side, in pixels, of the square of the input that one output position depends on
    (`theoretical_fields`), no larger than the image; a layer without positions sees all of it.
    """
    whole = max(model.input_shape[1:3])
    fields, seen = theoretical_fields(model), 1
    rows = [("input", "Input", "", model.input_shape[1:], "", 0, 1)]
    for layer in model.layers:
        shape = layer.output.shape[1:]
        if len(shape) < 3:
            seen = whole
        elif layer.name in fields:
            seen = fields[layer.name].size
        learned = _formula(layer), layer.count_params()
        rows.append((layer.name, type(layer).__name__, _detail(layer), shape, *learned, min(seen, whole)))
    columns = ["layer", "kind", "detail", "shape", "formula", "parameters", "receptive_field"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(4, "values", table["shape"].map(prod))
    return table


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


def filtered(image, kernel):
    """What one filter of a convolution makes of the grey `image`: float64 (height - 2, width - 2) for a 3x3 `kernel`.

    `image` uint8 (height, width, channels), whose mean over channels is taken from 0 to 1; `kernel` (rows, columns).
    Cross-correlation without padding, bias and activation, as Keras's Conv2D computes it.
    """
    return correlate2d(np.asarray(image, "float64").mean(axis=2) / 255, np.asarray(kernel, "float64"), mode="valid")


def relu_layers(model):
    """Names of the layers of `model` that put out ReLU activations, in order."""
    relu = keras.activations.relu
    return [each.name for each in model.layers if isinstance(each, layers.ReLU) or _activation(each) is relu]


def map_layers(model):
    """Names of the layers that put out each convolution's maps, after normalisation and activation, in order."""
    active = [each for each in model.layers if isinstance(each, layers.ReLU) or _activation(each)]
    return [layer.name for layer in active if len(layer.output.shape) == 4]


def feature_maps(model, image, names=None):
    """Feature maps of one `image` (uint8 (height, width, channels)) in the layers `names`.

    `names`: by default `map_layers`. Returns {name: float32 (height, width, filters)}. Raises ValueError for a layer
    that `model` has not.
    """
    names = names or map_layers(model)
    maps = _outputs_of(model, names)([image[None]], training=False)
    return {name: keras.ops.convert_to_numpy(maps[name][0]) for name in names}


def most_active(maps, count):
    """Indices of the `count` channels of `maps` (height, width, channels) with the largest mean, largest first."""
    return np.argsort(-maps.mean(axis=(0, 1)), kind="stable")[:count]


def embeddings(model, images):
    """What the last layer of `model`, its classifier, is given for uint8 `images`: float32 (n, width).

    Raises ValueError for a model whose last layer is given maps.
    """
    given = model.layers[-1].input
    if len(given.shape) != 2:
        raise ValueError(f"the last layer is given {given.shape[1:]}; expected one number a unit")
    return predict(keras.Model(model.inputs, given), images)


def tsne_map(features, seed=0, perplexity=30.0):
    """Two-dimensional t-SNE map of `features` (n, width): float32 (n, 2); the axes have no unit.

    The features go through PCA to at most 50 components first, which drops noise and time (van der Maaten and Hinton,
    Visualizing Data using t-SNE, JMLR 2008, section 4.2). Same `seed`, same map. Raises ValueError for too few rows.
    It runs in one thread: the sums are then taken in one order on every machine, and on cores that are shared with
    other work two threads wait for each other many times longer than they save.
    """
    if len(features) <= perplexity:
        raise ValueError(f"{len(features)} rows; t-SNE with perplexity {perplexity:g} expects more rows than that")
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


def _outputs_of(model, names):
    """A model from the same input to the outputs of the layers `names`, by name: Keras unwraps a list of one."""
    _check_layers(model, names)
    return keras.Model(model.inputs, {name: model.get_layer(name).output for name in names})


def _check_layers(model, names):
    known = [layer.name for layer in model.layers]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        asked = ", ".join(unknown) or "no layer"
        raise ValueError(f"{asked} asked of model {model.name}; its layers are {_names(model)}")


def _names(model):
    return ", ".join(layer.name for layer in model.layers)


def _activation(layer):
    """Its activation function, None where it has none or a linear one."""
    activation = getattr(layer, "activation", None)
    return None if activation is keras.activations.linear else activation


def _detail(layer):
    """What a reader wants to know of `layer` besides its kind: window, rate, activation."""
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None) or ()
    rate = f"{layer.rate:.0%}" if isinstance(layer, layers.Dropout) else ""
    activation = _activation(layer).__name__ if _activation(layer) else ""
    parts = ("×".join(map(str, window)), rate, {"relu": "ReLU"}.get(activation, activation))
    return ", ".join(filter(None, parts))
