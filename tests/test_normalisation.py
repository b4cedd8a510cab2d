"""A normalisation answers as it was trained: with statistics computed anew under the weights that it is used with."""

import dataclasses
import importlib

import keras
import numpy as np
import pytest
import synthetic

from cnnlab.training import Trial, accuracy, build, predict, renew_statistics, train

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
        for room in ("loop", "callbacks"):
            monkeypatch.setattr(importlib.import_module(f"cnnlab.training.{room}"), "renew_statistics", lambda *_: None)
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
