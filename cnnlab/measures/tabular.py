"""Convolution where it has no business: along the columns of a table, in two orders."""

from functools import partial

import keras
import numpy as np
import pandas as pd
from keras import layers
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler

from cnnlab.training import ShuffledBatches, cross_entropy

TEST_SHARE = 0.25
SPLITS = 3
EPOCHS = 40
BATCH_SIZE = 32
LEARNING_RATE = 1e-3
ORDERS = ("published", "shuffled")


def breast_cancer():
    """(values float64 (569, 30), labels (569,)): Wisconsin diagnostic breast cancer, shipped with scikit-learn.

    Street, Wolberg and Mangasarian 1993. The columns are ten measures of a cell's nucleus,
    first their means, then their standard errors, then their worst values: a list, whose
    neighbours are no nearer to each other than others.
    """
    return load_breast_cancer(return_X_y=True)


def build_conv1d(columns, num_classes, filters=(16, 32), kernel_size=3, dense=32):
    """The CNN's idea along a row of a table: (batch, columns) to (batch, num_classes) probabilities.

    Convolutions of `kernel_size` columns with 'same' padding and ReLU, a pooling of 2 after
    each, flatten, one dense layer: `models.build_cnn` with one dimension less.
    """
    stack = [keras.Input((columns,)), layers.Reshape((columns, 1))]
    for count in filters:
        stack += [layers.Conv1D(count, kernel_size, padding="same", activation="relu"), layers.MaxPooling1D(2)]
    stack += [layers.Flatten(), layers.Dense(dense, activation="relu")]
    return keras.Sequential([*stack, layers.Dense(num_classes, activation="softmax")], name="conv1d")


def build_dense(columns, num_classes, units=(96, 64)):
    """A dense network on a row of a table, of about as many parameters as `build_conv1d` has."""
    stack = [keras.Input((columns,)), *(layers.Dense(width, activation="relu") for width in units)]
    return keras.Sequential([*stack, layers.Dense(num_classes, activation="softmax")], name="dense")


NETWORKS = {"conv1d": build_conv1d, "dense": build_dense}


def tabular_answers(seed, table=None, splits=SPLITS, epochs=EPOCHS):
    """A 1-D CNN, a dense network and gradient boosting on the same splits, columns in two orders.

    `seed` decides the splits (stratified, a quarter of the rows for the test), the shuffled
    order of the columns, initial weights and batches; `table`: (values (n, columns), labels
    (n,) from 0), by default `breast_cancer`. Columns are standardised by the training rows.
    `epochs` is fixed and no model is tuned: the question is what the columns' order changes.
    Returns one row for each model, order and split: label, order, split, accuracy, loss (mean
    cross-entropy, nats), parameters (none for the trees), train_rows, test_rows.
    """
    values, labels = breast_cancer() if table is None else table
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
            answers = {
                name: network.answer(*known, x_test[:, columns], [seed, split], epochs)
                for name, network in networks.items()
            }
            trees = GradientBoostingClassifier(random_state=seed).fit(*known)
            answers["gradient_boosting"] = trees.predict_proba(x_test[:, columns])
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
    """A network compiled once and trained anew for each split: compiling costs more than training."""

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
