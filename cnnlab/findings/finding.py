"""What a comparison ends in: a sentence, a verdict, and the numbers behind them."""

import dataclasses
import math
from typing import Any

import numpy as np

from cnnlab.measures import LEVEL, paired_tests, t_interval
from cnnlab.wording import from_to, percent, points, signed_points

BETTER, WORSE = "better", "worse"


def undetectable(n):
    """The third verdict."""
    return f"no difference detectable at n = {n}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A computed sentence.

    `verdict` is "better", "worse" or "no difference detectable at n = ..." of what the
    sentence names first, and None where it compares nothing; `numbers` holds what the sentence
    was written from, unrounded, shares as 0 to 1. Displayed in a notebook, it is its sentence.
    """

    sentence: str
    verdict: str | None
    numbers: dict[str, Any]

    def __str__(self):
        return self.sentence

    def _repr_markdown_(self):
        return self.sentence


HEADLINE = "test_accuracy_best"
SELECTION = "val_accuracy_best"
SPLITS = {"test": "test ", "val": "validation ", "train": "training "}


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column. Shares are written in percent, their differences in percentage points.

    `decimals` and `unit` are for what is no share: losses (natural logarithm) and seconds.
    """

    name: str
    is_share: bool
    higher_is_better: bool
    decimals: int = 3
    unit: str = ""

    @classmethod
    def of(cls, column):
        """The Metric of a column of the store's rows, such as test_accuracy_best or val_loss_last."""
        split = SPLITS.get(column.split("_")[0], "")
        epoch = " at the last epoch" if column.endswith("_last") else ""
        if "accuracy" in column:
            return cls(f"{split}accuracy{epoch}", is_share=True, higher_is_better=True)
        if "loss" in column:
            return cls(f"{split}loss{epoch}", is_share=False, higher_is_better=False)
        if column in ("seconds", "cpu_seconds"):
            return cls("training time", is_share=False, higher_is_better=False, decimals=1, unit=" s")
        raise ValueError(f"{column!r} cannot be compared; expected a column of accuracies, losses or seconds")

    def write(self, value):
        """A value: '73.2%', '0.786', '98.0 s'."""
        return percent(value) if self.is_share else f"{value:.{self.decimals}f}{self.unit}"

    def write_size(self, difference):
        """The size of a difference: '2.71 percentage points', '0.264'."""
        return points(difference) if self.is_share else f"{abs(difference):.{self.decimals}f}{self.unit}"

    def write_signed(self, difference):
        """A difference, its unit left to the sentence: '+2.71', '-0.264'."""
        return signed_points(difference) if self.is_share else f"{difference:+.{self.decimals}f}"

    def write_change(self, difference):
        """A difference with sign and unit: '+2.71 percentage points'."""
        return self.write_signed(difference) + (" percentage points" if self.is_share else self.unit)


# Of accuracy: differences of networks that are shown to lie within it are of no account.
EQUIVALENCE_MARGIN = 0.02
# Seeds whose accuracies lie further apart than this have a mean that says little of any of them.
WIDE = 0.05


def estimate(values, write=percent, write_end=None):
    """(text, Interval) of a mean over seeds: '73.1% (95% interval 72.7% to 73.5%)'.

    `values` (n,), one a seed; `write` makes text of the mean, `write_end` of the interval's
    ends (default: the same). One value has no interval (and `runs` says so, once a sentence).
    """
    interval = t_interval(values)
    ends = from_to(interval.low, interval.high, write_end or write)
    return f"{write(interval.mean)}{f' (95% interval {ends})' if ends else ''}", interval


def runs(n):
    """'n = 5 seeds', or that there is only one."""
    return f"n = {n} seeds" if n > 1 else "one seed, and so no interval"


def gap(values):
    """(text, Interval) of a mean difference of shares over seeds, its direction left to the sentence."""
    return estimate(values, points, signed_points)


def differences_verdict(contrasts, spread=1.0):
    """Verdicts of differences of a quantity of which more is better, with Holm's correction.

    `contrasts`: one array (n,) of paired differences each; `spread`: factor on their standard
    deviation (see `overlap_spread`).
    Returns a list of (verdict, numbers), numbers as `evaluation.paired_tests` has them.
    """
    contrasts = [np.asarray(values, "float64") for values in contrasts]
    if min(len(values) for values in contrasts) < 2:
        return [(undetectable(1), {"mean": values.mean(), "n": len(values)}) for values in contrasts]
    # Spreading the values about their mean widens the error and leaves the mean.
    tests = paired_tests([values.mean() + spread * (values - values.mean()) for values in contrasts])
    return [
        (undetectable(test.n) if not test.differs else BETTER if test["mean"] > 0 else WORSE, test.to_dict())
        for _, test in tests.iterrows()
    ]


def overlap_spread(n, test_share):
    """Factor on the standard deviation of `n` results of random splits of the same rows.

    The training parts overlap, so that the results are not independent and the plain t-test is
    too sure: their variance is taken as (1/n + test/train) s^2 instead of s^2 / n (Nadeau and
    Bengio, Inference for the generalization error, Machine Learning 52, 2003, equation 9).
    `test_share`: rows tested of all rows.
    """
    return math.sqrt(1 + n * test_share / (1 - test_share))


def equivalent(values, margin):
    """(bool, Interval): whether a mean difference is shown to be within +-`margin`.

    Two one-sided tests at 5%: the 90% t-interval lies inside the margins (Schuirmann,
    Journal of Pharmacokinetics and Biopharmaceutics 15, 1987). One value shows nothing.
    """
    interval = t_interval(values, level=2 * LEVEL - 1)
    return bool(-margin < interval.low and interval.high < margin), interval
