"""One Trial in, one result row and its predictions out: the one loop that trains everything in the lab."""

import dataclasses
import math
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras.callbacks import LambdaCallback

from cnnlab.machine import environment
from cnnlab.training.answers import SCORING_BATCH, predict, predict_views, score_columns
from cnnlab.training.batches import OrderedBatches, ShuffledBatches, balanced_weights, feeding, prepare
from cnnlab.training.callbacks import (
    STATISTICS_IMAGES,
    Checkpoint,
    Clock,
    History,
    ProgressBar,
    WeightAverage,
    renew_statistics,
)
from cnnlab.training.finetune import begin_at_probe, build_for, feature_maps, initial_network, limited, parts_of
from cnnlab.training.models import dtype_policy, training_flops
from cnnlab.training.networks import LinearProbe, Lite0
from cnnlab.training.optimizers import PlainAdam, make_optimizer
from cnnlab.training.transfer import linear_probe
from cnnlab.training.trial import PROTOCOL, Trial, trial_key

# At most this many batches run before the backend returns to Python.
STEPS_PER_EXECUTION = 25


@dataclasses.dataclass
class Result:
    """The outcome of one training.

    `trial`: resolved, naming the data actually trained on; `row`: the tidy record; `history`: one value
    per epoch of "loss", "accuracy" and, where each epoch is validated, "val_loss" and "val_accuracy";
    `model`: float32, of Keras's own layers, with the weights that the trial keeps; `probabilities`:
    that model's float32 (n, classes) for "test" and, where there is one, "validation", from one view
    of each image; `interrupted`: whether Ctrl-C ended the training early.
    """

    trial: Trial
    row: dict[str, Any]
    history: dict[str, list[float]]
    model: keras.Model
    probabilities: dict[str, np.ndarray]
    interrupted: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many steps a training has: `steps` in all, `epoch_steps` an epoch, of `batch_size` images each."""

    steps: int
    epoch_steps: int
    batch_size: int

    @classmethod
    def of(cls, trial, images):
        """The plan of `trial` for this many training `images`; those that do not fill a batch wait for another pass."""
        batch_size = min(trial.batch_size, images)
        epoch_steps = trial.steps_per_epoch or images // batch_size
        # Rounded first: 9.9 x 40 steps are 396, not 397 because of the last bit of 9.9.
        return cls(math.ceil(round(trial.epochs * epoch_steps, 6)), epoch_steps, batch_size)

    @classmethod
    def on(cls, trial, dataset):
        """The plan of `trial` for the images of `dataset` that it trains on."""
        images = len(dataset.splits["train"]) + (trial.train_split == "all") * len(dataset.splits["validation"])
        return cls.of(trial, min(images, trial.train_images or images))

    @property
    def stretches(self):
        """[(first epoch, last epoch + 1, steps of each)]: the whole epochs, then any partial one."""
        whole, rest = divmod(self.steps, self.epoch_steps)
        found = [(0, whole, self.epoch_steps), (whole, whole + 1, rest)]
        return [stretch for stretch in found if stretch[2] and stretch[1] > stretch[0]]


def train(trial, dataset, callbacks=(), scoring_batch=SCORING_BATCH):
    """Train `trial` on `dataset` (a `data.Dataset` with train, validation and test).

    `callbacks`: those of Keras or the lab, such as `ProgressBar()`, or `Checkpoint(path)`, from which an interrupted
    training of the same trial resumes; `scoring_batch`: images scored at once.
    Besides the trial's configuration and the class names, the row has accuracy and loss on validation (None where all
    images train) and test: of the final weights ("..._last"), of the best epoch's ("..._best") where the trial keeps
    these, and with test-time augmentation ("..._tta") where it keeps the last. It also has the seconds from the raw
    arrays to the last test prediction, excluding checkpoints: seconds_setup, seconds_features (of frozen layers),
    seconds_training and seconds_tta (all test predictions).
    A linear probe is fitted, not trained step by step (seconds_fit): it has no curves, takes no checkpoint, and its
    row gives the strength and the weights for rare classes (`balanced`) that validation chose.
    Returns a Result. Ctrl-C ends training early: the network is evaluated as it is and returned, marked as interrupted,
    and the checkpoint stays; before the end of the first epoch, KeyboardInterrupt is raised. The test set is evaluated
    once, after training. Raises RuntimeError if the training diverges.
    """
    # The row names the data actually trained on, not what the trial was declared for.
    trial = dataclasses.replace(trial.resolved(), dataset=dataset.key)
    progress = bool(_of_kind(callbacks, ProgressBar))
    if isinstance(trial.network, LinearProbe):
        return _fitted(trial, dataset, progress)
    tuned = isinstance(trial.network, Lite0)
    splits = None if tuned else prepare(trial, dataset)
    clock = Clock()
    keras.utils.set_random_seed(trial.seed)
    if tuned:
        parts = parts_of(trial.network, dataset.input_shape, len(dataset.class_names))
        splits = feature_maps(trial, dataset, parts.frozen, progress, clock)
        begin_at_probe(parts, *splits["train"], trial.class_weights)
        model = parts.trained
    else:
        model = initial_network(trial, dataset, splits["train"][0], fused=True)
    plan = Plan.on(trial, dataset)
    compile_model(model, trial, plan)
    history = History(trial.monitor if trial.keep == "best" else None, trial.patience)
    average = None if trial.average == "none" else WeightAverage(trial.average, plan.steps)
    for checkpoint in _of_kind(callbacks, Checkpoint):
        checkpoint.bind(trial_key(trial, dataset.fingerprint), history, clock, average)
        checkpoint.restore(model)
    clock.lap("setup")
    some = _some(trial, plan, splits) if trial.is_normalised else None
    # Before each validation, for the weights that are validated.
    renewed = LambdaCallback(on_test_begin=lambda _logs: renew_statistics(model, some)) if some else None
    beside = [callback for callback in (renewed, average, history) if callback is not None]
    interrupted = fit(model, trial, plan, splits, [*beside, *callbacks], scoring_batch)
    if some and trial.keep == "last":
        renew_statistics(model, some)
    clock.lap("training")

    twin, whole = _twin(trial, dataset, history.weights or model.get_weights())
    answers = {"test": predict_views(twin, splits["test"][0], trial.tta, scoring_batch, trial.tta_share)}
    clock.lap("tta")
    if not (np.isfinite(history.curves["loss"][-1]) and np.isfinite(answers["test"][0]).all()):
        raise RuntimeError(
            f"{trial.label}, seed {trial.seed}, diverged; try a learning rate below {trial.learning_rate:g}"
        )
    if len(splits["validation"][0]):
        answers["validation"] = predict_views(twin, splits["validation"][0], trial.tta, scoring_batch, trial.tta_share)
    plain, augmented = ({name: pair[place] for name, pair in answers.items()} for place in (0, 1))
    if trial.keep == "last":
        scores = {"last": plain, "tta": augmented}
    elif history.best_epoch + 1 == history.epochs_done:
        scores = {"best": plain, "last": plain}
    else:
        final, _ = _twin(trial, dataset, model.get_weights())
        scores = {"best": plain, "last": {name: predict(final, splits[name][0], scoring_batch) for name in plain}}
    steps = min(plan.steps, history.epochs_done * plan.epoch_steps)
    own = {
        "steps": steps,
        "epochs_trained": history.epochs_done if trial.keep == "best" else steps / plan.epoch_steps,
        **({"best_epoch": history.best_epoch + 1} if trial.keep == "best" else {}),
        "train_accuracy_last": history.curves["accuracy"][-1],
        "train_loss_last": history.curves["loss"][-1],
        "training_flops": training_flops(twin, steps * plan.batch_size),
    }
    if not interrupted:
        for checkpoint in _of_kind(callbacks, Checkpoint):
            checkpoint.remove()
    labels = {name: labels for name, (_, labels) in splits.items()}
    row = _row(trial, dataset, whole, clock, own, score_columns(scores, labels))
    return Result(trial, row, history.curves, whole, plain, interrupted)


def _fitted(trial, dataset, progress):
    """The Result of a linear probe, which is fitted, not trained step by step."""
    taken = limited(trial, dataset)
    probe = linear_probe(
        taken, progress=progress, **dataclasses.asdict(trial.network), refit=trial.train_split == "all"
    )
    labels = {name: split.labels[split.indices] for name, split in taken.splits.items()}
    which = ("last",) if trial.keep == "last" else ("best", "last")
    scores = score_columns(dict.fromkeys(which, probe.probabilities), labels)
    own = {"strength": probe.row["C"], "balanced": probe.row["class_weights"]}
    return Result(
        trial, _row(trial, dataset, probe.model, probe.clock, own, scores), {}, probe.model, probe.probabilities
    )


def _row(trial, dataset, model, clock, own, scores):
    """The tidy record, a dict; `own`: the columns of this kind of training, `scores`: those of `score_columns`."""
    return {
        "label": trial.label,
        **trial.configuration(),
        "class_names": list(dataset.class_names),
        "parameters": model.count_params(),
        **own,
        **clock.columns(),
        "data_version": dataset.fingerprint,
        "protocol": PROTOCOL,
        **environment(),
        **scores,
    }


def compile_model(model, trial, plan):
    """Give `model` the optimizer and loss of `trial` for the steps of `plan`."""
    published = trial.loop == "published"
    # One step at a time where something happens between steps; else as many as divide every stretch.
    one_by_one = published or trial.average != "none"
    together = 1 if one_by_one else math.gcd(*(steps for _, _, steps in plan.stretches))
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=trial.label_smoothing)
    model.compile(
        optimizer=PlainAdam(trial.learning_rate) if published else make_optimizer(trial, plan.steps),
        loss=smoothed if trial.label_smoothing else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=max(d for d in range(1, STEPS_PER_EXECUTION + 1) if together % d == 0),
        # XLA makes TensorFlow slower on a CPU (measured); elsewhere Keras decides.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    # Create all variables now: if the first step creates one, TensorFlow traces that step twice.
    model.optimizer.build(model.trainable_variables)
    classes = model.output_shape[-1]
    uniform = np.full((1, classes), 1 / classes, "float32")
    model.compute_metrics(None, uniform if trial.label_smoothing else np.zeros(1, "int32"), uniform)
    model.reset_metrics()


def fit(model, trial, plan, splits, callbacks, scoring_batch=SCORING_BATCH):
    """Train the compiled `model` by `trial` and `plan`; return whether Ctrl-C ended it early.

    `splits`: as from `batches.prepare`; `callbacks`: one must be a History, after whose epochs training continues.
    """
    (history,) = _of_kind(callbacks, History)
    try:
        if trial.loop == "published":
            _fit_published(model, trial, plan, splits, callbacks)
        else:
            _fit(model, trial, plan, splits, callbacks, scoring_batch)
    except KeyboardInterrupt:
        if not history.epochs_done:
            raise
        return True
    finally:
        for bar in _of_kind(callbacks, ProgressBar):
            bar.close()
    return False


def _fit(model, trial, plan, splits, callbacks, scoring_batch):
    """Fit on images in a new order, augmented anew, every epoch."""
    (images, labels), classes = splits["train"], model.output_shape[-1]
    weights = balanced_weights(labels, classes) if trial.class_weights else None
    if trial.label_smoothing:
        labels = np.eye(classes, dtype="float32")[labels]
    (history,) = _of_kind(callbacks, History)
    for bar in _of_kind(callbacks, ProgressBar):
        bar.plan = plan
    for first, last, steps in plan.stretches:
        first = max(first, history.epochs_done)
        if first >= last or history.is_over:
            continue
        batches = ShuffledBatches(images, labels, plan.batch_size, trial.seed, steps, *_varied(trial), weights)
        unseen = (
            feeding(OrderedBatches(*splits["validation"], scoring_batch)) if trial.keep == "best" else nullcontext()
        )
        new_order = LambdaCallback(on_epoch_begin=lambda epoch, _logs, batches=batches: batches.start_epoch(epoch))
        with feeding(batches) as fed, unseen as validation:
            model.fit(
                fed, epochs=last, initial_epoch=first, verbose=0, shuffle=False, validation_data=validation,
                callbacks=[new_order, *callbacks],
            )  # fmt: skip


def _fit_published(model, trial, plan, splits, callbacks):
    """Plain `fit` on float32 arrays in memory, validated each epoch, as the published notebook trains."""
    (images, labels), (unseen, answers) = splits["train"], splits["validation"]
    model.fit(
        images.astype("float32"), labels, epochs=int(trial.epochs), batch_size=plan.batch_size, verbose=0,
        validation_data=(unseen.astype("float32"), answers), callbacks=list(callbacks),
    )  # fmt: skip


def _twin(trial, dataset, weights):
    """(the trained network, the network from pixels to probabilities that it is part of: often the same).

    Both in float32 and of Keras's own layers; these are what is scored, saved and served.
    """
    tuned = isinstance(trial.network, Lite0)
    with dtype_policy("float32"):
        if tuned:
            _, _, twin, whole = parts_of(trial.network, dataset.input_shape, len(dataset.class_names))
        else:
            twin = whole = build_for(trial, dataset)
    twin.set_weights(weights)
    for model in (twin, whole):
        # XLA, which Keras chooses, is many times slower on a CPU for the pretrained network's depthwise convolutions.
        model.compile(
            loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False if tuned else "auto"
        )
    return twin, whole


def _some(trial, plan, splits):
    """About STATISTICS_IMAGES of the training images, as training sees them."""
    steps = max(1, STATISTICS_IMAGES // plan.batch_size)
    return ShuffledBatches(*splits["train"], plan.batch_size, trial.seed, steps, *_varied(trial))


def _varied(trial):
    """(flip, translate) of the batches: a fine-tuned network's feature maps already include the mirror images'."""
    return ("none", 0) if isinstance(trial.network, Lite0) else (trial.flip, trial.translate)


def _of_kind(callbacks, kind):
    return [callback for callback in callbacks if isinstance(callback, kind)]
