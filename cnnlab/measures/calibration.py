"""Is a network right as often as its confidence says? Calibration, temperature scaling, and conformal sets of classes.

Conformal sets hold the true class as often as promised if new images are like those of the fit. A threshold on
probabilities is fitted on images the network was not trained on; a set holds every class at or above it. Source:
Angelopoulos and Bates, "A gentle introduction to conformal prediction and distribution-free uncertainty quantification"
(2021), section 1; the score is that of Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded
error levels", Journal of the American Statistical Association 114 (2019).
"""

import math

import numpy as np
import pandas as pd
from scipy import optimize, special

from cnnlab.measures.exploration import metadata_of
from cnnlab.measures.groups import share_by_group
from cnnlab.measures.mars import SPAN
from cnnlab.training import cross_entropy, predict
from cnnlab.wording import percent, readable

BINS = 15
# How far a float32 softmax may exceed 1.
ROUNDING = 1e-5
# Softmax inputs are divided by a temperature in this range.
TEMPERATURES = (0.05, 20.0)
PROMISED = 0.9
# Random splits into halves: one split alone depends more on which groups fall in which half than on the method.
HALVES = 100
COLUMNS = [
    "split", "first_sol", "last_sol", "images", "groups", "coverage", "low", "high", "size", "single",
    "single_accuracy", "empty",
]  # fmt: skip


def reliability_bins(confidence, correct, bins=BINS, groups=None):
    """Accuracy and mean confidence in `bins` bins of equal count, the least confident first: a reliability diagram.

    `confidence` (n,), the highest probability of each image, 0 to 1; `correct` bool (n,); `groups` (n,), the group each
    image belongs to (None: each is its own). Bins of equal width would hold a handful of images each at the low end,
    where accuracy is then noise. Images of equal confidence stay together, in the bin of the first of them. Returns a
    DataFrame, one row per bin that has images: bin (its number), count, confidence, accuracy, and its interval low and
    high (`share_by_group`). Raises ValueError for other shapes and values.
    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 2; Nguyen and O'Connor,
    "Posterior calibration and exploratory analysis for natural language processing models" (EMNLP 2015), section 3.
    """
    confidence, correct = _checked(confidence, correct)
    groups = np.arange(len(correct)) if groups is None else np.asarray(groups)
    places = np.searchsorted(np.sort(confidence), confidence) * bins // len(confidence)
    parts = {number: places == number for number in np.unique(places)}
    rows = [
        (number, part.sum(), confidence[part].mean(), *share_by_group(correct[part], groups[part]))
        for number, part in parts.items()
    ]
    return pd.DataFrame(rows, columns=["bin", "count", "confidence", "accuracy", "low", "high"])


def reliability_panels(rows):
    """{network: {stage with its error: bins}} from the probe `calibration`, bins as `reliability_bins` returns them.

    Everything is a mean over seeds, including the ends of the intervals, which are over images.
    """
    panels = {}
    for (label, stage), mine in rows.groupby(["label", "stage"], sort=False):
        bins = mine.groupby("bin", as_index=False)[["count", "confidence", "accuracy", "low", "high"]].mean()
        error = mine.groupby("seed")["ece"].first().mean()
        panels.setdefault(readable(label), {})[f"{stage} scaling (error {percent(error)})"] = bins
    return panels


def expected_calibration_error(confidence, correct, bins=BINS):
    """Mean over images of |accuracy - confidence| of their bin, 0 to 1 (Guo et al. 2017, eq. 3)."""
    table = reliability_bins(confidence, correct, bins)
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["count"]))


