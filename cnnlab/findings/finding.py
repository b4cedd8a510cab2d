"""What a comparison ends in: one sentence, a verdict, and the numbers behind them."""

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.weightstats import DescrStatsW

from cnnlab.measures import ALPHA, paired_tests, t_interval
from cnnlab.wording import from_to, p_value, percent, points, readable, signed_points

BETTER, WORSE, SAME, CANNOT_TELL = VERDICTS = ("better", "worse", "same", "cannot tell")
MAX_WORDS, MAX_NUMBERS = 25, 3
NUMBER = re.compile(r"\d[\d.,]*")
# Of accuracies, a share: two standard errors of one that is measured on CIFAR-10's 10,000 test images
# (half a point each), and less than anybody adds filters or augmentation for.
MARGIN = 0.01
HEADLINE = "test_accuracy_best"
SELECTION = "val_accuracy_best"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A computed sentence of at most MAX_WORDS words with at most MAX_NUMBERS numbers; else ValueError.

    `verdict`: one of VERDICTS, of what the sentence names first; None where it compares nothing.
    `numbers`: what the sentence was written from, unrounded, shares as 0 to 1; intervals and n
    stand there and in the tables. Displayed in a notebook, it is its sentence.
    """

    sentence: str
    verdict: str | None
    numbers: dict[str, Any]

    def __post_init__(self):
        words, numbers = len(self.sentence.split()), len(NUMBER.findall(self.sentence))
        if words > MAX_WORDS or numbers > MAX_NUMBERS:
            raise ValueError(
                f"a finding has {words} words and {numbers} numbers; expected at most {MAX_WORDS} and {MAX_NUMBERS}: "
                f"{self.sentence}"
            )
        if self.verdict not in (None, *VERDICTS):
            raise ValueError(f"the verdict is {self.verdict!r}; expected one of {', '.join(VERDICTS)}, or None")

    def __str__(self):
        return self.sentence

    def _repr_markdown_(self):
        return self.sentence


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column of rows: shares are written in percent, their differences in percentage points.

    `margin`: differences within it count as the same (0: nothing does).
    """

    name: str
    is_share: bool
    higher_is_better: bool
    margin: float = 0.0
    unit: str = ""

    @classmethod
    def of(cls, column):
        """The Metric of a column such as test_accuracy_best or val_loss_last."""
        split = {"val": "validation", "train": "training"}.get(column.split("_")[0], "test")
        name = f"{'final ' * column.endswith('_last')}{split} "
        if "accuracy" in column:
            return cls(f"{name}accuracy", is_share=True, higher_is_better=True, margin=MARGIN)
        if "loss" in column:
            return cls(f"{name}loss", is_share=False, higher_is_better=False)
        if column in ("seconds", "cpu_seconds"):
            return cls("training time", is_share=False, higher_is_better=False, unit=" seconds")
        raise ValueError(f"{column!r} cannot be compared; expected a column of accuracies, losses or seconds")

    def size(self, difference):
        """'2.7 points of test accuracy', '0.264 of test loss'."""
        return f"{points(difference) if self.is_share else f'{abs(difference):.3g}{self.unit}'} of {self.name}"

    def signed(self, difference):
        """For tables: '+2.71' percentage points, '-0.264'."""
        return signed_points(difference) if self.is_share else f"{difference:+.3f}"


def judge(evidence, margin=MARGIN, differs=None):
    """The verdict on a mean difference of something of which more is better.

    `evidence`: paired differences, array (n,), or their 95% interval, a tuple (low, high).
    "same" where two one-sided t-tests at 5% show the mean to lie within +-`margin` (Schuirmann,
    Journal of Pharmacokinetics and Biopharmaceutics 15, 1987), or the interval lies there; else
    "better" or "worse" where the interval excludes zero, or `differs` says so of several
    contrasts; else, and with one value, "cannot tell".
    """
    if isinstance(evidence, tuple):
        low, high = evidence
        same = -margin < low and high < margin
    else:
        if len(evidence) < 2:
            return CANNOT_TELL
        interval = t_interval(evidence)
        low, high = interval.low, interval.high
        with np.errstate(divide="ignore", invalid="ignore"):  # Differences that are all alike have no spread.
            same = margin > 0 and DescrStatsW(evidence).ttost_mean(-margin, margin)[0] < ALPHA
    if same:
        return SAME
    if math.isnan(low) or not (low > 0 or high < 0) or differs is False:
        return CANNOT_TELL
    return BETTER if low > 0 else WORSE


def judge_contrasts(contrasts, margin=MARGIN, spread=1.0):
    """[(verdict, numbers)] of several contrasts, arrays (n,) of paired differences, with Holm's correction.

    `spread`: factor on their standard deviation (see `overlap_spread`). `numbers` as
    `paired_tests` has them; of one value only mean and n.
    """
    # Spreading the values about their mean widens the error and leaves the mean.
    values = [np.mean(each) + spread * (np.asarray(each, "float64") - np.mean(each)) for each in contrasts]
    several = [place for place, each in enumerate(values) if len(each) > 1]
    tests = paired_tests([values[place] for place in several]).to_dict("records") if several else []
    found = [(CANNOT_TELL, {"mean": float(each.mean()), "n": len(each)}) for each in values]
    for place, test in zip(several, tests, strict=True):
        found[place] = judge(values[place], margin, test["differs"]), test
    return found


def overlap_spread(n, test_share):
    """Factor on the standard deviation of `n` results of random splits of the same rows.

    Their training parts overlap, so that the plain t-test is too sure: their variance is taken as
    (1/n + test/train) s^2 in place of s^2 / n (Nadeau and Bengio, Machine Learning 52, 2003,
    equation 9). `test_share`: rows tested of all rows.
    """
    return math.sqrt(1 + n * test_share / (1 - test_share))


def cell(values, write=percent, write_end=None):
    """A mean over seeds, `values` (n,), for a table: '73.1% (72.7% to 73.5%)', alone where there is one seed."""
    interval = t_interval(values)
    ends = from_to(interval.low, interval.high, write_end or write)
    return f"{write(interval.mean)}{f' ({ends})' if ends else ''}"


def verdicts_table(names, judged, heading="Difference, points", write=signed_points):
    """Contrasts ready for Markdown: `names`, a dict of cells each, beside `judged`, as of `judge_contrasts`."""
    rows = []
    for name, (verdict, numbers) in zip(names, judged, strict=True):
        several = numbers["n"] > 1
        p = p_value(numbers["p_holm"]).removeprefix("p ").removeprefix("= ") if several else ""
        ends = from_to(numbers["low"], numbers["high"], write) if several else "one run"
        row = {heading: write(numbers["mean"]), "95% interval": ends, "n": numbers["n"], "p, after Holm": p}
        rows.append({**name, **row, "Verdict": verdict})
    return pd.DataFrame(rows)


def means_table(rows, by, columns):
    """Means over seeds with 95% intervals, ready for Markdown: a row a group, a column for each of `columns`.

    `rows`: with a column seed; `by`: {heading: column} to group by; `columns`: {heading: (column, write)}.
    """
    found = []
    for keys, mine in rows.groupby(list(by.values()), sort=False):
        over_seeds = mine.groupby("seed").mean(numeric_only=True)
        names = dict(zip(by, (readable(str(key)) for key in keys), strict=True))
        cells = {heading: cell(over_seeds[column], write) for heading, (column, write) in columns.items()}
        found.append({**names, **cells, "n": mine["seed"].nunique()})
    return pd.DataFrame(found)
