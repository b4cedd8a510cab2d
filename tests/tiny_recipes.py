"""A study of recipes that takes seconds: the tests run it in their own process, and as a program that they kill."""

import dataclasses
import sys

import synthetic

from cnnlab import data, recipe_studies
from cnnlab.studies import Store, Study
from cnnlab.training import Recipe, recipe_key

data.LOADERS["bars"] = lambda seed: synthetic.dataset(seed=seed)

TINY = Recipe(
    "full", network="blocks", widths=(8, 16), batch_norm=True, whitening=True, dirac=True, label_smoothing=0.1,
    optimizer="sgd", learning_rate=0.3, weight_decay=1e-3, bias_scale=8.0, schedule="triangular", batch_size=16,
    epochs=8.5, flip="alternating", translate=1, average="lookahead", dataset="bars", precision="float32",
)  # fmt: skip
PUBLISHED = Recipe("published", widths=(4, 4, 8), loop="published", epochs=2, dataset="bars", precision="float32")
STUDY = Study(
    "tiny",
    "Does anything happen?",
    "all",
    "nothing",
    (TINY, dataclasses.replace(TINY, label="ema", average="ema", train_split="all"), PUBLISHED),
    seeds=1,
)

if __name__ == "__main__":
    recipe_studies.run(1, Store(sys.argv[1], key=recipe_key), STUDY)
