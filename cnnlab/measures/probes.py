"""Probes: the biases of convolution, measured on trained networks; run, resume, read back.

What a probe computes stands in the files beside this one; permutation and sample size need
trainings of their own and are studies.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cnnlab import data
from cnnlab.machine import atomic_file, release
from cnnlab.measures.calibration import referral_curve, reliability
from cnnlab.measures.inspection import FIELD_IMAGES, effective_field, zero_activations
from cnnlab.measures.shift import EQUIVARIANCE_IMAGES, SHIFT_IMAGES, equivariance, shift_accuracy
from cnnlab.measures.tabular import tabular_answers
from cnnlab.studies import CNN, DENSE, FLIP_AND_TRANSLATE, RECIPES, STUDY_SEEDS, Store, find_budget, trained_model
from cnnlab.training import ShuffledBatches, Trial, accuracy, predict, renew_statistics

# Training images that statistics are computed anew from, in batches of BATCH: enough for four digits of a variance.
STATISTICS_IMAGES, STATISTICS_BATCH = 10_000, 250
# What the statistics are of, beside those that training left.
AUGMENTATIONS = {"plain": {}, "augmented": FLIP_AND_TRANSLATE}


def normalisation_accuracy(model, training, validation):
    """Accuracy of `model` with the statistics that training left, and with those of its final weights.

    `training`, `validation`: (uint8 images (n, height, width, channels), integer labels (n,)).
    Returns a DataFrame, a row for each of "running" (as training left them), "plain" and
    "augmented" (computed anew from the training images, as they are or mirrored and moved), with
    columns statistics, accuracy (on the validation images), images. `model` is left as it was.
    """
    images, labels = validation
    kept = model.get_weights()
    accuracies = {"running": accuracy(predict(model, images), labels)}
    for name, augmentation in AUGMENTATIONS.items():
        batch_size = min(STATISTICS_BATCH, len(training[0]))
        renew_statistics(model, ShuffledBatches(*training, batch_size, seed=0, **augmentation))
        accuracies[name] = accuracy(predict(model, images), labels)
        model.set_weights(kept)
    rows = [{"statistics": name, "accuracy": share} for name, share in accuracies.items()]
    return pd.DataFrame(rows).assign(images=len(images))


# Under the folder of a budget.
PROBES_FOLDER = Path("results") / "probes"
# Enough that the share of zeros is known to three digits: each image has tens of thousands of activations.
ACTIVATION_IMAGES = 1_000
# In place of a trial's key where a probe trains its own small models.
NO_TRIAL = "none"
# Rows from before probes had a version have a hash of the source text that measured them.
VERSION_OF_CODE = dict.fromkeys(
    ("fa802b58e1c3", "b34c5a425f94", "57888bcc3cfe", "e52f2d36a794", "a9a07995ef38", "94386f0fd6ba", "7882016ef00a"), 1
)


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question to trained networks, or to a table.

    `measure`: (model, `data.Dataset`, images at most) to a DataFrame, or a seed to one where
    there are no `trials`; `trials`: whose models are asked, with seed 0; `version` rises with the
    numbers that are measured: rows of another one are measured anew.
    """

    name: str
    question: str
    measure: Callable[..., pd.DataFrame]
    trials: tuple[Trial, ...]
    seeds: int = 5
    version: int = 1

    def parts(self, seeds, key):
        """{(seed, key): Trial or None} of what is measured for seeds 0 to `seeds` - 1; `key`: of a trial's files."""
        found = {}
        for seed in range(seeds):
            for trial in self.trials:
                trial = dataclasses.replace(trial, seed=seed)
                found[seed, key(trial)] = trial
            if not self.trials:
                found[seed, NO_TRIAL] = None
        return found


def _shift(model, dataset, limit):
    count = min(SHIFT_IMAGES, limit or len(dataset.splits["test"]), len(dataset.splits["test"]))
    return shift_accuracy(model, *dataset.split("test", count))


def _equivariance(model, dataset, limit):
    return equivariance(model, _sample(dataset, EQUIVARIANCE_IMAGES, limit))


def _receptive_field(model, dataset, limit):
    return effective_field(model, _sample(dataset, FIELD_IMAGES, limit))


def _calibration(model, dataset, limit):
    return reliability(model, dataset.split("validation", limit), dataset.split("test", limit))


def _risk_coverage(model, dataset, limit):
    return referral_curve(model, dataset.split("test", limit))


def _activations(model, dataset, limit):
    return zero_activations(model, _sample(dataset, ACTIVATION_IMAGES, limit))


def _normalisation(model, dataset, limit):
    count = min(STATISTICS_IMAGES, limit or STATISTICS_IMAGES, len(dataset.splits["train"]))
    return normalisation_accuracy(model, dataset.split("train", count), dataset.split("validation", limit))


def _sample(dataset, count, limit):
    """A few validation images: what is measured is no score, and leaves the test set closed."""
    return dataset.split("validation", min(count, limit or count, len(dataset.splits["validation"])))[0]


