"""What a step of the recipes is worth, and what a recipe costs: a tidy frame of several seeds in, differences out."""

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from cnnlab.measures.stats import paired_differences, t_interval
from cnnlab.studies import NARROW, PUBLISHED, STEPS, WALK, WITHOUT

# The final weights without test-time augmentation, which is reported separately.
METRIC = "test_accuracy_last"
AUGMENTED = "test_accuracy_tta"
# What the steps of the ablation are compared by (see `scored`).
SCORE = "score"
# Training times measured side by side, which depend least on the machine's speed.
BASELINE_TIMES = "baseline_times"


def effects(frame):
    """What each step is worth in accuracy, on top of those before it and when left out of the narrow recipe, by seed.

    `frame`: rows of the recipe study; contrasts not yet recorded are left out. Returns a DataFrame, one row per
    contrast: kind ("on top" or "left out"), step (a label of `studies.STEPS`), change (in words), first, second (labels
    with and without the step), n (paired seeds), differences (an array of n shares), mean, low, high (shares; NaN for
    one seed), the last five as from `difference`. Raises ValueError where there is no contrast at all.
    """
    frame, words = scored(frame), {label: text for label, text, _ in STEPS}
    contrasts = [
        *(("on top", label, label, before.label) for (label, _, _), before in zip(STEPS, WALK, strict=False)),
        *(("left out", step, NARROW, label) for label, step, _ in WITHOUT),
    ]
    seeds = frame.groupby("label")["seed"].agg(set) if len(frame) else {}
    rows = []
    for kind, step, first, second in contrasts:
        if first not in seeds or second not in seeds:
            continue
        if first == WALK[-1].label or seeds[first] & seeds[second]:
            told = {"kind": kind, "step": step, "change": words[step], "first": first, "second": second}
            rows.append(told | difference(frame, first, second))
    if not rows:
        raise ValueError("the frame has no two recipes that differ by one step and share a seed; run the study first")
    return pd.DataFrame(rows)


def difference(frame, first, second):
    """How far recipe `first` exceeds `second` in SCORE: {mean, low, high, n, differences} as in `effects`.

    `frame`: from `scored`. Paired by seed, except for the last step, which has other seeds and other images: its
    interval is Welch's, n the smaller number of seeds, and differences None.
    """
    if first != WALK[-1].label:
        differences = paired_differences(frame, first, second, SCORE)
        interval = t_interval(differences)
        ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        return {**ends, "n": len(differences), "differences": differences}
    pair = [frame.loc[frame["label"] == label, SCORE] for label in (first, second)]
    n, mean = min(map(len, pair)), pair[0].mean() - pair[1].mean()
    low, high = ttest_ind(*pair, equal_var=False).confidence_interval() if n > 1 else (np.nan, np.nan)
    return {"mean": mean, "low": low, "high": high, "n": n, "differences": None}


def scored(frame):
    """`frame` of the recipe study with the column SCORE: accuracy from one view, for the last step from several."""
    if frame.empty:
        return frame
    return frame.assign(**{SCORE: frame[AUGMENTED].where(frame["label"] == WALK[-1].label, frame[METRIC])})


def baseline_times(frame, seconds):
    """{recipe: its training times as multiples of the published code's, an array with one value per round}.

    `frame`: rows of recipes, the published code among them; `seconds`: {label: seconds of the training steps, one per
    round}, measured side by side (None: not measured). The time a training takes beside its steps (preparation,
    answers) is added by its share in the rows, median over seeds. Recipes without either are left out.
    """
    share = (frame["seconds"] / frame["seconds_training"]).groupby(frame["label"]).median()
    whole = {label: np.multiply(turns, share[label]) for label, turns in (seconds or {}).items() if label in share}
    if PUBLISHED.label not in whole:
        return {}
    return {label: turns / whole[PUBLISHED.label] for label, turns in whole.items()}


def with_baseline_times(frame, seconds):
    """`frame` with the column BASELINE_TIMES: the median of its recipe's `baseline_times`, NaN where there are none."""
    times = {label: np.median(turns) for label, turns in baseline_times(frame, seconds).items()}
    return frame.assign(**{BASELINE_TIMES: frame["label"].map(times).astype("float64")})


def time_column(frame):
    """The column to compare times by: BASELINE_TIMES where every recipe in `frame` has some, else "seconds"."""
    side_by_side = BASELINE_TIMES in frame and frame.groupby("label")[BASELINE_TIMES].count().all()
    return BASELINE_TIMES if side_by_side else "seconds"


def frontier(frame):
    """Labels of the recipes that no other beats in mean METRIC without taking longer (`time_column`), fastest first."""
    means = frame.groupby("label").agg(time=(time_column(frame), "mean"), score=(METRIC, "mean"))
    means = means.sort_values(["time", "score"], ascending=[True, False])
    best = means["score"].cummax()
    return list(means.index[(means["score"] >= best) & (best > best.shift(fill_value=-np.inf))])
