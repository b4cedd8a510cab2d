"""How well a few seeds, or a few thousand images, pin a figure down."""

import dataclasses
import math

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its interval: `n` values of standard deviation `sd` (n - 1 in the denominator).

    One value has no interval: its `low`, `high` and `sd` are NaN.
    """

    mean: float
    low: float
    high: float
    n: int
    sd: float

    def __contains__(self, value):
        return self.low <= value <= self.high


def t_interval(values, level=LEVEL):
    """Interval of the mean of `values` (n,), one a seed, by Student's t with n - 1 degrees of freedom.

    It says what another mean over seeds would be, the test images being the same ones.
    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    return _t(values, level, lambda n: 1 / n)


def prediction_interval(values, level=LEVEL):
    """Interval for one further value, such as somebody else's single run.

    mean +- t x sd x sqrt(1 + 1/n). Source: Hahn and Meeker, Statistical Intervals (1991), section 4.8.
    """
    return _t(values, level, lambda n: 1 + 1 / n)


def _t(values, level, variance_factor):
    values = np.asarray(values, "float64")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values have shape {values.shape}; expected (n,), one value a seed, n at least 1")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, math.nan)
    sd = float(values.std(ddof=1))
    half = stats.t.ppf((1 + level) / 2, n - 1) * sd * math.sqrt(variance_factor(n))
    return Interval(mean, mean - half, mean + half, n, sd)


def two_level_bootstrap(values, resamples=2000, level=LEVEL, seed=0):
    """Percentile interval of the mean of `values` (seeds, images), drawing both anew.

    `values`: bool (was the image answered correctly) or numbers, such as the difference of two
    models' bools. Seeds and images are crossed, for all seeds answer the same images: each
    resample draws seeds and, independently, images, with replacement (Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1, 2007). It speaks of other seeds and other test
    images, where `t_interval` speaks of other seeds alone. With few seeds it is too narrow by
    about sqrt((seeds - 1) / seeds) in the seeds' share.
    Returns an Interval whose `n` and `sd` are those of the seeds' means.
    Raises ValueError where `values` is not a table.
    """
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values have shape {values.shape}; expected (seeds, images)")
    seeds, images = values.shape
    # Images that all seeds answer alike are interchangeable, so that it is enough to draw how
    # often each pattern of answers occurs: 5 seeds have 32 patterns, whatever the images.
    patterns, counts = np.unique(values, axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    image_weights = generator.multinomial(images, counts / images, size=resamples) / images
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = np.einsum("rs,sp,rp->r", seed_weights, patterns.astype("float64"), image_weights, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    of_seeds = values.mean(axis=1)
    sd = float(of_seeds.std(ddof=1)) if seeds > 1 else math.nan
    return Interval(float(of_seeds.mean()), float(low), float(high), seeds, sd)
