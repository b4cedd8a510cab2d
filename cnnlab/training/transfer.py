"""Transfer: a linear classifier on the frozen features of a pretrained network (a linear probe).

Alain and Bengio, "Understanding intermediate layers using linear classifier probes" (2016); as a baseline of transfer,
Kornblith et al., "Do better ImageNet models transfer better?" (CVPR 2019).
"""

import dataclasses
import hashlib
import time
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import layers
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from cnnlab.machine import atomic_file, cache_folder, environment, forget, progress_bar
from cnnlab.training.answers import accuracy, cross_entropy
from cnnlab.training.models import dtype_policy
from cnnlab.training.pretrained import load_backbone
from cnnlab.training.trial import PROTOCOL

# Inverse strengths of the L2 penalty that validation chooses from, on features of variance one.
STRENGTHS = tuple(10.0 ** (half / 2) for half in range(-6, 2))
WEIGHTINGS = (None, "balanced")
# Smaller pictures are enlarged to this side, in pixels, because the network halves them five times.
SMALLEST_SIDE = 96
# Images of which features are computed at once.
BATCH = 32
# Steps of the solver at most: weak penalties need the most.
STEPS = 1_000
# The logit of a class without training images, whose probability is zero.
NEVER = -1e4


@dataclasses.dataclass
class Probe:
    """What a linear probe gave.

    `model`: float32 pixels (n, height, width, channels) in 0..255 to probabilities (n, classes), backbone and all;
    `row`: the tidy record; `choices`: a DataFrame, a row a setting, best first: C, class_weights,
    val_balanced_accuracy, val_accuracy, val_loss; `probabilities`: {split: float32 (n, classes)} of "validation" and,
    where there is one, "test".
    """

    model: keras.Model
    row: dict[str, Any]
    choices: pd.DataFrame
    probabilities: dict[str, np.ndarray]


def linear_probe(dataset, backbone=None, cache=None, progress=True):
    """Fit a logistic regression on the standardised features of `backbone`, averaged over positions, for `dataset`.

    `dataset`: a `data.Dataset` with train and validation, whose images may be of any size, RGB or grey; `backbone`: as
    in `pretrained.load_backbone`; `cache`: of the features, as in `frozen_features`. Its strength C, and whether rare
    classes weigh more, are chosen on validation by balanced accuracy, where that is alike by cross-entropy; the test
    images are scored once, with that choice. Deterministic: there is no seed.
    Returns a Probe. Raises as `load_backbone` does, and ValueError where a split lacks images.
    """
    start = time.perf_counter()
    data = {name: split.labels[split.indices].astype("int64") for name, split in dataset.splits.items()}
    if len(np.unique(data["train"])) < 2 or not len(data["validation"]):
        raise ValueError(f"{dataset.name} has too little to learn from; expected two classes, and validation images")
    extractor = feature_extractor(dataset.input_shape, backbone)
    features = {
        name: frozen_features(extractor, split, cache, name if progress else None)
        for name, split in dataset.splits.items()
    }
    extracted = time.perf_counter()
    # One thread: with several, the solver's small products wait for a core that is busy elsewhere, 30 times as long.
    with threadpool_limits(1):
        choices, (kernel, bias) = _chosen(features, data, len(dataset.class_names))
    probabilities = {name: softmax(features[name] @ kernel + bias, axis=1) for name in features if name != "train"}
    best = choices.iloc[0]
    model = _assembled(extractor, kernel, bias)
    row = {
        "label": "linear_probe",
        "backbone": extractor.name,
        "backbone_version": _version(extractor),
        "dataset": dataset.name,
        "class_names": list(dataset.class_names),
        "C": float(best["C"]),
        "class_weights": bool(best["class_weights"]),
        "parameters": model.count_params(),
        "train_images": len(data["train"]),
        "seconds_features": extracted - start,
        "seconds_fit": time.perf_counter() - extracted,
        "data_version": dataset.fingerprint,
        "protocol": PROTOCOL,
        **environment(),
    }
    for name, short in (("validation", "val"), ("test", "test")):
        if name in probabilities:
            row[f"{short}_accuracy_last"] = accuracy(probabilities[name], data[name])
            row[f"{short}_loss_last"] = cross_entropy(probabilities[name], data[name])
    return Probe(model, row, choices, probabilities)


