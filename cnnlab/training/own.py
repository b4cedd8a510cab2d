"""A network written by hand in Keras, as a Trial that describes it in full (`models.build` rebuilds it)."""

import copy
import dataclasses
import json
import re

import keras

from cnnlab.training.models import build
from cnnlab.training.trial import Trial

# Left out of a layer's configuration: names are given anew, and precision is the trial's.
NOT_KEPT = ("name", "dtype")
# How Keras serialises a function that is not its own.
CODE = re.compile(r'"class_name": "(?:function|__lambda__)"')


def trial_of(model, like, **fields):
    """The Trial that trains a network like `model`, a `keras.Sequential`.

    `like`: its label, or a Trial whose settings it takes, and whose label too if the layers are the same; otherwise the
    label gives the widths and kernels, and says "edited" if more has changed; `fields`: other fields of the Trial. It
    keeps the layers but not their weights: these are drawn anew from the trial's seed, so that a model equal to one of
    NETWORKS gives the same numbers. Raises ValueError for a model of another kind, or with a layer that cannot be
    serialised.
    """
    if not isinstance(model, keras.Sequential):
        raise ValueError(f"{model!r} is a {type(model).__name__}; expected a keras.Sequential")
    shape = list(model.input_shape[1:]) if model.built else None
    options = {"layers": _layers(model), "shape": shape}
    if isinstance(like, Trial):
        trial = dataclasses.replace(like, label=_label(model, options["layers"], like))
    else:
        trial = Trial(like)
    return dataclasses.replace(trial, model="layers", options=options, **fields)


def _label(model, described, like):
    """The label of `model`, whose layers are `described`, given the network of the Trial `like`."""
    if _as_built(model, like.model, like.options) == described:
        return like.label
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    hidden = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][:-1]
    widths, kernels = [layer.units for layer in hidden], []
    changed = {"units": widths}
    if convolutions:
        widths, kernels = [layer.filters for layer in convolutions], [layer.kernel_size[0] for layer in convolutions]
        changed = {"filters": widths, "kernel_size": kernels}
    start = "mars_" * like.label.startswith("mars_") + ("cnn" if convolutions else "dense")
    label = "_".join([start, *map(str, widths)])
    if set(kernels) - {3}:
        label += f"_k{kernels[0]}" if len(set(kernels)) == 1 else f"_k{min(kernels)}to{max(kernels)}"
    return label if _as_built(model, like.model, {**like.options, **changed}) == described else f"{label}_edited"


def _as_built(model, kind, options):
    """The layers that `build` makes from `kind` and `options` for the data of `model`; None if it cannot."""
    shape = model.input_shape[1:] if model.built else (32, 32, 3)
    try:
        return _layers(build(kind, shape, getattr(model.layers[-1], "units", 0), **options))
    except ValueError:
        return None


def _layers(model):
    return [_described(layer) for layer in model.layers]


def _described(layer):
    """{"class_name": str, "config": dict} of `layer`, in JSON types."""
    kind = type(layer)
    try:
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        config = {name: value for name, value in json.loads(text)["config"].items() if name not in NOT_KEPT}
        known = getattr(keras.layers, kind.__name__, None) is kind and not CODE.search(text)
        kind.from_config(copy.deepcopy(config))  # from_config changes its argument
    except (TypeError, ValueError, KeyError, OSError):  # whatever Keras and `inspect` raise
        known = False
    if not known:
        raise ValueError(
            f"{layer.name} is a {kind.__name__}; expected layers from keras.layers, without code of your own"
        )
    return {"class_name": kind.__name__, "config": config}
