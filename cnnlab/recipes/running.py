"""One Recipe in, one result row and its predictions out."""

import dataclasses
import time
from typing import Any

import keras
import numpy as np

from cnnlab import costs
from cnnlab.machine import code_version, environment
from cnnlab.recipes.fitting import Plan, compile_network, fit_network
from cnnlab.recipes.network import build_network, set_initial_weights
from cnnlab.recipes.recipe import RECIPE_CODE, Recipe
from cnnlab.recipes.tta import predict_views
from cnnlab.training import cross_entropy, dtype_policy


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
    task = {"input_shape": dataset.input_shape, "num_classes": len(dataset.class_names)}
    clock = _Clock()
    keras.utils.set_random_seed(recipe.seed)
    with dtype_policy(recipe.precision):
        model = build_network(recipe, **task, fused=True)
    set_initial_weights(model, recipe, splits["train"][0])
    plan = Plan.of(recipe, len(splits["train"][0]))
    compile_network(model, recipe, plan)
    clock.lap("setup")
    title = progress if isinstance(progress, str) else recipe.label
    history = fit_network(model, recipe, plan, splits, task["num_classes"], title if progress else None)
    clock.lap("training")

    # Measured in float32 and with Keras's own layers, which is what is saved and served.
    with dtype_policy("float32"):
        twin = build_network(recipe, **task)
    twin.set_weights(model.get_weights())
    twin.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    answers = {"test": predict_views(twin, splits["test"][0], recipe.tta)}
    clock.lap("tta")
    if len(splits["validation"][0]):
        answers["validation"] = predict_views(twin, splits["validation"][0], recipe.tta)
    if not np.isfinite(history["loss"][-1]) or not np.isfinite(answers["test"][0]).all():
        raise RuntimeError(
            f"{recipe.label}, seed {recipe.seed}, diverged; a learning rate below {recipe.learning_rate:g} may not"
        )
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
        **_scores("val", answers.get("validation"), splits["validation"][1]),
        **_scores("test", answers["test"], splits["test"][1]),
    }
    return RecipeResult(recipe, row, history, twin, {name: plain for name, (plain, _) in answers.items()})


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


def _scores(short, answers, labels):
    """{"<short>_accuracy_last": ...} of the (plain, augmented) probabilities `answers`; None where there are none."""
    scores = {}
    for which, place in (("last", 0), ("tta", 1)):
        scores[f"{short}_accuracy_{which}"] = accuracy(answers[place], labels) if answers else None
        scores[f"{short}_loss_{which}"] = cross_entropy(answers[place], labels) if answers else None
    return scores


def accuracy(probabilities, labels):
    """Share of rows of `probabilities` (n, classes) that are largest at `labels` (n,)."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


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
