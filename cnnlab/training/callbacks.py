"""What happens beside a training: best weights, statistics and averages, early end, clock, checkpoint, progress."""

import contextlib
import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

from cnnlab.machine import atomic_file, progress_bar

# Averages of the weights: steps between two looks at them.
EVERY = 5
# Lookahead: what the slow weights keep a step at the end of training, from nothing at its start.
KEPT = 0.95
# EMA: the average reaches back over about this share of the training.
REACH = 1 / 20
# Of about so many training images are the statistics with which a normalisation answers; of 1,000 they cost a third
# of a point on validation, more than 2,500 bring nothing.
STATISTICS_IMAGES = 2_500


class History(keras.callbacks.Callback):
    """Keeps the curves and, with a `monitor`, the weights of the epoch that is best by it.

    Ends training after `patience` epochs without a better one (None: never); knows of epochs before a resume.
    """

    def __init__(self, monitor=None, patience=None):
        super().__init__()
        self.monitor, self.patience = monitor, patience
        self.curves, self.weights, self.best_epoch = {}, None, None

    @property
    def epochs_done(self):
        return len(self.curves.get("loss", []))

    @property
    def is_over(self):
        without = self.epochs_done - (0 if self.best_epoch is None else self.best_epoch + 1)
        return self.patience is not None and without >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            self.curves.setdefault(name, []).append(float(value))
        if self.monitor is None:
            return
        sign = -1 if self.monitor == "val_loss" else 1
        scores = [sign * value for value in self.curves[self.monitor]]
        if scores[-1] > max(scores[:-1], default=-math.inf):
            self.best_epoch, self.weights = len(scores) - 1, self.model.get_weights()
        self.model.stop_training |= self.is_over


