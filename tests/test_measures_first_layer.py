"""What a first layer began with is rebuilt from the trial; what it has become, and what excites it, is measured."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
import synthetic

from cnnlab import measures
from cnnlab.training import Trial, build, initial_network, train

COMMON = {"epochs": 1, "batch_size": 32, "dataset": "bars", "precision": "float32"}


@pytest.mark.parametrize(
    "trial",
    [
        Trial("cnn", options={"filters": [4], "dense": 8}, seed=3, **COMMON),
        Trial("cnn", options={"filters": [4], "dense": 8, "batch_norm": True}, seed=3, **COMMON),
        Trial("blocks", model="blocks", options={"filters": [4], "whitening": True}, keep="last", **COMMON),
    ],
    ids=["plain", "normalised", "blocks"],
)
def test_the_first_weights_are_those_that_training_begins_with(trial):
    """Trained so slowly that nothing moves."""
    dataset = synthetic.dataset(64, 32, 32)
    trained = train(dataclasses.replace(trial, learning_rate=1e-12), dataset).model
    images, _ = dataset.split("train")
    start = initial_network(trial, dataset, images)
    assert [weight.path for weight in start.weights] == [weight.path for weight in trained.weights]
    for before, after in zip(start.trainable_weights, trained.trainable_weights, strict=True):
        assert np.allclose(before.numpy(), after.numpy(), atol=1e-8), before.path
    other = initial_network(dataclasses.replace(trial, seed=4), dataset, images)
    assert not np.allclose(other.trainable_weights[0].numpy(), start.trainable_weights[0].numpy())


@pytest.fixture(scope="module")
def rows():
    """Of a network whose first filter has become a detector of red at its centre, and the others have not moved."""
    keras.utils.set_random_seed(0)
    start = build("cnn", (16, 16, 3), 4, filters=[3], dense=0, dropout=0.0)
    model = keras.models.clone_model(start)
    kernel, *others = start.get_weights()
    red = kernel.copy()
    red[..., 0] = 0
    red[1, 1, :, 0] = 1, -1, -1
    model.set_weights([red, *others])
    images = np.random.default_rng(0).integers(0, 200, (60, 16, 16, 3), dtype="uint8")
    images[np.arange(60), 5, 9] = 255, 0, 0
    return measures.first_layer_change(model, start, images), kernel, red


def test_every_weight_is_there_before_and_after(rows):
    table, before, after = rows
    assert len(table) == before.size
    row = table.set_index(["filter", "row", "column", "channel"]).loc[2, 0, 1, 2]
    assert (row["before"], row["after"]) == (before[0, 1, 2, 2], after[0, 1, 2, 2])


def test_patches_are_what_the_filter_answers_most(rows):
    table, *_ = rows
    patch = table[table["filter"] == 0].pivot(index=["row", "column"], columns="channel", values="patch")
    assert patch.loc[1, 1].tolist() == [255, 0, 0]
    others = patch.drop(index=(1, 1)).to_numpy()
    assert others.min() > 50
    assert others.max() < 150


def test_correlations_and_change(rows):
    table, before, after = rows
    trained = table.assign(label="first", seed=0)
    twin = trained.assign(label="second", after=trained["after"] + 1)
    found = measures.first_layer_correlations(pd.concat([trained, twin])).set_index("label")
    assert found.loc["first", "with_start"] == pytest.approx(np.corrcoef(before.ravel(), after.ravel())[0, 1])
    lengths = [np.linalg.norm(part.reshape(27, 3), axis=0) for part in (after - before, before)]
    assert found.loc["first", "moved"] == pytest.approx((lengths[0] / lengths[1]).mean())
    assert np.isnan(found.loc["first", "with_first"])
    assert found.loc["second", "with_first"] == pytest.approx(1)
