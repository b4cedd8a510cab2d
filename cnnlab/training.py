"""One Trial in, one result row and its predictions out."""

import contextlib
import dataclasses
from typing import Any

import keras
import numpy as np

from cnnlab import costs, models
from cnnlab.adam import adam
from cnnlab.batches import NewOrder, OrderedBatches, ShuffledBatches, feed
from cnnlab.callbacks import BestWeights, EarlyStopping
from cnnlab.checkpoints import Checkpoint
from cnnlab.machine import code_version, environment
from cnnlab.progress import TrainingProgress
from cnnlab.trials import TRAINING_CODE, Trial, trial_key

EVALUATION_BATCH = 500
# Batches that the backend runs between two returns to Python.
STEPS_PER_EXECUTION = 25
MAKE_OPTIMIZER = {"adam": adam, "sgd": keras.optimizers.SGD}


@dataclasses.dataclass
class TrialResult:
    """What one training gave.

    `history`: the curves, {"loss", "accuracy", "val_loss", "val_accuracy"} to one value an
    epoch; `row`: the tidy record; `model`: float32, with the weights of the best validation
    epoch; `probabilities`: {"validation", "test"} to that model's float32 (n, classes);
    `interrupted`: whether Ctrl-C ended it before its time.
    """

    trial: Trial
    row: dict[str, Any]
    history: dict[str, list[float]]
    model: keras.Model
    probabilities: dict[str, np.ndarray]
    interrupted: bool = False


def run_trial(trial, dataset, progress=True, checkpoint=None):
    """Train `trial` on `dataset` (a `data.Dataset` with train, validation and test).

    `progress` shows a bar, and is its title where it is a text; `checkpoint` is a file that
    holds the state after each epoch, from which an interrupted training of the same trial goes
    on, and which is removed at the end.
    Returns a TrialResult. Ctrl-C ends training early: what was trained is evaluated and
    returned, marked as interrupted; before the first epoch's end it is passed on.
    The test set is evaluated once, after training.
    """
    trial = trial.resolved()
    splits = prepare(trial, dataset)
    options = {"input_shape": dataset.input_shape, "num_classes": len(dataset.class_names), **trial.options}
    keras.utils.set_random_seed(trial.seed)
    with dtype_policy(trial.precision):
        model = models.build(trial.model, **options)
    batches = ShuffledBatches(
        *splits["train"], trial.batch_size, trial.seed, trial.steps_per_epoch, trial.augment,
        balanced_weights(splits["train"][1], len(dataset.class_names)) if trial.class_weights else None,
    )  # fmt: skip
    _compile(model, trial, len(batches))
    keeper = BestWeights(trial.monitor, Checkpoint(checkpoint, trial_key(trial)))
    interrupted = _fit(model, trial, batches, splits["validation"], keeper, progress)

    # Measured in float32, which is what is saved and served, whatever it was trained in.
    with dtype_policy("float32"):
        twin = models.build(trial.model, **options)
    row = _describe(trial, dataset, model, keeper, batches)
    twin.set_weights(model.get_weights())
    row |= _scores(twin, splits, "last")
    twin.set_weights(keeper.weights)
    probabilities = {name: predict(twin, splits[name][0]) for name in ("validation", "test")}
    row |= _scores(twin, splits, "best", probabilities)
    twin.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    keeper.checkpoint.remove()
    return TrialResult(trial, row, keeper.history, twin, probabilities, interrupted)


def prepare(trial, dataset):
    """The trial's view of `dataset`: {split: (uint8 images, int32 labels)}, limited and permuted."""
    splits = {}
    for name, limit in (("train", trial.train_images), ("validation", trial.eval_images), ("test", trial.eval_images)):
        images, labels = dataset.split(name, limit)
        if trial.permute_pixels is not None:
            images = permute_pixels(images, trial.permute_pixels)
        splits[name] = images, labels.astype("int32")
    return splits


