"""What the audit checks published claims against: each claimed quantity, measured from the store.

A new quantity is one entry in QUANTITIES, in DIFFERENCES, or in SUPPLIED where the store does not hold it.
"""

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cnnlab import studies
from cnnlab.data import SHAPES
from cnnlab.measures.exploration import pixel_histogram, pixel_statistics
from cnnlab.measures.stats import confusion_counts, paired_differences
from cnnlab.training import expected_parameters
from cnnlab.wording import listing, percent, readable

# An answer counts as sure, in the published study and here, above this confidence.
SURE = 0.8
# The published study trained this one variant longer than the others.
CNN, LONGER = "cnn_32_64_128", "cnn_32_64_128_15_epochs"
# Two standard errors of an accuracy measured on 10,000 validation images.
PLATEAU_TOLERANCE = 0.01


class NotMeasuredError(LookupError):
    """There is nothing to check a claim against; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measured quantity: `contrasts`, arrays (n,) with one value per seed, several where a claim asserts several.

    An `exact` quantity (a count, a formula) is one array of one number. `unit`: "share" (0 to 1), "points" (a
    difference of shares), "count", "fewer" (a difference of counts) or "number". `note`: how it was measured.
    """

    contrasts: list[np.ndarray]
    unit: str
    note: str = ""
    exact: bool = False

    @classmethod
    def exactly(cls, number, unit, note=""):
        return cls([np.array([number], "float64")], unit, note, exact=True)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Everything that was measured.

    `rows`: of all studies; `histories`: {key of a row: its training curves}; `predictions`: from such a key to
    {"predicted", "confidence"}; `labels`: true classes of the test set; `extra`: {quantity of SUPPLIED: a number
    (exact), or an array with one value per seed}.
    """

    rows: pd.DataFrame
    histories: dict[str, dict]
    predictions: Callable[[str], dict]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def runs(self, label):
        """The rows of the variant `label`; NotMeasuredError with the command that produces them."""
        found = self.rows[self.rows["label"] == label]
        if found.empty:
            homes = [study.name for study in studies.STUDIES.values() if any(t.label == label for t in study.trials)]
            cure = f"run python -m cnnlab study {homes[0]}" if homes else f"no study trains {label}"
            raise NotMeasuredError(f"not measured yet: {cure}")
        return found

    def differences(self, first, second, metric="test_accuracy_last"):
        """`first` minus `second`, by seed: float64 (n,)."""
        self.runs(first), self.runs(second)
        try:
            return paired_differences(self.rows, first, second, metric)
        except ValueError as error:
            raise NotMeasuredError(f"not measured yet: {error}") from None

    def answers(self, label):
        """[(predicted, confidence) of each seed of `label`], in the order of the test labels."""
        if self.labels is None:
            raise NotMeasuredError("the test labels are missing")
        found = [self.predictions(key) for key in self.runs(label)["key"]]
        if any(len(answer["predicted"]) != len(self.labels) for answer in found):
            raise NotMeasuredError(f"the stored predictions do not cover all {len(self.labels):,} test images")
        return [(answer["predicted"], answer["confidence"].astype("float64")) for answer in found]


def gather_evidence(store, dataset=None, extra=None):
    """Evidence from a `store.Store`, a `data.Dataset` of CIFAR-10 where one is given, and `extra` as in Evidence."""
    records, by_dataset = store.records(), {}
    for study in studies.STUDIES.values():
        for trial in study.runs(study.seeds):
            by_dataset.setdefault(trial.dataset, []).append(trial)
    # One selection per data set: variants that are compared come from one code version.
    frames = [studies.select(records, trials) for trials in by_dataset.values()]
    rows = pd.concat([frame for frame in frames if len(frame)] or [pd.DataFrame(columns=["label"])], ignore_index=True)
    facts, known = {}, dict(extra or {})
    if dataset is not None:
        # The published training set is the lab's training and validation splits together.
        counts = sum(pixel_histogram(dataset.split(name)[0]) for name in ("train", "validation"))
        pixels = pixel_statistics(counts).loc["all"]
        known |= {f"pixels.{name}": float(pixels[name]) for name in ("mean", "std")}
        facts = {"labels": dataset.split("test")[1], "class_names": dataset.class_names}
    histories = {record["key"]: record["history"] for record in records}
    return Evidence(rows, histories, store.predictions, extra=known, **facts)


def supplied(activations, shift, mars):
    """The quantities of SUPPLIED from the rows of two probes and the tables of `measures.read_mars`, as `extra`.

    Zero activations are a mean over the ReLU layers; the drop is what position alone costs at the largest shift.
    """
    found = {}
    if len(activations):
        mine = activations[activations["label"] == CNN]
        found[f"{CNN}.relu_zero_fraction"] = mine.groupby("seed")["zero_fraction"].mean().to_numpy()
    if len(shift):
        mine = shift[(shift["label"] == CNN) & (shift["shift"] == shift["shift"].max())]
        means = mine.groupby(["seed", "treatment"])["accuracy"].mean().unstack("treatment")
        found["shift.cnn_accuracy_drop"] = (means["held"] - means["shifted"]).to_numpy()
    if mars:
        images = mars["images"]
        found |= {"mars.images": int(images["images"].sum()), "mars.classes": int(images["classes"].max())}
    return found


def measure_claim(evidence, quantity, published):
    """The list of Measured that the claim about `quantity` rests on; all of them must bear it out.

    `published` is the claimed value as text. Raises NotMeasuredError with the reason.
    """
    if quantity in SUPPLIED:
        if quantity not in evidence.extra:
            raise NotMeasuredError("not measured yet: the store does not hold it, and nothing has supplied it")
        values, note = np.asarray(evidence.extra[quantity], "float64"), NOTES.get(quantity.split(".")[0], "")
        return [Measured([np.atleast_1d(values)], SUPPLIED[quantity], note, exact=values.ndim == 0)]
    if quantity in DIFFERENCES:
        return _difference(evidence, *DIFFERENCES[quantity])
    for pattern, function in QUANTITIES:
        if match := re.fullmatch(pattern, quantity):
            return function(evidence, *match.groups(), published=published)
    raise NotMeasuredError(f"no measurement of {quantity} is defined")


def parameter_count(label):
    """Parameters of the network `label`, by formula, for the image size it was published for."""
    defined = {trial.label: trial for study in studies.STUDIES.values() for trial in study.trials}
    if label not in defined:
        raise NotMeasuredError(f"no model called {label} is defined")
    trial = defined[label]
    input_shape, num_classes = SHAPES["mars" if _smaller(label) else trial.dataset]
    return expected_parameters(trial.model, input_shape=input_shape, num_classes=num_classes, **trial.options)


def _smaller(label):
    """Whether the lab's images, of 64 pixels, are smaller than those the network was published for."""
    return label.startswith("mars_cnn")


