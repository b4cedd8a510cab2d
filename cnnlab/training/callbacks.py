"""What happens alongside training: best weights, statistics, averages, early stopping, clock, checkpoint, progress."""

import contextlib
import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

from cnnlab.machine import atomic_file, progress_bar

# Weight averaging: steps between two updates of the average.
EVERY = 5
# Lookahead: the share of the slow weights kept per step at the end of training; it rises from zero at the start.
KEPT = 0.95
# EMA: the average reaches back over about this share of the training.
REACH = 1 / 20
# About how many training images the normalisation statistics are computed from before scoring; 1,000 cost a third of
# a point on validation, more than 2,500 gain nothing.
STATISTICS_IMAGES = 2_500


class History(keras.callbacks.Callback):
    """Keeps the curves and, with a `monitor`, the weights of the best epoch by it.

    Stops training after `patience` epochs without a better one (None: never); epochs before a resume count.
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
    """Recompute the BatchNormalization statistics of the Sequential `model` on `batches`, with its current weights.

    The running averages that Keras keeps during training lag behind quickly moving weights. `batches`: a sequence of
    (uint8 images (n, height, width, channels), ...), ideally as training sees them. The statistics are the means of the
    batches' means and variances, as in Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3. Raises
    ValueError for a model without such a layer.
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    if not norms:
        raise ValueError(f"{model.name} has no BatchNormalization layer; expected a network with normalisation")
    # No further than the last of them: a dropout after it would use up training's random numbers.
    passed = model.layers[: model.layers.index(norms[-1]) + 1]

    def see(values, momentum):
        for layer in norms:
            layer.momentum = momentum
        for layer in passed:
            values = layer(values, training=layer in norms)

    momenta = [layer.momentum for layer in norms]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        see = tf.function(see, autograph=False)  # takes three quarters of the time
    try:
        for step in range(len(batches)):
            # With this momentum all batches count equally.
            see(*map(keras.ops.convert_to_tensor, (batches[step][0], np.float32(step / (step + 1)))))
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum


class WeightAverage(keras.callbacks.Callback):
    """Averages a model's weights every EVERY steps; at the end of training the model has the average.

    `kind`: "lookahead" (the slow weights follow the fast ones, which then restart from them: Zhang
    et al., Lookahead optimizer, NeurIPS 2019; the fast ones' share falls over the training as in
    Jordan, 2024) or "ema" (an exponential moving average that does not affect training: Polyak and
    Juditsky 1992); `steps`: those of the whole training. The running statistics of normalisations
    are averaged too. `fit` must return to Python after every step.
    """

    def __init__(self, kind, steps):
        super().__init__()
        self.kind, self.steps = kind, steps
        self.step, self.average = 0, None

    def kept(self):
        """The share of the average that is kept at the current step."""
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
        # On the JAX backend, Keras does not write weights back to the model within an epoch.
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
    """Wall-clock seconds by part of the work, and processor seconds in all."""

    def __init__(self):
        self.parts, self.cpu_seconds = {}, 0.0
        self._start()

    def lap(self, part):
        """Add the time since the last lap to `part`."""
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - self._wall
        self.cpu_seconds += time.process_time() - self._cpu
        self._start()

    @contextlib.contextmanager
    def paused(self, part):
        """Add the time since the last lap to `part`, and do not count the block."""
        self.lap(part)
        yield
        self._start()

    def add(self, part, seconds, cpu_seconds):
        """Add to `part` the time that it took on an earlier occasion."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds
        self.cpu_seconds += cpu_seconds

    def columns(self):
        """The columns of a row."""
        parts = {f"seconds_{part}": seconds for part, seconds in self.parts.items()}
        return {"seconds": sum(self.parts.values()), "cpu_seconds": self.cpu_seconds, **parts}

    def _start(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of a training to one file after each epoch, so that a killed one can resume.

    `path`: the file. If it belongs to another training or cannot be read, it is ignored and training
    starts from the beginning. It is removed when its training is over.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def bind(self, key, history, clock, average=None):
        """Say whose state to save: the training's `key`, its History, Clock and WeightAverage."""
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
        """Set `model`, its optimizer and what `bind` named to the saved state, if there is one."""
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
    """Shows epoch, step, loss, accuracy and time left on one line while a training runs.

    `plan`: the `loop.Plan` of a training whose last epoch may be cut short; it is then fitted in two stretches.
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
        """Remove the bar, if there is one."""
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
