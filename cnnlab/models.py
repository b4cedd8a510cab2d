"""Builders of the lab's networks: the quantities that an experiment varies are arguments.

Every model takes raw pixels (0..255) because `Rescaling` is its first layer: what is
trained, saved and served cannot disagree about the scale.
"""

import keras
from keras import layers


def build_dense(
    units=(128, 64),
    dropout=0.0,
    input_shape=(32, 32, 3),
    num_classes=10,
    name="dense",
):
    """Fully connected baseline: flatten, then one ReLU layer for each entry of `units`.

    Parameters: `units`, positive widths of the hidden layers; `dropout`, the rate after
    the hidden layers, one number for all or one a layer; `input_shape`, (height, width,
    channels) in pixels; `num_classes`, width of the softmax.
    Returns an uncompiled `keras.Model`: (batch, height, width, channels) in 0..255 to
    (batch, num_classes) float32 probabilities.
    Raises ValueError where a width, a rate or the shape makes no network.
    """
    units = _positive_integers("units", units)
    rates = _one_each("dropout", dropout, len(units))
    _check_rates(rates)
    _check_task(input_shape, num_classes)

    stack = [keras.Input(input_shape, name="pixels"), layers.Rescaling(1 / 255), layers.Flatten()]
    for index, (width, rate) in enumerate(zip(units, rates, strict=True), start=1):
        stack.append(layers.Dense(width, activation="relu", name=f"dense{index}"))
        if rate:
            stack.append(layers.Dropout(rate, name=f"dropout{index}"))
    return keras.Sequential([*stack, _classifier(num_classes)], name=name)


def build_cnn(
    filters=(32, 64, 128),
    kernel_size=3,
    pools=None,
    head="flatten",
    dense=512,
    dropout=0.5,
    batch_norm=False,
    input_shape=(32, 32, 3),
    num_classes=10,
    name="cnn",
):
    """Convolutions with 'same' padding and ReLU, 2x2 max pooling, and a classifier head.

    Parameters: `filters`, the number of filters of each convolution; `kernel_size`, odd,
    one number for all layers or one a layer; `pools`, after how many of the first
    convolutions a pooling follows (default: all of them, but not after a third of three,
    so that 32x32 pixels end as 8x8 positions, as in the assignment); `head`, "flatten" or
    "gap" (global average pooling, which has no weights); `dense`, width of the layer
    before the softmax, or 0 for none; `dropout`, the rate after that layer; `batch_norm`,
    normalise between each convolution and its ReLU.
    Returns an uncompiled `keras.Model` as `build_dense` does.
    Raises ValueError with the reason where the combination makes no network.
    """
    filters = _positive_integers("filters", filters)
    kernels = _one_each("kernel_size", kernel_size, len(filters))
    pools = default_pools(len(filters)) if pools is None else pools
    _check_kernels(kernels)
    _check_rates([dropout])
    _check_task(input_shape, num_classes)
    _check_pools(pools, len(filters), input_shape)
    if head not in ("flatten", "gap"):
        raise ValueError(f"head is {head!r}; expected 'flatten' or 'gap' (global average pooling)")
    if isinstance(dense, bool) or not isinstance(dense, int) or dense < 0:
        raise ValueError(f"dense is {dense!r}; expected a width in units, or 0 for no dense layer")

    stack = [keras.Input(input_shape, name="pixels"), layers.Rescaling(1 / 255)]
    for index, (count, size) in enumerate(zip(filters, kernels, strict=True), start=1):
        stack += _convolution(index, count, size, batch_norm)
        if index <= pools:
            stack.append(layers.MaxPooling2D(2, name=f"pool{index}"))
    stack.append(layers.GlobalAveragePooling2D() if head == "gap" else layers.Flatten())
    if dense:
        stack.append(layers.Dense(dense, activation="relu", name="features"))
    if dropout:
        stack.append(layers.Dropout(dropout))
    return keras.Sequential([*stack, _classifier(num_classes)], name=name)


def default_pools(convolutions):
    """Poolings where none are stated: one after each convolution, but only two of three."""
    return 2 if convolutions == 3 else convolutions


BUILDERS = {"dense": build_dense, "cnn": build_cnn}


def build(kind, **options):
    """Build by name: `kind` is a key of BUILDERS, `options` its builder's arguments."""
    if kind not in BUILDERS:
        raise ValueError(f"no model is called {kind!r}; expected one of {', '.join(BUILDERS)}")
    return BUILDERS[kind](**options)


def _convolution(index, filters, size, batch_norm):
    if not batch_norm:
        return [layers.Conv2D(filters, size, padding="same", activation="relu", name=f"conv{index}")]
    return [
        layers.Conv2D(filters, size, padding="same", name=f"conv{index}"),
        layers.BatchNormalization(name=f"norm{index}"),
        layers.ReLU(name=f"relu{index}"),
    ]


def _classifier(num_classes):
    # float32 whatever the policy: probabilities in bfloat16 have three significant digits.
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")


def _positive_integers(name, values):
    values = tuple(values)
    if not values or any(isinstance(v, bool) or int(v) != v or v < 1 for v in values):
        raise ValueError(f"{name} is {values}; expected at least one positive whole number")
    return tuple(int(v) for v in values)


def _one_each(name, value, count):
    """One value for each of `count` layers: a single one stands for all of them."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values for {count} layers; expected one, or one a layer")
    return values


def _check_kernels(kernels):
    for size in kernels:
        if isinstance(size, bool) or int(size) != size or size < 1:
            raise ValueError(f"kernel_size is {size!r}; expected a positive odd number of pixels")
        if size % 2 == 0:
            raise ValueError(
                f"kernel_size {size} is even: 'same' padding would be lopsided and shift the feature maps "
                f"by half a pixel; use {size - 1} or {size + 1}"
            )


def _check_rates(rates):
    for rate in rates:
        if not 0 <= rate < 1:
            raise ValueError(f"dropout is {rate!r}; expected a rate from 0 up to, not including, 1")


def _check_task(input_shape, num_classes):
    if len(input_shape) != 3 or any(int(v) != v or v < 1 for v in input_shape):
        raise ValueError(f"input_shape is {input_shape}; expected (height, width, channels) in pixels")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least 2")


def _check_pools(pools, convolutions, input_shape):
    if not 0 <= pools <= convolutions:
        raise ValueError(f"pools is {pools}; expected 0 to {convolutions}, one after each convolution at most")
    smallest = min(input_shape[:2])
    if smallest >> pools < 1:
        allowed = smallest.bit_length() - 1
        raise ValueError(
            f"{pools} poolings halve {smallest} pixels to nothing; a {input_shape[0]}x{input_shape[1]} image "
            f"allows {allowed}"
        )
