"""Metrics, intervals, paired tests, calibration: arrays in, numbers out.

The place to look first. What a class is confused with stands here; how sure a mean is, in
`intervals`; whether two variants differ, in `contrasts`; what a confidence is worth, in
`calibration`.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix
from statsmodels.stats.proportion import proportion_confint

from cnnlab.statistics.calibration import (
    accuracy_at_coverage,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    risk_coverage,
)
from cnnlab.statistics.contrasts import ALPHA, POWER, McNemar, detectable_difference, mcnemar, paired_tests
from cnnlab.statistics.intervals import LEVEL, Interval, prediction_interval, t_interval, two_level_bootstrap

__all__ = [
    "ALPHA",
    "LEVEL",
    "POWER",
    "Interval",
    "McNemar",
    "accuracy_at_coverage",
    "apply_temperature",
    "confusion_counts",
    "detectable_difference",
    "expected_calibration_error",
    "fit_temperature",
    "mcnemar",
    "paired_tests",
    "per_class",
    "prediction_interval",
    "reliability_bins",
    "risk_coverage",
    "share_interval",
    "t_interval",
    "two_level_bootstrap",
]


def share_interval(hits, n, level=LEVEL):
    """(low, high) of a share of `hits` among `n` images, by Wilson's score.

    Source: Wilson, Journal of the American Statistical Association 22 (1927); statsmodels.
    """
    return proportion_confint(hits, n, 1 - level, method="wilson")


def confusion_counts(labels, predicted, class_names):
    """Images by true class (rows) and answer (columns): a DataFrame of counts (classes, classes)."""
    counts = confusion_matrix(labels, predicted, labels=np.arange(len(class_names)))
    return pd.DataFrame(counts, index=pd.Index(class_names, name="true"), columns=pd.Index(class_names, name="answer"))


def per_class(labels, predicted, class_names):
    """Each class's accuracy and what it is most often taken for.

    `labels`, `predicted`: integer classes (n,). Returns a DataFrame indexed by class:
    images, correct, accuracy with its interval low and high (Wilson), taken_for (the
    commonest wrong answer, "" where there is none), times, taken_share (of the class's
    images). A class without images has NaN for its shares.
    """
    counts = confusion_counts(labels, predicted, class_names)
    images, correct = counts.sum(axis=1), pd.Series(np.diag(counts), counts.index)
    wrong = counts.where(~np.eye(len(counts), dtype=bool), 0)
    times = wrong.max(axis=1)
    low, high = share_interval(correct, images.where(images > 0))
    return pd.DataFrame(
        {
            "images": images,
            "correct": correct,
            "accuracy": correct / images,
            "low": low,
            "high": high,
            "taken_for": wrong.idxmax(axis=1).where(times > 0, ""),
            "times": times,
            "taken_share": times / images,
        }
    ).rename_axis("class")
