"""The networks that a Trial may name: their options, checked, and their parameter counts. Needs no Keras."""

import dataclasses
from math import prod
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]


def _odd(size):
    if size % 2 == 0:
        raise ValueError(
            f"expected an odd number of pixels: with an even one 'same' padding would be lopsided and shift "
            f"the feature maps by half a pixel; use {size - 1} or {size + 1}"
        )
    return size


Odd = Annotated[Count, pydantic.AfterValidator(_odd)]


def checked(cls):
    """Class decorator: a frozen dataclass whose fields pydantic checks, with one-line errors.

    A bad value raises ValueError with its name, what it was and what was expected.
    """
    cls = pydantic.dataclasses.dataclass(cls, frozen=True, config={"extra": "forbid", "validate_default": True})
    construct = cls.__init__

    def __init__(self, *values, **fields):  # noqa: N807
        try:
            construct(self, *values, **fields)
        except pydantic.ValidationError as error:
            # Where a field may be of several types, report the one that the value comes closest to.
            raise ValueError(_one_line(max(error.errors(), key=lambda problem: len(problem["loc"])), cls)) from None

    cls.__init__ = __init__
    return cls


def _one_line(problem, cls):
    first, *rest = problem["loc"] or ("",)
    name = ".".join([str(first), *(str(part) for part in rest if isinstance(part, int))])
    if problem["type"] == "unexpected_keyword_argument":
        known = ", ".join(field.name for field in dataclasses.fields(cls))
        return f"{cls.__name__} has no field {name!r}; expected one of {known}"
    message = problem["msg"].removeprefix("Value error, ")
    expected = message.replace("Input should be", "expected")
    return f"{name} is {problem['input']!r}; {expected[0].lower()}{expected[1:]}" if name else message


@checked
class Dense:
    """A fully connected network: flatten, then a ReLU layer for each of `units` (none: a logistic regression).

    `dropout`: the rate after the hidden layers, one number for all or one per layer.
    """

    units: tuple[Count, ...] = (128, 64)
    dropout: Share | tuple[Share, ...] = 0.0

    def __post_init__(self):
        one_each("dropout", self.dropout, len(self.units))


@checked
class CNN:
    """Convolutions with ReLU, 2x2 max pooling, and a classifier head.

    `filters` of each convolution; `kernel_size` in pixels, odd, one number for all layers or one per
    layer; `padding`: "same", or "valid", which trims the border; `pools`: how many convolutions, from
    the first on, are followed by pooling (None: all, or the first two of three, so that 32x32
    pixels end as 8x8 positions, as in the assignment); `head`: "flatten" or "gap" (global
    average pooling, which has no weights); `dense`: units of the layer before the softmax, or 0 for
    none; `dropout`: the rate after it; `batch_norm`: normalise between each convolution and its ReLU.
    """

    filters: Counts = (32, 64, 128)
    kernel_size: Odd | tuple[Odd, ...] = 3
    padding: Literal["same", "valid"] = "same"
    pools: Natural | None = None
    head: Literal["flatten", "gap"] = "flatten"
    dense: Natural = 512
    dropout: Share = 0.5
    batch_norm: bool = False

    def __post_init__(self):
        one_each("kernel_size", self.kernel_size, len(self.filters))
        if self.pools is not None and self.pools > len(self.filters):
            raise ValueError(f"pools is {self.pools}; expected at most {len(self.filters)}, one after each convolution")

    @property
    def poolings(self):
        """How many poolings there are."""
        return self.pools if self.pools is not None else 2 if len(self.filters) == 3 else len(self.filters)

    def left_of(self, side):
        """What is left of `side` pixels after all convolutions and poolings; 0 or less means nothing."""
        kernels = one_each("kernel_size", self.kernel_size, len(self.filters))
        for index, kernel in enumerate(kernels, start=1):
            side -= kernel - 1 if self.padding == "valid" else 0
            side //= 2 if index <= self.poolings else 1
        return side


