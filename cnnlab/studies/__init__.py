"""Questions put as experiments, their rows, and how they are run. Declarations need no Keras: `run` loads it."""

import lazy_loader

from cnnlab.studies.cifar10 import AS_DESIGNED, CIFAR_STUDIES, CNN, DENSE, DENSE_BEST, FILTERS
from cnnlab.studies.mars import (
    MARS_CNN,
    MARS_DENSE,
    MARS_MIRRORED,
    MARS_PROBE_ALL,
    MARS_STUDIES,
    MARS_VOTES,
    MARS_WITH_VALIDATION,
)
from cnnlab.studies.recipes import RECIPE_STUDIES, RECIPES, find_recipe, model_file
from cnnlab.studies.store import Store, select
from cnnlab.studies.study import PROFILE_VARIABLE, Budget, Study, find_budget

STUDIES = CIFAR_STUDIES | MARS_STUDIES | RECIPE_STUDIES
# Variants that can be trained on any pictures: on all of them, with their pixels in place.
VARIANTS = {
    trial.label: trial
    for study in (CIFAR_STUDIES | MARS_STUDIES).values()
    for trial in study.trials
    if trial.permute_pixels is None and trial.train_images is None
}

# fmt: off
__getattr__, __dir__, _lazy = lazy_loader.attach(
    __name__,
    submod_attrs={
        "recipes": [
            "AIRBENCH94", "ASSIGNMENT", "CORRUPTED_RECIPE", "FLOAT32", "NAMES", "NARROW", "PUBLISHED",
            "PUBLISHED_EPOCHS", "STEPS", "TARGETS", "TARGET_SEEDS", "WALK", "WITHOUT",
        ],
        "run": [
            "predictions", "read", "read_all", "record_store", "run_study", "train_recipe", "trained_model",
        ],
    },
)
# fmt: on


def find_study(name):
    """The study called `name`; ValueError listing the known names for any other."""
    if name not in STUDIES:
        raise ValueError(f"no study is called {name!r}; expected one of {', '.join(STUDIES)}")
    return STUDIES[name]


def study_of(labels):
    """A Study of the VARIANTS called `labels`, for the reader's own data set (see `Budget.on`)."""
    for label in labels:
        if label not in VARIANTS:
            raise ValueError(f"no variant is called {label!r}; expected some of {', '.join(VARIANTS)}")
    trials = tuple(VARIANTS[label] for label in dict.fromkeys(labels))
    fixed = ["the images" if len({trial.train_split for trial in trials}) == 1 else "the test images"]
    if len({trial.batch_size for trial in trials}) == 1:
        fixed.append(f"batches of {trials[0].batch_size}")
    if {trial.keep for trial in trials} == {"best"}:
        fixed.append("the best of all epochs chosen on validation")
    return Study("own", "Which network tells these pictures apart?", "the network", ", ".join(fixed), trials, seeds=3)


__all__ = [*_lazy, *(name for name in globals() if not name.startswith("_") and name != "lazy_loader")]
