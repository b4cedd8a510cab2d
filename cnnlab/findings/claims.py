"""What the audit holds published claims against: each claimed quantity, measured from the store.

A new quantity is one entry of QUANTITIES, of DIFFERENCES, or of SUPPLIED where the store cannot say it.
"""

import dataclasses
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cnnlab import measures, studies
from cnnlab.data import SHAPES
from cnnlab.findings.networks import SURE
from cnnlab.findings.tables import with_interval
from cnnlab.training import expected_parameters
from cnnlab.wording import listing, percent, readable, signed_points

# The published study trained this one variant longer than the others.
CNN, LONGER = "cnn_32_64_128", "cnn_32_64_128_15_epochs"
# Two standard errors of an accuracy measured on 10,000 validation images.
PLATEAU_TOLERANCE = 0.01


class NotMeasuredError(LookupError):
    """There is nothing to hold a claim against; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measured quantity: `contrasts`, arrays (n,) of a value a seed, several where a claim asserts several.

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
    """All that was measured.

    `rows`: of all studies; `histories`: {key of a row: its training curves}; `predictions`: from such a key to
    {"predicted", "confidence"}; `labels`: true classes of the test set; `pixels`: {"mean", "std"} in 0..255; `extra`:
    {quantity of SUPPLIED: a number (exact), or an array of one value a seed}.
    """

    rows: pd.DataFrame
    histories: dict[str, dict]
    predictions: Callable[[str], dict]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    pixels: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def runs(self, label):
        """The rows of the variant `label`; NotMeasuredError with the command that makes them."""
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
            return measures.paired_differences(self.rows, first, second, metric)
        except ValueError as error:
            raise NotMeasuredError(f"not measured yet: {error}") from None

    def answers(self, label):
        """[(predicted, confidence) of each seed of `label`], in the order of the test labels."""
        if self.labels is None:
            raise NotMeasuredError("the test labels were not at hand")
        found = [self.predictions(key) for key in self.runs(label)["key"]]
        if any(len(answer["predicted"]) != len(self.labels) for answer in found):
            raise NotMeasuredError(f"the stored predictions are not of all {len(self.labels):,} test images")
        return [(answer["predicted"], answer["confidence"].astype("float64")) for answer in found]


def gather(store, dataset=None, extra=None):
    """Evidence from a `store.Store`, from a `data.Dataset` of CIFAR-10 where one is given, and `extra` as in Evidence.

    Raises ValueError for a quantity that is not in SUPPLIED.
    """
    if unknown := set(extra or {}) - set(SUPPLIED):
        raise ValueError(f"extra has {', '.join(sorted(unknown))}; expected any of {', '.join(SUPPLIED)}")
    records, by_dataset = store.records(), {}
    for study in studies.STUDIES.values():
        for trial in study.runs(study.seeds):
            by_dataset.setdefault(trial.dataset, []).append(trial)
    # One selection a data set: variants that are compared come from one code version.
    frames = [studies.select(records, trials) for trials in by_dataset.values()]
    whole = [frame for frame in frames if len(frame)] or [pd.DataFrame(columns=["label"])]
    facts = {}
    if dataset is not None:
        # The published training set is the lab's training and validation splits together.
        counts = sum(measures.pixel_histogram(dataset.split(name)[0]) for name in ("train", "validation"))
        pixels = measures.pixel_statistics(counts).loc["all", ["mean", "std"]].astype(float).to_dict()
        facts = {"labels": dataset.split("test")[1], "class_names": dataset.class_names, "pixels": pixels}
    histories = {record["key"]: record["history"] for record in records}
    rows = pd.concat(whole, ignore_index=True)
    return Evidence(rows, histories, store.predictions, extra=dict(extra or {}), **facts)


def supplied(activations, shift, mars):
    """What the rows of two probes and the tables of `measures.read_mars` say of SUPPLIED, as `extra` of Evidence.

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


