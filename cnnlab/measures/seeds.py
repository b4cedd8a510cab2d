"""What the seeds of one variant say together: how much of their spread is test noise, their vote, suspect labels."""

import dataclasses
import math

import numpy as np
from scipy import stats

from cnnlab.measures.stats import ALPHA, t_interval


@dataclasses.dataclass(frozen=True)
class Spread:
    """Standard deviations over `n` seeds of accuracies, all as shares.

    `observed`, with its interval `low` to `high` (normal theory: chi-squared); `test_noise`, what independent errors on
    so many test images would give; `real`, what is left of the one beyond the other: what another test set would see.
    """

    observed: float
    low: float
    high: float
    test_noise: float
    real: float
    n: int


def seed_spread(correct):
    """How far accuracy over seeds varies, and how far it would if images were right or wrong independently: a Spread.

    `correct`: bool (seeds, images), seeds at least 2, else ValueError. An image that a share p of the seeds gets right
    adds p (1 - p) to the variance of a seed's count of right images, made unbiased by seeds / (seeds - 1).
    Source: Jordan, "On the variance of neural network training with respect to test sets and distributions"
    (ICLR 2024), section 3.
    """
    correct = _checked(correct, "correct")
    seeds, images = correct.shape
    if seeds < 2:
        raise ValueError("one seed has no spread; expected at least 2")
    variance = float(correct.mean(axis=1).var(ddof=1))
    share = correct.mean(axis=0)
    noise = float((share * (1 - share)).mean()) * seeds / (seeds - 1) / images
    ends = (seeds - 1) * variance / stats.chi2.ppf([1 - ALPHA / 2, ALPHA / 2], seeds - 1)
    low, high = np.sqrt(ends).tolist()
    return Spread(math.sqrt(variance), low, high, math.sqrt(noise), math.sqrt(max(0.0, variance - noise)), seeds)


def vote(predicted, confidence):
    """What an ensemble of the seeds answers, integer classes (images,): the class with the largest sum of confidences.

    `predicted`: classes (seeds, images), each seed's answer; `confidence` alike, in 0..1, its confidence in it. What a
    seed gives the other classes is not in the record, and counts as nothing.
    """
    predicted = _checked(predicted, "predicted")
    classes = np.arange(int(predicted.max()) + 1)
    sums = np.where(predicted[..., None] == classes, np.asarray(confidence, "float64")[..., None], 0.0).sum(axis=0)
    return sums.argmax(axis=1)


def ensemble_gain(predicted, confidence, labels):
    """(accuracy of the `vote`, Interval of what it has more than the mean seed): over images, the networks as given."""
    right = vote(predicted, confidence) == labels
    single = (np.asarray(predicted) == labels).mean(axis=0)
    return float(right.mean()), t_interval(right - single)


def contradicted(predicted, confidence, labels):
    """Rows of images that all seeds answer alike and against `labels` (images,), the surest first.

    `predicted`, `confidence`: as of `vote`. Suspect labels, or images that mislead every seed alike: to be looked at.
    """
    predicted = _checked(predicted, "predicted")
    suspect = np.flatnonzero((predicted == predicted[0]).all(axis=0) & (predicted[0] != labels))
    sure = np.asarray(confidence, "float64").mean(axis=0)[suspect]
    return suspect[np.argsort(-sure, kind="stable")]


def _checked(values, name):
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{name} has shape {values.shape}; expected (seeds, images), at least one of each")
    return values
