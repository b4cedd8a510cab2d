"""Training: reproducible, resumable at every epoch, usable when interrupted, and described by its row."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from tiny_study import EMA, FULL

from cnnlab import machine
from cnnlab.training import Checkpoint, Plan, Trial, cross_entropy, predict_views, train, training_flops

TINY = Trial("tiny", options={"filters": [4, 8], "dense": 16}, epochs=3, batch_size=32, precision="float32")
# A training takes a second or two whatever it computes, most of them to trace its graph: this one's is smallest.
SMALL = dataclasses.replace(TINY, model="dense", options={"units": [4], "dropout": 0.0})


def weights_of(result):
    return np.concatenate([w.ravel() for w in result.model.get_weights()])


class Kept(Checkpoint):
    """A checkpoint of which a copy stays for each epoch: what a training leaves that is killed there."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        shutil.copy(self.path, self.after(epoch + 1))

    def after(self, epochs):
        return self.path.with_name(f"after{epochs}.npz")


def resumed(trial, dataset, path, tmp_path):
    """(Result of `trial` that goes on from a copy of the checkpoint at `path`, the epochs that were trained for it)."""
    epochs = []
    show = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    return train(trial, dataset, [Checkpoint(shutil.copy(path, tmp_path)), show]), epochs


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp("kept") / "state.npz")


@pytest.fixture(scope="module")
def result(bars_dataset, kept):
    return train(TINY, bars_dataset, [kept])


def test_the_row_names_the_data_set_and_its_classes(result, bars_dataset):
    """Whatever the trial was written for."""
    assert TINY.dataset == "cifar10"
    assert result.row["dataset"] == result.trial.dataset == "bars"
    assert result.row["class_names"] == list(bars_dataset.class_names)
    assert result.row["data_version"] == bars_dataset.fingerprint


def interrupting(after):
    """A callback that interrupts as soon as `after` epochs are over, as Ctrl-C does."""

    def end(epoch, logs):
        if epoch + 1 == after:
            raise KeyboardInterrupt

    return keras.callbacks.LambdaCallback(on_epoch_end=end)


def test_equal_trials_give_equal_results_and_another_seed_does_not(result, bars_dataset):
    again = train(TINY, bars_dataset)
    other = train(dataclasses.replace(TINY, seed=1), bars_dataset)
    np.testing.assert_array_equal(weights_of(result), weights_of(again))
    np.testing.assert_array_equal(result.probabilities["test"], again.probabilities["test"])
    assert result.history == again.history
    assert not np.array_equal(weights_of(result), weights_of(other))


def test_row_describes_the_result(result, bars_dataset):
    row = result.row
    images, labels = bars_dataset.split("test")
    assert row["parameters"] == result.model.count_params()
    assert row["epochs_trained"] == 3 == len(result.history["val_loss"])
    assert row["steps"] == 24
    assert row["best_epoch"] == 1 + int(np.argmax(result.history["val_accuracy"]))
    assert row["precision"] == "float32"
    assert row["seconds"] > 0
    assert row["training_flops"] == training_flops(result.model, 3 * 256)
    assert json.dumps(row)
    # The stored scores against Keras's own evaluation of the returned model.
    loss, accuracy = result.model.evaluate(images, labels, verbose=0)
    assert row["test_accuracy_best"] == pytest.approx(accuracy, abs=1e-6)
    assert row["test_loss_best"] == pytest.approx(loss, rel=1e-4)
    assert result.probabilities["validation"].shape == (64, 4)


def test_the_best_weights_are_those_of_the_best_epoch(bars_dataset, tmp_path):
    # At this rate the last epoch is no better than an earlier one.
    options = {"filters": [4], "dense": 0, "dropout": 0.0}
    trial, kept = dataclasses.replace(TINY, options=options, learning_rate=0.1, epochs=4), Kept(tmp_path / "kept.npz")
    best = train(trial, bars_dataset, [kept])
    with np.load(kept.after(best.row["best_epoch"])) as state:
        for number, weights in enumerate(best.model.get_weights()):
            np.testing.assert_array_equal(weights, state[f"state{number}"])
    assert best.row["best_epoch"] < 4


def test_it_learns_and_the_row_of_the_last_weights_describes_it(full_result, bars_dataset):
    result, row = full_result, full_result.row
    assert row["test_accuracy_last"] > 0.5, "four classes: chance is a quarter"
    assert row["parameters"] == result.model.count_params()
    assert row["epochs_trained"] == 3.5
    assert row["steps"] == 56
    assert len(result.history["loss"]) == 4, "three whole epochs and a half"
    assert row["train_accuracy_last"] == result.history["accuracy"][-1]
    parts = [row[f"seconds_{part}"] for part in ("setup", "training", "tta")]
    assert row["seconds"] == pytest.approx(sum(parts))
    assert row["precision"] == "float32"
    assert row["training_flops"] == training_flops(result.model, 56 * 16)
    assert json.dumps(row)
    images, labels = bars_dataset.split("test")
    plain, augmented = predict_views(result.model, images, 2)
    np.testing.assert_array_equal(plain, result.probabilities["test"])
    assert row["test_accuracy_last"] == np.mean(plain.argmax(axis=1) == labels)
    assert row["test_accuracy_tta"] == np.mean(augmented.argmax(axis=1) == labels)
    assert row["test_loss_tta"] == pytest.approx(cross_entropy(augmented, labels))


def test_the_model_is_of_keras_own_layers(full_result):
    assert {type(layer).__module__.split(".")[0] for layer in full_result.model.layers} == {"keras"}


