"""Averages of the weights along a training."""

import math

import keras

# Steps between two looks at the weights.
EVERY = 5
# Lookahead: what the slow weights keep a step at the end of training, from nothing at its start.
KEPT = 0.95
# EMA: the average reaches back over about this share of the training.
REACH = 1 / 20


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
