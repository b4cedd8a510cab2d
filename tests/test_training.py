"""Training: reproducible, reshuffled, resumable, and usable when interrupted."""

import dataclasses

import keras
import numpy as np
import pytest
from cnnlab.adam import adam
from cnnlab.augmentation import flip, flip_translate
from tqdm import tqdm

from cnnlab import training
from cnnlab.training import NewOrder, OrderedBatches, ShuffledBatches, Trial, feed, run_trial, trial_key

TINY = Trial("tiny", options={"filters": [4, 8], "dense": 16}, epochs=3, batch_size=32, precision="float32")


def weights_of(result):
    return np.concatenate([w.ravel() for w in result.model.get_weights()])


@pytest.fixture(scope="module")
def result(bars_dataset):
    return run_trial(TINY, bars_dataset, progress=False)


def test_equal_trials_give_equal_results_and_another_seed_does_not(result, bars_dataset):
    again = run_trial(TINY, bars_dataset, progress=False)
    other = run_trial(dataclasses.replace(TINY, seed=1), bars_dataset, progress=False)
    np.testing.assert_array_equal(weights_of(result), weights_of(again))
    np.testing.assert_array_equal(result.probabilities["test"], again.probabilities["test"])
    assert result.history == again.history
    assert not np.array_equal(weights_of(result), weights_of(other))


def test_every_epoch_of_fit_sees_all_images_in_a_new_order():
    images = np.arange(48, dtype="uint8").reshape(48, 1, 1, 1)
    batches = ShuffledBatches(images, np.zeros(48, "int32"), 8, seed=3)
    seen = []

    class Spy(ShuffledBatches):
        def __getitem__(self, step):
            seen.append((self.epoch, super().__getitem__(step)[0].ravel().tolist()))
            return super().__getitem__(step)

    batches.__class__ = Spy
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    source = feed(batches)
    seen.clear()
    model.fit(source, epochs=3, shuffle=False, verbose=0, callbacks=[NewOrder(batches)])
    epochs = [[i for epoch, batch in seen if epoch == wanted for i in batch] for wanted in range(3)]
    assert all(sorted(order) == list(range(48)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3


def test_order_depends_on_seed_and_epoch_alone():
    images, labels = np.zeros((40, 1, 1, 1), "uint8"), np.zeros(40, "int32")
    one, two, other = (ShuffledBatches(images, labels, 8, seed) for seed in (5, 5, 6))
    one.start_epoch(1)
    one.start_epoch(7)
    two.start_epoch(7)
    other.start_epoch(7)
    np.testing.assert_array_equal(one.order, two.order)
    assert not np.array_equal(one.order, other.order)


def test_more_steps_than_images_are_whole_passes_one_after_another():
    batches = ShuffledBatches(np.zeros((10, 1, 1, 1), "uint8"), np.zeros(10, "int32"), 5, seed=0, steps_per_epoch=5)
    assert len(batches) == 5
    assert sorted(batches.order[:10]) == sorted(batches.order[10:20]) == list(range(10))


def test_ordered_batches_hold_every_image_once():
    images = np.arange(7, dtype="uint8").reshape(7, 1, 1, 1)
    batches = OrderedBatches(images, np.arange(7), 3)
    assert [batches[i][0].ravel().tolist() for i in range(len(batches))] == [[0, 1, 2], [3, 4, 5], [6]]


def test_row_describes_the_result(result, bars_dataset):
    row = result.row
    images, labels = bars_dataset.split("test")
    assert row["parameters"] == result.model.count_params()
    assert row["epochs_trained"] == 3 == len(result.history["val_loss"])
    assert row["best_epoch"] == 1 + int(np.argmax(result.history["val_accuracy"]))
    assert row["precision"] == "float32"
    assert row["seconds"] > 0
    # The stored scores against Keras's own evaluation of the returned model.
    loss, accuracy = result.model.evaluate(images, labels, verbose=0)
    assert row["test_accuracy_best"] == pytest.approx(accuracy, abs=1e-6)
    assert row["test_loss_best"] == pytest.approx(loss, rel=1e-4)
    assert result.probabilities["validation"].shape == (64, 4)


def test_the_best_weights_are_those_of_the_best_epoch(bars_dataset):
    best = run_trial(TINY, bars_dataset, progress=False)
    until_then = dataclasses.replace(TINY, epochs=best.row["best_epoch"])
    np.testing.assert_array_equal(weights_of(best), weights_of(run_trial(until_then, bars_dataset, progress=False)))


class Killed(Exception):  # noqa: N818 - stands in for a kill, which has no name of its own
    pass


def test_a_killed_training_resumes_to_the_same_result(result, bars_dataset, tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    save = training.Checkpoint.save

    def save_then_die(self, model, best_weights, facts):
        save(self, model, best_weights, facts)
        if len(facts["history"]["loss"]) == 2:
            raise Killed

    monkeypatch.setattr(training.Checkpoint, "save", save_then_die)
    with pytest.raises(Killed):
        run_trial(TINY, bars_dataset, progress=False, checkpoint=path)
    monkeypatch.setattr(training.Checkpoint, "save", save)
    resumed = run_trial(TINY, bars_dataset, progress=False, checkpoint=path)
    assert resumed.history == result.history
    np.testing.assert_array_equal(weights_of(resumed), weights_of(result))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None])
def test_a_broken_or_foreign_checkpoint_counts_as_none(result, bars_dataset, tmp_path, content):
    path = tmp_path / "state.npz"
    if content is None:
        other = dataclasses.replace(TINY, seed=9, epochs=1)
        checkpoint = training.Checkpoint(path, trial_key(other))
        checkpoint.save(_compiled(result.model), result.model.get_weights(), {"history": {}})
    else:
        path.write_bytes(content)
    again = run_trial(TINY, bars_dataset, progress=False, checkpoint=path)
    assert again.history == result.history


def _compiled(model):
    twin = keras.models.clone_model(model)
    twin.compile("adam", "sparse_categorical_crossentropy")
    return twin


def test_interrupting_keeps_what_was_trained(bars_dataset, monkeypatch):
    _interrupt_after(monkeypatch, epochs=2)
    partial = run_trial(TINY, bars_dataset, progress=False)
    assert partial.interrupted
    assert partial.row["epochs_trained"] == 2
    assert partial.probabilities["test"].shape == (64, 4)


def test_interrupting_before_anything_was_trained_is_passed_on(bars_dataset, monkeypatch):
    _interrupt_after(monkeypatch, epochs=0)
    with pytest.raises(KeyboardInterrupt):
        run_trial(TINY, bars_dataset, progress=False)


def _interrupt_after(monkeypatch, epochs):
    start = ShuffledBatches.start_epoch

    def start_or_interrupt(self, epoch):
        if epoch == epochs and getattr(self, "built", False):
            raise KeyboardInterrupt
        self.built = True
        start(self, epoch)

    monkeypatch.setattr(ShuffledBatches, "start_epoch", start_or_interrupt)


def test_early_stopping_waits_for_patience_and_not_longer(bars_dataset):
    # At a learning rate of nearly nothing no epoch is better than the first.
    patient = dataclasses.replace(TINY, epochs=9, patience=2, learning_rate=1e-12, monitor="val_accuracy")
    assert run_trial(patient, bars_dataset, progress=False).row["epochs_trained"] == 3


def test_progress_names_epoch_loss_accuracy_and_time(bars_dataset, capsys, monkeypatch):
    # Every step is drawn, however fast the machine is.
    monkeypatch.setattr("cnnlab.bars.tqdm", lambda **options: tqdm(**{**options, "mininterval": 0}))
    run_trial(dataclasses.replace(TINY, label="shown"), bars_dataset, progress=True)
    shown = capsys.readouterr().out
    assert "shown  epoch 3/3" in shown
    assert "loss=" in shown
    assert "accuracy=" in shown


def test_fused_adam_is_adam():
    def trained(optimizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(2)])
        model.compile(optimizer, "mse")
        inputs = np.random.default_rng(1).normal(size=(64, 6)).astype("float32")
        for _ in range(20):
            model.train_on_batch(inputs, inputs[:, :2] ** 2)
        return model.get_weights()

    for fused, plain in zip(trained(adam(0.01)), trained(keras.optimizers.Adam(0.01)), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-6)