def feature_extractor(shape, backbone=None):
    """A frozen `keras.Model` from images of `shape` (height, width, channels) to mean features (n, features).

    Those of `backbone`, as in `pretrained.load_backbone`, averaged over positions where it has any. Grey images are
    repeated in three channels, and all made the size that the backbone takes: its own, or for EfficientNet-Lite0 the
    images' or SMALLEST_SIDE.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; expected 1 (grey) or 3 (RGB)")
    by = max(1.0, SMALLEST_SIDE / min(height, width))
    network = load_backbone(backbone, (round(by * height), round(by * width)))
    network.trainable = False
    with dtype_policy("float32"):
        pixels = x = keras.Input(shape, name="pixels")
        if channels == 1:
            x = layers.Concatenate(name="rgb")([x, x, x])
        size = network.input_shape[1:3]
        if None not in size and size != (height, width):
            x = layers.Resizing(*size, interpolation="bicubic", antialias=True, name="resize")(x)
        x = network(x)
        pooled = (
            layers.GlobalAveragePooling2D(name="features") if len(x.shape) == 4 else layers.Identity(name="features")
        )
        return _without_xla(keras.Model(pixels, pooled(x), name=network.name))


def frozen_features(extractor, split, cache=None, title=None):
    """float32 (n, features) of the images of `split` (a `data.Split`), in its order.

    `extractor`: of `feature_extractor`; `cache`: the cache folder (default: as of `data.cache_folder`), where they are
    kept under a name that says of which weights, size and pixels they are; `title` of the progress bar (None: no bar).
    """
    digest = hashlib.sha256(_version(extractor).encode())
    starts = range(0, len(split), BATCH)
    for start in starts:
        digest.update(np.ascontiguousarray(split.images[split.indices[start : start + BATCH]]))
    path = cache_folder(cache) / "features" / f"{extractor.name}-{digest.hexdigest()[:16]}.npy"
    shape = (len(split), extractor.output_shape[1])
    features = _kept(path, shape)
    if features is None:
        features = np.empty(shape, "float32")
        with progress_bar(len(split), f"features of {title}", "image", disable=title is None) as bar:
            for start in starts:
                rows = split.indices[start : start + BATCH]
                features[start : start + BATCH] = extractor.predict_on_batch(split.images[rows])
                bar.update(len(rows))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, suffix=".npy") as partial:
            np.save(partial, features)
    forget(split.images)
    return features


def _kept(path, shape):
    """The features in `path`, or None where they are missing or damaged."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.shape == shape and features.dtype == np.float32 else None


def _version(model):
    """12 hex digits over layers and weights."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()[:12]


def _without_xla(model):
    """`model`, to answer without XLA, which makes TensorFlow slower on a CPU (measured: 17 times, and to start)."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    return model


def _chosen(features, labels, classes):
    """(choices, best first; (kernel float32 (features, classes), bias (classes,)) of the best)."""
    from sklearn.linear_model import LogisticRegression  # takes a second, and nothing else here needs it
    from sklearn.metrics import recall_score
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features["train"])
    scaled = scaler.transform(features["train"])
    unseen, answers = features["validation"], labels["validation"]
    rows, fits = [], []
    for weighting in WEIGHTINGS:
        for strength in STRENGTHS:
            # From zero each time: begun at the last one's answer, it would stop there, for its tolerance is met.
            regression = LogisticRegression(C=strength, class_weight=weighting, max_iter=STEPS)
            kernel, bias = _on_raw_features(regression.fit(scaled, labels["train"]), scaler, classes)
            probabilities = softmax(unseen @ kernel + bias, axis=1)
            recalls = recall_score(answers, probabilities.argmax(axis=1), labels=np.unique(answers), average=None)
            scores = (recalls.mean(), accuracy(probabilities, answers), cross_entropy(probabilities, answers))
            rows.append((strength, weighting is not None, *scores))
            fits.append((kernel, bias))
    columns = ["C", "class_weights", "val_balanced_accuracy", "val_accuracy", "val_loss"]
    choices = pd.DataFrame(rows, columns=columns).sort_values(
        ["val_balanced_accuracy", "val_loss"], ascending=[False, True], kind="stable"
    )
    return choices.reset_index(drop=True), fits[choices.index[0]]


def _on_raw_features(regression, scaler, classes):
    """(kernel, bias) of the softmax layer on features as they are that answers as `regression` on standardised ones."""
    kernel, bias = regression.coef_.T, regression.intercept_
    if len(regression.classes_) == 2:  # one logit, of the second class
        kernel, bias = np.concatenate([0 * kernel, kernel], axis=1), np.array([0, bias[0]])
    kernel = kernel / scaler.scale_[:, None]
    all_kernels, all_biases = np.zeros((len(kernel), classes)), np.full(classes, NEVER)
    all_kernels[:, regression.classes_] = kernel
    all_biases[regression.classes_] = bias - scaler.mean_ @ kernel
    return all_kernels.astype("float32"), all_biases.astype("float32")


def _assembled(extractor, kernel, bias):
    """Backbone and head as one model from pixels to probabilities."""
    with dtype_policy("float32"):
        answer = layers.Dense(len(bias), activation="softmax", name="probabilities")
        model = keras.Model(extractor.inputs[0], answer(extractor.outputs[0]), name="linear_probe")
    answer.set_weights([kernel, bias])
    return _without_xla(model)
