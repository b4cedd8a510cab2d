"""From 74 to 94%: the ablation from the assignment's CNN to airbench's network, each change alone and left out."""

import dataclasses

from cnnlab.machine import output_path
from cnnlab.studies.study import Study
from cnnlab.training import NETWORKS, Trial

# Learning rates are the same for an image whatever the batch, as the mean loss is a batch's.
SMALL_BATCHES = {"batch_size": 64, "learning_rate": 0.09375}
LARGE_BATCHES = {"batch_size": 1_000, "learning_rate": 1.465}
SGD = {"optimizer": "sgd", "momentum": 0.85, "weight_decay": 1.33e-3, "schedule": "triangular"}
# Without normalisation the network bears smaller steps.
GENTLE_SGD = {**SGD, "learning_rate": 0.02}
FLIP_AND_TRANSLATE = {"flip": "random", "translate": 2}
# Narrow, so that what is measured of the other changes takes minutes and not hours.
BLOCKS = {"model": "blocks", "filters": (24, 64, 64)}

# The baseline: the code that is published, in the precision that is published.
PUBLISHED = Trial("published", keep="last", loop="published", precision="float32")
ASSIGNMENT = Trial("assignment", keep="last", tta=2)
# The same in single precision, which shows what the faster one costs in accuracy.
FLOAT32 = dataclasses.replace(ASSIGNMENT, label="float32", precision="float32")

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
    ("wider", "blocks of 64, 128 and 128 filters", {"filters": (64, 128, 128)}),
    ("widest", "blocks of 64, 256 and 256 filters", {"filters": (64, 256, 256)}),
    # Nothing is chosen any more.
    ("all_images", "all 50,000 images", {"train_split": "all"}),
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


def changed(trial, label, changes):
    """`trial` under another `label`, with `changes`: fields of a Trial, or options of its network."""
    changes, model = dict(changes), changes.get("model", trial.model)
    known = {field.name for field in dataclasses.fields(NETWORKS[model])}
    options = {name: value for name, value in trial.options.items() if name in known}
    options |= {name: changes.pop(name) for name in list(changes) if name in known}
    return dataclasses.replace(trial, label=label, options=options, **changes)


def _walk():
    steps = [ASSIGNMENT]
    for label, _, changes in STEPS:
        steps.append(changed(steps[-1], label, changes))
    return tuple(steps)


def _variants(trial, variants):
    return tuple(changed(trial, label, changes) for label, _, changes in variants)


WALK = _walk()
_NARROW = next(recipe for recipe in WALK if recipe.label == NARROW)
ALL = (
    PUBLISHED, FLOAT32, *WALK,
    *_variants(ASSIGNMENT, ALONE), *_variants(_NARROW, WITHOUT), *_variants(_NARROW, INSTEAD),
)  # fmt: skip
# Seeds of every recipe; changes alone have more.
STUDY_SEEDS, ALONE_SEEDS = 3, 5

# The recipes that are held against a target: the end of the walk, trained by Muon, as in airbench94_muon. On
# validation ReLU was as accurate as SiLU, batches of 1,000 more so than of 2,000, and five passes of the wide network
# as accurate as eleven of one with half its filters, which take longer.
MUON = {
    "optimizer": "muon", "schedule": "linear", "average": "none", "activation": "relu", "tta_share": 0.25,
    "bias_scale": 62.0, "weight_decay": 2.35e-3,
}  # fmt: skip


# Seeds from here on had never been scored before.
FIRST_SEED = 22


def _fast(label, batch_size, **changes):
    """The end of the walk, trained by Muon in batches of `batch_size`."""
    # A step of Muon has the same size whatever the batch, but its noise falls with the root of it.
    rates = {
        "batch_size": batch_size,
        "learning_rate": 0.85 * batch_size / 1_000,
        "kernel_rate": 0.17 * (batch_size / 1_000) ** 0.5,
    }
    return changed(WALK[-1], label, MUON | rates | changes)


FAST = (
    # Seeds 22 to 26 were scored after half a pass more, which was more than is asked, and took too long.
    _fast("to_74", 500, filters=(24, 64, 64), epochs=1, seed=27),
    _fast("to_93", 1_000, epochs=6, seed=FIRST_SEED),
    _fast("to_94", 1_000, epochs=10, seed=FIRST_SEED),
)
# Accuracy that each is to reach, as the mean of TARGET_SEEDS seeds, and within how many baseline times.
TARGETS = {"to_74": (0.7444, 0.12), "to_93": (0.93, 1.1), "to_94": (0.94, 2.0)}
TARGET_SEEDS = 5
RECIPES = {recipe.label: recipe for recipe in (*ALL, *FAST)}
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


PUBLISHED_EPOCHS = f"the published code's {PUBLISHED.epochs:g} epochs"
# What airbench94 is published with, in the head of its airbench94.py: mean accuracy, and floating-point operations.
AIRBENCH94 = {"accuracy": 0.9401, "flops": 0.36e15}

# Steps of the walk by what they change; the others are how it is optimised, and where it begins.
PARTS = {
    "the network's form": ("batch_norm", "blocks", "gelu", "wider", "widest"),
    "augmentation": ("flip_translate", "alternating_flip"),
    "more training": ("longer", "all_images"),
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


def find_recipe(name, seed=None):
    """The recipe called `name`, with `seed` (None: its own, the first); ValueError with the names there are."""
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; expected one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    return recipe if seed is None else dataclasses.replace(recipe, seed=seed)


def model_file(recipe, out, budget):
    """The Path of the file that the model of `recipe` is kept in: `out`, or one under the folder of `budget`.

    Raises as `machine.output_path` does.
    """
    return output_path(out or budget.models_folder.parent / "recipes" / f"{recipe.label}-seed{recipe.seed}.keras")


RECIPE_STUDIES = {
    "recipe": Study(
        "recipe",
        "What does each of a handful of changes add, from the assignment's CNN to 94%?",
        "one change a step; changes alone, and left out, where the rest can do without them",
        "10 epochs of 40,000 training images, where a recipe does not say otherwise; the weights at the end of "
        "training; settings after airbench94, and what could replace a part compared on validation",
        ALL,
        seeds=STUDY_SEEDS,
        more_seeds=dict.fromkeys((PUBLISHED.label, ASSIGNMENT.label, *(label for label, _, _ in ALONE)), ALONE_SEEDS),
    ),
    "targets": Study(
        "targets",
        "How soon are 74.44, 93 and 94% reached on two cores?",
        "the recipe: width and passes over the images",
        "Muon, a rate that falls in a straight line, all 50,000 images; settings after airbench94_muon, chosen on "
        "validation with other seeds",
        FAST,
        seeds=TARGET_SEEDS,
    ),
}
