"""From 74 to 94%: the study `recipe`, its named recipes, and one training of any of them.

The place to look first. What a recipe decides stands in `recipes.recipe`, how it is trained in
`recipes.running`, which there are in `recipes.catalogue`, what they are worth in
`recipes.effects`.
"""

import dataclasses
import functools
import json
from pathlib import Path

import pandas as pd

from cnnlab import budgets, data
from cnnlab.costs import training_flops
from cnnlab.machine import atomic_file, code_version, release
from cnnlab.model_files import load_model, model_path, save_model
from cnnlab.recipes.catalogue import ALL, ENDINGS, PUBLISHED, RECIPES, SCORED_BEFORE, STUDY_SEEDS, TARGET_SEEDS
from cnnlab.recipes.fitting import Plan
from cnnlab.recipes.network import build_network
from cnnlab.recipes.recipe import RECIPE_CODE, recipe_key
from cnnlab.recipes.running import run_recipe
from cnnlab.store import Store, select
from cnnlab.study import Study
from cnnlab.work import work_through

# Where the record's rows lie.
RECORD = Path("results") / "recipes"
STUDY = Study(
    "recipe",
    "What does each of a handful of changes add, from the assignment's CNN to 94%?",
    "one change a step; changes alone, and left out, where the rest can do without them",
    "10 epochs of 40,000 training images, where a recipe does not say otherwise; the weights at the end of training; "
    "settings after airbench94, and what could replace a part compared on validation",
    ALL,
    seeds=STUDY_SEEDS,
)
# What is held against the targets, and their yardstick: few trainings, of which more seeds are run.
TARGET_STUDY = dataclasses.replace(
    STUDY, name="recipe_targets", trials=(PUBLISHED, *ENDINGS), seeds=len(SCORED_BEFORE) + TARGET_SEEDS
)


def find(name):
    """The recipe called `name`; ValueError with the names there are."""
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def store_of(budget=None, folder=None):
    """The `store.Store` of the recipes' rows: `folder`, or that of `budget` (a `budgets.Budget`; None: the record)."""
    budget = budget or budgets.find("full")
    return Store(folder or budget.folder / RECORD, key=recipe_key)


def run(seeds=None, store=None, study=STUDY, progress=True, models_folder=None):
    """Run what `store` does not hold yet of `study` for `seeds` seeds, and read all of it back.

    Defaults: as many seeds as the study records, and the record's store. Whoever is killed loses
    no finished training, and the next call goes on after it; several processes share the work.
    `models_folder`: where to keep each trained model as <key>.keras (None: not kept).
    Returns the tidy frame of `read`. Raises OSError at once if the store cannot be written.
    """
    seeds, store = study.seeds if seeds is None else seeds, store or store_of()
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; expected at least 1")

    def train_one(recipe, title):
        result = run_recipe(recipe, data.load(recipe.dataset, recipe.seed), title or False)
        if models_folder is not None:
            save_model(result.model, model_path(models_folder, recipe_key(recipe)))
        store.save(result)

    work_through(study.name, study.runs(seeds), store, train_one, _cost, progress)
    return read(seeds, store, study)


def run_record(store=None, progress=True, models_folder=None):
    """Run what is missing of both studies, the targets' first, each with its own seeds; returns `read`'s frame."""
    store = store or store_of()
    for study in (TARGET_STUDY, STUDY):
        run(study.seeds, store, study, progress, models_folder)
    return read(store=store, study=STUDY)


def read(seeds=None, store=None, study=STUDY):
    """The finished rows of `study`, one a recipe and seed: a tidy frame that mixes no two code versions.

    `seeds`: how many at most (None: all that were run).

    The published code is float32 and the rest of whatever precision this machine trains in, so
    that the two are read for themselves (see `store.select`); first what has a precision of its own.
    """
    store, version = store or store_of(), code_version(*RECIPE_CODE)
    records = store.records()
    runs = study.runs(seeds or 1 + max((row["seed"] for row in records), default=0))
    automatic = select(records, [run for run in runs if run.precision == "auto"], version)
    version = automatic.attrs.get("code_version", version)
    exact = [run for run in runs if run.precision != "auto"]
    wanted = {(version, run.precision) for run in exact}
    fixed = select([row for row in records if (row["code_version"], row["precision"]) in wanted], exact, version)
    found = [part for part in (fixed, automatic) if not part.empty]
    frame = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    frame.attrs["code_version"] = version
    return frame


def train(name, seed=0, out=None, budget=None, progress=True):
    """Train the recipe called `name`; keep its model as `out` (.keras) and its row beside it (.json).

    `budget` (a `budgets.Budget`) cuts it down; default of `out`: runs/recipes/<name>-seed<seed>.keras
    under the budget's folder. Returns (the `running.RecipeResult`, the model's Path). Raises
    ValueError for an unknown name or a file that is no .keras, before any training.
    """
    recipe = dataclasses.replace(find(name), seed=seed)
    folder = Path("runs")
    if budget is not None and not budget.is_record:
        recipe, folder = budget.limit(recipe), budget.folder
    out = Path(out or folder / "recipes" / f"{name}-seed{seed}.keras")
    if out.suffix != ".keras":
        raise ValueError(f"out is {out}; expected a file that ends in .keras")
    out.parent.mkdir(parents=True, exist_ok=True)  # It is known now, and not after the training, that it can be.
    result = run_recipe(recipe, data.load(recipe.dataset, seed), f"{name}, seed {seed}" if progress else False)
    release()
    save_model(result.model, out)
    row = {"key": recipe_key(recipe), **result.row}
    with atomic_file(out.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return result, out


def trained_model(recipe, models_folder, progress=True):
    """The model of `recipe`: loaded from <models_folder>/<key>.keras, or trained and kept there.

    Raises ValueError for a kept file that is no model.
    """
    path = model_path(models_folder, recipe_key(recipe))
    if not path.exists():
        result = run_recipe(recipe, data.load(recipe.dataset, recipe.seed), progress)
        save_model(result.model, path)
    return load_model(path)


def kept_or_trained(name, seed=0, out=None, budget=None):
    """The network that the record kept of the recipe called `name`; what it did not keep is trained now.

    Kept: of this code and precision, by `study recipe --keep-models` or `record`; another
    `budget` than the record's keeps none. Arguments and errors as `train` has them, and ValueError
    for a kept file that is no model. Returns (row, `keras.Model`, Path of its file).
    """
    budget = budget or budgets.find("full")
    recipe, store = dataclasses.replace(find(name), seed=seed), store_of(budget)
    path = model_path(budget.models_folder, recipe_key(recipe))
    if budget.is_record and recipe in store and path.exists():
        return store.row(recipe), load_model(path), path
    result, path = train(name, seed, out, budget)
    return result.row, result.model, path


def plan_of(recipe, dataset):
    """The `fitting.Plan` of a whole training of `recipe` on its part of `dataset`."""
    images = len(dataset.splits["train"]) + (recipe.train_split == "all") * len(dataset.splits["validation"])
    return Plan.of(recipe, min(images, recipe.train_images or images))


@functools.cache
def _cost_of(recipe):
    dataset = data.load(recipe.dataset)
    plan = plan_of(recipe, dataset)
    network = build_network(recipe, dataset.input_shape, len(dataset.class_names))
    return training_flops(network, plan.steps * plan.batch_size)


def _cost(recipe):
    """Floating-point operations of a training, whatever the seed."""
    return _cost_of(dataclasses.replace(recipe, seed=0))
