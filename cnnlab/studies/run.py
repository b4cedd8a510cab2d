"""Run, resume and share studies between processes; read them as tidy frames; train models for one's own use."""

import functools
import time
from datetime import timedelta

import numpy as np
import pandas as pd

from cnnlab import data
from cnnlab.machine import release
from cnnlab.studies.recipes import find_recipe, model_file
from cnnlab.studies.store import Store, select
from cnnlab.studies.study import find_budget
from cnnlab.training import (
    SCORING_BATCH,
    Checkpoint,
    Plan,
    ProgressBar,
    build_for,
    load_model,
    model_path,
    save_model,
    save_with_row,
    train,
    training_flops,
    trial_key,
)

# Seconds between two checks on trials that other processes are running.
POLL_SECONDS = 2.0


def record_store():
    """The `Store` of the record."""
    return Store(find_budget("full").store_folder)


def run_study(study, store, seeds=None, progress=True, models_folder=None, scoring_batch=SCORING_BATCH):
    """Run the trials of `study` for `seeds` seeds that `store` does not hold yet, and read all of them back.

    `seeds`: None for as many as the study records; `models_folder`: where to keep each trained model
    as <key>.keras (None: not kept); `scoring_batch`: images scored at once. A process killed at any
    moment loses no finished trial, and the next call resumes after the last epoch of the unfinished
    one. A trial that another process is running is left to it.
    Returns the tidy frame of `read`. Raises OSError at once if the store cannot be written.
    """
    runs = study.runs(seeds)
    store.check_writable()
    version = functools.cache(lambda dataset, seed: data.load(dataset, seed).fingerprint)

    def is_stored(trial):
        return store.find(trial, version(trial.dataset, trial.seed)) is not None

    waiting = [trial for trial in runs if not is_stored(trial)]
    clock = _TimeLeft(waiting)
    while waiting:
        elsewhere = []
        for trial in waiting:
            title = f"{study.name} {len(runs) - clock.left + 1}/{len(runs)}  {trial.label} seed {trial.seed}"
            seconds = time.perf_counter()
            with store.claim(trial) as mine:
                if not mine:
                    elsewhere.append(trial)
                    continue
                if not is_stored(trial):  # Another process may have finished it since we looked.
                    _train_claimed(trial, store, title if progress else None, models_folder, scoring_batch)
            release()
            clock.finished(trial, time.perf_counter() - seconds)
            if progress:
                print(f"{title}: {clock.remaining()}", flush=True)
        waiting = elsewhere
        if waiting:
            time.sleep(POLL_SECONDS)
    return read(study, store, seeds)


def read(study, store, seeds=None):
    """The finished rows of `study`, one a trial and seed: a tidy frame (see `store.select`)."""
    return read_all({study.name: study}, store, seeds)[study.name]


def read_all(chosen, store, seeds=None):
    """{name: `read`'s frame} of the studies `chosen` ({name: Study}), reading the store once.

    `seeds`: how many of each (None: as many as the study records).
    """
    records = store.records()
    return {name: select(records, study.runs(seeds)) for name, study in chosen.items()}


def predictions(chosen, store, name="predicted", labels=None):
    """{label: array (seeds, n)}: the array `name` of `Store.predictions` for the studies `chosen`, in order of seed.

    By default the predicted classes of the test images. With `labels`, only of these variants; a variant is left out
    if any of its rows lacks the array.
    """
    rows = pd.concat(read_all(chosen, store).values())
    if rows.empty:
        raise ValueError(f"{store.folder} has no rows of {', '.join(chosen)}; run them first")
    rows = rows.drop_duplicates("key").sort_values("seed", kind="stable")
    rows = rows if labels is None else rows[rows["label"].isin(labels)]
    stored = {key: store.predictions(key) for key in rows["key"]}
    return {
        label: np.stack([stored[key][name] for key in mine["key"]])
        for label, mine in rows.groupby("label", sort=False)
        if all(name in stored[key] for key in mine["key"])
    }


