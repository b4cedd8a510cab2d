"""What a trained network's confidence is worth: before and after temperature scaling, and to refer by."""

import numpy as np
import pandas as pd

from cnnlab.statistics.calibration import (
    accuracy_at_coverage,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    risk_coverage,
)
from cnnlab.training import cross_entropy, predict

COVERAGES = tuple(step / 20 for step in range(1, 21))


def reliability(model, validation, test):
    """Calibration on `test` before and after the temperature that `validation` asks for.

    `validation`, `test`: (uint8 images, labels (n,)).
    Returns one row for each stage ("before", "after") and bin of confidence: stage, the columns
    of `calibration.reliability_bins`, and of the stage as a whole temperature (1 before), ece
    (expected calibration error), loss (mean cross-entropy, nats), overall_accuracy, images.
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

    Returns one row for each of `coverages` (shares of the images, up to 1): asked, coverage
    (the least share not below it that confidence allows), accuracy, images.
    """
    images, labels = test
    curve = risk_coverage(*_answers(predict(model, images), labels))
    rows = [(asked, *accuracy_at_coverage(curve, asked), len(images)) for asked in coverages]
    return pd.DataFrame(rows, columns=["asked", "coverage", "accuracy", "images"])


def _answers(probabilities, labels):
    # Rounding may leave a float32 softmax a hair above 1.
    return probabilities.max(axis=1).clip(0, 1), np.asarray(probabilities.argmax(axis=1) == labels)
