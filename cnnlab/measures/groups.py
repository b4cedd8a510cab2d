"""Scores for classes of unequal size, with intervals for images that come in groups.

Images taken together are alike, so an interval that treats each as a new one is too narrow: here whole groups are
resampled. All scores follow from counts by group and class, so a resample costs one matrix product.

Throughout: `labels` (n,) integer classes; `groups` (n,), the group each image belongs to, any values; intervals are
percentile intervals at LEVEL. Raises ValueError where lengths differ or there are fewer than two groups.
Source: the cluster bootstrap, Field and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical
Society B 69 (2007).
"""

import dataclasses

import numpy as np
import pandas as pd

from cnnlab.measures.stats import LEVEL, share_interval, t_interval

# The names to show, by column.
SCORE_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
SCORES = tuple(SCORE_NAMES)
RESAMPLES = 2_000
_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def group_scores(labels, predicted, classes):
    """Series of SCORES: `labels`, `predicted` are integer classes (n,), 0 to `classes` - 1.

    Balanced accuracy is the mean recall and macro-F1 the mean F1 over the classes in `labels`: an answer outside them
    is an error, not one more class.
    """
    one = np.zeros(len(labels), "int64")
    return pd.Series(_scores(*_counts(labels, predicted, one, classes)).ravel(), SCORES)


def group_bootstrap(labels, predicted, groups, classes, resamples=RESAMPLES, seed=0):
    """SCORES with intervals: a DataFrame indexed by score: value (on all images), low, high, groups, images.

    `predicted`: (n,), or (models, n), whose scores are averaged; each resample draws the same groups for all models.
    A resample that lacks a class averages over those it has.
    """
    codes, weights = _draw(labels, predicted, groups, resamples, seed)
    scores = _mean_scores(labels, predicted, codes, weights, classes)
    return _table(*scores, SCORES).assign(groups=weights.shape[1], images=len(labels))


def difference_bootstrap(labels, first, second, groups, classes, resamples=RESAMPLES, seed=0):
    """SCORES of the answers `first` minus those of `second`; each resample draws the same groups for both.

    Both are like `predicted` in `group_bootstrap`, and may differ in their number of models. Returns a DataFrame
    indexed by score: value, low, high, groups.
    """
    codes, weights = _draw(labels, first, groups, resamples, seed)
    of_first, of_second = (_mean_scores(labels, predicted, codes, weights, classes) for predicted in (first, second))
    differences = (one - other for one, other in zip(of_first, of_second, strict=True))
    return _table(*differences, SCORES).assign(groups=weights.shape[1])


def recall_by_class(labels, predicted, groups, class_names):
    """Recall of each class: a DataFrame indexed by class: images, groups, value, low, high.

    `predicted` as in `group_bootstrap`. A class without images has NaN; one whose images all come from one group, or
    whose groups all have the same recall, has a recall but no interval: nothing is known of other groups.
    """
    codes, weights = _draw(labels, predicted, groups)
    parts = [_counts(labels, answers, codes, len(class_names)) for answers in np.atleast_2d(predicted)]
    hits, images = np.mean([part[0] for part in parts], axis=0), parts[0][1]
    value = _share(hits.sum(axis=0), images.sum(axis=0))
    table = _table(value, _share(weights @ hits, weights @ images), list(class_names))
    of_class = (images > 0).sum(axis=0)
    # Where every group has the same recall, resampling shows no spread, which does not mean that there is none.
    table.loc[(of_class < 2) | (table["low"] == table["high"]), ["low", "high"]] = np.nan
    table.insert(0, "images", images.sum(axis=0).astype("int64"))
    table.insert(1, "groups", of_class)
    return table.rename_axis("class")


def mean_by_group(values, groups=None):
    """(mean, low, high) of `values` (n,), numbers or bools, over resampled `groups` (n,); by Student's t where None."""
    values = np.asarray(values, "float64")
    if groups is None:
        return dataclasses.astuple(t_interval(values))[:3]
    codes, weights = _draw(values, values, groups)
    sums, sizes = (np.bincount(codes, part) for part in (values, np.ones_like(values)))
    low, high = np.quantile(weights @ sums / (weights @ sizes), _ENDS)
    return float(values.mean()), float(low), float(high)


def share_by_group(correct, groups):
    """(share, low, high) of `correct` (n,) bools over `groups` (n,), which may have one image each.

    Resampling shows no spread where all groups have the same share, and adds little where each image is its own group:
    then the interval is Wilson's, with one trial per group.
    """
    shares, share = pd.Series(correct).groupby(np.asarray(groups)).mean(), float(np.mean(correct))
    count = len(shares)
    if count < len(correct) and shares.nunique() > 1:
        return mean_by_group(correct, groups)
    low, high = share_interval(share * count, count)
    return share, float(low), float(high)