def renew_statistics(model, batches):
    """Give the BatchNormalization layers of the Sequential `model` the statistics of `batches` under its weights.

    The averages that Keras keeps along a training lag behind weights that move quickly. `batches`: a sequence of
    (uint8 images (n, height, width, channels), ...), best as training sees them; mean of the batches' means and
    variances, as in Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3. Raises ValueError for a model
    without such a layer.
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    if not norms:
        raise ValueError(f"{model.name} has no BatchNormalization layer; expected a network with normalisation")
    # No further than the last of them: a dropout behind it would draw the numbers of the training.
    passed = model.layers[: model.layers.index(norms[-1]) + 1]

    def see(values, momentum):
        for layer in norms:
            layer.momentum = momentum
        for layer in passed:
            values = layer(values, training=layer in norms)

    momenta = [layer.momentum for layer in norms]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        see = tf.function(see, autograph=False)  # in three quarters of the time
    try:
        for step in range(len(batches)):
            # So that all batches count alike.
            see(*map(keras.ops.convert_to_tensor, (batches[step][0], np.float32(step / (step + 1)))))
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum


class WeightAverage(keras.callbacks.Callback):
    """Averages a model's weights every EVERY steps; at the end of training it has the average.

    `kind`: "lookahead" (the slow weights follow the fast ones, which go on from there: Zhang et
    al., Lookahead optimizer, NeurIPS 2019; with a share that falls over the training as in
    Jordan, 2024) or "ema" (an exponential moving average beside the training, which it leaves
    alone: Polyak and Juditsky 1992); `steps` of the whole training. The running statistics of
    normalisations are averaged too. `fit` must return to Python after every step.
    """

    def __init__(self, kind, steps):
        super().__init__()
        self.kind, self.steps = kind, steps
        self.step, self.average = 0, None

    def kept(self):
        """The share of the average that stays at the present step."""
        if self.kind == "ema":
            return math.exp(-EVERY / (REACH * self.steps))
        return KEPT**EVERY * (self.step / self.steps) ** 3

    def on_train_begin(self, logs=None):
        if self.average is None:
            self.average = self.model.get_weights()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % EVERY and self.step < self.steps:
            return
        # Keras keeps the weights away from the model within an epoch when its backend is JAX.
        getattr(self.model, "jax_state_sync", lambda: None)()
        if self.step % EVERY == 0:
            self._update()
        if self.step == self.steps:
            self.model.set_weights(self.average)

    def _update(self):
        kept = self.kept()
        pairs = zip(self.average, self.model.get_weights(), strict=True)
        self.average = [kept * slow + (1 - kept) * fast for slow, fast in pairs]
        if self.kind == "lookahead":
            self.model.set_weights(self.average)


class Clock:
    """Seconds on the clock and of the processor, by part of the work."""

    def __init__(self):
        self.parts, self.cpu_seconds = {}, 0.0
        self._start()

    def lap(self, part):
        """Count what went by since the last lap for `part`."""
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - self._wall
        self.cpu_seconds += time.process_time() - self._cpu
        self._start()

    @contextlib.contextmanager
    def paused(self, part):
        """Count what went by for `part`, and nothing of the block."""
        self.lap(part)
        yield
        self._start()

    def add(self, part, seconds, cpu_seconds):
        """Count for `part` what it took at another time."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds
        self.cpu_seconds += cpu_seconds

    def columns(self):
        """The columns of a row."""
        parts = {f"seconds_{part}": seconds for part, seconds in self.parts.items()}
        return {"seconds": sum(self.parts.values()), "cpu_seconds": self.cpu_seconds, **parts}

    def _start(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()


class Checkpoint(keras.callbacks.Callback):
    """One file with the whole state of a training after each epoch, from which a killed one goes on.

    `path`: the file. One of another training, or one that cannot be read, counts as none: training
    then starts at the beginning. It is removed when its training is over.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def bind(self, key, history, clock, average=None):
        """Say whose state is kept: of the training called `key`, its History, Clock and WeightAverage."""
        self.key, self.history, self.clock, self.weight_average = key, history, clock, average

    def on_epoch_end(self, epoch, logs=None):
        with self.clock.paused("training"):
            arrays = {f"state{i}": np.asarray(value) for i, value in enumerate(_state(self.model))}
            arrays |= {f"best{i}": value for i, value in enumerate(self.history.weights or [])}
            facts = {
                "key": self.key, "curves": self.history.curves, "best_epoch": self.history.best_epoch,
                "parts": self.clock.parts, "cpu_seconds": self.clock.cpu_seconds,
            }  # fmt: skip
            if self.weight_average is not None:
                arrays |= {f"average{i}": value for i, value in enumerate(self.weight_average.average)}
                facts["step"] = self.weight_average.step
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path) as partial, partial.open("wb") as file:
                np.savez(file, facts=json.dumps(facts), **arrays)

    def restore(self, model):
        """Set `model`, its optimizer, and what `bind` named to the kept state, if there is one."""
        if not self.path.exists():
            return
        try:
            with np.load(self.path, allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                if facts["key"] != self.key:
                    return
                state, best, average = (_numbered(file, name) for name in ("state", "best", "average"))
                variables = _state(model)
                if [value.shape for value in state] != [tuple(variable.shape) for variable in variables]:
                    return
        except (OSError, ValueError, KeyError, EOFError):
            return
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        self.history.curves, self.history.best_epoch, self.history.weights = facts["curves"], facts["best_epoch"], best
        self.clock.parts, self.clock.cpu_seconds = facts["parts"], facts["cpu_seconds"]
        if self.weight_average is not None:
            self.weight_average.step, self.weight_average.average = facts["step"], average

    def remove(self):
        """Delete the file: the training it served is over."""
        self.path.unlink(missing_ok=True)


class ProgressBar(keras.callbacks.Callback):
    """Epoch, step, loss, accuracy and time left of a training, on one line as it runs.

    `plan`: the `loop.Plan` of a training whose last epoch may be cut short, and which is then fitted in two stretches.
    """

    def __init__(self, title="training"):
        super().__init__()
        self.title, self.bar, self.validation, self.plan = title, None, {}, None

    def on_epoch_begin(self, epoch, logs=None):
        epochs, steps = self.params["epochs"], self.params["steps"]
        total = epochs * steps
        if self.plan is not None:
            total, steps = self.plan.steps, self.plan.epoch_steps
            epochs = math.ceil(total / steps)
        self.epoch_start = epoch * steps
        if self.bar is None:
            self.bar = progress_bar(total, self.title, "step", initial=self.epoch_start)
        self.bar.set_description(f"{self.title}  epoch {epoch + 1}/{epochs}", refresh=False)

    def on_train_batch_end(self, batch, logs=None):
        self._show(self.epoch_start + batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.validation = {"val_accuracy": logs["val_accuracy"]} if "val_accuracy" in logs else {}
        self._show(self.epoch_start + self.params["steps"], logs)

    def on_train_end(self, logs=None):
        if self.plan is None:
            self.close()

    def close(self):
        """Take the bar away; harmless when there is none."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _show(self, step, logs):
        figures = {"loss": logs["loss"], "accuracy": logs["accuracy"], **self.validation}
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
        self.bar.update(step - self.bar.n)


def _numbered(file, name):
    """The arrays <name>0, <name>1, ... of an open npz file, or None where there are none."""
    count = sum(key.startswith(name) for key in file.files)
    return [file[f"{name}{i}"] for i in range(count)] or None


def _state(model):
    """Every variable that training changes: weights, random seeds, the optimizer's moments."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
