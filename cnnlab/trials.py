"""A Trial: everything that decides one training, and the key that its result is stored under."""

import dataclasses
import hashlib
import json
from typing import Any

from cnnlab.machine import choose_precision, code_version

# What decides the numbers that training yields; a change here makes stored results strangers.
TRAINING_CODE = tuple(
    f"cnnlab.{module}" for module in ("models", "trials", "training", "callbacks", "batches", "augmentation", "adam")
)
OPTIMIZERS = ("adam", "sgd")
MONITORS = ("val_accuracy", "val_loss")


@dataclasses.dataclass(frozen=True)
class Trial:
    """Everything that decides one training, so that equal trials give equal results.

    `label` names the variant for people and decides nothing; `model` and `options` are the
    arguments of `models.build`; `epochs`; `steps_per_epoch` in batches (None: one pass over
    the training images); `batch_size` in images; `learning_rate` of `optimizer`;
    `train_images` and `eval_images` limit the splits (None: all); `permute_pixels` is the seed
    of one fixed permutation of all pixel positions (None: none); `augment` is a key of
    `augmentation.AUGMENTATIONS`; `class_weights` weighs each class inversely to its frequency;
    training ends early when `monitor` has not improved for `patience` epochs (None: never);
    `seed` decides initial weights, order, dropout and, where a data set has no split of its
    own, the split; `precision` is a Keras dtype policy or "auto".
    """

    label: str
    model: str = "cnn"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    dataset: str = "cifar10"
    epochs: int = 10
    steps_per_epoch: int | None = None
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    train_images: int | None = None
    eval_images: int | None = None
    permute_pixels: int | None = None
    augment: str = "none"
    class_weights: bool = False
    monitor: str = "val_accuracy"
    patience: int | None = None
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self):
        for name in ("epochs", "batch_size", "steps_per_epoch", "train_images", "eval_images", "patience"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
                raise ValueError(f"{name} is {value!r}; expected a positive whole number")
        if isinstance(self.seed, bool) or int(self.seed) != self.seed or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; expected a whole number from 0")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate!r}; expected a positive number")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
        if self.monitor not in MONITORS:
            raise ValueError(f"monitor is {self.monitor!r}; expected one of {', '.join(MONITORS)}")

    def resolved(self):
        """This trial with "auto" replaced by what this machine trains in."""
        return dataclasses.replace(self, precision=choose_precision(self.precision))

    def configuration(self):
        """All that decides the result, as a dict that JSON can hold: every field but the label."""
        fields = dataclasses.asdict(self)
        del fields["label"]
        return fields


def trial_key(trial):
    """Name of a trial's result: 16 hex digits over its configuration and the training code."""
    content = json.dumps([trial.resolved().configuration(), code_version(*TRAINING_CODE)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
