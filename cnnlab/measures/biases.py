"""What convolution assumes: that things move, and that neighbours matter.

Answers and feature maps on shifted images; convolution along the columns of a table.
"""

from functools import partial

import keras
import numpy as np
import pandas as pd
from keras import layers
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler

from cnnlab.measures.receptive_fields import theoretical_fields
from cnnlab.training import ShuffledBatches, cross_entropy, predict

SHIFTS = tuple(range(9))
DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}


def shift_images(images, down, right):
    """`images` (n, height, width, channels) moved by whole pixels; negative is up and left.

    Pixels that move out are lost. The gap is filled with the mirror image of the border, which keeps the local texture:
    black would be an edge that no network was trained on, repeating the last row would draw streaks, and wrapping round
    would bring in the opposite border. Raises ValueError for a shift by the whole image or more.
    """
    height, width = images.shape[1:3]
    if abs(down) >= height or abs(right) >= width:
        raise ValueError(f"shift is ({down}, {right}) pixels; expected less than the image's {height} x {width}")
    margins = ((0, 0), (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)), (0, 0))
    padded = np.pad(images, margins, mode="reflect")
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, top : top + height, left : left + width]


def shift_and_back(images, down, right):
    """The control for a shift: `images` in place, with the strip that the shift loses filled by mirroring."""
    return shift_images(shift_images(images, down, right), -down, -right)


TREATMENTS = {"shifted": shift_images, "held": shift_and_back}


def shift_accuracy(model, images, labels, shifts=SHIFTS):
    """Accuracy of `model` on uint8 `images` (n, height, width, channels), `labels` (n,), shifted in four directions.

    `shifts`: whole pixels, from 0. Returns one row for each shift, direction and treatment: "shifted", or "held", the
    control, which loses the same strip of the image but does not move: the difference between the two is the effect of
    position. Columns: shift (pixels), direction, treatment, accuracy, same_answer (share of images given the same class
    as unshifted: the consistency of Zhang 2019, arXiv 1904.11486, section 4), images.
    """
    unshifted = predict(model, images).argmax(axis=1)
    rows = []
    for shift in shifts:
        for direction, (down, right) in DIRECTIONS.items():
            for treatment, transform in TREATMENTS.items():
                moved = transform(images, shift * down, shift * right) if shift else images
                answers = predict(model, moved).argmax(axis=1) if shift else unshifted
                rows.append({
                    "shift": shift, "direction": direction, "treatment": treatment,
                    "accuracy": np.mean(answers == labels), "same_answer": np.mean(answers == unshifted),
                    "images": len(images),
                })  # fmt: skip
    return pd.DataFrame(rows)


def equivariance(model, images, shifts=SHIFTS):
    """How closely the features of a shifted image match the shifted features, layer by layer.

    `images`: uint8 (n, height, width, channels), shifted right by each of `shifts` pixels. A map of stride s (after
    pooling) can only move by whole positions: the shift is rounded to the multiple of s below or above, whichever fits
    better. Only positions whose receptive field lies inside both images are compared, so neither padding nor the
    mirrored strip is seen. A layer without positions (dense) is compared with itself unmoved.
    Returns one row for each layer and shift: layer, shift (pixels), kind ("map" or "vector"), stride (pixels),
    relative_error (root mean square of the difference over that of the features; 0 is exact, about 1.4 unrelated),
    correlation, positions (compared in each image; 0, and no error, where the receptive field does not fit), images.
    """
    fields = theoretical_fields(model)
    names = [*fields, *(layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense))]
    features = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    original = features.predict_on_batch(images)
    rows = []
    for shift in shifts:
        moved = features.predict_on_batch(shift_images(images, 0, shift))
        for name, before, after in zip(names, original, moved, strict=True):
            if name in fields:
                comparison = {"kind": "map", "stride": fields[name].stride}
                comparison |= _best_match(before, after, fields[name], shift, images.shape[1:3])
            else:
                comparison = {"kind": "vector", "stride": np.nan, **_difference(before, after), "positions": 1}
            rows.append({"layer": name, "shift": shift, **comparison, "images": len(images)})
    return pd.DataFrame(rows)


