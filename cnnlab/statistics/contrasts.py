"""Is one variant better than another? Paired tests, their correction, and what they could have seen."""

import dataclasses
import math
from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test
from statsmodels.stats.multitest import multipletests

from cnnlab.statistics.intervals import LEVEL, t_interval

ALPHA = 1 - LEVEL
POWER = 0.8
# Points of the chi-square distribution over which the power is averaged.
GRID = 4000


def paired_tests(differences, alpha=ALPHA):
    """Paired t-tests of several contrasts, with Holm's correction for their number.

    `differences`: one array (n,) a contrast, the differences by seed; n at least 2, and not
    necessarily the same for all. `alpha`: the chance of any false alarm among all contrasts.
    Returns a DataFrame, a row a contrast: mean, low, high (the interval of this contrast taken
    alone), sd, n, p_value, p_holm, differs (bool: p_holm < alpha), detectable (see
    `detectable_difference`, at the strictest level that Holm's procedure applies).
    Sources: Student (1908); Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979); statsmodels' multipletests.
    Raises ValueError where a contrast has fewer than two seeds.
    """
    rows = []
    for values in differences:
        if len(values) < 2:
            raise ValueError(f"a contrast has {len(values)} paired seeds; a paired test needs at least 2")
        interval = t_interval(values, 1 - alpha)
        detectable = detectable_difference(interval.sd, interval.n, alpha / len(differences))
        rows.append({**dataclasses.asdict(interval), "p_value": _p_value(interval), "detectable": detectable})
    table = pd.DataFrame(rows)
    # One contrast needs no correction (and multipletests collects garbage, which is slow beside TensorFlow).
    p_values = table["p_value"]
    table["p_holm"] = multipletests(p_values, alpha, method="holm")[1] if len(table) > 1 else p_values
    table["differs"] = table["p_holm"] < alpha
    return table


def _p_value(interval):
    """Two-sided p-value of a mean of zero."""
    error = interval.sd / math.sqrt(interval.n)
    # Differences that are all alike, up to rounding: no noise to compare the mean with.
    if error <= 1e-12 * abs(interval.mean) or error == 0:
        return 1.0 if interval.mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(interval.mean) / error, interval.n - 1))


def detectable_difference(sd, n, alpha=ALPHA, power=POWER):
    """Smallest true mean difference that a paired t-test at level `alpha` finds with chance `power`.

    `sd`: standard deviation of the `n` paired differences, in their unit, which is also that
    of the result; infinite for n = 1. Source: Cohen, Statistical Power Analysis (1988), ch. 2.
    The power is averaged over the distribution of the sample's variance: with two or three
    seeds the solver of statsmodels ends at wrong values. A test compares the two at larger n.
    """
    return sd * _detectable_effect(n, alpha, power) if n > 1 else math.inf


@cache
def _detectable_effect(n, alpha, power):
    """`detectable_difference` in units of the standard deviation."""
    freedom = n - 1
    quantiles = (np.arange(GRID) + 0.5) / GRID
    critical = stats.t.ppf(1 - alpha / 2, freedom) * np.sqrt(stats.chi2.ppf(quantiles, freedom) / freedom)

    def excess(shift):
        return np.mean(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift)) - power

    return float(optimize.brentq(excess, 0, critical.max() + 10)) / math.sqrt(n)


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Images that only the first, or only the second, of two models answers correctly, of `n`."""

    only_first: int
    only_second: int
    n: int
    p_value: float

    @property
    def difference(self):
        """Accuracy of the first minus that of the second, as a share."""
        return (self.only_first - self.only_second) / self.n

    @property
    def detectable(self):
        """About the smallest difference that would be found: normal approximation (Miettinen 1968)."""
        z = stats.norm.isf(ALPHA / 2) + stats.norm.ppf(POWER)
        return float(z * math.sqrt(self.only_first + self.only_second) / self.n)


def mcnemar(labels, first, second):
    """Exact McNemar test of two sets of predictions of the same images.

    `labels`, `first`, `second`: integer classes (n,). It says whether these two trained
    networks differ, which is less than a difference of what they are instances of.
    Source: McNemar, Psychometrika 12 (1947); Dietterich, Neural Computation 10 (1998).
    """
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    if not labels.shape == first.shape == second.shape or labels.ndim != 1:
        raise ValueError(
            f"labels and predictions have shapes {labels.shape}, {first.shape}, {second.shape}; expected (n,) thrice"
        )
    right = pd.crosstab(first == labels, second == labels).reindex(
        index=[True, False], columns=[True, False], fill_value=0
    )
    result = mcnemar_test(right.to_numpy(), exact=True)
    return McNemar(int(right.loc[True, False]), int(right.loc[False, True]), len(labels), float(result.pvalue))
