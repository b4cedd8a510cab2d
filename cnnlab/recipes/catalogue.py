"""The recipes of the lab: the walk from the assignment's CNN, its changes alone and left out, and three that end it."""

import dataclasses

from cnnlab.recipes.recipe import Recipe

# Learning rates are the same for an image whatever the batch, as the mean loss is a batch's.
SMALL_BATCHES = {"batch_size": 64, "learning_rate": 0.09375}
LARGE_BATCHES = {"batch_size": 1_000, "learning_rate": 1.465}
SGD = {"optimizer": "sgd", "momentum": 0.85, "weight_decay": 1.33e-3, "schedule": "triangular"}
# Without normalisation the network bears smaller steps.
GENTLE_SGD = {**SGD, "learning_rate": 0.02}
FLIP_AND_TRANSLATE = {"flip": "random", "translate": 2}
# Narrow, so that what is measured of the other changes takes minutes and not hours.
BLOCKS = {"network": "blocks", "widths": (24, 64, 64)}

# The yardstick: the code that is published, in the precision that is published.
PUBLISHED = Recipe("published", loop="published", precision="float32", tta=0)
ASSIGNMENT = Recipe("assignment")
# The same in single precision, which shows what the faster one costs in accuracy.
FLOAT32 = Recipe("float32", precision="float32")

# Label, what is changed in words, and what is changed: each step keeps all the changes before it.
STEPS = (
    ("batch_norm", "batch normalisation", {"batch_norm": True}),
    ("flip_translate", "flip and translate", FLIP_AND_TRANSLATE),
    ("blocks", "three blocks of two convolutions", BLOCKS),
    ("sgd", "Nesterov SGD, decay, triangular schedule", {**SGD, **SMALL_BATCHES}),
    ("large_batches", "batches of 1,000", LARGE_BATCHES),
    ("label_smoothing", "label smoothing", {"label_smoothing": 0.2}),
    ("whitening", "whitening first layer", {"whitening": True}),
    ("dirac", "dirac initialisation", {"dirac": True}),
    ("bias_scale", "larger rate for norm biases", {"bias_scale": 64.0}),
    ("lookahead", "lookahead", {"average": "lookahead"}),
    ("gelu", "GELU instead of ReLU", {"activation": "gelu"}),
    ("alternating_flip", "alternating flip", {"flip": "alternating"}),
    ("longer", "13 passes instead of 10", {"epochs": 13}),
    ("wider", "blocks of 64, 128 and 128 filters", {"widths": (64, 128, 128)}),
    ("widest", "blocks of 64, 256 and 256 filters", {"widths": (64, 256, 256)}),
    # Nothing is chosen any more.
    ("to_94", "all 50,000 images", {"train_split": "all"}),
)
# The narrow recipe: the step with every change but longer training and width, which trains in
# minutes. What is left out, or taken instead, is compared with it.
NARROW = "alternating_flip"

# One change of the assignment's CNN; the walk's first step is batch normalisation's.
ALONE = (
    ("only_flip_translate", "flip and translate", FLIP_AND_TRANSLATE),
    ("only_flip", "flip", {"flip": "random"}),
    ("only_alternating_flip", "alternating flip", {"flip": "alternating"}),
    ("only_triangular", "triangular schedule", {"schedule": "triangular"}),
    ("only_sgd", "Nesterov SGD, decay, triangular schedule", GENTLE_SGD),
    ("only_label_smoothing", "label smoothing", {"label_smoothing": 0.2}),
    ("only_lookahead", "lookahead", {"average": "lookahead"}),
    ("only_ema", "moving average of the weights", {"average": "ema"}),
)
# The narrow recipe without one of its changes; random flips instead of alternating ones are the walk's.
WITHOUT = (
    ("without_flip_translate", "flip and translate", {"flip": "none", "translate": 0}),
    ("without_label_smoothing", "label smoothing", {"label_smoothing": 0.0}),
    ("without_whitening", "whitening first layer", {"whitening": False}),
    ("without_dirac", "dirac initialisation", {"dirac": False}),
    ("without_bias_scale", "larger rate for norm biases", {"bias_scale": 1.0}),
    ("without_lookahead", "lookahead", {"average": "none"}),
)
# The narrow recipe with something else in the place of what it has.
INSTEAD = (
    ("ema", "moving average instead of lookahead", {"average": "ema"}),
    ("relu", "ReLU instead of GELU", {"activation": "relu"}),
    ("silu", "SiLU instead of GELU", {"activation": "silu"}),
    ("shallow", "one convolution a block", {"depth": 1}),
    ("deep", "three convolutions a block", {"depth": 3}),
)


