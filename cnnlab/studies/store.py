"""Finished trials on disk: one row and one file of predictions each, written whole or not at all."""

import collections
import contextlib
import dataclasses
import functools
import json
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from cnnlab.machine import atomic_file, check_writable
from cnnlab.training import PROTOCOL, Trial, trial_key

# Rows from before protocol numbers have a hash of the source text that trained them.
PROTOCOL_OF_CODE = {"abc3ba1c98a6": 1, "cf0cbabefe64": 1}
FIELDS = tuple(field.name for field in dataclasses.fields(Trial))


class Store:
    """A folder with `<key>.json` (the row and the training curves) and `<key>.npz` (predictions).

    A row is found by its contents: the configuration of its trial, with defaults filled in and the
    label left out, the protocol, and the version of the data. Rows appear by renaming a complete
    file; a killed process leaves at most a `.partial` file, which is never read.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self._seen = {}

    def __contains__(self, trial):
        return self.find(trial) is not None

    def find(self, trial, data_version=None):
        """The row of `trial` in this machine's precision and the current protocol, as a dict, or None.

        `data_version`: the `Dataset.fingerprint` that it must have (None: any).
        """
        trial = trial.resolved()
        identity, cheap = trial.identity, (trial.seed, trial.precision)
        for record in self.records():
            if (
                (record.get("seed"), record.get("precision")) == cheap
                and PROTOCOL in protocols_of(record)
                and data_version in (None, record.get("data_version"))
                and identity_of(record) == identity
            ):
                return record
        return None

    def key(self, trial, data_version=None):
        """The key that names the files of `trial`: that of the row that `find` returns, or of its next training."""
        found = self.find(trial, data_version)
        return found["key"] if found else trial_key(trial)

    def save(self, result):
        """Write a `training.Result`.

        Predictions first, because the row means that everything is there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        key = trial_key(result.trial, result.row["data_version"]) if self._is_taken(result) else trial_key(result.trial)
        answers = _answers(result.probabilities["test"])
        if "validation" in result.probabilities:
            unseen = _answers(result.probabilities["validation"])
            answers |= {f"validation_{name}": values for name, values in unseen.items()}
        with _whole(self._predictions_path(key), "wb") as file:
            np.savez_compressed(file, **answers)
        curves = {name: [round(value, 5) for value in values] for name, values in result.history.items()}
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"key": key, **result.row, "finished": finished, "history": curves}
        with _whole(self._row_path(key), "w") as file:
            json.dump(record, file, indent=1)

    def records(self):
        """Every stored row as a dict, "history" included; an unreadable one is left out with a warning."""
        found = {}
        for entry in self._entries():
            changed = entry.stat().st_mtime_ns
            before, record = self._seen.get(entry.name, (None, None))
            found[entry.name] = changed, record if before == changed else _read(self.folder / entry.name)
        self._seen = found
        return [record for _, record in found.values() if record is not None]

    def _entries(self):
        """The `os.DirEntry` of each row's file, sorted by name."""
        try:
            with os.scandir(self.folder) as entries:
                rows = [entry for entry in entries if entry.name.endswith(".json")]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []
        return sorted(rows, key=lambda entry: entry.name)

    def row(self, trial):
        """The row of `trial`; KeyError where it has none."""
        found = self.find(trial)
        if found is None:
            raise KeyError(f"{self.folder} holds no result of {trial.label}, seed {trial.seed}")
        return found

    def predictions(self, key):
        """{"predicted": uint8 (n,), "confidence": float16 (n,)} on the test set, in its order.

        Also "validation_predicted" and "validation_confidence", if the row was saved with them.
        With more than 256 classes, the predicted class is uint16.
        """
        with np.load(self._predictions_path(key), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    @contextlib.contextmanager
    def claim(self, trial):
        """Claim `trial` within the block; True if no other process is working on it. Released even by kill -9."""
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{trial_key(trial)}.lock")
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def checkpoint_path(self, trial):
        """Where the unfinished training of `trial` keeps its state."""
        return self.folder / ".checkpoints" / f"{trial_key(trial)}.npz"

    def check_writable(self):
        """Raise OSError at once, rather than after an hour of training, if nothing can be written."""
        check_writable(self.folder)

    def _is_taken(self, result):
        """Whether the trial's own key already names a row on other data."""
        path = self._row_path(trial_key(result.trial))
        record = _read(path) if path.exists() else None
        return record is not None and record.get("data_version") != result.row["data_version"]

    def _row_path(self, key):
        return self.folder / f"{key}.json"

    def _predictions_path(self, key):
        return self.folder / f"{key}.npz"


def select(records, trials):
    """The rows of `trials` among `records`, as one tidy frame of one protocol and one version of the data.

    Rows match on everything that decides a result. Where trials leave the precision to the machine,
    their rows may be of any one precision: the most complete (protocol, precision) group is taken. Of one data
    set and seed, the rows of the most frequent data version are taken; on a tie, of the one trained last.
    Returns a DataFrame, one row a trial, with the trial's label, in the order of `trials`, those with
    a precision of their own first; empty if nothing matches. `frame.attrs["protocol"]` is the protocol of its rows.
    If some were trained on a GPU and others not, only the latter keep their times: the two are not comparable.
    """
    wanted = {(trial.identity, trial.precision): (place, trial.label) for place, trial in enumerate(trials)}
    groups, exact = (collections.defaultdict(lambda: collections.defaultdict(list)) for _ in range(2))
    for record in records:
        identity, precision = identity_of(record), record.get("precision")
        for protocol in protocols_of(record):
            if (identity, "auto") in wanted:
                groups[protocol, precision][identity, "auto"].append(record)
            if (identity, precision) in wanted:
                exact[protocol][identity, precision].append(record)
    if not groups and not exact:
        return pd.DataFrame()
    if groups:
        protocol, precision = max(groups, key=lambda group: (len(groups[group]), group[0]))
    else:
        protocol, precision = max(exact, key=lambda protocol: (len(exact[protocol]), protocol)), None
    chosen = _of_one_version({**exact[protocol], **groups[protocol, precision]})
    rows = [
        {**record, "label": wanted[known][1], "place": (known[1] == "auto", wanted[known][0])}
        for known, record in chosen.items()
    ]
    frame = pd.DataFrame(rows).sort_values("place", ignore_index=True).drop(columns=["place", "history"])
    frame.attrs["protocol"] = protocol
    return _with_comparable_times(frame)


class _Row(dict):
    """A row as it was read; its identity, which means checking all of it, is computed once."""

    @functools.cached_property
    def identity(self):
        try:
            return Trial(**{name: value for name, value in _modern(self).items() if name in FIELDS}).identity
        except (TypeError, ValueError, KeyError):
            return None


def identity_of(record):
    """`Trial.identity` of the trial of a stored row; None if that is not a valid Trial."""
    return (record if isinstance(record, _Row) else _Row(record)).identity


def protocols_of(record):
    """The protocol numbers under which a stored row is valid; none if its code is unknown."""
    own = record.get("protocol", PROTOCOL_OF_CODE.get(record.get("code_version")))
    if own is None:
        return ()
    # Protocol 2 changed the statistics that normalisations are scored with, and nothing in networks without any.
    normalised = record.get("batch_norm") or (record.get("options") or {}).get("batch_norm")
    return (own, 2) if own == 1 and not normalised else (own,)


def _with_comparable_times(frame):
    """`frame` without the times of trainings on a GPU, if it also has others."""
    on_gpu = frame.get("accelerator", pd.Series("none", frame.index)).fillna("none") != "none"
    times = [column for column in frame if column.startswith(("seconds", "cpu_seconds"))]
    return frame if on_gpu.all() or not on_gpu.any() else frame.assign(**frame[times].mask(on_gpu))


def _answers(probabilities):
    """The class and its confidence: what intervals, paired tests, calibration and a vote need."""
    return {
        "predicted": probabilities.argmax(axis=1).astype(np.min_scalar_type(probabilities.shape[1] - 1)),
        "confidence": probabilities.max(axis=1).astype("float16"),
    }


def _modern(record):
    """`record` with the fields of today's Trial: rows from when there were several kinds had other names."""
    if "network" in record:
        blocks = record["network"] == "blocks"
        names = ("depth", "batch_norm", "activation", "whitening", "dirac") if blocks else ("batch_norm",)
        options = {"filters": record["widths"], **{name: record[name] for name in names}}
        return {**record, "model": "blocks" if blocks else "cnn", "options": options, "keep": "last"}
    if record.get("augment", "none") != "none":
        raise ValueError(f"augment is {record['augment']!r}, of which no row is kept")
    return record


def _of_one_version(records):
    """{key: one row} of `records` {key: rows}, all of one data version for each data set and seed.

    The version that most keys have; on a tie, the one trained last.
    """
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for known, rows in records.items():
        for row in rows:
            found[row["dataset"], row["seed"]][row.get("data_version")][known] = row

    def rank(rows):
        return len(rows), max(row.get("finished", "") for row in rows.values())

    chosen = [max(versions.values(), key=rank) for versions in found.values()]
    return {known: row for rows in chosen for known, row in rows.items()}


def _read(path):
    try:
        return _Row(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        warnings.warn(f"{path} is not a complete row and is left out; delete it to run its trial again", stacklevel=4)
        return None


@contextlib.contextmanager
def _whole(path, mode):
    """A file that appears under its name complete and synced to disk, or not at all."""
    with atomic_file(path) as partial, partial.open(mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
