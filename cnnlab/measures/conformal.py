"""Conformal prediction: sets of classes that hold the true one as often as promised, if images are exchangeable.

A threshold on probabilities is fitted on images that the network did not learn from; a set has all classes from there
up. Nothing is asked of the network's confidence but that new images come like those of the fit. Source: Angelopoulos
and Bates, "A gentle introduction to conformal prediction and distribution-free uncertainty quantification" (2021),
section 1; the score is that of Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
levels", Journal of the American Statistical Association 114 (2019).
"""

import math

import numpy as np
import pandas as pd

from cnnlab.measures.groups import share_by_group
from cnnlab.measures.mars import SPAN

PROMISED = 0.9
# Draws of two halves: one alone says more of which groups it holds than of the method.
HALVES = 100
COLUMNS = [
    "split", "first_sol", "last_sol", "images", "groups", "coverage", "low", "high", "size", "single",
    "single_accuracy", "empty",
]  # fmt: skip


def conformal_threshold(probabilities, labels, promised=PROMISED):
    """The probability from which on a class is in the set, of `probabilities` (n, classes) and true `labels` (n,).

    `promised`: the share of new images, exchangeable with these n, whose set is to hold the true class; 0, which puts
    every class in every set, where n is too small to promise so much. Raises ValueError for what is no share.
    """
    if not 0 < promised < 1:
        raise ValueError(f"promised is {promised!r}; expected a share between 0 and 1")
    of_truth = np.sort(np.asarray(probabilities)[np.arange(len(labels)), labels])
    rank = math.ceil((len(of_truth) + 1) * promised)
    return float(of_truth[-rank]) if rank <= len(of_truth) else 0.0


def conformal_sets(probabilities, threshold):
    """bool (n, classes): which classes are in the set of each image; none may be, where the network is too unsure."""
    return np.asarray(probabilities) >= threshold


def conformal_coverage(dataset, unseen, answered, promised=PROMISED, seed=0):
    """How often sets hold the true class, on images like those of the fit and on the test images.

    `unseen` and `answered`: probabilities (n, classes) for the first n images of validation, on which the threshold is
    fitted, and of test. Returns a DataFrame of a row for "test", and one for "validation", of which one half is
    answered by the threshold of the other (whole groups, drawn HALVES times by `seed`; means); and, of Mars, one for
    each SPAN of sols of either: split, first_sol, last_sol (NaN: all), images, groups, coverage with low and high (by
    groups; an image is its own where nothing else is known), size (classes in a set, the mean), single (the share of
    sets of one class), single_accuracy (of these), empty (share), promised.
    """
    fitted_on, asked = (_known(dataset, *pair) for pair in (("validation", unseen), ("test", answered)))
    labels = fitted_on["label"].to_numpy()
    sets = conformal_sets(answered, conformal_threshold(unseen, labels, promised))
    found = {
        "test": pd.concat([asked, _judged(sets, asked)], axis=1),
        "validation": pd.concat([fitted_on, _on_halves(unseen, fitted_on, promised, seed)], axis=1),
    }
    rows = [{"split": split, **_summary(table)} for split, table in found.items()]
    rows += [
        {"split": split, "first_sol": number * SPAN, "last_sol": (number + 1) * SPAN - 1, **_summary(part)}
        for split, table in found.items()
        if "sol" in table
        for number, part in table.groupby(table["sol"] // SPAN)
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS).assign(promised=promised)


def _on_halves(probabilities, known, promised, seed):
    """`_judged` of each half of the images by the threshold of the other, the mean of HALVES draws of whole groups."""
    generator, labels = np.random.default_rng(seed), known["label"].to_numpy()
    groups, names = pd.factorize(known["group"])
    total = 0
    for _ in range(HALVES):
        first = (generator.permutation(len(names)) % 2 == 0)[groups]
        thresholds = np.empty((len(known), 1))
        for half in (first, ~first):
            thresholds[~half] = conformal_threshold(probabilities[half], labels[half], promised)
        total = total + _judged(conformal_sets(probabilities, thresholds), known)
    return total / HALVES


def _known(dataset, split, probabilities):
    """label and group, and of Mars sol, of the images that `probabilities` are of, by row of the arrays."""
    indices = dataset.splits[split].indices[: len(probabilities)]
    known = pd.DataFrame({"label": dataset.splits[split].labels[indices], "group": indices}, indices)
    if dataset.metadata is None:
        return known
    of_images = dataset.metadata.iloc[indices]
    return known.assign(**{name: of_images[name].to_numpy() for name in ("group", "sol") if name in of_images})


def _judged(sets, known):
    """What each of `sets` (n, classes) is, as numbers, by the index of `known`, which has the label."""
    covered, size = sets[np.arange(len(known)), known["label"]], sets.sum(axis=1)
    single = size == 1
    columns = {"covered": covered, "size": size, "single": single, "right": single & covered, "empty": size == 0}
    return pd.DataFrame(columns, known.index).astype("float64")


def _summary(table):
    coverage, low, high = share_by_group(table["covered"], table["group"])
    single = table["single"].sum()
    return {
        "images": len(table), "groups": table["group"].nunique(), "coverage": coverage, "low": low, "high": high,
        "size": table["size"].mean(), "single": single / len(table),
        "single_accuracy": table["right"].sum() / single if single else np.nan, "empty": table["empty"].mean(),
    }  # fmt: skip
