"""What each change of the recipes is worth: a tidy frame of several seeds in, differences out."""

import numpy as np
import pandas as pd

from cnnlab.measures.stats import paired_differences, paired_tests, paired_values
from cnnlab.studies import CONTRASTS, NAMES, PUBLISHED, WALK

# The final weights without test-time augmentation, which is reported apart.
METRIC = "test_accuracy_last"
AUGMENTED = "test_accuracy_tta"
# What choices are made by: the same weights on the validation images.
VALIDATION = "val_accuracy_last"
# Times, the one first that machines of different speed disturb least.
SIDE_BY_SIDE = "seconds_side_by_side"
TIMES = (SIDE_BY_SIDE, "baseline_times", "seconds")


def measured(frame, contrasts=CONTRASTS):
    """Those of `contrasts` whose two recipes have a seed in common in `frame`, as far as it is recorded.

    For a cumulative step it must be a seed that all of the recorded cumulative steps have.
    """
    return [each for each, _ in _with_rows(frame, contrasts)]


def effects(frame, metric=METRIC, contrasts=CONTRASTS):
    """What each of `contrasts` adds to `metric`, paired by seed, with Holm's correction in each kind.

    `frame`: rows of the recipe study; a contrast that is not `measured` is left out, and the
    cumulative steps are of seeds that all of them have (`complete_seeds`). Returns a DataFrame, a
    row a contrast: kind, change, first, second, n (paired seeds), differences (an array, a share
    for each of these), mean, low, high (shares; NaN for one seed), p_holm, differs (bool; see
    `paired_tests`), times (processor time of the first as a multiple of the second's, median
    over seeds).
    """
    rows = []
    for contrast, source in _with_rows(frame, contrasts):
        of_contrast = source, contrast.first, contrast.second
        differences, seconds = paired_differences(*of_contrast, metric), paired_values(*of_contrast, "cpu_seconds")
        rows.append(
            {
                "kind": contrast.kind,
                "change": contrast.change,
                "first": contrast.first,
                "second": contrast.second,
                "n": len(differences),
                "differences": differences,
                "times": float((seconds.iloc[:, 0] / seconds.iloc[:, 1]).median()),
            }
        )
    if not rows:
        raise ValueError("the frame has no two recipes of one contrast and one seed; run the study first")
    table = pd.DataFrame(rows)
    parts = [_tested(mine) for _, mine in table.groupby("kind", sort=False)]
    return pd.concat(parts).sort_index()


def complete_seeds(frame):
    """`frame` without the cumulative ablation's rows of seeds that not all of its recorded steps have.

    Only then do the steps add up to the difference of the last and the first.
    """
    cumulative = frame["label"].isin([recipe.label for recipe in WALK])
    seeds = frame[cumulative].groupby("label")["seed"].agg(set)
    common = set.intersection(*seeds) if len(seeds) else set()
    return frame[~cumulative | frame["seed"].isin(common)]


def _with_rows(frame, contrasts):
    """(contrast, what of `frame` it is taken from), of those whose recipes have a seed in common there."""
    if frame.empty:
        return []
    sources = {True: complete_seeds(frame), False: frame}
    seeds = {whole: rows.groupby("label")["seed"].agg(set).to_dict() for whole, rows in sources.items()}
    return [
        (each, sources[whole])
        for each in contrasts
        for whole in [each.kind == "walk"]
        if seeds[whole].get(each.first, set()) & seeds[whole].get(each.second, set())
    ]


def _tested(rows):
    """`rows` of one kind with their tests; those of one seed have none."""
    several = rows[rows["n"] > 1]
    found = rows.assign(
        mean=rows["differences"].map(np.mean), low=np.nan, high=np.nan, p_holm=np.nan, differs=False,
    )  # fmt: skip
    if len(several):
        tests = paired_tests(list(several["differences"])).set_index(several.index)
        for column in ("low", "high", "p_holm", "differs"):
            found.loc[several.index, column] = tests[column]
    return found


def with_baseline_times(frame):
    """`frame` with the columns baseline_times and cpu_baseline_times: time as a multiple of the published code's.

    One is of the clock, the other of the processor. A row is divided by the published code's of
    the same seed, which ran on a machine of the same kind, if not in the same hour; NaN where it
    has not run.
    """
    published = frame[frame["label"] == PUBLISHED.label].set_index("seed")
    columns = {"baseline_times": "seconds", "cpu_baseline_times": "cpu_seconds"}
    return frame.assign(**{new: frame[old] / frame["seed"].map(published[old]) for new, old in columns.items()})


def side_by_side(frame, seconds):
    """`frame` with the column SIDE_BY_SIDE: seconds of a training as measured in turns with all others.

    `seconds`: {label: seconds of a training's steps, one for each round of turns} (see
    `report.recipe_seconds`; None: not measured), of which the median counts. To the steps comes
    what a training takes beside them (preparation, answers), by its share in the rows, median
    over seeds. NaN for a recipe that was not measured so.
    """
    share = (frame["seconds"] / frame["seconds_training"]).groupby(frame["label"]).transform("median")
    medians = {label: float(np.median(rounds)) for label, rounds in (seconds or {}).items()}
    return frame.assign(**{SIDE_BY_SIDE: frame["label"].map(medians) * share})


def time_column(frame):
    """The column to compare times by: the first of TIMES that every recipe in `frame` has."""
    whole = (column for column in TIMES if column in frame and frame.groupby("label")[column].count().all())
    return next(whole, "seconds")


def named(frame):
    """`frame` with the labels of recipes in words, for tables."""
    return frame.assign(label=frame["label"].map(lambda label: NAMES.get(label, label)))


def frontier(frame, metric=AUGMENTED, time=None):
    """Labels of the recipes that no other beats in mean `metric` without taking longer, fastest first.

    `frame`: with the columns label, `metric` and `time` (None: that of `time_column`), whose mean
    over seeds counts.
    """
    means = frame.groupby("label").agg(time=(time or time_column(frame), "mean"), score=(metric, "mean"))
    means = means.sort_values(["time", "score"], ascending=[True, False])
    best = means["score"].cummax()
    return list(means.index[(means["score"] >= best) & (best > best.shift(fill_value=-np.inf))])
