"""Fine-tuning and linear probes as trials: what is frozen stays, what is served is what was scored."""

import dataclasses

import numpy as np
import pytest
import small_lite0
import synthetic
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnnlab.training import Trial, finetune, pretrained, train, transfer
from cnnlab.training.networks import Lite0

TUNED = Trial(
    "tuned", model="lite0", options={"blocks": 1, "dropout": 0.5}, epochs=2, batch_size=30, learning_rate=1e-3,
    class_weights=True, flip="random",
)  # fmt: skip
PROBED = Trial("probed", model="probe", options={"sizes": [16, 32], "mirrored": True}, epochs=1)


@pytest.fixture(scope="module", autouse=True)
def own_cache_a_small_network_and_few_strengths(tmp_path_factory):
    """What probes choose from is tested in test_training_transfer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(transfer, "STRENGTHS", transfer.STRENGTHS[1::3])
        small_lite0.put(set_attribute=patch.setattr)
        yield


@pytest.fixture
def published_network(monkeypatch):
    """For this test EfficientNet-Lite0 as it is published."""
    small_lite0.put(small_lite0.PUBLISHED, monkeypatch.setattr)


@pytest.fixture(scope="module")
def bars():
    return synthetic.dataset(train=60, validation=30, test=30, classes=3)


@pytest.fixture(scope="module")
def parts(bars):
    """Those of TUNED, of which no test changes more than the classifier."""
    return finetune.parts_of(TUNED.network, bars.input_shape, 3)


@pytest.fixture(scope="module")
def tuned(bars):
    return train(TUNED, bars)


@pytest.fixture(scope="module")
def probed(bars):
    return train(PROBED, bars)


@pytest.fixture(scope="module")
def plain(bars):
    """A probe that computes its features, and keeps them for those after it."""
    return transfer.linear_probe(bars, progress=False)


@pytest.fixture(scope="module")
def both(plain, bars):
    """The same, its head fitted to both splits at the end."""
    return transfer.linear_probe(bars, progress=False, refit=True)


def test_frozen_and_trained_part_together_are_the_whole(published_network, bars):
    parts = finetune.parts_of(Lite0(blocks=3), bars.input_shape, 3)
    images = bars.split("test")[0].astype("float32")
    np.testing.assert_allclose(parts.trained(parts.frozen(images)), parts.whole(images), atol=1e-5)
    names = {weight.path.split("/")[0] for weight in parts.trained.trainable_weights}
    assert {name.split("_")[0] for name in names} == {"block13", "block14", "block15", "head", "probabilities"}
    assert not [name for name in names if name.endswith("norm")]
    with pytest.raises(ValueError, match="images have 1 channels; expected 3"):
        finetune.parts_of(Lite0(), (16, 16, 1), 3)


def test_all_blocks_can_be_trained(bars):
    parts = finetune.parts_of(Lite0(blocks=finetune.BLOCKS), bars.input_shape, 3)
    assert [layer.name for layer in parts.frozen.layers][-1] == "stem_relu"


def test_only_the_last_blocks_learn_and_no_statistic_moves(tuned, parts):
    backbone = [layer for layer in parts.whole.layers if layer.name != "probabilities"]
    pretrained = {weight.path: weight.numpy() for layer in backbone for weight in layer.weights}
    found = {weight.path: weight.numpy() for weight in tuned.model.weights}
    changed = {path for path, value in pretrained.items() if not np.array_equal(found[path], value)}
    assert {path.split("/")[0] for path in changed} == {"block3_expand", "block3_depthwise", "block3_project", "head"}


def assert_served_is_what_was_scored(results, bars):
    for result in results:
        for name in ("validation", "test"):
            images, labels = bars.split(name)
            answers = result.model.predict_on_batch(images)
            np.testing.assert_allclose(answers, result.probabilities[name], atol=1e-4)
            short = "val" if name == "validation" else name
            assert result.row[f"{short}_accuracy_best"] == pytest.approx((answers.argmax(axis=1) == labels).mean())
        assert result.row["parameters"] == result.model.count_params()


def test_the_model_answers_pixels_as_the_scored_part_answered_feature_maps(tuned, probed, bars):
    assert_served_is_what_was_scored([tuned, probed], bars)


@pytest.mark.long
def test_so_does_the_published_network(published_network, bars):
    assert_served_is_what_was_scored([train(TUNED, bars), train(PROBED, bars)], bars)


def test_mirror_images_are_learned_from_beside_the_images(parts, bars):
    frozen = parts.frozen
    found = finetune.feature_maps(TUNED, bars, frozen)
    images, labels = bars.split("train")
    np.testing.assert_allclose(found["train"][0][:60], frozen(images.astype("float32")), atol=1e-4)
    np.testing.assert_allclose(found["train"][0][60:], frozen(images[:, :, ::-1].astype("float32")), atol=1e-4)
    np.testing.assert_array_equal(found["train"][1], np.tile(labels, 2))
    few = dataclasses.replace(TUNED, flip="none", train_images=20, eval_images=10)
    alone = finetune.feature_maps(few, bars, frozen)
    assert [len(alone[name][0]) for name in ("train", "validation", "test")] == [20, 10, 10]


def test_the_classifier_begins_as_a_logistic_regression_on_what_is_before_it(parts, bars):
    maps, labels = finetune.feature_maps(TUNED, bars, parts.frozen)["train"]
    finetune.begin_at_probe(parts, maps, labels, True)
    features = parts.described.predict(maps, verbose=0)
    regression = LogisticRegression(C=finetune.START_STRENGTH, class_weight="balanced", max_iter=5_000)
    expected = make_pipeline(StandardScaler(), regression).fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(parts.trained.predict(maps, verbose=0), expected, atol=0.01)


@pytest.mark.long
def test_seeds_differ_in_order_alone_and_a_seed_gives_the_same_again(tuned, bars):
    again, other = train(TUNED, bars), train(dataclasses.replace(TUNED, seed=1), bars)
    np.testing.assert_allclose(again.probabilities["test"], tuned.probabilities["test"], atol=1e-5)
    assert np.abs(other.probabilities["test"] - tuned.probabilities["test"]).max() > 1e-4


def test_validation_images_can_be_learned_from_and_are_then_not_scored(bars):
    for trial in (TUNED, PROBED):
        fuller = train(dataclasses.replace(trial, train_split="all", keep="last"), bars)
        assert set(fuller.probabilities) == {"test"}
        assert fuller.row["val_accuracy_last"] is None
    assert fuller.row["strength"] in transfer.STRENGTHS


def test_a_probe_of_several_views_sees_both_sides_alike(probed, bars):
    images = bars.split("test")[0]
    mirrored = probed.model.predict_on_batch(np.ascontiguousarray(images[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, probed.probabilities["test"], atol=1e-4)
    assert probed.model.get_layer("probabilities").kernel.shape == (2 * pretrained.HEAD_FILTERS, 3)


def test_a_refitted_head_is_that_of_both_splits_with_the_chosen_setting(plain, both, bars):
    assert both.row["C"] == plain.row["C"]
    (extractor,) = transfer.extractors_for(bars.input_shape)
    parts = [transfer.frozen_features(extractor, bars.splits[name]) for name in ("train", "validation")]
    labels = np.concatenate([bars.split(name)[1] for name in ("train", "validation")])
    weighting = "balanced" if both.row["class_weights"] else None
    kernel, _ = transfer.fitted(np.concatenate(parts), labels, both.row["C"], weighting, 3)
    np.testing.assert_allclose(both.model.get_layer("probabilities").kernel, kernel, rtol=1e-4, atol=1e-4)


def test_what_features_took_is_counted_where_they_are_kept(plain, both):
    assert plain.clock.parts["features"] == both.clock.parts["features"] > 0