BOTH = (DENSE, CNN)
# The walk from its first normalisation to the first step whose learning rate falls to the end.
NORMALISED = tuple(RECIPES[label] for label in ("batch_norm", "flip_translate", "blocks", "sgd"))
PROBES = {
    probe.name: probe
    for probe in (
        Probe("shift", "Does it matter where in the image a thing is?", _shift, BOTH),
        Probe("equivariance", "Do the features move with the image?", _equivariance, BOTH),
        Probe("receptive_field", "How much of what a unit could see matters to it?", _receptive_field, (CNN,)),
        Probe("tabular", "Is convolution of use where neighbours mean nothing?", tabular_answers, ()),
        Probe("activations", "How much of a network is silent?", _activations, BOTH),
        Probe("calibration", "Is a network right as often as it is sure?", _calibration, BOTH),
        Probe(
            "risk_coverage", "How good are the answers if the doubtful images go to a human?", _risk_coverage, BOTH
        ),
        Probe(
            "normalisation", "Are a normalisation's statistics those of the weights that they are used with?",
            _normalisation, NORMALISED, STUDY_SEEDS,
        ),
    )
}  # fmt: skip


def find_probe(name):
    """The probe called `name`; ValueError with the names there are."""
    if name in ("permutation", "sample_size"):
        raise ValueError(f"{name} needs trainings of its own: it is a study (python -m cnnlab study {name})")
    if name not in PROBES:
        raise ValueError(f"no probe is called {name!r}; expected one of {', '.join(PROBES)}")
    return PROBES[name]


def measure_probe(name, model, dataset, trial, limit=None):
    """Rows of probe `name` for a `model` that is at hand: what `run_probe` records of each.

    `trial` tells its label and seed; `limit`: images at most (None: the trial's own limit).
    Returns the tidy frame of the probe's function, with the columns label and seed before it.
    """
    rows = find_probe(name).measure(model, dataset, limit or trial.eval_images)
    rows.insert(0, "label", trial.label)
    rows.insert(1, "seed", trial.seed)
    return rows


def run_probe(name, seeds=None, store=None, models_folder=None, results_folder=None, budget=None, progress=True):
    """Measure what `results_folder` does not hold yet of probe `name` for `seeds` seeds, and read it back.

    `seeds`: how many, from 0 (None: as many as the record holds); `budget`: a `studies.Budget`
    that cuts the trials down (None: the full protocol), and says where `store`, the `Store` of
    the trials' rows, `models_folder` (see `studies.trained_model`; of the record, where none is given)
    and `results_folder` are unless they are given.
    The file appears whole, and again after each model: a killed run goes on where it was. Rows
    of another version or of other models are not kept beside new ones.
    Returns the tidy frame of `read_probe`, of those seeds.
    """
    probe, budget = find_probe(name), budget or find_budget("full")
    probe = dataclasses.replace(probe, trials=tuple(budget.limit(trial) for trial in probe.trials))
    seeds = probe.seeds if seeds is None else seeds
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; expected at least 1")
    store = store or Store(budget.store_folder)
    results_folder = results_folder or budget.folder / PROBES_FOLDER
    models_folder = models_folder or find_budget("full").models_folder
    path = _path(name, results_folder)
    wanted = probe.parts(seeds, store.key)
    done = _measured(path, probe, store)
    for part in [part for part in wanted if part not in done]:
        if progress:
            print(f"{name}: seed {part[0]}, {wanted[part].label if wanted[part] else 'its own models'}", flush=True)
        done[part] = _rows(probe, part, wanted[part], store, models_folder, progress)
        order = sorted(done, key=lambda part: part[0])
        _write(pd.concat([done[part] for part in order], ignore_index=True), path)
        release()
    rows = read_probe(name, results_folder)
    return rows[rows["seed"] < seeds].reset_index(drop=True)


def read_probe(name, folder=None):
    """The recorded rows of probe `name` in `folder` (None: the record's): a tidy frame, empty where there are none.

    Columns: label, seed, those of the probe's function, key (of the trial whose model was
    asked) and version (of the probe). Raises ValueError for an unknown probe
    or a file that is no record.
    """
    find_probe(name)
    path = _path(name, folder or find_budget("full").folder / PROBES_FOLDER)
    if not path.exists():
        return pd.DataFrame()
    try:
        rows = pd.read_csv(path, dtype={"key": str, "code_version": str}, keep_default_na=False, na_values=[""])
    except ValueError as error:  # pandas' ParserError and EmptyDataError are ValueErrors.
        raise ValueError(f"{path} is no table; delete it and run `python -m cnnlab probe {name}`") from error
    if "code_version" in rows:
        rows = rows.assign(version=rows["code_version"].map(VERSION_OF_CODE)).drop(columns="code_version")
    if missing := {"label", "seed", "key", "version"} - set(rows):
        lacking = ", ".join(sorted(missing))
        raise ValueError(f"{path} has no column {lacking}; delete it and run `python -m cnnlab probe {name}`")
    return rows


def _rows(probe, part, trial, store, models_folder, progress):
    seed, key = part
    if trial is None:
        rows = probe.measure(seed)
        rows.insert(1, "seed", seed)
    else:
        model = trained_model(trial, models_folder, store, progress)
        rows = measure_probe(probe.name, model, data.load(trial.dataset, seed), trial)
    return rows.assign(key=key, version=probe.version)


def _measured(path, probe, store):
    """{(seed, key): rows} of the file at `path` that this version would write again."""
    rows = read_probe(probe.name, path.parent)
    if rows.empty:
        return {}
    rows = rows[rows["version"] == probe.version]
    valid = probe.parts(int(rows["seed"].max()) + 1 if len(rows) else 0, store.key)
    return {part: group for part, group in rows.groupby(["seed", "key"], sort=False) if part in valid}


def _write(rows, path):
    """A file that appears under its name complete, or not at all; six digits are enough."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        rows.to_csv(partial, index=False, float_format="%.6g")


def _path(name, folder):
    return Path(folder) / f"{name}.csv"
