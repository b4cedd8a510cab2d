"""Does a network know when it is wrong? Calibration, temperature, and referring the doubtful images."""

import numpy as np
import pandas as pd
from scipy import optimize, special

from cnnlab.training import cross_entropy, predict
from cnnlab.wording import percent, readable

BINS = 15
COVERAGES = tuple(step / 20 for step in range(1, 21))
# By which a float32 softmax may exceed 1.
ROUNDING = 1e-5
# Softmax inputs are divided by a temperature in this range.
TEMPERATURES = (0.05, 20.0)


def reliability_bins(confidence, correct, bins=BINS):
    """Accuracy and mean confidence in `bins` equally wide bins of confidence: a reliability diagram.

    `confidence` (n,), the highest probability of each image, 0 to 1; `correct` bool (n,). A bin holds what lies above
    its low edge, up to and including its high edge. Returns a DataFrame, a row a bin: low, high, count, confidence,
    accuracy (NaN where empty). Raises ValueError for other shapes and values.
    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 2.
    """
    confidence, correct = _checked(confidence, correct)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.where(count, count, np.nan)
    columns = {
        "low": edges[:-1], "high": edges[1:], "count": count,
        "confidence": np.bincount(place, confidence, bins) / filled,
        "accuracy": np.bincount(place, correct, bins) / filled,
    }  # fmt: skip
    return pd.DataFrame(columns)


def reliability_panels(rows):
    """{network: {stage with its error: bins}}, as `reliability_bins` has them, of the probe `calibration`.

    The images of all seeds are taken together.
    """
    panels, means = {}, ["confidence", "accuracy"]
    for (label, stage), mine in rows.groupby(["label", "stage"], sort=False):
        sums = mine.assign(**mine[means].mul(mine["count"], axis=0))
        bins = sums.groupby(["low", "high"], as_index=False)[["count", *means]].sum()
        bins[means] = bins[means].div(bins["count"].where(bins["count"] > 0), axis=0)
        error = mine.groupby("seed")["ece"].first().mean()
        panels.setdefault(readable(label), {})[f"{stage} scaling (error {percent(error)})"] = bins
    return panels


def expected_calibration_error(confidence, correct, bins=BINS):
    """Mean over images of |accuracy - confidence| of their bin, 0 to 1 (Guo et al. 2017, eq. 3)."""
    table = reliability_bins(confidence, correct, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs().fillna(0)
    return float(np.average(gaps, weights=table["count"]))


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


def risk_coverage(confidence, correct):
    """Accuracy on the images that are answered when the least confident go to a human.

    `confidence` (n,), `correct` bool (n,). Returns a DataFrame, a row for each confidence that occurs, falling:
    threshold (answered from here up), coverage (share answered), accuracy (on those). Images of equal confidence are
    answered or referred together.
    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks" (NIPS 2017).
    """
    confidence, correct = _checked(confidence, correct)
    table = pd.DataFrame({"confidence": confidence, "correct": correct})
    groups = table.groupby("confidence")["correct"].agg(["size", "sum"]).sort_index(ascending=False).cumsum()
    shares = groups.assign(coverage=groups["size"] / len(table), accuracy=groups["sum"] / groups["size"])
    return shares.rename_axis("threshold").reset_index()[["threshold", "coverage", "accuracy"]]


def accuracy_at_coverage(curve, coverage):
    """(coverage, accuracy) at the least coverage of `curve` (of `risk_coverage`) that is not below `coverage`."""
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage is {coverage!r}; expected a share above 0, up to 1")
    row = curve[curve["coverage"] >= coverage - 1e-12].iloc[0]
    return float(row["coverage"]), float(row["accuracy"])


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


def referral_curve(model, test, coverages=COVERAGES):
    """Accuracy on the most confident images of `test`, (uint8 images, labels (n,)), the rest being referred.

    Returns one row for each of `coverages` (shares of the images, up to 1): asked, coverage (the least share not below
    it that confidence allows), accuracy, images.
    """
    images, labels = test
    curve = risk_coverage(*_answers(predict(model, images), labels))
    rows = [(asked, *accuracy_at_coverage(curve, asked), len(images)) for asked in coverages]
    return pd.DataFrame(rows, columns=["asked", "coverage", "accuracy", "images"])


def _answers(probabilities, labels):
    # Rounding may leave a float32 softmax a hair above 1.
    return probabilities.max(axis=1).clip(0, 1), np.asarray(probabilities.argmax(axis=1) == labels)