def measure(evidence, quantity, published):
    """The list of Measured that the claim about `quantity` rests on; all of them must bear it out.

    `published` is the claimed value as text. Raises NotMeasuredError with the reason.
    """
    if quantity in SUPPLIED:
        if quantity not in evidence.extra:
            raise NotMeasuredError("not measured yet: the store cannot say it, and no probe has supplied it")
        values = np.asarray(evidence.extra[quantity], "float64")
        return [Measured([np.atleast_1d(values)], SUPPLIED[quantity], exact=values.ndim == 0)]
    if quantity in DIFFERENCES:
        return _difference(evidence, *DIFFERENCES[quantity])
    for pattern, function in QUANTITIES:
        if match := re.fullmatch(pattern, quantity):
            return function(evidence, *match.groups(), published=published)
    raise NotMeasuredError(f"no measurement of {quantity} is defined")


def parameter_count(label, evidence):
    """(parameters of `label`, how known): by formula, and as counted in its trained model if there is one."""
    defined = {trial.label: trial for study in studies.STUDIES.values() for trial in study.trials}
    if label not in defined:
        raise NotMeasuredError(f"no model called {label} is defined")
    if label.startswith("mars_cnn"):
        published = dataclasses.replace(defined[label], dataset="mars")
        return formula_of(published), "by formula, for the published 128x128 pixels"
    formula = formula_of(defined[label])
    trained = evidence.rows[evidence.rows["label"] == label]
    if trained.empty:
        return formula, "by formula"
    counted = int(trained["parameters"].iloc[0])
    if counted == formula:
        return counted, "by formula, and counted in the trained model"
    return counted, f"counted in the trained model, where the formula gives {formula:,}"


def formula_of(trial):
    """Parameters of the network of `trial`, by formula, for the images and classes of its data set."""
    input_shape, num_classes = SHAPES[trial.dataset]
    return expected_parameters(trial.model, input_shape=input_shape, num_classes=num_classes, **trial.options)


def _parameters(evidence, label, **_):
    count, source = parameter_count(label, evidence)
    return [Measured.exactly(count, "count", source)]


def _epoch(label):
    """Published CIFAR-10 runs were scored after their last epoch, the Mars ones after early stopping."""
    return "best" if label.startswith("mars_") else "last"


def _score(evidence, label, split, kind, **_):
    epoch = "last" if split == "train" else _epoch(label)
    label = LONGER if label == CNN else label
    values = evidence.runs(label)[f"{split}_{kind}_{epoch}"].to_numpy()
    note = f"{readable(label)}{_size(label)}, {'last' if epoch == 'last' else 'best validation'} epoch"
    return [Measured([values], "share" if kind == "accuracy" else "number", note)]


def _size(label):
    """The published Mars networks with convolutions took pictures of 128 pixels, the lab's take smaller ones."""
    return ", 64x64 pixels" if label.startswith("mars_cnn") else ""


def _difference(evidence, first, *others):
    """Test accuracy of `first` minus that of each of `others`, paired by seed."""
    contrasts = [evidence.differences(first, other, f"test_accuracy_{_epoch(first)}") for other in others]
    note = f"{readable(first)} minus {listing(map(readable, others))}, {_epoch(first)} epoch"
    return [Measured(contrasts, "points", note)]


def _versus(evidence, first, second, part, **_):
    """What `first` has more in accuracy, and fewer in parameters: `part` names one of them, or is None for both."""
    found = [] if part == "params" else _difference(evidence, first, second)
    if part != "test_accuracy":
        (few, _), (many, _) = (parameter_count(label, evidence) for label in (first, second))
        found.append(Measured.exactly(many - few, "fewer", f"{few:,} against {many:,} parameters"))
    return found


