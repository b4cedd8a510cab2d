"""What each change of the recipes is worth: a tidy frame of several seeds in, differences out."""

import numpy as np
import pandas as pd

from cnnlab.evaluation import paired_tests
from cnnlab.recipes.catalogue import CONTRASTS, NAMES, PUBLISHED, WALK
from cnnlab.sentences.comparisons import paired_values

# The final weights without test-time augmentation, which is reported apart.
METRIC = "test_accuracy_last"
AUGMENTED = "test_accuracy_tta"
# What choices are made by: the same weights on the validation images.
VALIDATION = "val_accuracy_last"


def measured(frame, contrasts=CONTRASTS):
    """Those of `contrasts` whose two recipes have a seed in common in `frame`, as far as it is recorded."""
    seeds = frame.groupby("label")["seed"].agg(set).to_dict()
    return [each for each in contrasts if seeds.get(each.first, set()) & seeds.get(each.second, set())]


def effects(frame, metric=METRIC, contrasts=CONTRASTS):
    """What each of `contrasts` adds to `metric`, paired by seed, with Holm's correction in each kind.

    `frame`: rows of `recipe_studies.read`; a contrast without a common seed is left out. Returns
    a DataFrame, a row a contrast: kind, change, first, second, n (paired seeds), mean, low, high
    (shares; NaN for one seed), p_holm, differs (bool), detectable (see
    `evaluation.paired_tests`), family (contrasts of the kind that were tested), times (the time
    of the first as a multiple of the second's, median over seeds).
    """
    rows = []
    for contrast in measured(frame, contrasts):
        pairs = paired_values(frame, contrast.first, contrast.second, metric)
        seconds = paired_values(frame, contrast.first, contrast.second, "seconds")
        rows.append(
            {
                "kind": contrast.kind,
                "change": contrast.change,
                "first": contrast.first,
                "second": contrast.second,
                "n": len(pairs),
                "differences": (pairs.iloc[:, 0] - pairs.iloc[:, 1]).to_numpy(),
                "times": float((seconds.iloc[:, 0] / seconds.iloc[:, 1]).median()),
            }
        )
    if not rows:
        raise ValueError("the frame has no two recipes of one contrast and one seed; run the study first")
    table = pd.DataFrame(rows)
    parts = [_tested(mine) for _, mine in table.groupby("kind", sort=False)]
    return pd.concat(parts).sort_index().drop(columns="differences")


def walked_together(frame):
    """`frame` without the walk's rows of seeds that not all of its recorded steps have.

    Only then do the steps add up to the way from the beginning to the end.
    """
    of_walk = frame["label"].isin([recipe.label for recipe in WALK])
    seeds = frame[of_walk].groupby("label")["seed"].agg(set)
    common = set.intersection(*seeds) if len(seeds) else set()
    return frame[~of_walk | frame["seed"].isin(common)]


def _tested(rows):
    """`rows` of one kind with their tests; those of one seed have none."""
    several = rows[rows["n"] > 1]
    found = rows.assign(
        mean=rows["differences"].map(np.mean), low=np.nan, high=np.nan, p_holm=np.nan, differs=False,
        detectable=np.inf, family=len(several),
    )  # fmt: skip
    if len(several):
        tests = paired_tests(list(several["differences"])).set_index(several.index)
        for column in ("low", "high", "p_holm", "differs", "detectable"):
            found.loc[several.index, column] = tests[column]
    return found


def with_yardsticks(frame):
    """`frame` with the column yardsticks: seconds as a multiple of the published code's.

    The published code of the same seed, which ran between the others, is what a row is divided
    by; NaN where it has not run.
    """
    published = frame[frame["label"] == PUBLISHED.label].set_index("seed")["seconds"]
    return frame.assign(yardsticks=frame["seconds"] / frame["seed"].map(published))


def named(frame):
    """`frame` with the labels of recipes in words, for tables."""
    return frame.assign(label=frame["label"].map(lambda label: NAMES.get(label, label)))


def frontier(frame, metric=AUGMENTED):
    """Labels of the recipes that no other beats in mean `metric` without taking longer, fastest first.

    `frame`: with the columns label, seconds and `metric`; the time is the median over seeds.
    """
    means = frame.groupby("label").agg(seconds=("seconds", "median"), score=(metric, "mean"))
    means = means.sort_values(["seconds", "score"], ascending=[True, False])
    best = means["score"].cummax()
    return list(means.index[(means["score"] >= best) & (best > best.shift(fill_value=-np.inf))])
