"""From 74 to 94%: the study `recipe`, its named recipes, and one training of any of them.

The place to look first. What a recipe decides stands in `recipes.recipe`, how it is trained in
`recipes.running`, which there are in `recipes.catalogue`, what they are worth in
`recipes.effects`.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path

from cnnlab import budgets, data
from cnnlab.costs import training_flops
from cnnlab.machine import code_version
from cnnlab.recipes.catalogue import ALL, RECIPES
from cnnlab.recipes.network import build_network
from cnnlab.recipes.recipe import RECIPE_CODE, recipe_key
from cnnlab.recipes.running import Plan, run_recipe
from cnnlab.store import Store, select
from cnnlab.study import Study
from cnnlab.work import work_through

STUDY = Study(
    "recipe",
    "What does each of a handful of changes add, from the assignment's CNN to 94%?",
    "one change a step; each change alone, and each left out",
    "10 epochs of 40,000 training images; the weights at the end of training; hyperparameters chosen on validation",
    ALL,
    seeds=5,
)


def find(name):
    """The recipe called `name`; ValueError with the names there are."""
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


def store_of(budget=None):
    """The `store.Store` of the recipes' rows in `budget` (a `budgets.Budget`; None: the record)."""
    budget = budget or budgets.find("full")
    return Store(budget.folder / "results" / "recipes", key=recipe_key)


def run(seeds=None, store=None, study=STUDY, progress=True):
    """Run what `store` does not hold yet of `study` for `seeds` seeds, and read all of it back.

    Defaults: as many seeds as the study records, and the record's store. Whoever is killed loses
    no finished training, and the next call goes on after it; several processes share the work.
    Returns the tidy frame of `read`. Raises OSError at once if the store cannot be written.
    """
    seeds, store = study.seeds if seeds is None else seeds, store or store_of()
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; expected at least 1")
    work_through(study.name, study.runs(seeds), store, functools.partial(_train_into, store), _cost, progress)
    return read(seeds, store, study)


def read(seeds=None, store=None, study=STUDY):
    """The finished rows of `study`, one a recipe and seed: a tidy frame in the study's order.

    The published code is float32 and the rest of the machine's precision: each is read for
    itself, as the most complete group of rows of one code version and precision.
    """
    import pandas as pd

    seeds, records, version = seeds or study.seeds, (store or store_of()).records(), code_version(*RECIPE_CODE)
    runs = study.runs(seeds)
    parts = [
        select(records, [run for run in runs if (run.precision == "auto") == automatic], version)
        for automatic in (False, True)
    ]
    parts = [part for part in parts if not part.empty]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


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
    out.parent.mkdir(parents=True, exist_ok=True)
    result = run_recipe(recipe, data.load(recipe.dataset, seed), f"{name}, seed {seed}" if progress else False)
    partial = out.with_name(f"{out.stem}.{os.getpid()}.partial.keras")
    result.model.save(partial)
    partial.replace(out)
    row = {"key": recipe_key(recipe), **result.row}
    out.with_suffix(".json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return result, out


def _train_into(store, recipe, title):
    store.save(run_recipe(recipe, data.load(recipe.dataset, recipe.seed), progress=title or False))


@functools.cache
def _cost_of(recipe):
    dataset = data.load(recipe.dataset)
    images = len(dataset.splits["train"]) + (recipe.train_split == "all") * len(dataset.splits["validation"])
    plan = Plan.of(recipe, min(images, recipe.train_images or images))
    network = build_network(recipe, dataset.input_shape, len(dataset.class_names))
    return training_flops(network, plan.steps * plan.batch_size)


def _cost(recipe):
    """Floating-point operations of a training, whatever the seed."""
    return _cost_of(dataclasses.replace(recipe, seed=0))
