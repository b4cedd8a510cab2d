"""Studies of seconds: the tests run them in their own process, and as a program that they kill."""

import dataclasses
import sys

import synthetic

from cnnlab import data
from cnnlab.studies import Study
from cnnlab.training import Trial

data.LOADERS["bars"] = lambda seed: synthetic.dataset(seed=seed)

BARS = {"dataset": "bars", "batch_size": 16, "precision": "float32"}
CNNS = Study(
    "tiny",
    "Does anything happen?",
    "filters",
    "all else",
    tuple(Trial(f"cnn_{n}", options={"filters": [n], "dense": 8}, epochs=4, **BARS) for n in (2, 4)),
    seeds=2,
)
# All that a recipe can have; half an epoch at the end.
FULL = Trial(
    "full", model="blocks", options={"filters": [8, 16], "depth": 2, "whitening": True, "dirac": True},
    label_smoothing=0.1, optimizer="sgd", learning_rate=0.3, weight_decay=1e-3, bias_scale=8.0, schedule="triangular",
    epochs=8.5, flip="alternating", translate=1, average="lookahead", keep="last", tta=2, **BARS,
)  # fmt: skip
EMA = dataclasses.replace(FULL, label="ema", average="ema", train_split="all")
PUBLISHED = Trial("published", options={"filters": [4, 4, 8]}, epochs=2, keep="last", loop="published", **BARS)
RECIPES = Study("tiny_recipes", "Does anything help?", "all", "nothing", (FULL, EMA, PUBLISHED), seeds=1)
# One after the other: what a test kills meets every kind of training.
BOTH = Study("both", "Does it end?", "all", "nothing", (*CNNS.trials, FULL, EMA, PUBLISHED), seeds=1)

if __name__ == "__main__":
    from cnnlab.studies import Store, run_study

    run_study(BOTH, Store(sys.argv[1]))
