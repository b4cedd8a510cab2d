"""What decides one training: the network, its optimisation, its images, its seed. Needs no Keras.

A row of the record is known by the `Trial` that it is of, with defaults filled in and the label left
out, beside the protocol number and the version of the data.
"""

import copy
import dataclasses
import hashlib
import json
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from cnnlab.machine import choose_precision

# The number of what training computes. It rises where tests/test_protocol.py finds other losses
# than those it keeps, and that is no mistake: rows of another number are then trained again.
PROTOCOL = 2

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
    """Class decorator: a frozen dataclass whose fields pydantic checks, with errors of one line.

    A bad value raises ValueError: its name, what it was, and what was expected.
    """
    cls = pydantic.dataclasses.dataclass(cls, frozen=True, config={"extra": "forbid", "validate_default": True})
    construct = cls.__init__

    def __init__(self, *values, **fields):  # noqa: N807
        try:
            construct(self, *values, **fields)
        except pydantic.ValidationError as error:
            # Of the kinds that a field may be, the one that the value comes nearest to.
            raise ValueError(_one_line(max(error.errors(), key=lambda problem: len(problem["loc"])), cls)) from None

    cls.__init__ = __init__
    return cls


def _one_line(problem, cls):
    first, *rest = problem["loc"] or ("",)
    name = ".".join([str(first), *(str(part) for part in rest if isinstance(part, int))])
    if problem["type"] == "unexpected_keyword_argument":
        known = ", ".join(field.name for field in dataclasses.fields(cls))
        return f"{cls.__name__} has no field {name!r}; expected some of {known}"
    message = problem["msg"].removeprefix("Value error, ")
    expected = message.replace("Input should be", "expected")
    return f"{name} is {problem['input']!r}; {expected[0].lower()}{expected[1:]}" if name else message


@checked
class Dense:
    """A fully connected network: flatten, then a ReLU layer for each of `units` (none: a logistic regression).

    `dropout`: the rate after the hidden layers, one number for all or one a layer.
    """

    units: tuple[Count, ...] = (128, 64)
    dropout: Share | tuple[Share, ...] = 0.0

    def __post_init__(self):
        one_each("dropout", self.dropout, len(self.units))


@checked
class CNN:
    """Convolutions with ReLU, 2x2 max pooling, and a classifier head.

    `filters` of each convolution; `kernel_size` in pixels, odd, one number for all layers or one a
    layer; `padding`: "same", or "valid", which takes a border off; `pools`: after how many of the
    first convolutions a pooling follows (None: all of them, but not after a third of three, so that
    32x32 pixels end as 8x8 positions, as in the assignment); `head`: "flatten" or "gap" (global
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
        """What is left of `side` pixels after all convolutions and poolings, 0 or less where nothing is."""
        kernels = one_each("kernel_size", self.kernel_size, len(self.filters))
        for index, kernel in enumerate(kernels, start=1):
            side -= kernel - 1 if self.padding == "valid" else 0
            side //= 2 if index <= self.poolings else 1
        return side


@checked
class Blocks:
    """The shape of airbench94 (Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024).

    A 2x2 convolution without padding, a block of `depth` 3x3 convolutions for each of `filters`,
    each with normalisation and `activation`, the first with 2x2 max pooling before these; the
    maximum over all positions; a classifier without bias. `whitening`: the first layer is computed
    from the training images, and frozen; `dirac`: convolutions start as copies of their input.
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

    `layers`: of each its "class_name" in `keras.layers` and its "config", the last one a softmax; `input_shape`
    (height, width, channels) in pixels that it was written for (None: any).
    """

    layers: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    input_shape: tuple[Count, Count, Count] | None = None

    @property
    def batch_norm(self):
        """Whether there is a normalisation among the layers."""
        return any(layer["class_name"] == "BatchNormalization" for layer in self.layers)


@checked
class LinearProbe:
    """A logistic regression on frozen features of EfficientNet-Lite0 (see `transfer.linear_probe`).

    `sizes`: sides in pixels to which images are resized, whose features are joined (None: as they are); `mirrored`:
    features are means over an image and its mirror image; `strengths`: inverse ones of the penalty that validation
    chooses from, without weights for rare classes (None: `transfer.STRENGTHS`, with and without). It is fitted, not
    trained step by step: of a Trial only the data set, `train_split` and the limits of images decide it. With
    `train_split` "all" it is chosen on validation as ever, and then fitted anew with these images too.
    """

    sizes: Counts | None = None
    mirrored: bool = False
    strengths: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None


@checked
class Lite0:
    """EfficientNet-Lite0 whose last `blocks` of sixteen, and head, are trained from a linear probe on (see `finetune`).

    What is before them is frozen, and so are the statistics of all normalisations; `dropout`: the rate before the
    classifier. Of augmentation it knows `flip` "random".
    """

    blocks: Annotated[Count, Field(le=16)] = 1
    dropout: Share = 0.2


NETWORKS = {"dense": Dense, "cnn": CNN, "blocks": Blocks, "layers": Layers, "probe": LinearProbe, "lite0": Lite0}
# Networks that begin with weights learned elsewhere, which compute in single precision.
PRETRAINED = ("probe", "lite0")


def one_each(name, value, count):
    """One value for each of `count` layers: a single one stands for all. ValueError for another number of them."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * count
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values for {count} layers; expected one, or one a layer")
    return values


