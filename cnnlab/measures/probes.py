"""Probes: the biases of convolution, measured on trained networks; run, resume, read back.

What a probe computes is in the files beside this one; permutation and sample size are studies.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cnnlab import data, studies
from cnnlab.machine import atomic_file, release
from cnnlab.measures.attribution import images_at_once, trust_in_maps
from cnnlab.measures.biases import equivariance, shift_accuracy, tabular_answers
from cnnlab.measures.calibration import conformal_coverage, reliability
from cnnlab.measures.corruptions import accuracy_of, accuracy_when_changed
from cnnlab.measures.exploration import nearest_answers
from cnnlab.measures.inspection import first_layer_change, zero_activations
from cnnlab.measures.receptive_fields import effective_field
from cnnlab.studies import Store, find_budget, trained_model
from cnnlab.training import Trial, initial_network, predict

# Under the folder of a budget.
PROBES_FOLDER = Path("results") / "probes"
# Images at most. Shifts: 64 passes over these take a minute or two on two cores. Equivariance, fields and activations:
# enough that an equivariance error or a share of zeros is known to three digits, and a statistic's variance to four.
# Maps cost some hundred passes per image. Corruptions: 48 passes of the recipe's network over these take half a minute.
SHIFT_IMAGES, EQUIVARIANCE_IMAGES, FIELD_IMAGES, MAP_IMAGES = 5_000, 100, 500, 50
ACTIVATION_IMAGES, CORRUPTED_IMAGES, OWN_IMAGES = 1_000, 1_000, 2_000
# Columns of every probe's rows.
COLUMNS = ["label", "seed", "key", "version"]
# In place of a trial's key where a probe trains its own small models.
NO_TRIAL = "none"
# Rows from before probes had a version carry a hash of the source text that measured them.
VERSION_OF_CODE = dict.fromkeys(
    ("fa802b58e1c3", "57888bcc3cfe", "e52f2d36a794", "a9a07995ef38", "94386f0fd6ba", "7882016ef00a"), 1
)


@dataclasses.dataclass(frozen=True)
class Probe:
    """A question put to trained networks, or to a table.

    `measure`: a function of (model, `data.Dataset`, images at most), or of a seed where there are no `trials`, that
    returns a DataFrame; `trials`: the trainings whose models are asked, each with its first seed; `version` rises when
    the measured numbers change: rows of another version are measured again; `with_start`: whether `measure` takes,
    after the model, the network that its training began with.
    """

    name: str
    question: str
    measure: Callable[..., pd.DataFrame]
    trials: tuple[Trial, ...]
    seeds: int = 5
    version: int = 1
    with_start: bool = False

    def parts(self, seeds, key):
        """{(seed, key): Trial or None} to measure for the first `seeds` seeds; `key(trial)` names its files.

        A linear probe has one seed, because nothing in it is random.
        """
        if not self.trials:
            return {(seed, NO_TRIAL): None for seed in range(seeds)}
        trials = [
            dataclasses.replace(trial, seed=trial.seed + turn)
            for turn in range(seeds)
            for trial in self.trials
            if turn == 0 or trial.model != "probe"
        ]
        return {(trial.seed, key(trial)): trial for trial in trials}


def _on(split, count, function, labelled=False):
    """`function` of (model, images), and of their labels if `labelled`, on the first `count` images of `split`.

    What is not a score is measured on validation images, so that the test set stays closed.
    """

    def measure(*asked):
        *models, dataset, limit = asked
        images, labels = dataset.split(split, min(count, limit or count, len(dataset.splits[split])))
        return function(*models, images, labels) if labelled else function(*models, images)

    return measure


def _calibration(model, dataset, limit):
    return reliability(model, dataset.split("validation", limit), dataset.split("test", limit))


def _conformal(model, dataset, limit):
    parts = [dataset.split(name, limit)[0] for name in ("validation", "test")]
    return conformal_coverage(dataset, *(predict(model, images, images_at_once(images)) for images in parts))


BOTH = (studies.DENSE, studies.CNN)
PROBES = {
    probe.name: probe
    for probe in (
        Probe(
            "shift", "Does it matter where in the image a thing is?",
            _on("test", SHIFT_IMAGES, shift_accuracy, labelled=True), BOTH,
        ),
        Probe(
            "equivariance", "Do the features move with the image?",
            _on("validation", EQUIVARIANCE_IMAGES, equivariance), BOTH,
        ),
        Probe(
            "receptive_field", "How much of what a unit could see matters to it?",
            _on("validation", FIELD_IMAGES, effective_field), (studies.CNN,),
        ),
        Probe("tabular", "Does convolution help where neighbours mean nothing?", tabular_answers, ()),
        Probe(
            "activations", "How much of a network is inactive?",
            _on("validation", ACTIVATION_IMAGES, zero_activations), BOTH,
        ),
        Probe("calibration", "Is a network right as often as its confidence says?", _calibration, BOTH, version=2),
        Probe(
            "conformal", "How many classes must it name to be right nine times in ten?", _conformal,
            (*BOTH, studies.MARS_MIRRORED),
        ),
        Probe(
            "attribution", "Do maps of where an answer comes from show what it rests on?",
            _on("test", MAP_IMAGES, trust_in_maps), BOTH,
        ),
        Probe(
            "corruptions", "How much accuracy is left on worse images?",
            _on("test", CORRUPTED_IMAGES, accuracy_when_changed, labelled=True),
            (*BOTH, studies.RECIPES[studies.CORRUPTED_RECIPE]),
        ),
        Probe(
            "first_layer", "Do pictures of the first filters show what was learned?",
            _on("validation", FIELD_IMAGES, first_layer_change), (studies.CNN, studies.MARS_CNN), with_start=True,
        ),
        Probe("nearest", "How far does memory get without learning?", nearest_answers, ()),
    )
}  # fmt: skip


def find_probe(name):
    """The probe called `name`; ValueError listing the known names for any other."""
    if name in ("permutation", "sample_size"):
        raise ValueError(f"{name} trains networks of its own, so it is a study: python -m cnnlab study {name}")
    if name not in PROBES:
        raise ValueError(f"no probe is called {name!r}; expected one of {', '.join(PROBES)}")
    return PROBES[name]


def measure_probe(name, model, dataset, trial, limit=None):
    """Rows of probe `name` for a `model` already loaded, with the columns label and seed before the probe's own.

    `trial` gives label and seed; `limit`: images at most (None: the trial's own limit).
    """
    probe = find_probe(name)
    asked = (model, initial_network(trial.resolved(), dataset)) if probe.with_start else (model,)
    return _labelled(probe.measure(*asked, dataset, limit or trial.eval_images), trial)


def measure_images(path, seeds=1, store=None, models_folder=None, progress=True):
    """Accuracy of the networks of the probe `corruptions` on a user's own images; none of it is recorded.

    `path`: as in `data.load_variants`; at most OWN_IMAGES of each kind and strength are used. The others are as in
    `run_probe`. Returns a DataFrame: label, seed, kind, strength, images, accuracy. Raises BadDataError before any
    training where the images cannot be read.
    """
    sets, budget = data.load_variants(path, OWN_IMAGES), find_budget("full")
    store, rows = store or Store(budget.store_folder), []
    for trial in PROBES["corruptions"].parts(seeds, store.key).values():
        model = trained_model(trial, models_folder or budget.models_folder, store, progress)
        rows.append(_labelled(accuracy_of(model, sets), trial))
    return pd.concat(rows, ignore_index=True)


def _labelled(rows, trial):
    rows.insert(0, "label", trial.label)
    rows.insert(1, "seed", trial.seed)
    return rows


def run_probe(name, seeds=None, store=None, models_folder=None, results_folder=None, progress=True):
    """Measure what `results_folder` still lacks of probe `name` for `seeds` seeds; returns `read_probe`'s frame.

    `seeds`: how many, from the first (None: as many as the record holds); `store`, the `Store` of the trials' rows,
    `models_folder`, see `studies.trained_model`, and `results_folder`: None for those of the record. The file is
    rewritten as a whole after each model, so a killed run resumes where it was. Rows of another version or of other
    models are dropped.
    """
    probe, budget = find_probe(name), find_budget("full")
    seeds = probe.seeds if seeds is None else seeds
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; expected at least 1")
    store, models_folder = store or Store(budget.store_folder), models_folder or budget.models_folder
    path = Path(results_folder or budget.folder / PROBES_FOLDER) / f"{name}.csv"
    rows = read_probe(name, path.parent)
    rows = rows[rows["version"] == probe.version]
    known = dict(list(rows.groupby(["seed", "key"], sort=False)))
    # Rows recorded for further seeds are kept.
    order = probe.parts(max(seeds, rows["seed"].nunique()), store.key)
    done = {part: known[part] for part in order if part in known}
    wanted = probe.parts(seeds, store.key)
    for (seed, key), trial in wanted.items():
        if (seed, key) in done:
            continue
        if progress:
            print(f"{name}: seed {seed}, {trial.label if trial else 'its own models'}", flush=True)
        if trial:
            model = trained_model(trial, models_folder, store, progress)
            rows = measure_probe(name, model, data.load(trial.dataset, seed), trial)
        else:
            rows = probe.measure(seed)
            rows.insert(1, "seed", seed)
        done[seed, key] = rows.assign(key=key, version=probe.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:  # Six digits are enough.
            pd.concat([done[part] for part in order if part in done]).to_csv(partial, index=False, float_format="%.6g")
        release()
    rows = read_probe(name, path.parent)
    return rows[[part in wanted for part in zip(rows["seed"], rows["key"], strict=True)]].reset_index(drop=True)


def read_probe(name, folder=None):
    """The recorded rows of probe `name` in `folder` (None: the record's): a tidy frame, empty where there are none.

    Columns: label, seed, those of the probe's function, key (of the trial whose model was asked) and version (of the
    probe). Raises ValueError for an unknown probe or a file that is not a record.
    """
    find_probe(name)
    path = Path(folder or find_budget("full").folder / PROBES_FOLDER) / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    try:
        rows = pd.read_csv(path, dtype={"key": str, "code_version": str}, keep_default_na=False, na_values=[""])
    except ValueError as error:  # pandas' ParserError and EmptyDataError are ValueErrors.
        raise ValueError(f"{path} is not a table; delete it and run `python -m cnnlab probe {name}`") from error
    if "code_version" in rows:
        rows = rows.assign(version=rows["code_version"].map(VERSION_OF_CODE)).drop(columns="code_version")
    if missing := set(COLUMNS) - set(rows):
        lacking = ", ".join(sorted(missing))
        raise ValueError(f"{path} has no column {lacking}; delete it and run `python -m cnnlab probe {name}`")
    return rows
