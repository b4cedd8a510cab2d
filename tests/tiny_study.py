"""A study of seconds: the tests run it in their own process, and as a program that they kill."""

import sys

import synthetic

from cnnlab import data
from cnnlab.studies import Store, Study, run_study
from cnnlab.training import Trial

data.LOADERS["bars"] = lambda seed: synthetic.dataset(seed=seed)

STUDY = Study(
    "tiny",
    "Does anything happen?",
    "filters",
    "all else",
    tuple(
        Trial(
            f"cnn_{n}",
            options={"filters": [n], "dense": 8},
            dataset="bars",
            epochs=4,
            batch_size=16,
            precision="float32",
        )
        for n in (2, 4)
    ),
    seeds=2,
)

if __name__ == "__main__":
    run_study(STUDY, STUDY.seeds, Store(sys.argv[1]))
