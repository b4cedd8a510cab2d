"""Normalisation answers as it trained where its statistics are renewed; running ones lag behind in few steps."""

import dataclasses

import numpy as np
import pytest
import synthetic

from cnnlab.training import Trial, accuracy, predict, train

FEW_STEPS = Trial(
    "few_steps", options={"filters": [8, 16], "dense": 16, "dropout": 0.0, "batch_norm": True}, epochs=2,
    batch_size=16, learning_rate=0.003, precision="float32",
)  # fmt: skip
MARGIN = 0.03


@pytest.mark.parametrize(("statistics", "fits"), [("renewed", True), ("running", False)])
def test_in_use_it_is_as_accurate_as_in_training(statistics, fits):
    pictures = synthetic.dataset(train=512, validation=128, test=128, classes=10, side=16)
    model = train(dataclasses.replace(FEW_STEPS, statistics=statistics), pictures).model
    images, labels = pictures.split("train")
    as_trained = [np.asarray(model(images[i : i + 16], training=True)) for i in range(0, len(images), 16)]
    in_use = accuracy(predict(model, images), labels)
    assert (abs(in_use - accuracy(np.concatenate(as_trained), labels)) < MARGIN) == fits
