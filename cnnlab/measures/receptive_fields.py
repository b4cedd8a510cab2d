"""How much of an image a unit of a convolutional network can see, and how much of that matters to it, in pixels."""

import dataclasses

import keras
import numpy as np
import pandas as pd
from keras import layers

from cnnlab.measures.attribution import input_gradient

# Images per batch: their gradients are held at once.
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
        """Numbers, below `positions`, of the positions whose field lies within the pixels first..last - 1."""
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
    """Pixels of padding before the first: with "same", reach // 2 at stride 1; at others it depends on the width."""
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
    """Width of each map among `rows` (as `effective_field` returns them), in pixels.

    Returns one row for each layer, and label and seed where `rows` have them: theoretical, and effective, the square
    root of the least number of pixels that hold half of all sensitivity. That tells a peak from a plateau, for which it
    is 1 / sqrt(2) of the theoretical width; counting the pixels with any noticeable effect (Luo et al., section 3) does
    not, because in a network this small these are nearly all, peak or plateau.
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
