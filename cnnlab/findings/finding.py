"""The outcome of a comparison: one sentence, a verdict, and the numbers behind them."""

import dataclasses
import math
import re
from typing import Any

import numpy as np
from statsmodels.stats.weightstats import DescrStatsW

from cnnlab.measures import ALPHA, HEADLINE, paired_differences, paired_tests, t_interval
from cnnlab.wording import capital, points, whole_points

BETTER, WORSE, SAME, CANNOT_TELL = VERDICTS = ("better", "worse", "same", "cannot tell")
MAX_WORDS, MAX_NUMBERS = 25, 3
NUMBER = re.compile(r"\d[\d.,]*")
# A share: two standard errors (half a point each) of an accuracy measured on CIFAR-10's 10,000 test images, and less
# than anybody adds filters or augmentation for.
MARGIN = 0.01
WITHIN = whole_points(MARGIN)
SELECTION = "val_accuracy_best"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A computed sentence of at most MAX_WORDS words with at most MAX_NUMBERS numbers; else ValueError.

    `names`: names of classes, which can be anything: each counts as one word and no number.
    `verdict`: one of VERDICTS, on what the sentence names first; None where it compares nothing. `numbers`: the
    unrounded values behind the sentence, shares from 0 to 1, with intervals and n.
    """

    sentence: str
    verdict: str | None
    numbers: dict[str, Any]
    names: dataclasses.InitVar[tuple[str, ...]] = ()

    def __post_init__(self, names):
        text = self.sentence
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "name", text)
        words, numbers = len(text.split()), len(NUMBER.findall(text))
        if words > MAX_WORDS or numbers > MAX_NUMBERS:
            raise ValueError(
                f"a finding has {words} words and {numbers} numbers; expected at most {MAX_WORDS} and {MAX_NUMBERS}: "
                f"{self.sentence}"
            )
        if self.verdict not in (None, *VERDICTS):
            raise ValueError(f"the verdict is {self.verdict!r}; expected one of {', '.join(VERDICTS)}, or None")

    def __str__(self):
        return self.sentence

    _repr_markdown_ = __str__


def metric_name(column):
    """'test_accuracy_last' -> 'final test accuracy'; ValueError for a column that is not an accuracy."""
    if "accuracy" not in column:
        raise ValueError(f"{column!r} cannot be compared; expected a column of accuracies")
    split = {"val": "validation", "train": "training"}.get(column.split("_")[0], "test")
    return f"{'final ' * column.endswith('_last')}{split} accuracy"


def contrast(first, second, verdict, numbers, metric, more=""):
    """The Finding that compares `first` with `second`, two names; `numbers` has the mean difference in `metric`."""
    size = f"{points(numbers['mean'])} of {metric}"
    clause = {
        BETTER: f"beats {second} by {size}",
        WORSE: f"is worse than {second} by {size}",
        SAME: f"is as good as {second}, within {WITHIN} of {metric}",
        CANNOT_TELL: f"cannot be told from {second}: {size} may be noise",
    }[verdict]
    return Finding(f"{capital(first)} {clause}{more}.", verdict, numbers)


def effect(verdict, numbers, on, margin=MARGIN):
    """A clause on what the change named before it does to `on`: 'adds 1.5 points to the CNN'."""
    size = points(numbers["mean"])
    return {
        BETTER: f"adds {size} to {on}",
        WORSE: f"costs {on} {size}",
        SAME: f"changes {on} by less than {whole_points(margin)}",
        CANNOT_TELL: f"{f'takes {size} off' if numbers['mean'] < 0 else f'adds {size} to'} {on}, which may be noise",
    }[verdict]


def judge(evidence, margin=MARGIN, differs=None):
    """The verdict on a mean difference, more being better; `evidence`: an array (n,), or its interval (low, high).

    "same" where two one-sided t-tests at 5% show the mean to lie within +-`margin` (Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 15, 1987), or the interval lies there; else "better" or "worse" where the
    interval excludes zero (and `differs`, after Holm, is not False); else, and with one value, "cannot tell".
    """
    if isinstance(evidence, tuple):
        low, high = evidence
        same = -margin < low and high < margin
    else:
        if len(evidence) < 2:
            return CANNOT_TELL
        interval = t_interval(evidence)
        low, high = interval.low, interval.high
        with np.errstate(divide="ignore", invalid="ignore"):  # Differences that are all equal have no spread.
            same = margin > 0 and DescrStatsW(evidence).ttost_mean(-margin, margin)[0] < ALPHA
    if same:
        return SAME
    if math.isnan(low) or not (low > 0 or high < 0) or differs is False:
        return CANNOT_TELL
    return BETTER if low > 0 else WORSE


def judge_contrasts(contrasts, margin=MARGIN, spread=1.0):
    """[(verdict, numbers)] of several contrasts, arrays (n,) of paired differences, with Holm's correction.

    `spread`: factor on their standard deviation. `numbers`: as from `paired_tests`; for one value only mean and n.
    """
    # Spreading the values about their mean widens the error and keeps the mean.
    values = [np.mean(each) + spread * (np.asarray(each, "float64") - np.mean(each)) for each in contrasts]
    several = [each for each in values if len(each) > 1]
    tests = iter(paired_tests(several).to_dict("records") if several else [])
    found = []
    for each in values:
        numbers = next(tests) if len(each) > 1 else {"mean": float(each.mean()), "n": len(each)}
        found.append((judge(each, margin, numbers.get("differs")), numbers))
    return found


def judge_pairs(frame, pairs, metric=HEADLINE):
    """[(verdict, numbers)] of each of `pairs` of labels in a tidy frame, paired by seed, as from `judge_contrasts`."""
    return judge_contrasts([paired_differences(frame, *pair, metric) for pair in pairs])


def judge_pair(frame, first, second, metric=HEADLINE):
    """(verdict, numbers) of a single pair of labels."""
    return judge_pairs(frame, [(first, second)], metric)[0]