def trained_model(trial, models_folder, store, progress=True):
    """The model of `trial`, float32, with the weights that it keeps.

    Loaded from <models_folder>/<key>.keras, or else trained and kept there; trained again on the
    machine of its row, it is the same. Its row goes to `store` if that has none.
    Raises RuntimeError if another process is training it, ValueError for a file that is not a model.
    """
    version = data.load(trial.dataset, trial.seed).fingerprint

    def path():
        return model_path(models_folder, store.key(trial, version))

    if not path().exists():
        with store.claim(trial) as mine:
            if not mine:
                raise RuntimeError(
                    f"another process is training {trial.label}, seed {trial.seed}; try again when it is done"
                )
            _train_claimed(trial, store, f"{trial.label} seed {trial.seed}" if progress else None, models_folder)
    return load_model(path())


def train_recipe(name, seed=None, out=None, budget=None, progress=True):
    """Train the recipe called `name`; keep its model as `out` (.keras) and its row beside it (.json).

    `seed`: as in `find_recipe`; `out`: as in `model_file`; `budget` (a `studies.Budget`) cuts it down. An interrupted
    training resumes after its last epoch with the next call. Returns (the `training.Result`, the model's Path).
    Raises ValueError for an unknown name or a file that is not .keras, before any training.
    """
    budget = budget or find_budget("full")
    trial = find_recipe(name, seed)
    if not budget.is_record:
        trial = budget.limit(trial)
    out, title = model_file(trial, out, budget), f"{name}, seed {trial.seed}"
    beside = [Checkpoint(out.with_suffix(".checkpoint")), *([ProgressBar(title)] if progress else [])]
    result = train(trial, data.load(trial.dataset, trial.seed), beside)
    if result.interrupted:
        raise KeyboardInterrupt
    release()
    save_with_row(result.model, {"key": trial_key(trial), **result.row}, out)
    return result, out


def _train_claimed(trial, store, title, models_folder, scoring_batch=SCORING_BATCH):
    """Train `trial`, which the caller has claimed in `store`; keep its model, and its row where `store` has none.

    `title`: of the progress bar (None: no bar). An interrupted training is not kept:
    KeyboardInterrupt is raised.
    """
    dataset = data.load(trial.dataset, trial.seed)
    beside = [Checkpoint(store.checkpoint_path(trial)), *([ProgressBar(title)] if title else [])]
    result = train(trial, dataset, beside, scoring_batch)
    if result.interrupted:
        raise KeyboardInterrupt
    if store.find(result.trial, dataset.fingerprint) is None:
        store.save(result)
    if models_folder is not None:
        key = store.key(result.trial, dataset.fingerprint)
        save_model(result.model, model_path(models_folder, key), {"key": key, **result.row})


class _TimeLeft:
    """Time left for a list of trials, estimated from their operations and the speed so far."""

    def __init__(self, trials):
        one_each = {trial.label: trial for trial in trials}  # Seeds of a variant cost the same.
        self.costs = {label: _cost(trial) for label, trial in one_each.items()}
        self.left, self.work_left = len(trials), sum(self.costs[trial.label] for trial in trials)
        self.work_done = self.seconds = 0.0

    def finished(self, trial, seconds):
        self.left -= 1
        self.work_left -= self.costs[trial.label]
        self.work_done += self.costs[trial.label]
        self.seconds += seconds

    def remaining(self):
        if not self.left:
            return "done"
        left = self.seconds / self.work_done * self.work_left
        return f"done, {self.left} to go, about {timedelta(seconds=round(left))} left"


def _cost(trial):
    """Floating-point operations of training `trial`."""
    dataset = data.load(trial.dataset)
    plan = Plan.on(trial, dataset)
    return training_flops(build_for(trial, dataset), plan.steps * plan.batch_size)