def _parameters(evidence, label, **_):
    note = f"by formula{', for the published 128x128 pixels' * _smaller(label)}"
    return [Measured.exactly(parameter_count(label), "count", note)]


def _epoch(label):
    """Published CIFAR-10 runs were scored after their last epoch, the Mars ones after early stopping."""
    return "best" if label.startswith("mars_") else "last"


def _score(evidence, label, split, kind, **_):
    epoch = "last" if split == "train" else _epoch(label)
    label = LONGER if label == CNN else label
    values = evidence.runs(label)[f"{split}_{kind}_{epoch}"].to_numpy()
    size = ", 64x64 pixels" * _smaller(label)
    note = f"{readable(label)}{size}, {'last' if epoch == 'last' else 'best validation'} epoch"
    return [Measured([values], "share" if kind == "accuracy" else "number", note)]


def _difference(evidence, first, *others):
    """Test accuracy of `first` minus that of each of `others`, paired by seed."""
    contrasts = [evidence.differences(first, other, f"test_accuracy_{_epoch(first)}") for other in others]
    note = f"{readable(first)} minus {listing(map(readable, others))}, {_epoch(first)} epoch"
    return [Measured(contrasts, "points", note)]


def _versus(evidence, first, second, part, **_):
    """How much more accurate `first` is, and how many fewer parameters it has; `part`: one of them (None: both)."""
    few, many = parameter_count(first), parameter_count(second)
    fewer = [Measured.exactly(many - few, "fewer", f"{few:,} against {many:,} parameters")]
    return fewer if part == "params" else _difference(evidence, first, second) + ([] if part else fewer)


