"""What watches a training: the best weights, the clock, the checkpoint, and the end."""

import math
import time

import keras


class BestWeights(keras.callbacks.Callback):
    """Keeps the history, the weights of the best epoch, and a checkpoint of both."""

    def __init__(self, monitor, checkpoint):
        super().__init__()
        self.monitor, self.checkpoint = monitor, checkpoint
        self.sign = -1 if monitor == "val_loss" else 1
        self.history, self.weights, self.best_epoch = {}, None, None
        self.seconds = self.cpu_seconds = 0.0

    @property
    def epochs_done(self):
        return len(self.history.get("loss", []))

    @property
    def epochs_without_progress(self):
        return self.epochs_done - 1 - self.best_epoch

    def restore(self, model):
        """Take up where a checkpoint left off; returns the number of finished epochs."""
        if state := self.checkpoint.load(model):
            self.history, self.best_epoch, self.weights = state["history"], state["best_epoch"], state["best_weights"]
            self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]
        return self.epochs_done

    def start_clock(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop_clock(self):
        self.seconds += time.perf_counter() - self._wall
        self.cpu_seconds += time.process_time() - self._cpu
        self.start_clock()

    def on_epoch_end(self, epoch, logs=None):
        self.stop_clock()
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        scores = [self.sign * value for value in self.history[self.monitor]]
        if scores[-1] > max(scores[:-1], default=-math.inf):
            self.best_epoch, self.weights = len(scores) - 1, self.model.get_weights()
        self.checkpoint.save(
            self.model, self.weights,
            {"history": self.history, "best_epoch": self.best_epoch,
             "seconds": self.seconds, "cpu_seconds": self.cpu_seconds},
        )  # fmt: skip
        self.start_clock()


class EarlyStopping(keras.callbacks.Callback):
    """Ends training after `patience` epochs without progress; knows of epochs before a resume."""

    def __init__(self, keeper, patience):
        super().__init__()
        self.keeper, self.patience = keeper, patience

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training |= self.keeper.epochs_without_progress >= self.patience
