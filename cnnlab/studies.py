"""All studies: run, resume, read back as tidy frames.

A new study stands with those of its data set, in `cifar_studies` or `mars_studies`.
"""

import functools
import json

import numpy as np
import pandas as pd

from cnnlab import budgets, data, models
from cnnlab.cifar_studies import CIFAR_STUDIES
from cnnlab.costs import training_flops
from cnnlab.machine import code_version
from cnnlab.mars_studies import MARS_STUDIES
from cnnlab.model_files import model_path, save_model
from cnnlab.store import select
from cnnlab.training import run_trial
from cnnlab.trials import TRAINING_CODE, Trial, trial_key
from cnnlab.work import work_through

# Where the record's rows lie.
RECORD = budgets.find("full").store_folder

STUDIES = CIFAR_STUDIES | MARS_STUDIES


def find(name):
    """The study called `name`; ValueError with the names there are."""
    if name not in STUDIES:
        raise ValueError(f"no study is called {name!r}; expected one of {', '.join(STUDIES)}")
    return STUDIES[name]


def run_study(study, seeds, store, progress=True, models_folder=None):
    """Run what `store` does not hold yet of `study` for `seeds` seeds, and read all of it back.

    Whoever is killed, at any moment, loses no finished trial, and the next call goes on from
    the last epoch of the unfinished one. A trial that another process runs is left to it.
    `models_folder`: where to keep each trained model as <key>.keras (None: not kept).
    Returns the tidy frame of `read`. Raises OSError at once if the store cannot be written.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; expected at least 1")

    def train(trial, title):
        train_claimed(trial, store, title, models_folder)

    work_through(study.name, study.runs(seeds), store, train, _cost, progress)
    return read(study, seeds, store)


def read(study, seeds, store):
    """The finished rows of `study`, one a trial and seed: a tidy frame (see `store.select`)."""
    return read_all({study.name: study}, store, seeds)[study.name]


def read_all(chosen, store, seeds=None):
    """{name: `read`'s frame} of the studies `chosen` ({name: Study}), with one look at the store.

    `seeds`: how many of each (None: as many as the study records).
    """
    records, version = store.records(), code_version(*TRAINING_CODE)
    return {name: select(records, study.runs(seeds or study.seeds), version) for name, study in chosen.items()}


def predictions(chosen, store):
    """{label: uint8 (seeds, n)}: the answers to the test images that `store` has of the studies `chosen`, by seed."""
    rows = pd.concat(read_all(chosen, store).values())
    if rows.empty:
        raise ValueError(f"{store.folder} has no rows of {', '.join(chosen)}; run them first")
    rows = rows.drop_duplicates("key").sort_values("seed", kind="stable")
    return {
        label: np.stack([store.predictions(key)["predicted"] for key in mine["key"]])
        for label, mine in rows.groupby("label", sort=False)
    }


def train_claimed(trial, store, title, models_folder):
    """Train `trial`, which the caller has claimed in `store`; keep its model, and its row where `store` has none.

    `title` of the progress bar (None: no bar); `models_folder` as in `run_study`. An interrupted
    training is not kept: KeyboardInterrupt is passed on.
    """
    dataset = data.load(trial.dataset, trial.seed)
    result = run_trial(trial, dataset, progress=title or False, checkpoint=store.checkpoint_path(trial))
    if result.interrupted:
        raise KeyboardInterrupt
    if models_folder is not None:
        save_model(result.model, model_path(models_folder, trial_key(trial)))
    if trial not in store:
        store.save(result)


@functools.cache
def _cost_of(configuration):
    trial = Trial("", **json.loads(configuration))
    dataset = data.load(trial.dataset)
    task = {"input_shape": dataset.input_shape, "num_classes": len(dataset.class_names)}
    model = models.build(trial.model, **task, **trial.options)
    batches = trial.steps_per_epoch or (trial.train_images or len(dataset.splits["train"])) / trial.batch_size
    return training_flops(model, trial.epochs * batches * trial.batch_size)


def _cost(trial):
    """Floating-point operations of training `trial`, whatever its seed."""
    return _cost_of(json.dumps({**trial.configuration(), "seed": 0}))
