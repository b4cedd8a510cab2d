"""What happens beside a training: averages, renewed statistics, the early end, the clock, checkpoints, progress."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import synthetic
from tqdm import tqdm

from cnnlab.training import Checkpoint, ProgressBar, Trial, accuracy, build, predict, renew_statistics, train, trial_key
from cnnlab.training.callbacks import EVERY, REACH, Clock, History, WeightAverage

TINY = Trial("tiny", model="dense", options={"units": [4]}, epochs=2, batch_size=64, precision="float32")


@pytest.fixture(scope="module")
def result(bars_dataset):
    return train(TINY, bars_dataset)


@pytest.mark.parametrize("kind", ["lookahead", "ema"])
def test_averages_of_the_weights(kind):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    steps = 3 * EVERY
    average = WeightAverage(kind, steps)
    average.set_model(model)
    model.set_weights([np.float32([[0.0]])])
    average.on_train_begin()
    slow = fast = 0.0
    for step in range(1, steps + 1):
        model.set_weights([w + 1 for w in model.get_weights()])  # What the optimizer would do.
        average.on_train_batch_end(step - 1)
        fast += 1
        if step % EVERY == 0:
            kept = np.exp(-EVERY / (REACH * steps)) if kind == "ema" else 0.95**EVERY * (step / steps) ** 3
            slow = kept * slow + (1 - kept) * fast
            if kind == "lookahead":
                fast = slow
        expected = slow if step == steps else fast
        assert float(model.get_weights()[0].item()) == pytest.approx(expected, rel=1e-5)
    assert slow != steps


def after(monitor, scores, patience=2):
    """(History, whether it is over) after epochs with such scores on validation."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    history = History(monitor, patience)
    over = []
    history.set_model(model)
    for epoch, score in enumerate(scores):
        model.set_weights([np.float32([[epoch]]), np.float32([0])])
        model.stop_training = False
        history.on_epoch_end(epoch, {"loss": 1.0, monitor: score})
        over.append(model.stop_training)
    return history, over


@pytest.mark.parametrize(("monitor", "sign"), [("val_accuracy", 1), ("val_loss", -1)])
def test_the_best_epoch_is_the_first_of_the_best_and_patience_counts_from_it(monitor, sign):
    history, over = after(monitor, [sign * score for score in (0.1, 0.3, 0.2, 0.3)])
    assert history.best_epoch == 1
    assert history.weights[0].item() == 1
    assert over == [False, False, False, True]


def test_where_no_epoch_gave_a_number_none_is_the_best_and_patience_still_ends():
    history, over = after("val_loss", [float("nan")] * 3)
    assert (history.best_epoch, history.weights) == (None, None)
    assert over == [False, True, True]


