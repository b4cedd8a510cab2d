"""A Keras model from a file, made what can be served: fixed images of 0..255 in, two or more probabilities out.

And what is known of it: the row of the trial that trained it, and with that its classes.
"""

import json
from pathlib import Path

from cnnlab import training
from sagemaker_scripts.common import BadArgumentsError
from sagemaker_scripts.serving.archive import reason

ROWS = Path(__file__).resolve().parents[2] / "results" / "trials"
# What a model may take: 0..255, 0..1 or -1..1, its pictures scaled before; the scale and offset that make it of 0..255.
PIXELS = {"bytes": None, "unit": (1 / 255, 0.0), "signed": (1 / 127.5, -1.0)}


def load(path, size=None, pixels="bytes"):
    """The Keras classifier in `path` (a Path): images in 0..255 to a probability for each class.

    `size`: (height, width), for a model that takes any; `pixels`: a key of PIXELS, what the model
    itself takes. Raises BadArgumentsError in one line where it is none that can be served so.
    """
    if path.suffix != ".keras" or not path.is_file():
        raise BadArgumentsError(f"{path} is not an existing .keras file; train and save a model first")
    import keras
    import numpy as np

    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for a broken file
        raise BadArgumentsError(f"{path} cannot be loaded by Keras {keras.__version__}: {reason(error)}") from None
    shapes = model.input_shape, model.output_shape
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise BadArgumentsError(f"{path} maps {shapes[0]} to {shapes[1]}; expected one batch of images to classes")
    if shapes[0][3] not in (1, 3) or not shapes[1][1]:
        raise BadArgumentsError(f"{path} maps {shapes[0]} to {shapes[1]}; expected 1 or 3 channels")
    model = _with_raw_pixels(_with_fixed_size(model, size, path), pixels, path)
    model = _with_two_classes(model, path)
    found = answers(model, np.full((1, *model.input_shape[1:]), 128))
    if not (np.isfinite(found).all() and found.min() >= 0 and abs(found.sum() - 1) < 1e-3):
        raise BadArgumentsError(f"{path} does not answer probabilities; expected a softmax as the last layer")
    return model


def answers(model, images):
    """Probabilities (n, classes) of `model`; not by its predict methods, which XLA would compile for minutes.

    As a graph: called by itself, a model keeps what each layer gives of all images, until the last one has given its.
    """
    import tensorflow as tf

    graph = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
    return graph(images.astype("float32")).numpy()


def read_row(row, model_path):
    """The trial that trained a model, a dict: `row`, or the JSON file of that path; else what is found, or {}."""
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
        raise BadArgumentsError(f"{path} is no row of a trial: {error}") from None


def class_names(given, row, count):
    """The class names asked for, or those of the row's data set: `count` different ones."""
    if given is None and not row.get("dataset"):
        raise BadArgumentsError(
            "which classes are these? Give class_names (--classes a,b,c), or the row of the trial (--row)"
        )
    from cnnlab import data

    known = row.get("class_names") or data.class_names(row["dataset"]) if given is None else given
    names = list(known)
    if len(names) != count or len(set(names)) != count or not all(isinstance(n, str) and n for n in names):
        raise BadArgumentsError(f"{len(names)} class names ({', '.join(map(str, names))}); expected {count} different")
    return names


def _with_fixed_size(model, size, path):
    """The same model of images of `size` (height, width), where it takes any."""
    import keras

    if None not in model.input_shape[1:]:
        if size and tuple(size) != model.input_shape[1:3]:
            raise BadArgumentsError(f"{path} takes images of {model.input_shape[1:3]} only; leave --size out")
        return model
    if not size:
        raise BadArgumentsError(f"{path} takes images of any size; say with --size which size it was trained on")
    inputs = keras.Input((*size, model.input_shape[3]))
    try:
        return keras.Model(inputs, model(inputs), name=model.name)
    except Exception as error:  # Keras raises many kinds for a size that does not fit.
        raise BadArgumentsError(f"{path} takes no images of {tuple(size)}: {reason(error)}") from None


def _with_raw_pixels(model, pixels, path):
    """The same model of 0..255, where it was trained on pictures that were scaled to `pixels` before."""
    import keras

    if training.takes_raw_pixels(model):
        if PIXELS[pixels]:
            raise BadArgumentsError(f"{path} scales 0..255 itself, by a layer of its own; leave --pixels out")
        return model
    if not PIXELS[pixels]:
        raise BadArgumentsError(
            f"{path} has no Rescaling or Normalization layer, so that 0..255 would be misread; give --pixels unit "
            "where it was trained on 0..1, signed where on -1..1; what else was done before has to become a layer of it"
        )
    scale, offset = PIXELS[pixels]
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(keras.layers.Rescaling(scale, offset)(inputs)), name=model.name)


def _with_two_classes(model, path):
    """The same classifier with a probability for each class, where it has a sigmoid for two."""
    import keras

    if model.output_shape[1] > 1:
        return model
    from cnnlab.measures import leaves

    last = list(leaves(model))[-1]
    if getattr(last, "activation", None) is not keras.activations.sigmoid:
        raise BadArgumentsError(
            f"{path} has one output and no sigmoid on it; expected a sigmoid or a softmax at the end"
        )
    inputs = keras.Input(model.input_shape[1:])
    second = model(inputs)
    return keras.Model(inputs, keras.ops.concatenate([1 - second, second], axis=-1), name=model.name)


def _find_row(model_path):
    recorded = ROWS / f"{model_path.stem}.json"
    beside = list((model_path.parent / "trials").glob("*.json"))
    if recorded.is_file():
        return recorded
    return beside[0] if len(beside) == 1 else None
