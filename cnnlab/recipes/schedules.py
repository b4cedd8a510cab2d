"""How the learning rate moves over a training."""

import keras
from keras import ops

# Shares of the peak at the start and at the end, and where in the training the peak is, as in
# Jordan (2024).
START, PEAK_AT, END = 0.2, 0.23, 0.07


class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """Up in a straight line to `peak`, and down in another.

    `peak`: the highest learning rate; `steps` of the training; it begins at `start` of the peak,
    reaches it at the share `peak_at` of the steps, and ends at `end` of it.
    Source: Smith and Topin, Super-convergence (2017).
    """

    def __init__(self, peak, steps, start=START, peak_at=PEAK_AT, end=END):
        self.peak, self.steps, self.start, self.peak_at, self.end = peak, steps, start, peak_at, end

    def __call__(self, step):
        """The learning rate of `step` (from 0): a float32 scalar."""
        progress = ops.cast(step, "float32") / self.steps
        up = self.start + (1 - self.start) * progress / self.peak_at
        down = 1 - (1 - self.end) * (progress - self.peak_at) / (1 - self.peak_at)
        return self.peak * ops.maximum(ops.minimum(up, down), 0.0)

    def get_config(self):
        names = ("peak", "steps", "start", "peak_at", "end")
        return {name: getattr(self, name) for name in names}
