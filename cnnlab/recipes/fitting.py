"""A network trained by its recipe: how many steps, compiled how, fed with what."""

import dataclasses
import math

import keras
import numpy as np

from cnnlab.batches import NewOrder, feed
from cnnlab.progress import TrainingProgress
from cnnlab.recipes.augmenting import AugmentedBatches
from cnnlab.recipes.averaging import WeightAverage
from cnnlab.recipes.optimizers import make_optimizer
from cnnlab.training import STEPS_PER_EXECUTION


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many steps a training has: `steps` in all, `steps_per_pass` over the training images."""

    steps: int
    steps_per_pass: int
    batch_size: int

    @classmethod
    def of(cls, recipe, images):
        """The plan of `recipe` for so many training `images`; what fills no batch waits for another pass."""
        batch_size = min(recipe.batch_size, images)
        steps_per_pass = images // batch_size
        # Rounded first: 9.9 x 40 steps are 396, and not 397 for the last bit of 9.9.
        return cls(math.ceil(round(recipe.epochs * steps_per_pass, 6)), steps_per_pass, batch_size)

    @property
    def stretches(self):
        """[(first epoch, last epoch + 1, steps of each)]: the whole passes, and what is left over."""
        whole, rest = divmod(self.steps, self.steps_per_pass)
        found = [(0, whole, self.steps_per_pass), (whole, whole + 1, rest)]
        return [stretch for stretch in found if stretch[2] and stretch[1] > stretch[0]]


def compile_network(model, recipe, plan):
    """Give `model` the optimizer and loss of `recipe` for the steps of `plan`."""
    # One step at a time where something happens between two of them; else as many as divide all stretches.
    together = 1 if recipe.average != "none" else math.gcd(*(steps for _, _, steps in plan.stretches))
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    published = recipe.loop == "published"
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate) if published else make_optimizer(recipe, plan.steps),
        loss="sparse_categorical_crossentropy" if published else smoothed,
        metrics=["accuracy"],
        steps_per_execution=1 if published else _largest_divisor(together, STEPS_PER_EXECUTION),
        # As the lab trains everything (see `training`).
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def fit_network(model, recipe, plan, splits, classes, title=None):
    """Train the compiled `model` by `recipe` and `plan`.

    `splits`: {"train" and "validation": (uint8 images, int32 labels)}, of which only the published
    loop looks at validation; `classes`: their number; `title` of the progress bar (None: no bar).
    Returns the history: {"loss", "accuracy"} to one value an epoch.
    """
    fit = _fit_as_published if recipe.loop == "published" else _fit
    return fit(model, recipe, plan, splits, classes, title)


def _fit(model, recipe, plan, splits, classes, title):
    """In the lab's way: images in a new order and augmented anew every epoch, labels as probabilities."""
    images, labels = splits["train"]
    one_hot = np.eye(classes, dtype="float32")[labels]
    lasting = [WeightAverage(recipe.average, plan.steps)] if recipe.average != "none" else []
    history = {"loss": [], "accuracy": []}
    for first, last, steps in plan.stretches:
        batches = AugmentedBatches(images, one_hot, plan.batch_size, recipe.seed, recipe.flip, recipe.translate, steps)
        bar = TrainingProgress(title, last, steps, first)
        found = _fit_with_bar(model, bar, [NewOrder(batches), *lasting], feed(batches), shuffle=False)
        for name, values in history.items():
            values += map(float, found[name])
    return history


def _fit_as_published(model, recipe, plan, splits, classes, title):
    """Plain `fit` on float32 arrays in memory."""
    (images, labels), (unseen, answers) = splits["train"], splits["validation"]
    bar = TrainingProgress(title, int(recipe.epochs), math.ceil(len(images) / plan.batch_size))
    found = _fit_with_bar(
        model, bar, [], images.astype("float32"), labels, batch_size=plan.batch_size,
        validation_data=(unseen.astype("float32"), answers),
    )  # fmt: skip
    return {name: list(map(float, found[name])) for name in ("loss", "accuracy")}


def _fit_with_bar(model, bar, callbacks, *arrays, **options):
    """`model.fit` over the epochs of `bar`, which is shown where it has a title; returns the history."""
    try:
        return model.fit(
            *arrays, epochs=bar.epochs, initial_epoch=bar.first_epoch, verbose=0,
            callbacks=[*callbacks, bar] if bar.description else callbacks, **options,
        ).history  # fmt: skip
    finally:
        bar.close()


def _largest_divisor(number, limit):
    return max(d for d in range(1, limit + 1) if number % d == 0)
