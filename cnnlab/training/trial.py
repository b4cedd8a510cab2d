"""What decides one training: the network, its optimisation, its images, its seed. Needs no Keras.

A row of the record is identified by its `Trial`, with defaults filled in and the label left out,
together with the protocol number and the version of the data.
"""

import copy
import dataclasses
import functools
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from cnnlab.machine import choose_precision
from cnnlab.training.networks import PRETRAINED, Count, Natural, NotNegative, Positive, Share, checked, network_options

# The version of what training computes. It rises when tests/test_protocol.py finds losses that differ
# from those it keeps, and the change is intended: rows of another number are then trained again.
PROTOCOL = 2


@checked
class Trial:
    """Everything that decides one training, so that equal trials give equal results.

    `label` names the variant for people and decides nothing.

    The network. `model`: a key of NETWORKS; `options`: its fields; those left out take their defaults.

    Optimisation. `epochs`, maybe fractional, of `steps_per_epoch` batches (None: one pass over the
    training images); `batch_size` in images; `optimizer`: "adam"; "sgd" with Nesterov `momentum` and
    `weight_decay` (an L2 coefficient: this share of each weight is added to its gradient); or "muon"
    (see `optimizers.Muon`) with `kernel_rate` and `kernel_momentum` for the kernels of convolutions,
    and "sgd" for the rest; `learning_rate`: at its peak, for the mean loss of a batch;
    `schedule`: of all rates;
    `bias_scale`: factor on the learning rate, not the decay, of the normalisations' biases;
    `label_smoothing`: share of each label that is spread over all classes; `class_weights` weighs
    each class inversely to its frequency; `average`: of the weights over the training.

    Images. `dataset`: a key of `data.LOADERS`, in a row the one actually trained on; `train_split`:
    "train", or "all" to include the validation images, which leaves none to choose on; `train_images` and
    `eval_images` limit the splits (None: all); `permute_pixels`: seed of one fixed permutation of all pixel positions
    (None: none); `flip`: "random" mirrors each image with probability 1/2, "alternating" in every
    second epoch; `translate`: shift by at most this many pixels in each direction.

    What is kept. `keep`: the weights of the "best" epoch on validation by `monitor`, stopping early
    when that has not improved for `patience` epochs (None: never), or of the "last"; `tta`: level of
    test-time augmentation that is scored besides the plain network (see `answers.views`), for
    `tta_share` of the images, the least certain ones.

    `loop`: "lab", or "published": plain `model.fit` on float32 arrays, as in the published notebook,
    whose time is the baseline for the others. `seed` decides initial weights, order, augmentation,
    dropout and, where a data set has no split of its own, the split; `precision` is a Keras dtype
    policy or "auto".
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
        """Whether the network has batch normalisation, whose statistics are recomputed before it is scored."""
        return getattr(self.network, "batch_norm", False)

    def resolved(self):
        """This trial with "auto" replaced by the precision that this machine trains in."""
        alone = self.model in PRETRAINED and self.precision == "auto"
        return dataclasses.replace(self, precision="float32" if alone else choose_precision(self.precision))

    def configuration(self):
        """Everything that decides the result, as a dict that JSON can hold: every field but the label."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "label"}
        return {**fields, "options": copy.deepcopy(self.options)}  # the only nested one; asdict copies them all

    @functools.cached_property
    def identity(self):
        """What identifies a row of this trial: its configuration without the precision, as text."""
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
            f"model={self.model!r} computes in single precision; use precision='auto' or 'float32'",
        )
        need(
            self.model not in PRETRAINED
            or (self.translate, self.permute_pixels, self.tta, self.loop) == (0, None, 0, "lab")
            and self.flip in ("none", "random"),
            f"model={self.model!r} computes the frozen features of each image and its mirror image once; its only "
            "augmentation is flip='random', and it takes no permute_pixels, tta or loop='published'",
        )
        need(
            self.keep == "last" or (whole and self.train_split == "train" and self.average == "none"),
            "keep='best' chooses among whole epochs on the validation images; use whole epochs, train_split='train' "
            "and average='none', or keep='last'",
        )
        need(self.keep == "best" or self.patience is None, "patience waits for a better epoch; it needs keep='best'")
        need(
            self.loop == "lab" or (plain and whole and self.train_split == "train" and self.keep == "last"),
            "loop='published' trains whole epochs with Adam, without augmentation or averaging, validates after each "
            "and keeps the last; use loop='lab' for anything else",
        )
        need(
            self.optimizer != "adam" or (self.weight_decay, self.bias_scale) == (0, 1),
            "weight_decay and bias_scale belong to optimizer='sgd' and 'muon'; leave them at 0 and 1 with 'adam'",
        )
        need(
            self.optimizer == "muon"
            or (self.kernel_rate, self.kernel_momentum) == (Trial.kernel_rate, Trial.kernel_momentum),
            "kernel_rate and kernel_momentum belong to optimizer='muon'; leave them at their defaults with another",
        )
        need(
            self.bias_scale == 1 or self.is_normalised,
            "bias_scale scales the normalisations' biases; it needs a network with batch_norm",
        )
        need(self.tta or self.tta_share == 1, "tta_share belongs to test-time augmentation; use tta=1 or 2 with it")
        need(
            not (self.class_weights and self.label_smoothing),
            "class_weights and label_smoothing both change what a label is worth; use only one of them",
        )


def trial_key(trial, data_version=None):
    """Stem of the files of a training of `trial`: 16 hex digits, a hash of configuration, protocol and data."""
    content = json.dumps([trial.resolved().configuration(), PROTOCOL, data_version], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
