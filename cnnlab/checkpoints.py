"""The state of a training after an epoch, on disk, so that a killed one goes on from there."""

import json
from pathlib import Path

import numpy as np

from cnnlab.machine import atomic_file


class Checkpoint:
    """One file with all variables of a model and its optimizer, and a few facts beside them.

    `path`: the file, or None to keep nothing; `key`: whose state it is. A file of another
    key, or one that cannot be read, counts as none: training then starts at the beginning.
    """

    def __init__(self, path, key):
        self.path, self.key = (Path(path) if path else None), key

    def save(self, model, best_weights, facts):
        """Write the state of `model`, `best_weights` (a list of arrays) and `facts` (for JSON)."""
        if self.path is None:
            return
        arrays = {f"state{i}": np.asarray(value) for i, value in enumerate(_state(model))}
        arrays |= {f"best{i}": value for i, value in enumerate(best_weights)}
        facts = json.dumps({"key": self.key, **facts})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as partial, partial.open("wb") as file:
            np.savez(file, facts=facts, **arrays)

    def load(self, model):
        """Set `model` and its optimizer to the saved state.

        Returns the facts with "best_weights" among them, or None where there is no state.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                if facts.pop("key") != self.key:
                    return None
                state = [file[f"state{i}"] for i in range(len(_state(model)))]
                best = [file[f"best{i}"] for i in range(len(model.get_weights()))]
        except (OSError, ValueError, KeyError, EOFError):
            return None
        for variable, value in zip(_state(model), state, strict=True):
            variable.assign(value)
        return {**facts, "best_weights": best}

    def remove(self):
        """Delete the file: the training it served is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _state(model):
    """Every variable that training changes: weights, random seeds, the optimizer's moments."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
