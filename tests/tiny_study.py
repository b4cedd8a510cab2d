"""Studies that take seconds: the tests run them in their own process, and as a program that they kill."""

import dataclasses
import functools
import importlib
import sys
import time

import numpy as np
import synthetic

from cnnlab import data
from cnnlab.studies import Store, Study, run_study
from cnnlab.training import PROTOCOL, Result, Trial, train

# Images for the statistics of normalisations: with the lab's own number, in batches of 16, they would take most of
# the time of a training here.
STATISTICS_IMAGES = 128
data.LOADERS["bars"] = lambda seed: synthetic.dataset(seed=seed)

BARS = {"dataset": "bars", "batch_size": 16, "precision": "float32"}
SMALLEST = Trial("cnn_2", options={"filters": [2], "dense": 8}, epochs=4, **BARS)
# Everything that a recipe can have, with half an epoch at the end.
FULL = Trial(
    "full", model="blocks", options={"filters": [8, 16], "whitening": True, "dirac": True}, label_smoothing=0.1,
    optimizer="sgd", learning_rate=0.3, weight_decay=1e-3, bias_scale=8.0, schedule="triangular", epochs=3.5,
    flip="alternating", translate=1, average="lookahead", keep="last", tta=2, **BARS,
)  # fmt: skip
EMA = dataclasses.replace(FULL, label="ema", average="ema", train_split="all")
PUBLISHED = Trial("published", options={"filters": [4, 4, 8]}, epochs=2, keep="last", loop="published", **BARS)

CNNS = Study(
    "tiny_cnns",
    "Does anything happen?",
    "filters",
    "all else",
    (SMALLEST, dataclasses.replace(SMALLEST, label="cnn_4", options={"filters": [4], "dense": 8})),
    seeds=2,
)
# Every kind of training.
STUDY = Study(
    "tiny", "Does it end?", "all", "nothing", (SMALLEST, FULL, EMA, PUBLISHED), seeds=1, more_seeds={"cnn_2": 2}
)


def at_once(trial, dataset, callbacks=(), scoring_batch=500, seconds=0.02):
    """Stand in for `training.train`: return a Result after a moment, with a row that identifies its trial."""
    time.sleep(seconds)
    trial = trial.resolved()
    facts = {"data_version": dataset.fingerprint, "protocol": PROTOCOL}
    row = {"label": trial.label, **trial.configuration(), **facts}
    print(f"trained {trial.label} {trial.seed}", flush=True)
    return Result(trial, row, {}, None, {"test": np.ones((1, 2))})


def trained_once():
    """A stand-in for `training.train` that trains the first trial of each kind of model and reuses its result.

    Each row still identifies its own trial.
    """
    results = {}

    def train_once(trial, dataset, callbacks=(), scoring_batch=500):
        trial = dataclasses.replace(trial.resolved(), dataset=dataset.key)
        if trial.model not in results:
            results[trial.model] = train(trial, dataset, callbacks, scoring_batch)
        result = results[trial.model]
        row = {**result.row, "label": trial.label, **trial.configuration(), "data_version": dataset.fingerprint}
        return dataclasses.replace(result, trial=trial, row=row)

    return train_once


def few_images_for_statistics(set_attribute=setattr):
    """Compute this process's normalisation statistics from STATISTICS_IMAGES images; `set_attribute`: pytest's."""
    set_attribute(importlib.import_module("cnnlab.training.loop"), "STATISTICS_IMAGES", STATISTICS_IMAGES)


if __name__ == "__main__":
    few_images_for_statistics()
    if sys.argv[2:] == ["at once"]:
        # Slower than the test that shares the work with it, so that the test gets a part on any machine.
        importlib.import_module("cnnlab.studies.run").train = functools.partial(at_once, seconds=1.0)
    run_study(STUDY, Store(sys.argv[1]), progress=False)