def test_scores_on_validation_are_none_where_all_images_train(averaged):
    row = averaged["ema"][0].row
    assert row["train_split"] == "all"
    assert row["val_accuracy_last"] is None
    assert row["val_loss_tta"] is None
    assert 0 <= row["test_accuracy_last"] <= 1


@pytest.mark.parametrize("epochs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_killed_training_resumes_to_the_same_result(result, kept, bars_dataset, tmp_path, epochs):
    again, trained = resumed(TINY, bars_dataset, kept.after(epochs), tmp_path)
    assert trained == list(range(epochs, 3))
    assert again.history == result.history
    np.testing.assert_array_equal(weights_of(again), weights_of(result))
    assert not list(tmp_path.iterdir()), "a checkpoint outlived its training"


@pytest.fixture(scope="module")
def averaged(bars_dataset, tmp_path_factory):
    """For each kind of average: a training with all that a recipe can have, and a half epoch; and its checkpoints."""
    found = {}
    for whole in (FULL, EMA):
        trial = dataclasses.replace(
            whole, epochs=2.5, tta=0, batch_size=32, options={"filters": [4], "depth": 1, "dirac": True}
        )
        kept = Kept(tmp_path_factory.mktemp(trial.average) / "state.npz")
        found[trial.average] = train(trial, bars_dataset, [kept]), kept
    return found


# After the second epoch only the half is left, which is fitted by itself.
@pytest.mark.parametrize(
    ("kind", "epochs"),
    [("lookahead", 1), ("ema", 2), *(pytest.param("lookahead", done, marks=pytest.mark.long) for done in (2, 3))],
)
def test_averages_flips_and_a_part_of_an_epoch_resume_to_the_same(averaged, bars_dataset, tmp_path, kind, epochs):
    undisturbed, kept = averaged[kind]
    again, trained = resumed(undisturbed.trial, bars_dataset, kept.after(epochs), tmp_path)
    assert trained == list(range(epochs, 3))
    assert again.history == undisturbed.history
    assert len(again.history["loss"]) == 3
    np.testing.assert_array_equal(weights_of(again), weights_of(undisturbed))
    assert again.row["test_loss_last"] == undisturbed.row["test_loss_last"]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_interrupting_keeps_what_was_trained(bars_dataset, keep):
    trial = dataclasses.replace(SMALL, keep=keep)
    partial = train(trial, bars_dataset, [interrupting(2)])
    assert partial.interrupted
    assert partial.row["epochs_trained"] == 2
    assert partial.row["steps"] == 16
    assert partial.probabilities["test"].shape == (64, 4)


def test_interrupting_before_anything_was_trained_is_passed_on(bars_dataset):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, bars_dataset, [keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)])


def test_early_stopping_waits_for_patience_and_not_longer(bars_dataset, tmp_path):
    # At a learning rate of nearly nothing no epoch is better than the first.
    patient = dataclasses.replace(SMALL, epochs=9, patience=2, learning_rate=1e-12, monitor="val_accuracy")
    kept = Kept(tmp_path / "kept.npz")
    assert train(patient, bars_dataset, [kept]).row["epochs_trained"] == 3
    # Killed after the epoch that was one too many it trains no other; killed before, that one.
    for epochs in (3, 2):
        again, trained = resumed(patient, bars_dataset, kept.after(epochs), tmp_path / "state.npz")
        assert again.row["epochs_trained"] == 3
        assert trained == list(range(epochs, 3))


def test_any_keras_callback_can_be_given_and_sees_every_epoch(bars_dataset):
    seen = []
    show = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])))
    trial = dataclasses.replace(SMALL, keep="last", epochs=1.5)
    result = train(trial, bars_dataset, [show])
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert [loss for _, loss in seen] == pytest.approx(result.history["loss"])


def test_a_pass_that_is_not_whole_is_a_shorter_one():
    assert Plan.of(dataclasses.replace(FULL, epochs=9.9, batch_size=1000), 40_000).steps == 396
    plan = Plan.of(FULL, 256)
    assert plan.stretches == [(0, 3, 16), (3, 4, 8)]
    assert Plan.of(dataclasses.replace(FULL, epochs=0.5), 256).stretches == [(0, 1, 8)]
    assert Plan.of(dataclasses.replace(FULL, batch_size=999), 256).batch_size == 256


def test_a_plan_counts_the_images_that_a_trial_trains_on(bars_dataset):
    assert Plan.on(FULL, bars_dataset) == Plan.of(FULL, 256)
    assert Plan.on(EMA, bars_dataset) == Plan.of(EMA, 256 + 64)
    few = dataclasses.replace(FULL, train_images=48)
    assert Plan.on(few, bars_dataset) == Plan.of(few, 48)
    assert Plan.on(dataclasses.replace(TINY, steps_per_epoch=5), bars_dataset).steps == 15


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_training_that_diverges_says_so_in_one_line(bars_dataset, keep):
    wild = dataclasses.replace(
        SMALL,
        label="wild",
        keep=keep,
        monitor="val_loss",
        optimizer="sgd",
        learning_rate=1e30,
        batch_size=128,
        epochs=2,
        patience=1 if keep == "best" else None,
    )
    with pytest.raises(RuntimeError, match="wild, seed 0, diverged; try a learning rate below 1e.30"):
        train(wild, bars_dataset)


@pytest.mark.long
def test_mixed_precision_trains_the_fast_network_to_the_same_answers(bars_dataset):
    if not machine.BFLOAT16_FLAGS & machine.cpu_flags():
        pytest.skip("this processor has no bfloat16, and emulates it slowly")
    found = train(dataclasses.replace(FULL, precision="mixed_bfloat16", tta=0), bars_dataset)
    assert found.row["test_accuracy_last"] > 0.5
    assert {weight.dtype for weight in found.model.get_weights()} == {np.dtype("float32")}
