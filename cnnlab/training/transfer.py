"""Transfer: a frozen network's features, computed once and kept, and a linear classifier on them (a probe).

Alain and Bengio, "Understanding intermediate layers using linear classifier probes" (2016); as a baseline for transfer,
Kornblith et al., "Do better ImageNet models transfer better?" (CVPR 2019).
"""

import dataclasses
import hashlib
import zipfile
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import layers
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from cnnlab.machine import atomic_file, cache_folder, environment, forget, progress_bar
from cnnlab.training.answers import accuracy, cross_entropy, score_columns
from cnnlab.training.callbacks import Clock
from cnnlab.training.models import dtype_policy
from cnnlab.training.pretrained import load_backbone
from cnnlab.training.trial import PROTOCOL

# Inverse strengths of the L2 penalty that validation chooses from, on features of variance one.
STRENGTHS = tuple(10.0 ** (half / 2) for half in range(-6, 2))
WEIGHTINGS = (None, "balanced")
# Smaller pictures are enlarged to this side, in pixels, because the network halves them five times.
SMALLEST_SIDE = 96
# Images whose features are computed at once, and images whose features share one file.
BATCH, PART = 32, 4_000
# Limit on the solver's steps: weak penalties need the most.
STEPS = 1_000
# The logit of a class without training images, so that its probability is zero.
NEVER = -1e4


@dataclasses.dataclass
class Probe:
    """The outcome of a linear probe.

    `model`: float32 pixels (n, height, width, channels) in 0..255 to probabilities (n, classes), backbone and all;
    `row`: the tidy record; `choices`: a DataFrame, one row per setting, best first: C, class_weights,
    val_balanced_accuracy, val_accuracy, val_loss; `probabilities`: {split: float32 (n, classes)} for "validation"
    (unless it was fitted on that too) and, where there is one, "test"; `clock`: a Clock with the parts "features", the
    time they took when they were computed, and "fit".
    """

    model: keras.Model
    row: dict[str, Any]
    choices: pd.DataFrame
    probabilities: dict[str, np.ndarray]
    clock: Clock


def linear_probe(
    dataset, backbone=None, cache=None, progress=True, sizes=None, mirrored=False, refit=False, strengths=None
):
    """Fit a logistic regression on the standardised features of `backbone`, averaged over positions, for `dataset`.

    `dataset`: a `data.Dataset` with train and validation, whose images may be of any size, RGB or grey; `backbone`: as
    in `pretrained.load_backbone`; `cache`: of the features, as in `frozen_features`; `sizes`: as in `extractors_for`;
    `mirrored`: features are means over an image and its mirror image. The strength C, and whether rare classes weigh
    more, are chosen on validation by balanced accuracy, ties by cross-entropy; if `strengths` are given, only C is
    chosen, from these, without weights. With `refit` the chosen head is then refitted on train and validation together.
    The test images are scored once, at the end.
    Deterministic: there is no seed.
    Returns a Probe. Raises as `load_backbone` does, and ValueError if a split lacks images.
    """
    data = {name: split.labels[split.indices].astype("int64") for name, split in dataset.splits.items()}
    if len(np.unique(data["train"])) < 2 or not len(data["validation"]):
        raise ValueError(f"{dataset.name} has too little to learn from; expected two classes, and validation images")
    clock = Clock()
    extractors = extractors_for(dataset.input_shape, backbone, sizes)
    clock.lap("setup")
    features = {
        name: joined_features(extractors, split, mirrored, cache, name if progress else None, clock)
        for name, split in dataset.splits.items()
    }
    # One thread: with several, the solver's small products wait for busy cores and take 30 times as long.
    with threadpool_limits(1):
        choices, (kernel, bias) = _chosen(features, data, len(dataset.class_names), strengths)
        best = choices.iloc[0]
        if refit:
            weighting = "balanced" if best["class_weights"] else None
            both = (np.concatenate([part[name] for name in ("train", "validation")]) for part in (features, data))
            kernel, bias = fitted(*both, best["C"], weighting, len(dataset.class_names))
    unseen = [name for name in features if name not in (("train", "validation") if refit else ("train",))]
    probabilities = {name: softmax(features[name] @ kernel + bias, axis=1) for name in unseen}
    model = _assembled(_joined(extractors, dataset.input_shape, mirrored), kernel, bias)
    clock.lap("fit")
    row = {
        "label": "linear_probe",
        "backbone": extractors[0].name,
        "backbone_version": version_of(extractors[0]),
        "dataset": dataset.name,
        "class_names": list(dataset.class_names),
        "C": float(best["C"]),
        "class_weights": bool(best["class_weights"]),
        "parameters": model.count_params(),
        "train_images": len(data["train"]),
        "seconds_features": clock.parts["features"],
        "seconds_fit": clock.parts["fit"],
        "data_version": dataset.fingerprint,
        "protocol": PROTOCOL,
        **environment(),
        **{name: score for name, score in score_columns({"last": probabilities}, data).items() if score is not None},
    }
    return Probe(model, row, choices, probabilities, clock)


