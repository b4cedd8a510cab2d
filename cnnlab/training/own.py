"""A network written by hand in Keras, as a Trial that says all of it; and that network built from the Trial."""

import copy
import dataclasses
import json
import re

import keras

from cnnlab.training.normalisation import batch_normalization
from cnnlab.training.trial import Trial

# What a layer is called, by its kind, before its number.
SHORT = {"Conv2D": "conv", "MaxPooling2D": "pool", "BatchNormalization": "norm", "ReLU": "relu"}
# Of a layer's configuration, what does not describe it: names are given anew, precision is the trial's.
NOT_KEPT = ("name", "dtype")
# How Keras writes down a function that is not its own.
CODE = re.compile(r'"class_name": "(?:function|__lambda__)"')


def trial_of(model, like, **fields):
    """The Trial that trains a network like `model`, a `keras.Sequential`.

    `like`: its label, or a Trial whose label and settings it takes; `fields`: others of a Trial. It keeps the layers
    and not their weights: these are drawn anew by the trial's seed, so that a model like one of NETWORKS gives
    that one's numbers. Raises ValueError for a model of another kind, or with a layer that cannot be written down.
    """
    if not isinstance(model, keras.Sequential):
        raise ValueError(f"{model!r} is a {type(model).__name__}; expected a keras.Sequential")
    shape = list(model.input_shape[1:]) if model.built else None
    options = {"layers": [_described(layer) for layer in model.layers], "shape": shape}
    trial = like if isinstance(like, Trial) else Trial(like)
    return dataclasses.replace(trial, model="layers", options=options, **fields)


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


def build_own(network, input_shape, num_classes, fused):
    """`models.build` for `network`, a `networks.Layers`: same arguments, same errors."""
    if network.shape is not None and network.shape != tuple(input_shape):
        raise ValueError(f"the network takes images of {network.shape}; the data set's are {tuple(input_shape)}")
    *hidden, last = network.layers
    stack, counts = [keras.Input(input_shape, name="pixels")], {}
    for layer in hidden:
        kind = SHORT.get(layer["class_name"], layer["class_name"].lower())
        counts[kind] = counts.get(kind, 0) + 1
        stack.append(_layer(layer, fused, name=f"{kind}{counts[kind]}"))
    # float32 as in `build`.
    model = keras.Sequential([*stack, _layer(last, fused, name="probabilities", dtype="float32")], name="own")
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "no activation")
    if model.output_shape != (None, num_classes) or activation != "softmax":
        raise ValueError(
            f"the network ends in {model.output_shape[1:]} with {activation}; expected a probability for each of "
            f"{num_classes} classes: layers.Dense({num_classes}, activation='softmax')"
        )
    return model


def _layer(described, fused, **options):
    config = copy.deepcopy(described["config"]) | options
    if described["class_name"] == "BatchNormalization":
        return batch_normalization(fused, **config)
    return getattr(keras.layers, described["class_name"]).from_config(config)
