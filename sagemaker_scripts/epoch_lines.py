"""The lines of a training that a metric regex can read: one an epoch, one at the end."""

import json
import threading

import numpy as np

POLL_SECONDS = 1.0
NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
CURVES = {"loss": "train_loss", "accuracy": "train_accuracy", "val_loss": "val_loss", "val_accuracy": "val_accuracy"}
RESULTS = ("val_accuracy_best", "val_loss_best", "test_accuracy_best", "test_loss_best", "seconds")

# What SageMaker looks for in a job's log, in the form that CreateTrainingJob takes.
METRIC_DEFINITIONS = [{"Name": name, "Regex": rf"\b{name}={NUMBER}"} for name in (*CURVES.values(), *RESULTS)]
OBJECTIVE = "val_accuracy_best"


def epoch_line(history, epoch, epochs):
    """`history` ({curve: one value an epoch}) of 0-based `epoch`, as one line."""
    figures = " ".join(f"{name}={history[curve][epoch]:.6f}" for curve, name in CURVES.items() if curve in history)
    return f"epoch {epoch + 1}/{epochs} {figures}"


def result_line(row):
    """The line at the end, from a result `row`: scores of the best validation epoch, and seconds."""
    figures = " ".join(f"{name}={row[name]:.6f}" for name in RESULTS)
    return f"result {row['label']} seed {row['seed']} best_epoch {row['best_epoch']} {figures}"


class EpochLines:
    """Prints each epoch's line as soon as the training's checkpoint knows of it.

    `run_trial` takes no callback, but it renames a whole checkpoint into place after every
    epoch: a thread that reads its few facts sees what a log should show, and cannot disturb
    the training. Epochs that it was too slow for are printed by `finish`.
    """

    def __init__(self, checkpoint, epochs):
        self.checkpoint, self.epochs, self.printed = checkpoint, epochs, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop()

    def finish(self, history):
        """Print the epochs of the finished `history` that were not printed yet."""
        self._stop()
        self._print(history)

    def _stop(self):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(POLL_SECONDS):
            self._print(self._history())

    def _history(self):
        try:
            with np.load(self.checkpoint, allow_pickle=False) as file:
                return json.loads(str(file["facts"]))["history"]
        except (OSError, ValueError, KeyError):  # Not there yet, or removed at the end.
            return {}

    def _print(self, history):
        for epoch in range(self.printed, len(history.get("loss", []))):
            print(epoch_line(history, epoch, self.epochs), flush=True)
            self.printed = epoch + 1