@checked
class Blocks:
    """The architecture of airbench94 (Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024).

    A 2x2 convolution without padding; for each of `filters`, a block of `depth` 3x3 convolutions,
    each followed by normalisation and `activation`, the first by 2x2 max pooling before these; the
    maximum over all positions; a classifier without bias. `whitening`: the first layer is computed
    from the training images and frozen; `dirac`: convolutions start by copying their input.
    """

    filters: Counts = (24, 64, 64)
    depth: Count = 2
    batch_norm: bool = True
    activation: Literal["relu", "silu", "gelu"] = "relu"
    whitening: bool = False
    dirac: bool = False


@checked
class Layers:
    """A network written by hand, layer by layer (see `own.trial_of`).

    `layers`: the "class_name" in `keras.layers` and the "config" of each, the last one a softmax; `shape`:
    (height, width, channels) in pixels that it was written for (None: any).
    """

    layers: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    shape: tuple[Count, Count, Count] | None = None

    @property
    def batch_norm(self):
        """Whether any of the layers is a batch normalisation."""
        return any(layer["class_name"] == "BatchNormalization" for layer in self.layers)


@checked
class LinearProbe:
    """A logistic regression on frozen features of EfficientNet-Lite0 (see `transfer.linear_probe`).

    `sizes`: sides in pixels to resize images to, whose features are joined (None: as in `transfer.feature_extractor`);
    `mirrored`: features are means over an image and its mirror image; `strengths`: inverse penalty strengths that
    validation chooses from, without weights for rare classes (None: `transfer.STRENGTHS`, with and without). It is
    fitted, not trained step by step: of the rest of a Trial, only the data set, `train_split` and the image limits
    matter. With `train_split` "all" it is chosen on validation as usual, then refitted with those images too.
    """

    sizes: Counts | None = None
    mirrored: bool = False
    strengths: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None


@checked
class Lite0:
    """EfficientNet-Lite0 whose last `blocks` of sixteen and head are trained, starting as a probe (see `finetune`).

    Everything before them is frozen, and so are all normalisations; `dropout`: the rate before the classifier. The only
    augmentation it takes is `flip` "random".
    """

    blocks: Annotated[Count, Field(le=16)] = 1
    dropout: Share = 0.2


NETWORKS = {"dense": Dense, "cnn": CNN, "blocks": Blocks, "layers": Layers, "probe": LinearProbe, "lite0": Lite0}
# Networks that start from pretrained weights; they compute in single precision.
PRETRAINED = ("probe", "lite0")


def one_each(name, value, count):
    """One value for each of `count` layers; a single one applies to all. ValueError for any other number of values."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values for {count} layers; expected a bare number or one per layer")
    return values


def network_options(model, options):
    """The checked `options` of `model`, a key of NETWORKS, as its dataclass; ValueError for another model or option."""
    if model not in NETWORKS:
        raise ValueError(f"no model is called {model!r}; expected one of {', '.join(NETWORKS)}")
    return NETWORKS[model](**options)


def expected_parameters(model, input_shape=(32, 32, 3), num_classes=10, **options):
    """Parameter count, by formula, of the network that `models.build` builds from the same arguments.

    A dense layer has (inputs + 1) x outputs, a convolution (kernel^2 x channels + 1) x filters,
    batch normalisation 4 a filter (scale, shift, running mean and variance); a dense layer's inputs
    are all positions x filters after "flatten", and the filters alone after "gap". Raises
    ValueError unless `model` is "dense" or "cnn": the rest have no formula here.
    """
    network = network_options(model, options)
    if isinstance(network, Dense):
        return _dense_layers([prod(input_shape), *network.units, num_classes])
    if not isinstance(network, CNN):
        raise ValueError(f"there is no formula for {model!r}; expected 'dense' or 'cnn'")
    height, width, channels = input_shape
    total, sizes = 0, one_each("kernel_size", network.kernel_size, len(network.filters))
    for count, size in zip(network.filters, sizes, strict=True):
        total += (size * size * channels + 1) * count + 4 * count * network.batch_norm
        channels = count
    positions = 1 if network.head == "gap" else network.left_of(height) * network.left_of(width)
    return total + _dense_layers([positions * channels, *([network.dense] if network.dense else []), num_classes])


def _dense_layers(widths):
    return sum((inputs + 1) * outputs for inputs, outputs in zip(widths, widths[1:], strict=False))