def _ranking(evidence, **_):
    """Each step of the filter sweep, all at 10 epochs."""
    labels = [trial.label for trial in studies.find_study("filters").trials]
    steps = [evidence.differences(later, earlier) for earlier, later in pairwise(labels)]
    return [Measured(steps, "points", "each step, at the last of 10 epochs (one published variant had 15)")]


def _plateau_epoch(evidence, label, **_):
    """First epoch whose validation accuracy is within PLATEAU_TOLERANCE of the best of its run."""
    curves = [np.array(evidence.histories[key]["val_accuracy"]) for key in evidence.runs(label)["key"]]
    epochs = [np.argmax(curve >= curve.max() - PLATEAU_TOLERANCE) + 1 for curve in curves]
    note = f"first epoch within {100 * PLATEAU_TOLERANCE:g} percentage point of the run's best validation accuracy"
    return [Measured([np.array(epochs, "float64")], "number", note)]


def _mostly_sure(evidence, **_):
    shares = np.array([np.mean(sure[said == evidence.labels] > SURE) for said, sure in evidence.answers(LONGER)])
    note = f"{readable(LONGER)}: {percent(shares.mean())} of correct answers, less the half that 'most' requires"
    return [Measured([shares - 0.5], "points", note)]


def _confusion(evidence, name, published):
    """Share of class `name` mistaken for the claimed class, minus that for its strongest rival."""
    answers = evidence.answers(LONGER)
    if unknown := {name, published} - set(evidence.class_names):
        raise NotMeasuredError(f"the data has no class {unknown.pop()}")
    rows = [confusion_counts(evidence.labels, said, evidence.class_names).loc[name] for said, _ in answers]
    shares = pd.DataFrame(rows).div(np.sum(evidence.labels == evidence.class_names.index(name)))
    means = shares.mean()
    rival = means.drop([name, published]).idxmax()
    taken = f"{name} taken for {published} in {percent(means[published])}, for {rival} in {percent(means[rival])}"
    return [Measured([(shares[published] - shares[rival]).to_numpy()], "points", f"{readable(LONGER)}: {taken}")]


# Quantities that the store does not hold, and their units: `extra` supplies them.
SUPPLIED = {
    "cnn_32_64_128.relu_zero_fraction": "share",
    "shift.cnn_accuracy_drop": "points",
    "mars.images": "count",
    "mars.classes": "count",
    "pixels.mean": "number",
    "pixels.std": "number",
}
NOTES = {"pixels": "all pixels of training and validation together"}
# Differences in test accuracy between the first label and each of the others.
DIFFERENCES = {
    "cnn_minus_dense.test_accuracy_pp": (LONGER, "dense_128_64"),
    "kernel_5_minus_3.test_accuracy_pp": ("cnn_32_64_k5", "cnn_32_64_k3"),
    "kernel_3_vs_5.test_accuracy": ("cnn_32_64_k3", "cnn_32_64_k5"),
    "mars_kernels.best": ("mars_cnn_k3", "mars_cnn_k5", "mars_cnn_k7", "mars_cnn_k3to5"),
}
# A pattern for the whole name of a quantity, and the function that measures it: (evidence,
# *groups of the pattern, published) -> list of Measured. The first match counts.
QUANTITIES = (
    (r"(\w+)_vs_(dense_\d+_\d+)(?:\.(params|test_accuracy))?", _versus),
    (r"filters\.ranking", _ranking),
    (r"(\w+)\.params", _parameters),
    (r"(\w+)\.(test|val|train)_(accuracy|loss)", _score),
    (r"(\w+)\.plateau_epoch", _plateau_epoch),
    (r"confidence\.correct_above_0_8", _mostly_sure),
    (r"confusion\.(\w+)", _confusion),
)
