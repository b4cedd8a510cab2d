"""A network written by hand in Keras, as a Trial that says all of it (`models.build` makes it again)."""

import copy
import dataclasses
import json
import re

import keras

from cnnlab.training.models import build
from cnnlab.training.trial import Trial

# Of a layer's configuration, what does not describe it: names are given anew, precision is the trial's.
NOT_KEPT = ("name", "dtype")
# How Keras writes down a function that is not its own.
CODE = re.compile(r'"class_name": "(?:function|__lambda__)"')


def trial_of(model, like, **fields):
    """The Trial that trains a network like `model`, a `keras.Sequential`.

    `like`: its label, or a Trial whose settings it takes, and whose label where it has the same layers; of others the
    label says the widths, the kernels, and that it was edited, where that is not all; `fields`: others of a Trial. It
    keeps the layers and not their weights: these are drawn anew by the trial's seed, so that a model like one of
    NETWORKS gives that one's numbers. Raises ValueError for a model of another kind, or with a layer that cannot be
    written down.
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
    """What `model`, whose layers are `described`, is called, beside the network of the Trial `like`."""
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
    """The layers that `build` makes of `kind` and `options` for the data of `model`; None: there is no such network."""
    shape = model.input_shape[1:] if model.built else (32, 32, 3)
    try:
        return _layers(build(kind, shape, getattr(model.layers[-1], "units", 0), **options))
    except ValueError:
        return None


def _layers(model):
    return [_described(layer) for layer in model.layers]


def _described(layer):
    """{"class_name": str, "config": dict} of `layer`, as JSON holds it."""
    kind = type(layer)
    try:
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        config = {name: value for name, value in json.loads(text)["config"].items() if name not in NOT_KEPT}
        known = getattr(keras.layers, kind.__name__, None) is kind and not CODE.search(text)
        kind.from_config(copy.deepcopy(config))  # which it changes
    except (TypeError, ValueError, KeyError, OSError):  # as Keras and `inspect` happen to raise
        known = False
    if not known:
        raise ValueError(
            f"{layer.name} is a {kind.__name__}; expected layers that keras.layers has, without code of your own"
        )
    return {"class_name": kind.__name__, "config": config}
