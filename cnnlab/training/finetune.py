"""Fine-tuning: the last blocks and the head of EfficientNet-Lite0, trained on feature maps of the frozen blocks.

The frozen part sees each image once, and its mirror image where training mirrors; its feature maps are kept. The
classifier starts as a linear probe: from a random one, fine-tuning would distort the features before they are of use,
which costs most where test images differ from training images: Kumar et al., "Fine-tuning can distort pretrained
features and underperform out-of-distribution" (ICLR 2022).
"""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from threadpoolctl import threadpool_limits

from cnnlab.training import models
from cnnlab.training.initial_weights import set_initial_weights
from cnnlab.training.models import dtype_policy
from cnnlab.training.networks import LinearProbe, Lite0
from cnnlab.training.pretrained import efficientnet_lite0
from cnnlab.training.transfer import fitted, frozen_features, without_xla

BLOCKS = 16
# Inverse strength of the starting probe's L2 penalty, on features of variance one. With a weaker penalty the probe gets
# every training image right, which leaves nothing to learn from.
START_STRENGTH = 0.01


class Parts(NamedTuple):
    """Four `keras.Model`s that share their layers.

    `frozen`: pixels (n, height, width, 3) in 0..255 to feature maps; `described`: feature maps to the classifier's
    input, features (n, 1280); `trained`: feature maps to probabilities (n, classes); `whole`: pixels to probabilities.
    """

    frozen: keras.Model
    described: keras.Model
    trained: keras.Model
    whole: keras.Model


def parts_of(network, input_shape, classes):
    """The Parts of `network` (a `networks.Lite0`) for images of `input_shape`, with an untrained classifier.

    Raises ValueError for grey images, DataUnavailableError as `pretrained.efficientnet_lite0` does.
    """
    if input_shape[-1] != 3:
        raise ValueError(f"images have {input_shape[-1]} channels; expected 3 (RGB)")
    backbone = efficientnet_lite0(input_shape[:2])
    names = [layer.name for layer in backbone.layers]
    first = names.index(f"block{BLOCKS - network.blocks}_{'depthwise' if network.blocks == BLOCKS else 'expand'}")
    for place, layer in enumerate(backbone.layers):
        layer.trainable = place >= first and not isinstance(layer, layers.BatchNormalization)
    with dtype_policy("float32"):
        features = x = layers.GlobalAveragePooling2D(name="features")(backbone.output)
        x = layers.Dropout(network.dropout, name="dropout")(x) if network.dropout else x
        answer = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    pixels, maps = backbone.inputs[0], backbone.layers[first].input
    ends = {
        "lite0_frozen": (pixels, maps),
        "lite0_described": (maps, features),
        "lite0_trained": (maps, answer),
        "lite0": (pixels, answer),
    }
    return Parts(*(without_xla(keras.Model(*pair, name=name)) for name, pair in ends.items()))


def build_for(trial, dataset, fused=False):
    """Build the network of `trial`, like `models.build`, for the images and classes of `dataset` (a `data.Dataset`).

    For fine-tuning, this is the part that is trained; for a linear probe, the network whose features it takes.
    """
    shape, classes, network = dataset.input_shape, len(dataset.class_names), trial.network
    if isinstance(network, Lite0):
        return parts_of(network, shape, classes).trained
    if isinstance(network, LinearProbe):
        return efficientnet_lite0(shape[:2])
    return models.build(trial.model, shape, classes, fused, **trial.options)


def initial_network(trial, dataset, images=None, fused=False):
    """The network of `build_for` with the weights that training `trial` from scratch starts from, drawn from its seed.

    `trial`: resolved; `images`: the training images, needed where initial weights are computed from them.
    """
    keras.utils.set_random_seed(trial.seed)
    with dtype_policy(trial.precision):
        model = build_for(trial, dataset, fused)
    set_initial_weights(model, trial.network, images)
    return model


def limited(trial, dataset):
    """`dataset` cut down to the images that `trial` uses: the first of each split, where it limits them."""
    wanted = {"train": trial.train_images, "validation": trial.eval_images, "test": trial.eval_images}
    splits = {
        name: dataclasses.replace(split, indices=split.indices[: wanted[name]])
        for name, split in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits)


def feature_maps(trial, dataset, frozen, progress=False, clock=None):
    """`batches.prepare` for a fine-tuned network; `frozen`: that part of its `parts_of`.

    Returns {split: (feature maps float32 (n, ...), int32 labels)}; with flip "random", those of all training images are
    followed by those of all their mirror images. `clock`: as in `transfer.frozen_features`; `progress`: whether to show
    bars.
    """
    dataset, sides = limited(trial, dataset), (False, True) if trial.flip == "random" else (False,)

    def seen(name, mirrored=False):
        split = dataset.splits[name]
        maps = frozen_features(frozen, split, None, name if progress else None, clock, mirrored)
        return maps, split.labels[split.indices].astype("int32")

    trained = ("train",) if trial.train_split == "train" else ("train", "validation")
    found = {name: seen(name) for name in dataset.splits if name not in trained}
    both = [seen(name, mirrored) for mirrored in sides for name in trained]
    found["train"] = tuple(np.concatenate(parts) for parts in zip(*both, strict=True))
    return {"validation": tuple(part[:0] for part in found["train"]), **found}


def begin_at_probe(parts, maps, labels, class_weights):
    """Give the classifier of `parts` the weights of a linear probe on its input features.

    `maps` float32 (n, ...): the training feature maps; `labels` (n,); `class_weights`: whether rare classes weigh more.
    """
    features = parts.described.predict(maps, batch_size=256, verbose=0)
    weighting, classes = "balanced" if class_weights else None, parts.trained.output_shape[-1]
    with threadpool_limits(1):  # as in `transfer.linear_probe`
        weights = fitted(features, labels, START_STRENGTH, weighting, classes)
    parts.trained.get_layer("probabilities").set_weights(list(weights))