def test_permutation_moves_whole_pixels_and_is_one_for_all_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), "uint8")
    moved = training.permute_pixels(images, seed=1)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_array_equal(moved.reshape(3, 20, 3), images.reshape(3, 20, 3)[:, order])
    np.testing.assert_array_equal(moved, training.permute_pixels(images, seed=1))


def test_balanced_weights_agree_with_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 3, 3])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(training.balanced_weights(labels, 4)[[0, 1, 3]], expected, rtol=1e-6)
    assert training.balanced_weights(labels, 4)[2] == 0


def test_cross_entropy_agrees_with_scikit_learn(result, bars_dataset):
    from sklearn.metrics import log_loss

    _, labels = bars_dataset.split("test")
    probabilities = result.probabilities["test"].astype("float64")
    expected = log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=range(4))
    assert training.cross_entropy(probabilities, labels) == pytest.approx(expected, rel=1e-5)


def test_flip_mirrors_whole_images_about_half_of_the_time():
    images = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), "uint8")
    flipped = flip(images, np.random.default_rng(1))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert (mirrored | kept).all()
    assert 150 < mirrored.sum() < 250


def test_translation_moves_by_at_most_an_eighth_and_keeps_the_centre():
    images = np.zeros((200, 16, 16, 1), "uint8")
    images[:, 8, 8] = 255
    moved = flip_translate(images, np.random.default_rng(2))
    rows, columns = np.nonzero(moved[..., 0])[1:]
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    assert rows.min() == 6
    assert rows.max() == 10
    assert set(columns) <= {5, 6, 7, 8, 9, 10}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 0}, "epochs is 0; expected a positive"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"optimizer": "adma"}, "optimizer is 'adma'; expected one of adam, sgd"),
        ({"monitor": "loss"}, "monitor is 'loss'"),
    ],
)
def test_impossible_trials_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(TINY, **changes)


def test_label_does_not_decide_and_everything_else_does():
    assert trial_key(TINY) == trial_key(dataclasses.replace(TINY, label="other"))
    changes = [{"seed": 1}, {"epochs": 4}, {"options": {"filters": [4]}}, {"permute_pixels": 0}]
    changes += [{"precision": "mixed_bfloat16"}, {"augment": "flip"}, {"train_images": 9}]
    keys = {trial_key(dataclasses.replace(TINY, **change)) for change in changes}
    assert len(keys | {trial_key(TINY)}) == 1 + len(changes)


def test_dtype_policy_is_restored():
    before = keras.config.dtype_policy().name
    with training.dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == before
