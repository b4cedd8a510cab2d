"""A Recipe: everything that decides one training on the way from 74 to 94%, and its result's key."""

import dataclasses
import hashlib
import json

from cnnlab.machine import choose_precision, code_version

# What decides the numbers that a training yields; a change here makes stored results strangers.
RECIPE_CODE = (
    *(f"cnnlab.{module}" for module in ("adam", "batches", "models", "training")),
    *(
        f"cnnlab.recipes.{module}"
        for module in (
            "augmenting", "averaging", "fitting", "initial", "network", "normalization", "optimizers", "recipe",
            "running", "schedules", "tta", "whitening",
        )
    ),
)  # fmt: skip

CHOICES = {
    "network": ("assignment", "blocks"),
    "activation": ("relu", "silu", "gelu"),
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "triangular"),
    "flip": ("none", "random", "alternating"),
    "average": ("none", "lookahead", "ema"),
    "train_split": ("train", "all"),
    "loop": ("lab", "published"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides one training, so that equal recipes give equal results.

    `label` names the variant for people and decides nothing.

    The network. `network`: "assignment" (`models.build_cnn`, whose dense layer of 512 and
    dropout are kept) or "blocks" (`network.build_network`); `widths`: filters of the three
    convolutions of the one, of each block of the other; `batch_norm`; for "blocks" alone
    `depth`, the convolutions of a block, `activation`, `whitening` (a first layer computed from
    the training images, and frozen) and `dirac` (convolutions start as copies of their input).

    The training. `label_smoothing`, the share of each label that is spread over all classes;
    `optimizer`, "adam" as in the assignment or "sgd" with Nesterov `momentum` and
    `weight_decay` (an L2 coefficient: so much of each weight is added to its gradient);
    `learning_rate` of the batch's mean loss, at its peak; `schedule` of it, "constant" or
    "triangular" (see `schedules`); `bias_scale`, by which the learning rate, not the decay, of
    the normalisations' biases is multiplied; `batch_size` in images; `epochs`, passes over the
    training images, not necessarily whole; `average` of the weights (see `averaging`).

    The data. `flip` and `translate`, at most so many pixels (see `augmenting`); `tta`, the
    level of test-time augmentation that is scored beside the plain network (see `tta`);
    `train_split`, "train" (40,000 images, 10,000 for validation) or "all" (all 50,000, nothing
    left to choose on); `train_images` and `eval_images` limit the splits (None: all).

    `loop`: "lab", or "published", which is plain `model.fit` on arrays, validated each epoch, as
    the published notebook trains: its time is the yardstick that the others are measured with.
    `seed` decides initial weights, order, augmentation and dropout; `precision` is a Keras
    dtype policy or "auto".
    """

    label: str
    network: str = "assignment"
    widths: tuple[int, ...] = (32, 64, 128)
    depth: int = 2
    batch_norm: bool = False
    activation: str = "relu"
    whitening: bool = False
    dirac: bool = False
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.85
    weight_decay: float = 0.0
    bias_scale: float = 1.0
    schedule: str = "constant"
    batch_size: int = 64
    epochs: float = 10
    flip: str = "none"
    translate: int = 0
    average: str = "none"
    tta: int = 2
    train_split: str = "train"
    train_images: int | None = None
    eval_images: int | None = None
    loop: str = "lab"
    dataset: str = "cifar10"
    seed: int = 0
    precision: str = "auto"

    # A recipe's epoch is one pass; budgets ask, because a Trial's need not be.
    steps_per_epoch = None

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        self._check_numbers()
        self._check_combination()

    def resolved(self):
        """This recipe with "auto" replaced by what this machine trains in."""
        return dataclasses.replace(self, precision=choose_precision(self.precision))

    def configuration(self):
        """All that decides the result, as a dict that JSON can hold: every field but the label."""
        fields = dataclasses.asdict(self)
        del fields["label"]
        return {**fields, "widths": list(self.widths)}

    def _check_numbers(self):
        for name in ("depth", "batch_size", "train_images", "eval_images"):
            value = getattr(self, name)
            if value is not None and not (_is_whole(value) and value >= 1):
                raise ValueError(f"{name} is {value!r}; expected a positive whole number")
        if not self.widths or not all(_is_whole(width) and width >= 1 for width in self.widths):
            raise ValueError(f"widths is {self.widths}; expected at least one positive whole number")
        for name in ("seed", "translate"):
            value = getattr(self, name)
            if not (_is_whole(value) and value >= 0):
                raise ValueError(f"{name} is {value!r}; expected a whole number from 0")
        for name in ("learning_rate", "epochs", "bias_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a positive number")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a share from 0 up to, not including, 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay is {self.weight_decay!r}; expected a number from 0")
        if self.tta not in (0, 1, 2):
            raise ValueError(f"tta is {self.tta!r}; expected level 0 (none), 1 (mirrored) or 2 (mirrored and shifted)")

    def _check_combination(self):
        if self.network == "assignment":
            for name in ("depth", "activation", "whitening", "dirac"):
                default = type(self).__dataclass_fields__[name].default
                if getattr(self, name) != default:
                    raise ValueError(
                        f"{name} is {getattr(self, name)!r}, which the assignment's network has not; "
                        f"leave it at {default!r}, or take network='blocks'"
                    )
        if self.loop == "published" and (self.flip, self.translate, self.average) != ("none", 0, "none"):
            raise ValueError("loop='published' trains without augmentation and averaging; take loop='lab' for these")
        if self.loop == "published" and (self.epochs != int(self.epochs) or self.train_split == "all"):
            raise ValueError("loop='published' validates after whole epochs; take whole epochs and train_split='train'")
        if self.optimizer == "adam" and (self.weight_decay or self.bias_scale != 1):
            raise ValueError("weight_decay and bias_scale are of optimizer='sgd'; leave them at 0 and 1 with 'adam'")
        if self.bias_scale != 1 and not self.batch_norm:
            raise ValueError("bias_scale scales the normalisations' biases; it needs batch_norm=True")


def recipe_key(recipe):
    """Name of a recipe's result: 16 hex digits over its configuration and the code that trains it."""
    content = json.dumps([recipe.resolved().configuration(), code_version(*RECIPE_CODE)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _is_whole(value):
    return not isinstance(value, bool) and isinstance(value, int | float) and value == int(value)