def _ranking(evidence, **_):
    """Each step of the filter sweep, all at 10 epochs; beside it, what the published 15 are worth."""
    labels = [trial.label for trial in studies.find_study("filters").trials]
    steps = [evidence.differences(later, earlier) for earlier, later in pairwise(labels)]
    longer = measures.t_interval(evidence.differences(LONGER, CNN))
    worth = with_interval(longer.mean, longer.low, longer.high, signed_points)
    note = (
        f"each step at 10 epochs, at the last of them (the published {readable(CNN)} had 15, which are worth {worth} "
        "percentage points)"
    )
    return [Measured(steps, "points", note)]


def _pixels(evidence, statistic, **_):
    if statistic not in evidence.pixels:
        raise NotMeasuredError("the images were not at hand")
    return [Measured.exactly(evidence.pixels[statistic], "number", "all pixels of training and validation together")]


def _plateau_epoch(evidence, label, **_):
    """First epoch whose validation accuracy is within PLATEAU_TOLERANCE of the best of its run."""
    curves = [np.array(evidence.histories[key]["val_accuracy"]) for key in evidence.runs(label)["key"]]
    epochs = [np.argmax(curve >= curve.max() - PLATEAU_TOLERANCE) + 1 for curve in curves]
    note = f"first epoch within {100 * PLATEAU_TOLERANCE:g} percentage point of the run's best validation accuracy"
    return [Measured([np.array(epochs, "float64")], "number", note)]


def _mostly_sure(evidence, **_):
    shares = np.array([np.mean(sure[said == evidence.labels] > SURE) for said, sure in evidence.answers(LONGER)])
    note = f"{readable(LONGER)}: {percent(shares.mean())} of correct answers, less the half that 'most' asks for"
    return [Measured([shares - 0.5], "points", note)]


def _confusion(evidence, name, published):
    """Share of class `name` taken for the claimed class, less that for its strongest rival."""
    answers = evidence.answers(LONGER)
    for known in (name, published):
        if known not in evidence.class_names:
            raise NotMeasuredError(f"the data has no class {known}")
    rows = [measures.confusion_counts(evidence.labels, said, evidence.class_names).loc[name] for said, _ in answers]
    shares = pd.DataFrame(rows).div(np.sum(evidence.labels == evidence.class_names.index(name)))
    means = shares.mean()
    rival = means.drop([name, published]).idxmax()
    taken = f"{name} taken for {published} in {percent(means[published])}, for {rival} in {percent(means[rival])}"
    return [Measured([(shares[published] - shares[rival]).to_numpy()], "points", f"{readable(LONGER)}: {taken}")]


# Quantities that the store cannot say, and their units: `extra` supplies them.
SUPPLIED = {
    "cnn_32_64_128.relu_zero_fraction": "share",
    "shift.cnn_accuracy_drop": "points",
    "mars.images": "count",
    "mars.classes": "count",
}
# Differences in test accuracy: of the first label and each of the others.
DIFFERENCES = {
    "cnn_minus_dense.test_accuracy_pp": (LONGER, "dense_128_64"),
    "kernel_5_minus_3.test_accuracy_pp": ("cnn_32_64_k5", "cnn_32_64_k3"),
    "kernel_3_vs_5.test_accuracy": ("cnn_32_64_k3", "cnn_32_64_k5"),
    "mars_kernels.best": ("mars_cnn_k3", "mars_cnn_k5", "mars_cnn_k7", "mars_cnn_k3to5"),
}
# A pattern for the whole name of a quantity, and the function that measures it: (evidence,
# *groups of the pattern, published) -> list of Measured. The first that fits counts.
QUANTITIES = (
    (r"(\w+)_vs_(dense_\d+_\d+)(?:\.(params|test_accuracy))?", _versus),
    (r"filters\.ranking", _ranking),
    (r"(\w+)\.params", _parameters),
    (r"(\w+)\.(test|val|train)_(accuracy|loss)", _score),
    (r"pixels\.(mean|std)", _pixels),
    (r"(\w+)\.plateau_epoch", _plateau_epoch),
    (r"confidence\.correct_above_0_8", _mostly_sure),
    (r"confusion\.(\w+)", _confusion),
)
