"""A Keras model from a file, made servable: images of a fixed size in 0..255 in, two or more probabilities out.

And what is known about it: the row of the trial that trained it, and so its classes.
"""

import json
from pathlib import Path

from cnnlab import training
from sagemaker_scripts.common import BadArgumentsError
from sagemaker_scripts.serving.archive import reason

ROWS = Path(__file__).resolve().parents[2] / "results" / "trials"
# What a model takes: 0..255, or pictures scaled beforehand to 0..1 or -1..1; the scale and offset from 0..255.
PIXELS = {"bytes": None, "unit": (1 / 255, 0.0), "signed": (1 / 127.5, -1.0)}


def load(path, size=None, pixels="bytes"):
    """The Keras classifier in `path` (a Path): images in 0..255 to a probability for each class.

    `size`: (height, width), for a model that takes any size; `pixels`: a key of PIXELS, what the
    model itself takes. Raises BadArgumentsError in one line if it cannot be served so.
    """
    if path.suffix != ".keras" or not path.is_file():
        raise BadArgumentsError(f"{path} is not an existing .keras file; train and save a model first")
    import keras
    import numpy as np

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds of error for a broken file
        raise BadArgumentsError(f"{path} cannot be loaded by Keras {keras.__version__}: {reason(error)}") from None
    shapes = model.input_shape, model.output_shape
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise BadArgumentsError(f"{path} maps {shapes[0]} to {shapes[1]}; expected images to class probabilities")
    if shapes[0][3] not in (1, 3) or not shapes[1][1]:
        raise BadArgumentsError(f"{path} maps {shapes[0]} to {shapes[1]}; expected 1 or 3 channels")
    model = _with_raw_pixels(_with_fixed_size(model, size, path), pixels, path)
    model = _with_two_classes(model, path)
    found = answers(model, np.full((1, *model.input_shape[1:]), 128))
    if not (np.isfinite(found).all() and found.min() >= 0 and abs(found.sum() - 1) < 1e-3):
        raise BadArgumentsError(f"{path} does not return probabilities; expected a softmax as the last layer")
    return model


def answers(model, images):
    """Probabilities (n, classes) of `model`; not by its predict methods, which XLA would compile for minutes.

    As a graph: called eagerly, a model keeps every layer's output for all images until the last layer is done.
    """
    import tensorflow as tf

    graph = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
    return graph(images.astype("float32")).numpy()


def read_row(row, model_path):
    """The trial that trained a model, a dict: `row`, or from the JSON file at that path; else the one found, or {}."""
    if isinstance(row, dict):
        return row
    if not row and (own := training.row_within(model_path)):
        return own
    path = Path(row) if row else _find_row(model_path)
    if not path:
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadArgumentsError(f"{path} is not a row of a trial: {error}") from None


def class_names(given, row, count):
    """The `given` class names, or those of the row or its data set: `count` different ones."""
    if given is None and not row.get("dataset"):
        raise BadArgumentsError(
            "which classes are these? Give class_names (--classes a,b,c), or the row of the trial (--row)"
        )
    from cnnlab import data

    known = row.get("class_names") or data.class_names(row["dataset"]) if given is None else given
    names = list(known)
    if len(names) != count or len(set(names)) != count or not all(isinstance(n, str) and n for n in names):
        raise BadArgumentsError(f"class names are {', '.join(map(str, names)) or 'none'}; expected {count}, each once")
    return names


def _with_fixed_size(model, size, path):
    """The same model for images of `size` (height, width), if it takes any size."""
    import keras

    if None not in model.input_shape[1:]:
        if size and tuple(size) != model.input_shape[1:3]:
            raise BadArgumentsError(f"{path} takes images of {model.input_shape[1:3]} only; leave --size out")
        return model
    if not size:
        raise BadArgumentsError(f"{path} takes images of any size; give the size that it was trained on with --size")
    inputs = keras.Input((*size, model.input_shape[3]))
    try:
        return keras.Model(inputs, model(inputs), name=model.name)
    except Exception as error:  # Keras raises many kinds of error for a size that does not fit.
        raise BadArgumentsError(f"{path} cannot take images of {tuple(size)}: {reason(error)}") from None


def _with_raw_pixels(model, pixels, path):
    """The same model for 0..255, if it was trained on pictures scaled to `pixels` beforehand."""
    import keras

    if training.takes_raw_pixels(model):
        if PIXELS[pixels]:
            raise BadArgumentsError(f"{path} scales 0..255 itself, in a layer of its own; leave --pixels out")
        return model
    if not PIXELS[pixels]:
        raise BadArgumentsError(
            f"{path} has no Rescaling or Normalization layer, so that 0..255 would be misread; give --pixels unit "
            "if it was trained on 0..1, signed if on -1..1; any other preprocessing has to become a layer of it"
        )
    scale, offset = PIXELS[pixels]
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(keras.layers.Rescaling(scale, offset)(inputs)), name=model.name)


def _with_two_classes(model, path):
    """The same classifier with a probability for each class, if it has one sigmoid for two classes."""
    import keras

    if model.output_shape[1] > 1:
        return model
    from cnnlab.measures import leaves

    last = list(leaves(model))[-1]
    if getattr(last, "activation", None) is not keras.activations.sigmoid:
        raise BadArgumentsError(f"{path} has one output without a sigmoid; expected a sigmoid or a softmax at the end")
    inputs = keras.Input(model.input_shape[1:])
    second = model(inputs)
    return keras.Model(inputs, keras.ops.concatenate([1 - second, second], axis=-1), name=model.name)


def _find_row(model_path):
    recorded = ROWS / f"{model_path.stem}.json"
    beside = list((model_path.parent / "trials").glob("*.json"))
    if recorded.is_file():
        return recorded
    return beside[0] if len(beside) == 1 else None