def network_options(model, options):
    """The options of `model`, a key of NETWORKS, checked, as its dataclass; ValueError for another model or option."""
    if model not in NETWORKS:
        raise ValueError(f"no model is called {model!r}; expected one of {', '.join(NETWORKS)}")
    return NETWORKS[model](**options)


@checked
class Trial:
    """Everything that decides one training, so that equal trials give equal results.

    `label` names the variant for people and decides nothing.

    The network. `model`: a key of NETWORKS; `options`: its fields, those left out at their defaults.

    Optimisation. `epochs` of `steps_per_epoch` batches (None: one pass over the training images;
    passes need not be whole); `batch_size` in images; `optimizer`: "adam"; "sgd" with Nesterov
    `momentum` and `weight_decay` (an L2 coefficient: so much of each weight is added to its
    gradient); or "muon" (see `optimizers.Muon`) with `kernel_rate` and `kernel_momentum` for the
    kernels of convolutions, and "sgd" for the rest; `learning_rate` of the batch's mean loss, at its
    peak; `schedule` of all rates;
    `bias_scale`: factor on the learning rate, not the decay, of the normalisations' biases;
    `label_smoothing`: share of each label that is spread over all classes; `class_weights` weighs
    each class inversely to its frequency; `average` of the weights along the training.

    Images. `dataset`: a key of `data.LOADERS`, in a row what was trained on; `train_split`: "train",
    or "all" with the validation images in it, so that nothing is left to choose on; `train_images` and
    `eval_images` limit the splits (None: all); `permute_pixels`: seed of one fixed permutation of all pixel positions
    (None: none); `flip`: "random" mirrors each image with probability 1/2, "alternating" in every
    second epoch; `translate`: at most so many pixels in each direction.

    What is kept. `keep`: the weights of the "best" epoch on validation by `monitor`, ended early
    when that has not improved for `patience` epochs (None: never), or of the "last"; `tta`: level of
    test-time augmentation that is scored beside the plain network (see `answers.views`), for
    `tta_share` of the images, the least sure ones.

    `loop`: "lab", or "published": plain `model.fit` on float32 arrays, as the published notebook
    trains, whose time is the baseline of others. `seed` decides initial weights, order,
    augmentation, dropout and, where a data set has no split of its own, the split; `precision` is a
    Keras dtype policy or "auto".
    """

    label: str
    model: str = "cnn"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    dataset: str = "cifar10"
    epochs: Positive = 10
    steps_per_epoch: Count | None = None
    batch_size: Count = 64
    optimizer: Literal["adam", "sgd", "muon"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Share = 0.85
    weight_decay: NotNegative = 0.0
    bias_scale: Positive = 1.0
    kernel_rate: Positive = 0.24
    kernel_momentum: Share = 0.6
    schedule: Literal["constant", "triangular", "linear"] = "constant"
    label_smoothing: Share = 0.0
    class_weights: bool = False
    average: Literal["none", "lookahead", "ema"] = "none"
    train_split: Literal["train", "all"] = "train"
    train_images: Count | None = None
    eval_images: Count | None = None
    permute_pixels: Natural | None = None
    flip: Literal["none", "random", "alternating"] = "none"
    translate: Natural = 0
    keep: Literal["best", "last"] = "best"
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    patience: Count | None = None
    tta: Literal[0, 1, 2] = 0
    tta_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    loop: Literal["lab", "published"] = "lab"
    seed: Natural = 0
    precision: str = "auto"

    def __post_init__(self):
        options = dataclasses.asdict(network_options(self.model, self.options))
        # As JSON gives them back, so that a trial and its row are equal.
        object.__setattr__(self, "options", json.loads(json.dumps(options)))
        self._check_combination()

    @property
    def network(self):
        """The options as a dataclass, one of NETWORKS."""
        return network_options(self.model, self.options)

    @property
    def is_normalised(self):
        """Whether the network has normalisations, whose statistics are computed anew before it is scored."""
        return getattr(self.network, "batch_norm", False)

    def resolved(self):
        """This trial with "auto" replaced by what this machine trains in."""
        alone = self.model in PRETRAINED and self.precision == "auto"
        return dataclasses.replace(self, precision="float32" if alone else choose_precision(self.precision))

    def configuration(self):
        """All that decides the result, as a dict that JSON can hold: every field but the label."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "label"}
        return {**fields, "options": copy.deepcopy(self.options)}  # the one that holds others; asdict copies them all

    @property
    def identity(self):
        """What a row of this trial is known by: its configuration less the precision, as text."""
        deciding = {name: value for name, value in self.configuration().items() if name != "precision"}
        return json.dumps(deciding, sort_keys=True)

    def _check_combination(self):
        def need(fine, text):
            if not fine:
                raise ValueError(text)

        whole = self.epochs == int(self.epochs)
        plain = (
            (self.flip, self.translate, self.average, self.schedule) == ("none", 0, "none", "constant")
            and self.optimizer == "adam"
            and not (self.label_smoothing or self.class_weights or self.steps_per_epoch)
        )
        need(
            self.model not in PRETRAINED or self.precision in ("auto", "float32"),
            f"model={self.model!r} computes in single precision; take precision='auto' or 'float32'",
        )
        need(
            self.model not in PRETRAINED
            or (self.translate, self.permute_pixels, self.tta, self.loop) == (0, None, 0, "lab")
            and self.flip in ("none", "random"),
            f"model={self.model!r} keeps what its frozen layers make of each image and of its mirror image; of "
            "augmentation it takes flip='random' alone, and no permutation, views or loop='published'",
        )
        need(
            self.keep == "last" or (whole and self.train_split == "train" and self.average == "none"),
            "keep='best' chooses among whole epochs on the validation images; take whole epochs, train_split='train' "
            "and average='none', or keep='last'",
        )
        need(self.keep == "best" or self.patience is None, "patience waits for a better epoch; it needs keep='best'")
        need(
            self.loop == "lab" or (plain and whole and self.train_split == "train" and self.keep == "last"),
            "loop='published' trains whole epochs with Adam, without augmentation and averaging, validates after each "
            "and keeps the last; take loop='lab' for the rest",
        )
        need(
            self.optimizer != "adam" or (self.weight_decay, self.bias_scale) == (0, 1),
            "weight_decay and bias_scale are of optimizer='sgd' and 'muon'; leave them at 0 and 1 with 'adam'",
        )
        need(
            self.optimizer == "muon"
            or (self.kernel_rate, self.kernel_momentum) == (Trial.kernel_rate, Trial.kernel_momentum),
            "kernel_rate and kernel_momentum are of optimizer='muon'; leave them as they are with another",
        )
        need(
            self.bias_scale == 1 or self.is_normalised,
            "bias_scale scales the normalisations' biases; it needs a network with batch_norm",
        )
        need(self.tta or self.tta_share == 1, "tta_share is of test-time augmentation; take tta=1 or 2 with it")
        need(
            not (self.class_weights and self.label_smoothing),
            "class_weights and label_smoothing both change what a label is worth; take one of them",
        )


def trial_key(trial, data_version=None):
    """Name of the files of a training of `trial`: 16 hex digits over its configuration, the protocol and the data."""
    content = json.dumps([trial.resolved().configuration(), PROTOCOL, data_version], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