def extractors_for(shape, backbone=None, sizes=None):
    """[extractor, ...], one for each of `sizes`, in pixels, to resize images to (None: one, of the default size).

    `shape`, `backbone`: as in `feature_extractor`. The extractors share one set of weights.
    """
    if sizes is None:
        return [feature_extractor(shape, backbone)]
    network = load_backbone(backbone, (None, None))
    return [feature_extractor(shape, size=size, network=network) for size in sizes]


def feature_extractor(shape, backbone=None, size=None, network=None):
    """A frozen `keras.Model` from images of `shape` (height, width, channels) to mean features (n, features).

    `backbone`: as in `pretrained.load_backbone`; its features are averaged over positions where it has any; `network`:
    that backbone, if already loaded. Grey images are repeated in three channels, and all are resized to what the
    backbone takes: its own size, `size` x `size` pixels, or for EfficientNet-Lite0 the images' size or SMALLEST_SIDE.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; expected 1 (grey) or 3 (RGB)")
    if network is None:
        by = max(1.0, SMALLEST_SIDE / min(height, width))
        network = load_backbone(backbone, (round(by * height), round(by * width)))
    network.trainable = False
    with dtype_policy("float32"):
        pixels = x = keras.Input(shape, name="pixels")
        if channels == 1:
            x = layers.Concatenate(name="rgb")([x, x, x])
        own, smaller = network.input_shape[1:3], size is None or size < min(height, width)
        wanted = (size, size) if size and None in own else own
        if None not in wanted and wanted != (height, width):
            x = layers.Resizing(*wanted, interpolation="bicubic", antialias=smaller, name="resize")(x)
        x = network(x)
        pooled = (
            layers.GlobalAveragePooling2D(name="features") if len(x.shape) == 4 else layers.Identity(name="features")
        )
        name = f"{network.name}_{size}" if size else network.name
        return without_xla(keras.Model(pixels, pooled(x), name=name))


def joined_features(extractors, split, mirrored=False, cache=None, title=None, clock=None):
    """float32 (n, features): the features of all `extractors` for the images of `split`, side by side.

    `mirrored`: means over each image and its mirror image; the other arguments as in `frozen_features`.
    """
    found = []
    for number, extractor in enumerate(extractors, 1):
        named = title if title is None or len(extractors) == 1 else f"{title}, size {number} of {len(extractors)}"
        features = frozen_features(extractor, split, cache, named, clock)
        if mirrored:
            features = (features + frozen_features(extractor, split, cache, named, clock, mirrored)) / 2
        found.append(features)
    return np.concatenate(found, axis=1)


def frozen_features(extractor, split, cache=None, title=None, clock=None, mirrored=False):
    """float32 (n, ...): the features of the images of `split` (a `data.Split`), in its order.

    `extractor`: from `feature_extractor`, or any model on pixels; `cache`: the cache folder (default: as in
    `machine.cache_folder`), where they are kept by weights and image, so that another split computes only what is new
    and a killed process loses at most PART images; `title`: of the progress bar (None: no bar); `clock`: a Clock, which
    counts as "features" the time they took when computed; `mirrored`: those of the images mirrored left to right.
    """
    clock = clock or Clock()
    with clock.paused("setup"):
        folder = cache_folder(cache) / "features" / f"{extractor.name}-{version_of(extractor)}"
        batches = (_seen(split, slice(start, start + BATCH), mirrored) for start in range(0, len(split), BATCH))
        names = np.array([_name(image) for batch in batches for image in batch])
        features = np.empty((len(split), *extractor.output_shape[1:]), "float32")
        took = np.full((len(split), 2), np.nan)
        for path in sorted(folder.glob("*.npz")):
            _recall(path, names, features, took)
        missing = np.flatnonzero(np.isnan(took[:, 0]))
        with progress_bar(len(missing), f"features of {title}", "image", disable=title is None) as bar:
            for first in range(0, len(missing), PART):
                part, own = missing[first : first + PART], Clock()
                for start in range(0, len(part), BATCH):
                    rows = part[start : start + BATCH]
                    features[rows] = extractor.predict_on_batch(_seen(split, rows, mirrored))
                    bar.update(len(rows))
                own.lap("features")
                took[part] = np.divide((own.parts["features"], own.cpu_seconds), len(part))
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{_name(names[part])}.npz"
                with atomic_file(path, suffix=".npz") as partial:
                    np.savez(partial, names=names[part], features=features[part], took=took[part])
        forget(split.images)
    clock.add("features", *took.sum(axis=0))
    return features


def _seen(split, rows, mirrored):
    images = split.images[split.indices[rows]]
    return images[:, :, ::-1] if mirrored else images


def _name(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:24]


def _recall(path, names, features, took):
    """Fill in what the file `path` has of the images `names`; nothing if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            place = {name: row for row, name in enumerate(file["names"])}
            rows = np.array([place.get(name, -1) for name in names])
            wanted = rows >= 0
            if wanted.any():
                kept = file["features"][rows[wanted]], file["took"][rows[wanted]]
                features[wanted], took[wanted] = kept
    except (OSError, ValueError, KeyError, IndexError, EOFError, TypeError, zipfile.BadZipFile):
        pass


