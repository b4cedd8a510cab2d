"""A linear probe: its features, its choice on validation only, and one model that holds all of it."""

import dataclasses
import io

import keras
import numpy as np
import pandas as pd
import pytest
import synthetic
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnnlab.data import Split
from cnnlab.training import build, frozen_features, linear_probe, load_model, transfer
from cnnlab.training.callbacks import Clock
from cnnlab.training.transfer import feature_extractor


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A .keras network of 24x24 images, untrained: 20 random features."""
    path = tmp_path_factory.mktemp("backbone") / "random.keras"
    keras.utils.set_random_seed(0)
    build(filters=[12, 20], head="gap", dense=0, dropout=0, input_shape=(24, 24, 3), num_classes=3).save(path)
    return path


@pytest.fixture(scope="module")
def bars():
    return synthetic.dataset(train=90, validation=40, test=40, classes=3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def probe(bars, backbone, cache):
    return linear_probe(bars, backbone, cache, progress=False)


def changed(dataset, name, labels):
    """`dataset` with other labels of the split `name`."""
    split = dataset.splits[name]
    new = split.labels.copy()
    new[split.indices] = labels
    return dataclasses.replace(dataset, splits={**dataset.splits, name: dataclasses.replace(split, labels=new)})


def test_the_model_answers_raw_pixels_as_the_fit_does(probe, bars):
    for name in ("validation", "test"):
        images, labels = bars.split(name)
        found = probe.model.predict_on_batch(images.astype("float32"))
        np.testing.assert_allclose(found, probe.probabilities[name], atol=1e-5)
        accuracy = (found.argmax(axis=1) == labels).mean()
        assert probe.row[f"{'val' if name == 'validation' else 'test'}_accuracy_last"] == pytest.approx(accuracy)
    assert probe.row["test_accuracy_last"] > 0.6, "chance is a third"


def test_it_is_the_logistic_regression_of_scikit_learn(probe, bars, backbone, cache):
    extractor = feature_extractor(bars.input_shape, backbone)
    train, test = (frozen_features(extractor, bars.splits[name], cache) for name in ("train", "test"))
    weighting = "balanced" if probe.row["class_weights"] else None
    fit = make_pipeline(
        StandardScaler(), LogisticRegression(C=probe.row["C"], class_weight=weighting, max_iter=5_000, tol=1e-6)
    ).fit(train, bars.split("train")[1])
    np.testing.assert_allclose(probe.probabilities["test"], fit.predict_proba(test), atol=0.01)


def test_the_choice_is_made_on_validation_alone(probe, bars, backbone, cache):
    assert len(probe.choices) == len(transfer.STRENGTHS) * len(transfer.WEIGHTINGS)
    best = probe.choices.iloc[0]
    assert (probe.row["C"], probe.row["class_weights"]) == (best["C"], best["class_weights"])
    assert best["val_balanced_accuracy"] == probe.choices["val_balanced_accuracy"].max()
    ties = probe.choices[probe.choices["val_balanced_accuracy"] == best["val_balanced_accuracy"]]
    assert best["val_loss"] == ties["val_loss"].min()
    assert best["val_accuracy"] == pytest.approx(probe.row["val_accuracy_last"])
    other = linear_probe(changed(bars, "test", 0), backbone, cache, progress=False)
    pd.testing.assert_frame_equal(other.choices, probe.choices)
    again = linear_probe(bars, backbone, cache, progress=False)
    np.testing.assert_array_equal(again.probabilities["test"], probe.probabilities["test"])


def test_the_row_says_what_the_model_is(probe, bars):
    expected = {
        "dataset": "bars", "class_names": list(bars.class_names), "data_version": bars.fingerprint,
        "backbone": "cnn", "train_images": 90, "parameters": probe.model.count_params(),
    }  # fmt: skip
    assert {key: probe.row[key] for key in expected} == expected
    assert probe.row["parameters"] == 12 * 28 + 20 * 109 + 3 * 21


def test_saved_it_is_the_same_model(probe, bars, tmp_path):
    probe.model.save(tmp_path / "probe.keras")
    images = bars.split("test")[0].astype("float32")
    np.testing.assert_allclose(load_model(tmp_path / "probe.keras")(images), probe.model(images), atol=1e-6)


def test_features_are_kept_until_pixels_weights_or_size_change(bars, backbone, tmp_path, monkeypatch):
    extractor, split = feature_extractor(bars.input_shape, backbone), bars.splits["test"]
    first = frozen_features(extractor, split, tmp_path)
    assert (first.shape, first.dtype) == ((40, 20), np.dtype("float32"))
    calls = []
    compute = keras.Model.predict_on_batch
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda model, x: calls.append(len(x)) or compute(model, x))
    np.testing.assert_array_equal(
        frozen_features(feature_extractor(bars.input_shape, backbone), split, tmp_path), first
    )
    assert not calls
    reordered = dataclasses.replace(split, indices=split.indices[::-1])
    np.testing.assert_array_equal(frozen_features(extractor, reordered, tmp_path), first[::-1])
    assert not calls
    images = split.images.copy()
    images[split.indices[0], 0, 0, 0] ^= 1
    frozen_features(extractor, dataclasses.replace(split, images=images), tmp_path)
    extractor.set_weights([1.01 * weight for weight in extractor.get_weights()])
    frozen_features(extractor, split, tmp_path)
    assert sum(calls) == 1 + 40, "one image has changed, then all weights"
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_features_are_computed_once_for_all_splits(bars, backbone, tmp_path):
    extractor, asked = feature_extractor(bars.input_shape, backbone), []
    answer = extractor.predict_on_batch
    extractor.predict_on_batch = lambda images: asked.append(len(images)) or answer(images)
    train = bars.splits["train"]
    first = dataclasses.replace(train, indices=np.array([7, 3, 50]))
    more = dataclasses.replace(train, indices=np.array([3, 80, 7, 3, 11]))
    found = frozen_features(extractor, first, tmp_path)
    np.testing.assert_allclose(found, answer(train.images[[7, 3, 50]]), atol=1e-6)
    assert sum(asked) == 3
    clock = Clock()
    found = frozen_features(extractor, more, tmp_path, clock=clock)
    np.testing.assert_allclose(found, answer(train.images[[3, 80, 7, 3, 11]]), atol=1e-6)
    assert sum(asked) == 3 + 2, "those of 80 and 11"
    assert clock.parts["features"] > 0
    mirrored = frozen_features(extractor, first, tmp_path, mirrored=True)
    np.testing.assert_allclose(mirrored, answer(train.images[[7, 3, 50], :, ::-1]), atol=1e-6)
    before = len(asked)
    other = dataclasses.replace(first, images=255 - first.images)
    assert not np.allclose(frozen_features(extractor, other, tmp_path), answer(first.images[[7, 3, 50]]))
    assert len(asked) == before + 1, "another array"


def test_damaged_parts_of_features_are_computed_again(bars, backbone, tmp_path):
    extractor, split = feature_extractor(bars.input_shape, backbone), bars.splits["validation"]
    whole = frozen_features(extractor, split, tmp_path)
    (path,) = (tmp_path / "features").rglob("*.npz")
    data = path.read_bytes()
    no_features = io.BytesIO()
    np.savez(no_features, names=np.load(path)["names"], features=whole[:-1], took=np.load(path)["took"])
    for damaged in (data[: len(data) // 2], b"", data[:-40], no_features.getvalue()):
        path.write_bytes(damaged)
        np.testing.assert_allclose(frozen_features(extractor, split, tmp_path), whole, atol=1e-6)


def test_a_probe_chooses_among_the_strengths_that_it_is_given(bars, backbone, cache):
    probe = linear_probe(bars, backbone, cache, progress=False, strengths=(0.003, 0.01))
    assert sorted(probe.choices["C"]) == [0.003, 0.01]
    assert not probe.row["class_weights"]
    plain = linear_probe(bars, backbone, cache, progress=False, strengths=(0.003, 0.01))
    np.testing.assert_allclose(probe.probabilities["test"], plain.probabilities["test"], atol=1e-5)


def test_grey_images_are_those_of_three_alike_channels(bars, backbone, tmp_path):
    split = bars.splits["test"]
    grey = dataclasses.replace(split, images=split.images[..., :1])
    alike = dataclasses.replace(split, images=np.repeat(split.images[..., :1], 3, axis=3))
    found = [
        frozen_features(feature_extractor(each.images.shape[1:], backbone), each, tmp_path) for each in (grey, alike)
    ]
    np.testing.assert_allclose(*found, atol=1e-5)
    with pytest.raises(ValueError, match="4 channels; expected 1 .grey. or 3"):
        feature_extractor((16, 16, 4), backbone)


def test_two_classes_and_a_class_without_training_images(bars, backbone, tmp_path):
    images, labels = synthetic.bars(120, classes=2)
    splits = {
        name: Split(images, labels, np.arange(start, start + 40))
        for name, start in (("train", 0), ("validation", 40), ("test", 80))
    }
    two = dataclasses.replace(bars, class_names=("a", "b"), splits=splits)
    found = linear_probe(two, backbone, tmp_path, progress=False)
    assert found.row["test_accuracy_last"] > 0.7
    three = linear_probe(dataclasses.replace(two, class_names=("a", "b", "never")), backbone, tmp_path, progress=False)
    np.testing.assert_allclose(three.probabilities["test"][:, :2], found.probabilities["test"], atol=1e-6)
    assert not three.probabilities["test"][:, 2].any()
    np.testing.assert_allclose(three.model(images[80:].astype("float32")), three.probabilities["test"], atol=1e-5)


def test_without_a_test_split_there_is_no_test_score(bars, backbone, cache):
    unseen = dataclasses.replace(bars, splits={name: bars.splits[name] for name in ("train", "validation")})
    found = linear_probe(unseen, backbone, cache, progress=False)
    assert set(found.probabilities) == {"validation"}
    assert "test_accuracy_last" not in found.row


def test_too_little_to_learn_from_is_said(bars, backbone, cache):
    with pytest.raises(ValueError, match="bars has too little to learn from; expected two classes"):
        linear_probe(changed(bars, "train", 0), backbone, cache, progress=False)