def gap_by_group(values, groups, chosen):
    """(gap, low, high): the mean of `values` (n,) where `chosen` (n,) bool, minus that of the others, over groups.

    A group is drawn with all its images, on whichever side they are. Raises ValueError where one side is empty.
    """
    chosen = np.asarray(chosen, bool)
    if chosen.all() or not chosen.any():
        raise ValueError(f"{chosen.sum()} of {len(chosen)} images are chosen; expected some on both sides")
    return gap_within_classes(values, np.zeros(len(chosen)), groups, chosen)[:3]


def gap_within_classes(values, labels, groups, chosen):
    """(gap, low, high, classes): `gap_by_group` within each class, averaged over classes.

    Each class with images on both sides counts equally, so a different mix of classes on the two sides makes no gap;
    `classes` is the number of these. Where there are none: NaN, NaN, NaN and 0.
    """
    values, labels, chosen = np.asarray(values, "float64"), np.asarray(labels, "int64"), np.asarray(chosen, bool)
    codes, weights = _draw(values, values, groups)
    shape = weights.shape[1], labels.max() + 1

    def means(side, drawn):
        cells = codes * shape[1] + labels
        sums, sizes = (np.bincount(cells, part, np.prod(shape)).reshape(shape) for part in (values * side, 1.0 * side))
        return _share(drawn @ sums, drawn @ sizes)

    def gaps(drawn):
        found = means(chosen, drawn) - means(~chosen, drawn)
        counted = np.isfinite(found).sum(axis=1)
        return _share(np.nansum(found, axis=1), counted), counted

    (gap,), (classes,) = gaps(np.ones((1, shape[0])))
    if not classes:
        return np.nan, np.nan, np.nan, 0
    low, high = np.nanquantile(gaps(weights)[0], _ENDS)
    return float(gap), float(low), float(high), int(classes)


def _mean_scores(labels, predicted, codes, weights, classes):
    """(SCORES (3,), their resamples (resamples, 3)), averaged over the models of `predicted`, (n,) or (models, n)."""
    models = [_counts(labels, answers, codes, classes) for answers in np.atleast_2d(predicted)]
    value = np.mean([_scores(*(part.sum(axis=0, keepdims=True) for part in counts)) for counts in models], axis=0)
    return value.ravel(), np.mean([_scores(*(weights @ part for part in counts)) for counts in models], axis=0)


def _draw(labels, predicted, groups, resamples=RESAMPLES, seed=0):
    """(codes (n,): 0, 1, ... for the groups, weights (resamples, groups): how often each is drawn)."""
    n, answers = len(labels), np.shape(predicted)[-1]
    if not n == answers == len(groups):
        raise ValueError(f"{n} labels, {answers} answers, {len(groups)} groups; expected one of each per image")
    # scipy.stats.bootstrap would resample for each statistic; these weights serve all scores of all models at once.
    codes, names = pd.factorize(np.asarray(groups))
    if len(names) < 2:
        raise ValueError(f"groups: {len(names)}; expected at least two, because whole groups are resampled")
    generator = np.random.default_rng(seed)
    return codes, generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)


def _counts(labels, predicted, codes, classes):
    """(hits, images, answers), each (groups, classes): right answers, images and answers of each class."""
    labels, predicted = np.asarray(labels, "int64"), np.asarray(predicted, "int64")
    groups, right = codes.max() + 1, labels == predicted

    def count(values, where=slice(None)):
        cells = codes[where] * classes + values[where]
        return np.bincount(cells, minlength=groups * classes).reshape(groups, classes).astype("float64")

    return count(labels, right), count(labels), count(predicted)


def _scores(hits, images, answers):
    """(rows, 3): SCORES from counts (rows, classes)."""
    f1 = np.where(images > 0, _share(2 * hits, images + answers), np.nan)
    accuracy = hits.sum(axis=1) / images.sum(axis=1)
    return np.stack([accuracy, np.nanmean(_share(hits, images), axis=1), np.nanmean(f1, axis=1)], axis=1)


def _share(part, whole):
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _table(value, drawn, names):
    """A frame of value, low, high by `names`: `value` (names,), NaN where there is none; `drawn` (resamples, names)."""
    low, high = np.nanquantile(np.where(np.isnan(value), 0.0, drawn), _ENDS, axis=0)
    table = pd.DataFrame({"value": value, "low": low, "high": high}, index=names)
    table.loc[np.isnan(value)] = np.nan
    return table