def fit_temperature(probabilities, labels):
    """The temperature at which `probabilities` (n, classes) make `labels` (n,) most likely.

    Fit it on validation images, never on those it is judged by. Above 1 the network was overconfident.
    Raises ValueError where the rows are not probabilities. Source: Guo et al. 2017, section 4.2.
    """
    log_probabilities, labels = _logits(probabilities), np.asarray(labels)
    rows = np.arange(len(labels))

    def loss(log_temperature):
        scaled = log_probabilities / np.exp(log_temperature)
        return np.mean(special.logsumexp(scaled, axis=1) - scaled[rows, labels])

    found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities, temperature):
    """`probabilities` (n, classes) rescaled by a temperature: float64 (n, classes), the same answers."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature!r}; expected a positive number")
    scaled = special.softmax(_logits(probabilities) / temperature, axis=1)
    assert np.array_equal(scaled.argmax(axis=1), np.argmax(probabilities, axis=1)), "a temperature changed an answer"
    return scaled


def _logits(probabilities):
    """Log-probabilities, which serve as logits: softmax ignores a shift of a whole row."""
    probabilities = np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        shape = probabilities.shape
        raise ValueError(f"values of shape {shape} are not probabilities; expected (n, classes), rows that sum to 1")
    return np.log(np.maximum(probabilities, np.finfo("float32").tiny))


def _checked(confidence, correct):
    confidence, correct = np.asarray(confidence, "float64"), np.asarray(correct, bool)
    if confidence.shape != correct.shape or confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape}; expected the same (n,) for both")
    if not (confidence.min() >= 0 and confidence.max() <= 1 + ROUNDING):
        raise ValueError(f"confidence runs from {confidence.min()} to {confidence.max()}; expected 0 to 1")
    return confidence.clip(max=1), correct


def reliability(model, validation, test):
    """Calibration on `test` before and after temperature scaling fitted on `validation`; each (uint8 images, labels).

    Returns one row for each stage ("before", "after") and bin of confidence: the columns of `reliability_bins`, stage,
    and for the stage as a whole temperature (1 before), ece (expected calibration error), loss (mean cross-entropy,
    nats), overall_accuracy, images.
    """
    temperature = fit_temperature(predict(model, validation[0]), validation[1])
    images, labels = test
    raw = predict(model, images)
    frames = []
    for stage, degree in (("before", 1.0), ("after", temperature)):
        probabilities = apply_temperature(raw, degree)
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        whole = {
            "temperature": degree, "ece": expected_calibration_error(confidence, correct),
            "loss": cross_entropy(probabilities, labels), "overall_accuracy": correct.mean(), "images": len(images),
        }  # fmt: skip
        frames.append(reliability_bins(confidence, correct).assign(stage=stage, **whole))
    return pd.concat(frames, ignore_index=True)


def conformal_threshold(probabilities, labels, promised=PROMISED):
    """The least probability of a class in the set, from `probabilities` (n, classes) and true `labels` (n,).

    `promised`: the share of new images, exchangeable with these n, whose set is to hold the true class. Returns 0,
    which puts every class in every set, where n is too small for that. Raises ValueError unless 0 < promised < 1.
    """
    if not 0 < promised < 1:
        raise ValueError(f"promised is {promised!r}; expected a share between 0 and 1")
    of_truth = np.sort(np.asarray(probabilities)[np.arange(len(labels)), labels])
    rank = math.ceil((len(of_truth) + 1) * promised)
    return float(of_truth[-rank]) if rank <= len(of_truth) else 0.0


def conformal_sets(probabilities, threshold):
    """bool (n, classes): which classes are in each image's set, which may be empty where the network is unsure."""
    return np.asarray(probabilities) >= threshold


def conformal_coverage(dataset, unseen, answered):
    """How often sets hold the true class, on images like those of the fit and on the test images.

    `unseen` and `answered`: probabilities (n, classes) for the first n images of validation, on which the threshold is
    fitted, and of test. Returns a DataFrame with one row for "test" and one for "validation", where each half is judged
    by the threshold of the other (whole groups, HALVES random splits, means); and for Mars, one for each SPAN of sols
    in either: split, first_sol, last_sol (NaN: all), images, groups, coverage with low and high (over groups; where
    none are known each image is its own), size (mean number of classes in a set), single (share of sets with one
    class), single_accuracy (of these), empty (share), promised.
    """
    fitted_on, asked = (_known(dataset, *pair) for pair in (("validation", unseen), ("test", answered)))
    labels = fitted_on["label"].to_numpy()
    sets = conformal_sets(answered, conformal_threshold(unseen, labels))
    found = {
        "test": pd.concat([asked, _judged(sets, asked)], axis=1),
        "validation": pd.concat([fitted_on, _on_halves(unseen, fitted_on)], axis=1),
    }
    rows = [{"split": split, **_summary(table)} for split, table in found.items()]
    rows += [
        {"split": split, "first_sol": number * SPAN, "last_sol": (number + 1) * SPAN - 1, **_summary(part)}
        for split, table in found.items()
        if "sol" in table
        for number, part in table.groupby(table["sol"] // SPAN)
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS).assign(promised=PROMISED)


def _on_halves(probabilities, known):
    """`_judged` for each half of the images by the other's threshold: mean of HALVES random splits of whole groups."""
    generator, labels = np.random.default_rng(0), known["label"].to_numpy()
    groups, names = pd.factorize(known["group"])
    total = 0
    for _ in range(HALVES):
        first = (generator.permutation(len(names)) % 2 == 0)[groups]
        thresholds = np.empty((len(known), 1))
        for half in (first, ~first):
            thresholds[~half] = conformal_threshold(probabilities[half], labels[half])
        total = total + _judged(conformal_sets(probabilities, thresholds), known)
    return total / HALVES


def _known(dataset, split, probabilities):
    """Label and group (for Mars also sol) of the images that `probabilities` are for, indexed by row of the arrays."""
    if dataset.metadata is not None:
        return metadata_of(dataset, split).head(len(probabilities))
    indices = dataset.splits[split].indices[: len(probabilities)]
    return pd.DataFrame({"label": dataset.splits[split].labels[indices], "group": indices}, indices)


def _judged(sets, known):
    """Whether each of `sets` (n, classes) holds the label in `known`, and how large it is, as numbers indexed alike."""
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