def _walk():
    steps = [ASSIGNMENT]
    for label, _, changes in STEPS:
        steps.append(dataclasses.replace(steps[-1], label=label, **changes))
    return tuple(steps)


def _changed(recipe, variants):
    return tuple(dataclasses.replace(recipe, label=label, **changes) for label, _, changes in variants)


WALK = _walk()
_STEP = {recipe.label: recipe for recipe in WALK}
_NARROW = _STEP[NARROW]
# The end of the walk, and two that stop earlier.
ENDINGS = (
    dataclasses.replace(
        _NARROW, label="to_74", batch_size=500, learning_rate=0.7325, epochs=2, tta=0,
        train_split="all",
    ),
    dataclasses.replace(_STEP["wider"], label="to_93", train_split="all"),
    WALK[-1],
)  # fmt: skip
ALL = (
    PUBLISHED, FLOAT32, *WALK,
    *_changed(ASSIGNMENT, ALONE), *_changed(_NARROW, WITHOUT), *_changed(_NARROW, INSTEAD), *ENDINGS[:-1],
)  # fmt: skip
RECIPES = {recipe.label: recipe for recipe in ALL}

# Seeds of every recipe; those that are held against the targets, and their yardstick, have more.
STUDY_SEEDS = 3
# Accuracy that an ending is to reach, and within how many yardsticks: the mean of so many seeds, beside those
# with which earlier forms of the endings were scored on the test images, and then changed.
TARGET_SEEDS, SCORED_BEFORE = 5, (0,)
TARGETS = {"to_74": (0.7444, 0.25), "to_93": (0.93, 3.0), "to_94": (0.94, 6.0)}
NAMES = {
    "published": "the published code",
    "assignment": "the assignment's CNN",
    "float32": "the assignment's CNN in float32",
    **{label: f"+ {text}" for label, text, _ in STEPS},
    **{label: f"only {text}" for label, text, _ in ALONE},
    **{label: f"without {text}" for label, text, _ in WITHOUT},
    **{label: text for label, text, _ in INSTEAD},
    "to_74": "the recipe for the assignment's accuracy",
    "to_93": "the recipe for 93%",
    "to_94": "the recipe for 94%",
}


YARDSTICK = f"the published code's {PUBLISHED.epochs:g} epochs"
# What airbench94 is published with, in the head of its airbench94.py: mean accuracy, and floating-point operations.
AIRBENCH94 = {"accuracy": 0.9401, "flops": 0.36e15}

# Steps of the walk by what they change; the others are how it is optimised, and where it begins.
PARTS = {
    "the network's form": ("batch_norm", "blocks", "gelu", "wider", "widest"),
    "augmentation": ("flip_translate", "alternating_flip"),
    "more training": ("longer", "to_94"),
}


@dataclasses.dataclass(frozen=True)
class Contrast:
    """What a change is worth: variant `first` against variant `second`, of one `kind`.

    `kind`: "training" (the same network and protocol, computed otherwise), "walk" (on top of the
    steps before), "alone" (on the assignment's CNN), "left out" (what the narrow recipe has of it)
    or "instead" (in the narrow recipe); `change` in words.
    """

    kind: str
    change: str
    first: str
    second: str


CONTRASTS = (
    Contrast("training", "the lab's training in place of the published code's", ASSIGNMENT.label, PUBLISHED.label),
    *(Contrast("walk", text, label, before.label) for (label, text, _), before in zip(STEPS, WALK, strict=False)),
    *(Contrast("alone", text, label, ASSIGNMENT.label) for label, text, _ in ALONE),
    Contrast("alone", "Nesterov SGD and decay in place of Adam, both on the schedule", "only_sgd", "only_triangular"),
    *(Contrast("left out", text, NARROW, label) for label, text, _ in WITHOUT),
    *(Contrast("instead", text, label, NARROW) for label, text, _ in INSTEAD),
)


def of_kind(kind):
    """Those of `CONTRASTS` that are of `kind`."""
    return [contrast for contrast in CONTRASTS if contrast.kind == kind]
