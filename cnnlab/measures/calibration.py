"""Is a network right as often as it is sure? Calibration, and the temperature that mends it."""

import numpy as np
import pandas as pd
from scipy import optimize, special

from cnnlab.measures.groups import share_by_group
from cnnlab.training import cross_entropy, predict
from cnnlab.wording import percent, readable

BINS = 15
# By which a float32 softmax may exceed 1.
ROUNDING = 1e-5
# Softmax inputs are divided by a temperature in this range.
TEMPERATURES = (0.05, 20.0)


def reliability_bins(confidence, correct, bins=BINS, groups=None):
    """Accuracy and mean confidence in `bins` bins of equally many images, the least sure first: a reliability diagram.

    `confidence` (n,), the highest probability of each image, 0 to 1; `correct` bool (n,); `groups` (n,), what each was
    taken together with (None: it is alone). Bins of equal width hold a handful of images each at the low end, whose
    accuracy is noise. Images of one confidence stay together, in the bin of the first of them. Returns a DataFrame, a
    row a bin that has images: bin (its number), count, confidence, accuracy, and its interval low and high
    (`share_by_group`). Raises ValueError for other shapes and values.
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
    """{network: {stage with its error: bins}}, as `reliability_bins` has them, of the probe `calibration`.

    Means over seeds, of a network's intervals over images, too.
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
    """The temperature that makes `probabilities` (n, classes) likeliest for `labels` (n,).

    Fit it on validation images, never on those it is judged by. Above 1 the network was too sure of itself.
    Raises ValueError where the rows are no probabilities. Source: Guo et al. 2017, section 4.2.
    """
    log_probabilities, labels = _logits(probabilities), np.asarray(labels)
    rows = np.arange(len(labels))

    def loss(log_temperature):
        scaled = log_probabilities / np.exp(log_temperature)
        return np.mean(special.logsumexp(scaled, axis=1) - scaled[rows, labels])

    found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities, temperature):
    """`probabilities` (n, classes) at another temperature: float64 (n, classes), the same answers."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature!r}; expected a positive number")
    scaled = special.softmax(_logits(probabilities) / temperature, axis=1)
    assert np.array_equal(scaled.argmax(axis=1), np.argmax(probabilities, axis=1)), "a temperature changed an answer"
    return scaled


def _logits(probabilities):
    """Log-probabilities serve as logits: softmax does not notice that each row is shifted."""
    probabilities = np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < 0:
        shape = probabilities.shape
        raise ValueError(f"{shape} values are no probabilities; expected (n, classes), rows that sum to 1")
    return np.log(np.maximum(probabilities, np.finfo("float32").tiny))


def _checked(confidence, correct):
    confidence, correct = np.asarray(confidence, "float64"), np.asarray(correct, bool)
    if confidence.shape != correct.shape or confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape}; expected one value an image each")
    if not (confidence.min() >= 0 and confidence.max() <= 1 + ROUNDING):
        raise ValueError(f"confidence runs from {confidence.min()} to {confidence.max()}; expected 0 to 1")
    return confidence.clip(max=1), correct


def reliability(model, validation, test):
    """Calibration on `test` before and after the temperature that `validation` asks for; both (uint8 images, labels).

    Returns one row for each stage ("before", "after") and bin of confidence: the columns of `reliability_bins`, stage,
    and of the stage as a whole temperature (1 before), ece (expected calibration error), loss (mean cross-entropy,
    nats), overall_accuracy, images.
    """
    temperature = fit_temperature(predict(model, validation[0]), validation[1])
    images, labels = test
    raw = predict(model, images)
    frames = []
    for stage, degree in (("before", 1.0), ("after", temperature)):
        probabilities = apply_temperature(raw, degree)
        confidence, correct = _answers(probabilities, labels)
        whole = {
            "temperature": degree, "ece": expected_calibration_error(confidence, correct),
            "loss": cross_entropy(probabilities, labels), "overall_accuracy": correct.mean(), "images": len(images),
        }  # fmt: skip
        frames.append(reliability_bins(confidence, correct).assign(stage=stage, **whole))
    return pd.concat(frames, ignore_index=True)


def _answers(probabilities, labels):
    # Rounding may leave a float32 softmax a hair above 1.
    return probabilities.max(axis=1).clip(0, 1), np.asarray(probabilities.argmax(axis=1) == labels)
