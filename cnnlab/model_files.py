"""Trained models on disk: named by the result that they belong to, written whole or not at all."""

from pathlib import Path

import keras

from cnnlab.machine import atomic_file


def model_path(models_folder, key):
    """Where the model of the result called `key` (see `store.Store`) is kept, if at all."""
    return Path(models_folder) / f"{key}.keras"


def save_model(model, path):
    """Write the `keras.Model` to `path`, a .keras file; a killed process leaves at most a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, suffix=".keras") as partial:
        model.save(partial)


def load_model(path):
    """The model kept as `path`, not compiled; ValueError for a file that is no model."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what its archive reader happens to raise.
        raise ValueError(f"{path} is no model that Keras can load; delete it, and it is trained again") from error