def test_the_clock_counts_parts_and_leaves_pauses_out(monkeypatch):
    # Begun at 0; setup until 3; training from 3 to 5 and, after a pause, from 100 to 101: two looks at every change.
    now = iter([0.0, 3.0, 3.0, 5.0, 5.0, 100.0, 101.0, 101.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    clock = Clock()
    clock.lap("setup")
    with clock.paused("training"):
        pass
    clock.lap("training")
    columns = clock.columns()
    assert columns == {"seconds": 6, "cpu_seconds": 0, "seconds_setup": 3, "seconds_training": 3}


@pytest.mark.parametrize("content", [b"", b"PK not a zip"])
def test_a_broken_checkpoint_counts_as_none(result, tmp_path, content):
    path, history, model = tmp_path / "state.npz", History(), _compiled(result.model)
    path.write_bytes(content)
    checkpoint = Checkpoint(path)
    checkpoint.bind(trial_key(TINY), history, Clock())
    before = model.get_weights()
    checkpoint.restore(model)
    assert history.curves == {}
    for weights, former in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, former)


def test_a_foreign_checkpoint_counts_as_none_and_is_removed_likewise(result, bars_dataset, tmp_path):
    path = tmp_path / "state.npz"
    other = dataclasses.replace(TINY, seed=9)
    history = History()
    history.curves = {"loss": [1.0]}
    checkpoint = Checkpoint(path)
    checkpoint.bind(trial_key(other), history, Clock())
    checkpoint.set_model(_compiled(result.model))
    checkpoint.on_epoch_end(0)
    assert path.exists()
    again = train(TINY, bars_dataset, [Checkpoint(path)])
    assert again.history == result.history
    assert not path.exists()


def _compiled(model):
    twin = keras.models.clone_model(model)
    twin.compile("adam", "sparse_categorical_crossentropy")
    return twin


def test_progress_names_epoch_loss_accuracy_and_time(bars_dataset, capsys, monkeypatch):
    # Every step is drawn, however fast the machine is.
    monkeypatch.setattr("cnnlab.machine.tqdm", lambda **options: tqdm(**{**options, "mininterval": 0}))
    train(TINY, bars_dataset, [ProgressBar("shown")])
    shown = capsys.readouterr().out
    assert "shown  epoch 2/2" in shown
    assert "loss=" in shown
    assert "accuracy=" in shown
    assert "8/8" in shown


def test_an_epoch_that_is_cut_short_ends_the_bar_that_began(bars_dataset, capsys, monkeypatch):
    monkeypatch.setattr("cnnlab.machine.tqdm", lambda **options: tqdm(**{**options, "mininterval": 0}))
    train(dataclasses.replace(TINY, epochs=1.5, keep="last"), bars_dataset, [ProgressBar("shown")])
    shown = capsys.readouterr().out
    assert set(re.findall(r"epoch (\d/\d)", shown)) == {"1/2", "2/2"}
    assert set(re.findall(r"\d+/(\d+) ", shown)) == {"6"}, "one number of steps"
    assert "6/6" in shown


IMAGES, _ = synthetic.bars(45)
FEW_STEPS = Trial(
    "few_steps", options={"filters": [8, 16], "dense": 16, "dropout": 0.0, "batch_norm": True}, epochs=2,
    batch_size=16, learning_rate=0.003, precision="float32",
)  # fmt: skip
BLOCKS = dataclasses.replace(FEW_STEPS, model="blocks", options={"filters": [8, 16]}, keep="last", average="lookahead")
MARGIN = 0.03


@pytest.mark.parametrize(
    ("trial", "renewed"),
    [
        (FEW_STEPS, True),
        (BLOCKS, True),
        *(pytest.param(each, False, marks=pytest.mark.long) for each in (FEW_STEPS, BLOCKS)),
    ],
)
def test_in_use_it_is_as_accurate_as_in_training(trial, renewed, monkeypatch):
    """With Keras's averages over the training, of momentum 0.99, it is not."""
    if not renewed:
        monkeypatch.setattr("cnnlab.training.loop.renew_statistics", lambda *_: None)
    monkeypatch.setattr("cnnlab.training.loop.STATISTICS_IMAGES", 512)  # as many as train
    pictures = synthetic.dataset(train=512, validation=128, test=128, classes=10, side=16)
    model = train(trial, pictures).model
    assert {layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)} == {0.99}
    images, labels = pictures.split("train")
    # In batches so large that their own statistics hardly differ.
    as_trained = [np.asarray(model(images[i : i + 128], training=True)) for i in range(0, len(images), 128)]
    in_use = accuracy(predict(model, images), labels)
    assert (abs(in_use - accuracy(np.concatenate(as_trained), labels)) < MARGIN) == renewed


@pytest.fixture(scope="module")
def normalised():
    keras.utils.set_random_seed(0)
    return build("cnn", (16, 16, 3), 4, filters=[4, 8], dense=16, batch_norm=True)


@pytest.mark.parametrize("batch_size", [20, 45])
def test_renewed_statistics_are_the_mean_of_the_batches_under_the_weights(normalised, batch_size):
    first, second = [layer for layer in normalised.layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropout = next(layer for layer in normalised.layers if isinstance(layer, keras.layers.Dropout))
    drawn = keras.ops.convert_to_numpy(dropout.seed_generator.state)
    batches = [(IMAGES[i : i + batch_size], None) for i in range(0, len(IMAGES), batch_size)]
    renew_statistics(normalised, batches)
    # A layer's inputs, the layers before it answering with each batch's own statistics.
    values = [keras.ops.convert_to_numpy(images) for images, _ in batches]
    for layer in normalised.layers[: normalised.layers.index(second) + 1]:
        if layer in (first, second):
            for found, statistic in ((layer.moving_mean, np.mean), (layer.moving_variance, np.var)):
                expected = np.mean([statistic(each, axis=(0, 1, 2)) for each in values], axis=0)
                np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-3, atol=1e-5)
            scale, shift = (keras.ops.convert_to_numpy(each) for each in (layer.gamma, layer.beta))
            means, variances = ([f(each, axis=(0, 1, 2)) for each in values] for f in (np.mean, np.var))
            values = [
                (each - mean) / np.sqrt(variance + layer.epsilon) * scale + shift
                for each, mean, variance in zip(values, means, variances, strict=True)
            ]
        else:
            values = [keras.ops.convert_to_numpy(layer(each)) for each in values]
    assert first.momentum == second.momentum == 0.99
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(dropout.seed_generator.state), drawn)


def test_a_network_without_normalisation_has_no_statistics_to_renew():
    with pytest.raises(ValueError, match="has no BatchNormalization layer"):
        renew_statistics(build("dense", (16, 16, 3), 4), [])
