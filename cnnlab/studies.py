"""All studies: run, resume, read back as tidy frames.

A new study stands with those of its data set, in `cifar_studies` or `mars_studies`.
"""

import gc
import os
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab import budgets, data, models
from cnnlab.cifar_studies import CIFAR_STUDIES
from cnnlab.costs import training_flops
from cnnlab.machine import code_version
from cnnlab.mars_studies import MARS_STUDIES
from cnnlab.store import select
from cnnlab.training import run_trial
from cnnlab.trials import TRAINING_CODE, trial_key

# Where the record's rows lie.
RECORD = budgets.find("full").store_folder
# Seconds between two looks at a trial that another process is running.
POLL_SECONDS = 2.0

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
    store.check_writable()
    runs = study.runs(seeds)
    waiting = [trial for trial in runs if trial not in store]
    clock = _Clock(waiting)
    while waiting:
        elsewhere = []
        for trial in waiting:
            title = f"{study.name} {len(runs) - clock.left + 1}/{len(runs)}  {trial.label} seed {trial.seed}"
            seconds = time.perf_counter()
            if not _settle(trial, store, title if progress else None, models_folder):
                elsewhere.append(trial)
                continue
            clock.finished(trial, time.perf_counter() - seconds)
            if progress:
                print(f"{title}: {clock.remaining()}", flush=True)
        waiting = elsewhere
        if waiting:
            time.sleep(POLL_SECONDS)
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


def model_path(trial, models_folder):
    """Where `train_claimed` keeps the model of `trial`."""
    return Path(models_folder) / f"{trial_key(trial)}.keras"


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
        path = model_path(trial, models_folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.keras")
        result.model.save(partial)
        partial.replace(path)
    if trial not in store:
        store.save(result)


class _Clock:
    """Time left of a list of trials, from the floating-point operations they cost."""

    def __init__(self, trials):
        self.costs = {}
        self.left, self.work_left = len(trials), sum(self._cost(trial) for trial in trials)
        self.work_done = self.seconds = 0.0

    def finished(self, trial, seconds):
        self.left -= 1
        self.work_left -= self._cost(trial)
        self.work_done += self._cost(trial)
        self.seconds += seconds

    def remaining(self):
        if not self.left:
            return "done"
        left = self.seconds / self.work_done * self.work_left
        return f"done, {self.left} to go, about {timedelta(seconds=round(left))} left"

    def _cost(self, trial):
        if trial.label not in self.costs:
            dataset = data.load(trial.dataset, trial.seed)
            task = {"input_shape": dataset.input_shape, "num_classes": len(dataset.class_names)}
            model = models.build(trial.model, **task, **trial.options)
            batches = trial.steps_per_epoch or (trial.train_images or len(dataset.splits["train"])) / trial.batch_size
            self.costs[trial.label] = training_flops(model, trial.epochs * batches * trial.batch_size)
        return self.costs[trial.label]


def _settle(trial, store, title, models_folder):
    """See to it that `store` has `trial`; False where another process is at work on it."""
    with store.claim(trial) as mine:
        if not mine:
            return False
        if trial in store:  # Finished by another process since we looked.
            return True
        train_claimed(trial, store, title, models_folder)
    gc.collect()
    return True
