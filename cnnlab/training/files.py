"""Trained models on disk, each a .keras file, with the row of its training beside it where it is to be packed."""

import json
from pathlib import Path

import keras

from cnnlab.machine import atomic_file


def model_path(models_folder, key):
    """Where the model of the result called `key` (see `studies.Store`) is kept, if at all."""
    return Path(models_folder) / f"{key}.keras"


def save_model(model, path):
    """Write the `keras.Model` to `path`, a .keras file; a killed process leaves at most a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, suffix=".keras") as partial:
        model.save(partial)


def save_with_row(model, row, path):
    """`save_model`, and the tidy `row` beside it (.json), from which the model is packed."""
    save_model(model, path)
    with atomic_file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def load_model(path):
    """The model kept as `path`, not compiled; ValueError for a file that is no model."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what its archive reader happens to raise.
        raise ValueError(f"{path} is no model that Keras can load; delete it, and it is trained again") from error