def version_of(model):
    """A hash of layers and weights, 12 hex digits."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()[:12]


def without_xla(model):
    """`model`, set to run without XLA, which makes TensorFlow slower on a CPU (measured: 17 times, and to start)."""
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    return model


def _chosen(features, labels, classes, strengths=None):
    """(choices, best first; (kernel float32 (features, classes), bias (classes,)) of the best).

    `strengths`: those to choose from without weights for rare classes (None: STRENGTHS, with WEIGHTINGS).
    """
    from sklearn.metrics import recall_score  # loads in a second, and nothing else here needs it

    unseen, answers = features["validation"], labels["validation"]
    rows, fits = [], []
    for weighting in WEIGHTINGS if strengths is None else (None,):
        for strength in strengths or STRENGTHS:
            kernel, bias = fitted(features["train"], labels["train"], strength, weighting, classes)
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


def fitted(features, labels, strength, weighting, classes):
    """(kernel float32 (features, `classes`), bias (classes,)) of the softmax layer equivalent to a regression.

    That is the logistic regression of integer `labels` (n,) on standardised `features` (n, features), with inverse
    penalty `strength` and `weighting` (scikit-learn's class_weight).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    # From zero each time: started at another strength's solution, it would stop there, its tolerance being met.
    regression = LogisticRegression(C=strength, class_weight=weighting, max_iter=STEPS)
    regression.fit(scaler.transform(features), labels)
    kernel, bias = regression.coef_.T, regression.intercept_
    if len(regression.classes_) == 2:  # one logit, of the second class
        kernel, bias = np.concatenate([0 * kernel, kernel], axis=1), np.array([0, bias[0]])
    # For features that are not standardised.
    kernel = kernel / scaler.scale_[:, None]
    all_kernels, all_biases = np.zeros((len(kernel), classes)), np.full(classes, NEVER)
    all_kernels[:, regression.classes_] = kernel
    all_biases[regression.classes_] = bias - scaler.mean_ @ kernel
    return all_kernels.astype("float32"), all_biases.astype("float32")


def _joined(extractors, shape, mirrored):
    """One `keras.Model` from pixels of `shape` to what `joined_features` computes one by one."""
    if len(extractors) == 1 and not mirrored:
        return extractors[0]
    with dtype_policy("float32"):
        pixels = keras.Input(shape, name="pixels")
        seen = pixels
        if mirrored:  # In one pass, the images themselves last.
            seen = keras.ops.concatenate([keras.ops.flip(pixels, 2), pixels], axis=0)
        found = [extractor(seen) for extractor in extractors]
        if mirrored:
            found = [keras.ops.mean(keras.ops.reshape(both, (2, -1, both.shape[-1])), axis=0) for both in found]
        features = layers.Concatenate(name="joined")(found) if found[1:] else found[0]
        return keras.Model(pixels, features, name=extractors[0].name)


def _assembled(extractor, kernel, bias):
    """Backbone and head as one model from pixels to probabilities."""
    with dtype_policy("float32"):
        answer = layers.Dense(len(bias), activation="softmax", name="probabilities")
        model = keras.Model(extractor.inputs[0], answer(extractor.outputs[0]), name="linear_probe")
    answer.set_weights([kernel, bias])
    return without_xla(model)