def _best_match(before, after, field, shift, size):
    """Difference between two maps at the whole step (in positions) that best fits `shift` pixels."""
    (height, width), matches = size, []
    rows, columns = field.inside(before.shape[1], 0, height), field.inside(before.shape[2], 0, width)
    for step in {shift // field.stride, -(-shift // field.stride)}:
        # From column `shift` on, the shifted image shows the original's columns.
        moved = [c for c in field.inside(after.shape[2], shift, width) if c - step in columns]
        if rows and moved:
            kept = [c - step for c in moved]
            difference = _difference(before[:, rows][:, :, kept], after[:, rows][:, :, moved])
            matches.append({**difference, "positions": len(rows) * len(moved)})
        else:
            matches.append({"relative_error": np.nan, "correlation": np.nan, "positions": 0})
    return min(matches, key=lambda match: match["relative_error"])


def _difference(before, after):
    before, after = before.astype("float64"), after.astype("float64")
    scale = np.sqrt(np.mean(before**2))
    return {
        "relative_error": np.sqrt(np.mean((after - before) ** 2)) / scale if scale else np.nan,
        "correlation": np.corrcoef(before.ravel(), after.ravel())[0, 1],
    }


TEST_SHARE = 0.25
SPLITS = 3
EPOCHS = 40
BATCH_SIZE = 32
LEARNING_RATE = 1e-3
ORDERS = ("published", "shuffled")


def build_conv1d(columns, num_classes):
    """A 1-D CNN along a row of a table: (batch, columns) to (batch, num_classes) probabilities.

    Convolutions over three columns with 'same' padding and ReLU, pooling by 2 after each, flatten, one dense layer: the
    assignment's CNN with one dimension fewer.
    """
    stack = [keras.Input((columns,)), layers.Reshape((columns, 1))]
    for count in (16, 32):
        stack += [layers.Conv1D(count, 3, padding="same", activation="relu"), layers.MaxPooling1D(2)]
    stack += [layers.Flatten(), layers.Dense(32, activation="relu")]
    return keras.Sequential([*stack, layers.Dense(num_classes, activation="softmax")], name="conv1d")


def build_dense(columns, num_classes):
    """A dense network for a row of a table, with about as many parameters as `build_conv1d` has."""
    stack = [keras.Input((columns,)), *(layers.Dense(width, activation="relu") for width in (96, 64))]
    return keras.Sequential([*stack, layers.Dense(num_classes, activation="softmax")], name="dense")


NETWORKS = {"conv1d": build_conv1d, "dense": build_dense}


def tabular_answers(seed, table=None, splits=SPLITS, epochs=EPOCHS):
    """Compare a 1-D CNN, a dense network and gradient boosting on the same splits, with columns in two orders.

    `seed` sets the splits (stratified, a quarter of the rows for testing), the shuffled order of the columns, the
    initial weights and the batches; `table`: (values (n, columns), labels (n,) from 0). The default is Wisconsin
    diagnostic breast cancer (569, 30), shipped with scikit-learn (Street, Wolberg and Mangasarian 1993): ten
    measurements of cell nuclei, first their means, then their standard errors, then their worst values, a list in which
    neighbours are no more closely related than other columns. Columns are standardised on the training rows. No model
    is tuned: the question is what the columns' order changes.
    Returns one row for each model, order and split: label, order, split, accuracy, loss (mean cross-entropy, nats),
    parameters (none for the trees), train_rows, test_rows.
    """
    from sklearn.datasets import load_breast_cancer  # takes a quarter of a second, and nothing else here needs it

    values, labels = load_breast_cancer(return_X_y=True) if table is None else table
    shuffled = np.random.default_rng(seed).permutation(values.shape[1])
    shape = values.shape[1], len(np.unique(labels))
    networks = {name: _Network(partial(build, *shape)) for name, build in NETWORKS.items()}
    splitter = StratifiedShuffleSplit(splits, test_size=TEST_SHARE, random_state=seed)
    rows = []
    for split, (train, test) in enumerate(splitter.split(values, labels)):
        scaler = StandardScaler().fit(values[train])
        x_train, x_test = (scaler.transform(values[part]) for part in (train, test))
        for order, columns in zip(ORDERS, (np.arange(values.shape[1]), shuffled), strict=True):
            known = (x_train[:, columns], labels[train])
            asked = x_test[:, columns]
            answers = {name: net.answer(*known, asked, [seed, split], epochs) for name, net in networks.items()}
            trees = GradientBoostingClassifier(random_state=seed).fit(*known)
            answers["gradient_boosting"] = trees.predict_proba(asked)
            for name, probabilities in answers.items():
                rows.append({
                    "label": name, "order": order, "split": split,
                    "accuracy": np.mean(probabilities.argmax(axis=1) == labels[test]),
                    "loss": cross_entropy(probabilities, labels[test]),
                    "parameters": networks[name].model.count_params() if name in networks else np.nan,
                    "train_rows": len(train), "test_rows": len(test),
                })  # fmt: skip
    return pd.DataFrame(rows)


class _Network:
    """A network compiled once and retrained for each split: compiling costs more than training."""

    def __init__(self, build):
        self.build, self.model = build, build()
        self.model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", jit_compile=False)
        self.model.optimizer.build(self.model.trainable_variables)
        self.moments = [keras.ops.convert_to_numpy(variable) for variable in self.model.optimizer.variables]

    def answer(self, values, labels, test_values, seed, epochs):
        """Probabilities for `test_values` after training on the rest: float32 (n, classes)."""
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        keras.utils.set_random_seed(number)
        self.model.set_weights(self.build().get_weights())
        for variable, value in zip(self.model.optimizer.variables, self.moments, strict=True):
            variable.assign(value)
        batches = ShuffledBatches(values.astype("float32"), labels, BATCH_SIZE, number)
        for epoch in range(epochs):
            batches.start_epoch(epoch)
            for step in range(len(batches)):
                self.model.train_on_batch(*batches[step])
        return self.model.predict_on_batch(test_values.astype("float32"))
