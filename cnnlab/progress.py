"""Progress of long work: one line with what is done, the latest figures and the time left."""

import keras

from cnnlab.machine import progress_bar


class TrainingProgress(keras.callbacks.Callback):
    """Epoch, step, loss, accuracy and time left of one `fit`, updated as it runs."""

    def __init__(self, description, epochs, steps_per_epoch, first_epoch=0):
        super().__init__()
        self.description = description
        self.epochs, self.steps_per_epoch, self.first_epoch = epochs, steps_per_epoch, first_epoch
        self.bar = None
        self.validation = {}

    def on_train_begin(self, logs=None):
        done = self.first_epoch * self.steps_per_epoch
        self.bar = progress_bar(self.epochs * self.steps_per_epoch, self.description, "step", initial=done)

    def on_epoch_begin(self, epoch, logs=None):
        self.bar.set_description(f"{self.description}  epoch {epoch + 1}/{self.epochs}", refresh=False)
        self.epoch_start = epoch * self.steps_per_epoch

    def on_train_batch_end(self, batch, logs=None):
        self._show(self.epoch_start + batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.validation = {"val_accuracy": logs["val_accuracy"]} if "val_accuracy" in logs else {}
        self._show((epoch + 1) * self.steps_per_epoch, logs)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Take the bar away; harmless when there is none."""
        if self.bar is not None:
            self.bar.close()

    def _show(self, step, logs):
        figures = {"loss": logs["loss"], "accuracy": logs["accuracy"], **self.validation}
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
        self.bar.update(step - self.bar.n)
