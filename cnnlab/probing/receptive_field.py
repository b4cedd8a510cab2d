"""Which pixels a unit of a convolution sees by construction, and which of them matter to it."""

import dataclasses

import keras
import numpy as np
import pandas as pd

# Luo et al. count the pixels above 1 - 95.45% (two standard deviations of a Gaussian) of the greatest.
NEGLIGIBLE = 1 - 0.9545
IMAGES = 500
BATCH = 100


@dataclasses.dataclass(frozen=True)
class Field:
    """The theoretical receptive field of a map, in pixels along one side.

    `size`; `stride` between the fields of neighbouring positions; `start`, the first pixel of
    position 0 (negative: in the padding).
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
    """{layer name: Field} of the convolutions and poolings of a sequential `model`, in order.

    Recurrence of Araujo, Norris and Sim, Computing receptive fields of convolutional neural
    networks, Distill 2019, equations 2 and 3. Kernels are taken to be square, as here.
    """
    fields, size, stride, start = {}, 1, 1, 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, step, dilation = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
        elif isinstance(layer, keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
            kernel, step, dilation = layer.pool_size[0], layer.strides[0], 1
        else:
            continue
        reach = (kernel - 1) * dilation
        # "same" with stride 1 pads reach // 2 before; with a stride it depends on the width, see _padding.
        start -= _padding(layer, reach, step) * stride
        size += reach * stride
        stride *= step
        fields[layer.name] = Field(size, stride, start)
    return fields


def _padding(layer, reach, step):
    if layer.padding == "valid":
        return 0
    width = layer.input.shape[1]
    return max((-(-width // step) - 1) * step + reach + 1 - width, 0) // 2


def effective_field(model, images, layer_names=None):
    """Sensitivity of the centre unit of each convolution to every pixel that it can see.

    The effective receptive field of Luo, Li, Urtasun and Zemel, Understanding the effective
    receptive field in deep convolutional neural networks, NIPS 2016, section 3: the gradient
    of the centre position (summed over filters) with respect to the pixels; here its absolute
    value, summed over colours and averaged over `images`, (n, height, width, channels) in 0..255.
    Returns one row for each layer and pixel of its theoretical field: layer, theoretical (its
    side, pixels), row, column, sensitivity (1 at its greatest), images.
    """
    fields = theoretical_fields(model)
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    frames = []
    for name in layer_names or convolutions:
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

    Returns one row for each layer, and label and seed where `rows` have them: theoretical;
    effective, the square root of the number of pixels above NEGLIGIBLE of the greatest (Luo et
    al., section 3); core, the same of the fewest pixels that hold half of all sensitivity,
    which tells a peak from a plateau where every pixel is above that threshold.
    """
    keys = [name for name in ("label", "seed", "layer") if name in rows]
    groups = rows.groupby(keys, sort=False)
    widths = groups["sensitivity"].agg(effective=_effective_width, core=_core_width)
    widths.insert(0, "theoretical", groups["theoretical"].first())
    return widths.reset_index()


def _effective_width(sensitivity):
    return np.sqrt(np.count_nonzero(sensitivity > NEGLIGIBLE * sensitivity.max()))


def _core_width(sensitivity):
    falling = np.cumsum(np.sort(sensitivity)[::-1])
    return np.sqrt(np.searchsorted(falling, falling[-1] / 2) + 1)


def sensitivity_map(model, layer_name, images):
    """Mean absolute gradient of `layer_name`'s centre position: float64 (height, width)."""
    output = model.get_layer(layer_name).output
    centre = keras.Model(model.inputs, output[:, output.shape[1] // 2, output.shape[2] // 2])
    total = np.zeros(images.shape[1:3])
    for start in range(0, len(images), BATCH):
        total += np.abs(_input_gradient(centre, images[start : start + BATCH])).sum(axis=(0, 3))
    return total / len(images)


def _input_gradient(model, images):
    """Gradient of the sum of `model`'s outputs with respect to `images`: float32, their shape."""
    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            f"gradients are taken with TensorFlow here; Keras runs on {keras.backend.backend()}: "
            "set KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    pixels = tf.convert_to_tensor(images, "float32")
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        outputs = model(pixels, training=False)
    return tape.gradient(outputs, pixels).numpy()
