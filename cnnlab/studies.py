"""A Study is trials x seeds: define, run, resume, read back as a tidy frame."""

import dataclasses
import gc
import json
import os
import time
from datetime import timedelta
from pathlib import Path

from cnnlab import budgets, data, models
from cnnlab.costs import training_flops
from cnnlab.machine import code_version
from cnnlab.store import select
from cnnlab.training import run_trial
from cnnlab.trials import TRAINING_CODE, Trial, trial_key

# Where the record's rows lie.
RECORD = budgets.find("full").store_folder
# Seconds between two looks at a trial that another process is running.
POLL_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Study:
    """A question put as an experiment.

    `varied` is the quantity the question is about; `fixed` what is held still, a caveat on
    every conclusion; `trials` one Trial a variant, in the order of the varied quantity, with
    seed 0; `seeds` how many the record holds.
    """

    name: str
    question: str
    varied: str
    fixed: str
    trials: tuple[Trial, ...]
    seeds: int = 5

    def __post_init__(self):
        labels = [trial.label for trial in self.trials]
        if len(set(labels)) != len(labels):
            raise ValueError(f"study {self.name} has two variants of one label: {labels}")

    def runs(self, seeds):
        """The trials for seeds 0 to `seeds` - 1: all variants of a seed before the next seed.

        Seed k of every variant has the same split and the same order, so that a study cut
        short still compares like with like.
        """
        return [dataclasses.replace(trial, seed=seed) for seed in range(seeds) for trial in self.trials]

    def within(self, budget):
        """This study cut down to `budget` (a `budgets.Budget`).

        Variants that become the same by it stand in it once.
        """
        limited = {}
        for trial in self.trials:
            small = budget.limit(trial, sweep=True)
            limited.setdefault(json.dumps(small.configuration(), sort_keys=True), small)
        return dataclasses.replace(self, trials=tuple(limited.values()), seeds=budget.seeds or self.seeds)


PROTOCOL = "Adam, learning rate 0.001, batches of 64, 40,000 training images, best of all epochs chosen on validation"
DENSE = Trial("dense_128_64", model="dense", options={"units": [128, 64]})
CNN = Trial("cnn_32_64_128", options={"filters": [32, 64, 128]})
FILTERS = ((16, 32, 64), (32, 64, 128), (64, 128, 256), (128, 256, 512))
SMALL_CNN = Trial("cnn_32_64_k3", options={"filters": [32, 64], "dense": 128})
SAMPLE_SIZES = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 40_000)
PERMUTATION_SEED = 0


def _label(prefix, numbers):
    return "_".join([prefix, *map(str, numbers)])


STUDIES = {
    study.name: study
    for study in (
        Study(
            "baselines",
            "How far does a network get that knows nothing of images?",
            "width of the two hidden layers",
            f"{PROTOCOL}; 10 epochs",
            tuple(
                Trial(_label("dense", units), model="dense", options={"units": list(units)})
                for units in ((128, 64), (256, 128), (512, 256))
            ),
            seeds=10,
        ),
        Study(
            "filters",
            "Do more filters make a better classifier?",
            "filters of the three convolutions",
            f"{PROTOCOL}; 10 epochs for every variant; 3x3 kernels, dense layer of 512, dropout 0.5",
            tuple(Trial(_label("cnn", filters), options={"filters": list(filters)}) for filters in FILTERS),
            seeds=3,
        ),
        Study(
            "filters_gap",
            "Is it the filters, or the dense layer that grows with them?",
            "filters of the three convolutions, with global average pooling in place of flatten and dense",
            f"{PROTOCOL}; 10 epochs for every variant; 3x3 kernels, no dense layer and so no dropout",
            tuple(
                Trial(
                    _label("gap", filters),
                    options={"filters": list(filters), "head": "gap", "dense": 0, "dropout": 0.0},
                )
                for filters in FILTERS
            ),
        ),
        Study(
            "kernels",
            "Do larger kernels see more that matters?",
            "kernel size of both convolutions, in pixels",
            f"{PROTOCOL}; 10 epochs; 32 and 64 filters, dense layer of 128, dropout 0.5",
            tuple(
                dataclasses.replace(
                    SMALL_CNN, label=f"cnn_32_64_k{size}", options={**SMALL_CNN.options, "kernel_size": size}
                )
                for size in (1, 3, 5, 7)
            ),
        ),
        Study(
            "epochs",
            "What is it worth to train one variant for 15 epochs and the others for 10?",
            "epochs of the 32-64-128 network",
            f"{PROTOCOL}; 3x3 kernels, dense layer of 512, dropout 0.5",
            (CNN, dataclasses.replace(CNN, label="cnn_32_64_128_15_epochs", epochs=15)),
        ),
        Study(
            "permutation",
            "What is left of each network when neighbours are no longer neighbours?",
            "one fixed permutation of all pixel positions, in training and test alike",
            f"{PROTOCOL}; 10 epochs",
            (
                DENSE,
                dataclasses.replace(DENSE, label="dense_128_64_permuted", permute_pixels=PERMUTATION_SEED),
                CNN,
                dataclasses.replace(CNN, label="cnn_32_64_128_permuted", permute_pixels=PERMUTATION_SEED),
            ),
        ),
        Study(
            "sample_size",
            "How many images does each network need?",
            "number of training images",
            "Adam, learning rate 0.001, batches of 64, 3,125 steps whatever the number of images; "
            "networks of comparable parameter counts",
            tuple(
                dataclasses.replace(
                    trial, label=f"{trial.label}_n{images}", train_images=images, epochs=5, steps_per_epoch=625
                )
                for trial in (DENSE, SMALL_CNN)
                for images in SAMPLE_SIZES
            ),
        ),
    )
}


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
            model = models.build(trial.model, input_shape=dataset.input_shape, **trial.options)
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
