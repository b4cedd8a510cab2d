"""One Recipe in, one result row and its predictions out."""

import dataclasses
import math
import time
from typing import Any

import keras
import numpy as np

from cnnlab import costs
from cnnlab.batches import NewOrder, feed
from cnnlab.machine import code_version, environment
from cnnlab.progress import TrainingProgress
from cnnlab.recipes.augmenting import AugmentedBatches
from cnnlab.recipes.averaging import WeightAverage
from cnnlab.recipes.network import build_network, set_initial_weights
from cnnlab.recipes.optimizers import make_optimizer
from cnnlab.recipes.recipe import RECIPE_CODE, Recipe
from cnnlab.recipes.tta import predict_views
from cnnlab.training import STEPS_PER_EXECUTION, cross_entropy, dtype_policy

SHORT = {"validation": "val", "test": "test"}


@dataclasses.dataclass
class RecipeResult:
    """What one training gave.

    `trial`: the recipe, resolved; `row`: the tidy record, whose columns mean what those of
    `training.run_trial`'s row mean; `history`: {"loss", "accuracy"} to one value an epoch;
    `model`: float32, of Keras's own layers, with the final weights; `probabilities`: {"test" and,
    where there is one, "validation"} to the model's float32 (n, classes), without test-time
    augmentation.
    """

    trial: Recipe
    row: dict[str, Any]
    history: dict[str, list[float]]
    model: keras.Model
    probabilities: dict[str, np.ndarray]


def run_recipe(recipe, dataset, progress=True):
    """Train `recipe` on `dataset` (a `data.Dataset` with train, validation and test).

    `progress` shows a bar, and is its title where it is a text. The row has, beside what decides
    the training: accuracy and loss of the final weights on validation (None where all images
    train) and test, "..._last" of the plain network, "..._tta" with test-time augmentation; and
    `seconds`, from the raw uint8 arrays to the last answer on the test set, which are
    `seconds_setup` (whitening, building), `seconds_training` and `seconds_tta` (all test answers).
    Returns a RecipeResult. Ctrl-C is passed on. Raises RuntimeError where the training diverges.
    """
    recipe = recipe.resolved()
    splits = prepare(recipe, dataset)
    classes = len(dataset.class_names)
    clock = _Clock()
    keras.utils.set_random_seed(recipe.seed)
    with dtype_policy(recipe.precision):
        model = build_network(recipe, dataset.input_shape, classes, fused=True)
    set_initial_weights(model, recipe, splits["train"][0])
    plan = Plan.of(recipe, len(splits["train"][0]))
    _compile(model, recipe, plan)
    clock.lap("setup")
    train = _fit_as_published if recipe.loop == "published" else _fit
    title = progress if isinstance(progress, str) else recipe.label
    history = train(model, recipe, plan, splits, classes, title if progress else None)
    clock.lap("training")

    # Measured in float32 and with Keras's own layers, which is what is saved and served.
    with dtype_policy("float32"):
        twin = build_network(recipe, dataset.input_shape, classes)
    twin.set_weights(model.get_weights())
    probabilities, scores = {}, {}
    for name in ("test", "validation"):
        if name == "validation":
            clock.lap("tta")
        probabilities[name], found = _evaluate(twin, recipe, *splits[name], SHORT[name])
        scores |= found
    if not np.isfinite(history["loss"][-1]) or not np.isfinite(probabilities["test"]).all():
        raise RuntimeError(
            f"{recipe.label}, seed {recipe.seed}, diverged; a learning rate below {recipe.learning_rate:g} may not"
        )
    twin.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    row = {
        "label": recipe.label,
        **recipe.configuration(),
        "parameters": twin.count_params(),
        "steps": plan.steps,
        "epochs_trained": plan.steps / plan.steps_per_pass,
        "train_accuracy_last": history["accuracy"][-1],
        "train_loss_last": history["loss"][-1],
        **clock.columns(),
        "training_flops": costs.training_flops(twin, plan.steps * plan.batch_size),
        "data_version": dataset.fingerprint,
        "code_version": code_version(*RECIPE_CODE),
        **environment(),
        **scores,
    }
    probabilities = {name: values for name, values in probabilities.items() if len(values)}
    return RecipeResult(recipe, row, history, twin, probabilities)


def prepare(recipe, dataset):
    """The recipe's view of `dataset`: {split: (uint8 images, int32 labels)}; "validation" may be empty."""
    validation = dataset.split("validation", recipe.eval_images)
    if recipe.train_split == "train":
        train = dataset.split("train", recipe.train_images)
    else:
        both = (dataset.split("train"), dataset.split("validation"))
        train = tuple(np.concatenate(parts)[: recipe.train_images] for parts in zip(*both, strict=True))
        validation = tuple(part[:0] for part in validation)
    splits = {"train": train, "validation": validation, "test": dataset.split("test", recipe.eval_images)}
    return {name: (images, labels.astype("int32")) for name, (images, labels) in splits.items()}


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


def _compile(model, recipe, plan):
    # One step at a time where something happens between two of them; else as many as divide all stretches.
    together = 1 if recipe.average != "none" else math.gcd(*(steps for _, _, steps in plan.stretches))
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    published = recipe.loop == "published"
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate) if published else make_optimizer(recipe, plan.steps),
        loss="sparse_categorical_crossentropy" if published else smoothed,
        metrics=["accuracy"],
        steps_per_execution=1 if published else _largest_divisor(together, STEPS_PER_EXECUTION),
    )


def _fit(model, recipe, plan, splits, classes, title):
    """Train by the plan; returns the history, {"loss", "accuracy"} to one value an epoch."""
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
    """Plain `fit` on float32 arrays in memory; same arguments and result as `_fit`."""
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


def _evaluate(model, recipe, images, labels, short):
    """(plain probabilities (n, classes), {column: score}) of one split; None for what is empty."""
    columns = [f"{short}_{score}_{which}" for which in ("last", "tta") for score in ("accuracy", "loss")]
    if not len(images):
        return np.zeros((0, model.output_shape[-1]), "float32"), dict.fromkeys(columns)
    plain, augmented = predict_views(model, images, recipe.tta)
    scores = [score for each in (plain, augmented) for score in (accuracy(each, labels), cross_entropy(each, labels))]
    return plain, dict(zip(columns, scores, strict=True))


def accuracy(probabilities, labels):
    """Share of rows of `probabilities` (n, classes) that are largest at `labels` (n,)."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def _largest_divisor(number, limit):
    return max(d for d in range(1, limit + 1) if number % d == 0)


class _Clock:
    """Seconds on the clock and of the processor, by part of the work; the time after the last lap does not count."""

    def __init__(self):
        self.parts = {}
        self.wall, self.cpu = self.start = time.perf_counter(), time.process_time()

    def lap(self, part):
        now = time.perf_counter()
        self.parts[f"seconds_{part}"] = now - self.wall
        self.wall, self.cpu = now, time.process_time()

    def columns(self):
        return {
            "seconds": self.wall - self.start[0],
            "cpu_seconds": self.cpu - self.start[1],
            **self.parts,
        }