def permute_pixels(images, seed):
    """One permutation, drawn from `seed`, of the pixel positions of all `images`.

    (n, height, width, channels) in and out; the channels of a pixel stay together.
    """
    count, height, width, channels = images.shape
    order = np.random.default_rng(seed).permutation(height * width)
    return images.reshape(count, height * width, channels)[:, order].reshape(images.shape)


def balanced_weights(labels, num_classes):
    """Weight of each class, float32 (num_classes,): n / (classes present x count); 0 if absent."""
    counts = np.bincount(labels, minlength=num_classes)
    present = np.count_nonzero(counts)
    return np.divide(len(labels), present * counts, out=np.zeros(num_classes), where=counts > 0).astype("float32")


def predict(model, images):
    """Probabilities of `model` for uint8 `images`: float32 (n, classes)."""
    starts = range(0, len(images), EVALUATION_BATCH)
    return np.concatenate([model.predict_on_batch(images[i : i + EVALUATION_BATCH]) for i in starts])


@contextlib.contextmanager
def dtype_policy(name):
    """Build layers under the Keras dtype policy `name`, and restore the former one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _compile(model, trial, steps):
    model.compile(
        optimizer=MAKE_OPTIMIZER[trial.optimizer](trial.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=_largest_divisor(steps, STEPS_PER_EXECUTION),
        # XLA makes TensorFlow slower on a CPU (measured); elsewhere Keras decides.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def _fit(model, trial, batches, validation, keeper, progress):
    """Train to the end, or to Ctrl-C after at least one epoch: returns whether interrupted."""
    done = keeper.restore(model)
    stopped = trial.patience is not None and done and keeper.epochs_without_progress >= trial.patience
    if done >= trial.epochs or stopped:
        return False
    callbacks = [NewOrder(batches), keeper]
    if trial.patience is not None:
        callbacks.append(EarlyStopping(keeper, trial.patience))
    title = progress if isinstance(progress, str) else trial.label
    bar = TrainingProgress(title, trial.epochs, len(batches), done)
    keeper.start_clock()
    try:
        model.fit(
            feed(batches), epochs=trial.epochs, initial_epoch=done, verbose=0, shuffle=False,
            validation_data=feed(OrderedBatches(*validation, EVALUATION_BATCH)),
            callbacks=[*callbacks, bar] if progress else callbacks,
        )  # fmt: skip
    except KeyboardInterrupt:
        bar.close()
        if not keeper.epochs_done:
            raise
        return True
    return False


def _describe(trial, dataset, model, keeper, batches):
    """The part of a row that is known without a score."""
    images = keeper.epochs_done * len(batches) * batches.batch_size
    return {
        "label": trial.label,
        **trial.configuration(),
        "parameters": model.count_params(),
        "epochs_trained": keeper.epochs_done,
        "best_epoch": keeper.best_epoch + 1,
        "train_accuracy_last": keeper.history["accuracy"][-1],
        "train_loss_last": keeper.history["loss"][-1],
        "seconds": keeper.seconds,
        "cpu_seconds": keeper.cpu_seconds,
        "training_flops": costs.training_flops(model, images),
        "data_version": dataset.fingerprint,
        "code_version": code_version(*TRAINING_CODE),
        **environment(),
    }


def _scores(model, splits, which, probabilities=None):
    """{"val_accuracy_<which>", "val_loss_...", "test_...": float} of `model`'s weights."""
    row = {}
    for split, short in (("validation", "val"), ("test", "test")):
        images, labels = splits[split]
        answers = predict(model, images) if probabilities is None else probabilities[split]
        row[f"{short}_accuracy_{which}"] = float(np.mean(answers.argmax(axis=1) == labels))
        row[f"{short}_loss_{which}"] = cross_entropy(answers, labels)
    return row


def cross_entropy(probabilities, labels):
    """Mean of -ln p(true class): `probabilities` (n, classes), integer `labels` (n,)."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, keras.config.epsilon())).mean())


def _largest_divisor(number, limit):
    return max(d for d in range(1, limit + 1) if number % d == 0)
