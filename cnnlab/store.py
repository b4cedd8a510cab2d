"""Finished trials on disk: one row and one file of predictions each, written whole or not at all."""

import contextlib
import json
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from cnnlab.machine import atomic_file
from cnnlab.trials import trial_key


class Store:
    """A folder with `<key>.json` (the row and the training curves) and `<key>.npz` (predictions).

    The key hashes a trial's whole configuration and the training code, so that a row is found
    by nothing but what made it. Rows appear by renaming a complete file; a killed process
    leaves at most a `.partial` file, which nobody reads. `key`: the function that names a
    trial's result; trials of another kind (`recipes.recipe`) have a folder and a key of their own.
    """

    def __init__(self, folder, key=trial_key):
        self.folder, self.key = Path(folder), key

    def __contains__(self, trial):
        return self._row_path(self.key(trial)).exists()

    def save(self, result):
        """Write a `training.TrialResult` or `recipes.running.RecipeResult`.

        Predictions first, because the row says that all is there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.key(result.trial)
        test = result.probabilities["test"]
        with _whole(self._predictions_path(key), "wb") as file:
            # The class and its confidence: what intervals, paired tests and calibration need.
            np.savez_compressed(
                file, predicted=test.argmax(axis=1).astype("uint8"), confidence=test.max(axis=1).astype("float16")
            )
        curves = {name: [round(value, 5) for value in values] for name, values in result.history.items()}
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"key": key, **result.row, "finished": finished, "history": curves}
        with _whole(self._row_path(key), "w") as file:
            json.dump(record, file, indent=1)

    def records(self):
        """Every stored row as a dict, "history" included; an unreadable one is named and left out."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")))
            except ValueError:
                warnings.warn(
                    f"{path} is not a whole row and is left out; delete it to run its trial again", stacklevel=2
                )
        return found

    def row(self, trial):
        """The row of `trial`; KeyError where it has none."""
        path = self._row_path(self.key(trial))
        if not path.exists():
            raise KeyError(f"{self.folder} holds no result of {trial.label}, seed {trial.seed}")
        return json.loads(path.read_text(encoding="utf-8"))

    def predictions(self, key):
        """{"predicted": uint8 (n,), "confidence": float16 (n,)} on the test set, in its order."""
        with np.load(self._predictions_path(key), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    @contextlib.contextmanager
    def claim(self, trial):
        """True within the block when no other process is at work on `trial`; released even by kill -9."""
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{self.key(trial)}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def checkpoint_path(self, trial):
        """Where the unfinished training of `trial` keeps its state."""
        return self.folder / ".checkpoints" / f"{self.key(trial)}.npz"

    def check_writable(self):
        """Raise OSError at once, rather than after an hour of training, if nothing can be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        probe = self.folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()

    def _row_path(self, key):
        return self.folder / f"{key}.json"

    def _predictions_path(self, key):
        return self.folder / f"{key}.npz"


def select(records, trials, code_version=None):
    """The rows of `trials` among `records`, as one tidy frame that mixes no two code versions.

    Rows match on everything that decides a result but precision (a record made in bfloat16 is
    read on a machine without it). Of the (code version, precision) groups that match, the most
    complete one is taken, and among equals the one of `code_version`.
    Returns a DataFrame, one row a trial, with the trial's label, in the order of `trials`;
    empty where nothing matches. `frame.attrs["code_version"]` says whose rows they are.
    """
    order = {_identity(trial.configuration()): (place, trial.label) for place, trial in enumerate(trials)}
    deciding = trials[0].configuration() if trials else ()
    groups = {}
    for record in records:
        if (identity := _identity({name: record.get(name) for name in deciding})) in order:
            group = groups.setdefault((record["code_version"], record["precision"]), {})
            group[identity] = record
    if not groups:
        return pd.DataFrame()
    best = max(groups, key=lambda version: (len(groups[version]), version[0] == code_version))
    rows = [
        {**record, "label": order[identity][1], "place": order[identity][0]}
        for identity, record in groups[best].items()
    ]
    frame = pd.DataFrame(rows).sort_values("place", ignore_index=True).drop(columns=["place", "history"])
    frame.attrs["code_version"] = best[0]
    return frame


def _identity(configuration):
    """All that decides a result but the precision, as one text."""
    return json.dumps({name: value for name, value in configuration.items() if name != "precision"}, sort_keys=True)


@contextlib.contextmanager
def _whole(path, mode):
    """A file that appears under its name complete, and on the disk, or not at all."""
    with atomic_file(path) as partial, partial.open(mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
