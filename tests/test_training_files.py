"""Models on disk: whole or not at all, and with the row that they are packed by."""

import json

import numpy as np
import pytest

from cnnlab import training
from cnnlab.training import build

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    return build(filters=[4, 6], dense=8, batch_norm=True, input_shape=(16, 16, 3), num_classes=4)


def test_a_kept_model_is_whole_and_answers_alike_and_no_model_is_named(model, tmp_path):
    path = training.model_path(tmp_path / "models", "0123")
    training.save_model(model, path)
    assert [each.name for each in path.parent.iterdir()] == ["0123.keras"]
    np.testing.assert_array_equal(training.load_model(path)(IMAGES), model(IMAGES))
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is no model that Keras can load; delete it"):
        training.load_model(path)


def test_the_row_lies_beside_the_model(model, tmp_path):
    path = tmp_path / "new" / "folder" / "mine.keras"
    training.save_with_row(model, {"label": "mine", "seed": 3}, path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["mine.json", "mine.keras"]
    assert json.loads(path.with_suffix(".json").read_text()) == {"label": "mine", "seed": 3}
