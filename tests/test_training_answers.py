"""Answers of a network: one view or several, in batches of any size, and their scores."""

import keras
import numpy as np
import pytest
import synthetic
from scipy.special import softmax

from cnnlab.training import build, cross_entropy, predict, predict_views, views
from cnnlab.training.answers import accuracy

IMAGES, LABELS = synthetic.bars(70)


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(0)
    return build("cnn", filters=[4, 8], dense=16, batch_norm=True, input_shape=(16, 16, 3), num_classes=4)


@pytest.mark.parametrize("batch_size", [1, 23, 70])
def test_another_batch_size_gives_the_same_answers(cnn, batch_size):
    expected = predict(cnn, IMAGES)
    assert expected.shape == (70, 4)
    np.testing.assert_allclose(predict(cnn, IMAGES, batch_size), expected, atol=1e-6)
    for found, wanted in zip(predict_views(cnn, IMAGES, 2, batch_size), predict_views(cnn, IMAGES, 2), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_augmented_answers_are_the_mean_of_the_logits_of_explicit_views():
    images = IMAGES[:6]
    kernel = np.random.default_rng(0).normal(0, 5e-4, (16 * 16 * 3, 4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(4, "softmax", use_bias=False)]
    )
    model.set_weights([kernel])

    def logits(view):
        return view.reshape(len(view), -1).astype("float64") @ kernel

    rows = np.pad(np.arange(16), 1, mode="reflect")
    up_left, down_right = (images[:, rows[a:b]][:, :, rows[a:b]] for a, b in ((2, 18), (0, 16)))
    sides = [logits(view) + logits(view[:, :, ::-1]) for view in (images, up_left, down_right)]
    expected = {0: logits(images), 1: sides[0] / 2, 2: sides[0] / 4 + sides[1] / 8 + sides[2] / 8}
    for level, mean in expected.items():
        plain, augmented = predict_views(model, images, level)
        np.testing.assert_allclose(plain, softmax(expected[0], axis=1), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(augmented, softmax(mean, axis=1), rtol=1e-3, atol=1e-6)
        assert sum(weight for weight, _ in views(images, level)) == pytest.approx(1)
    with pytest.raises(ValueError, match="tta is 5; expected level 0"):
        views(images, 5)


def test_only_the_least_sure_images_are_looked_at_again(cnn):
    plain, augmented = predict_views(cnn, IMAGES, 2)
    _, partly = predict_views(cnn, IMAGES, 2, share=0.25)
    again = (partly != plain).any(axis=1)
    assert again.sum() == 18  # a quarter of 70, and what is left over
    assert plain[again].max() <= plain[~again].max(axis=1).min()
    np.testing.assert_allclose(partly[again], augmented[again], atol=1e-6)


def test_scores_agree_with_scikit_learn(cnn):
    from sklearn.metrics import accuracy_score, log_loss

    probabilities = predict(cnn, IMAGES).astype("float64")
    expected = log_loss(LABELS, probabilities / probabilities.sum(axis=1, keepdims=True), labels=range(4))
    assert cross_entropy(probabilities, LABELS) == pytest.approx(expected, rel=1e-5)
    assert accuracy(probabilities, LABELS) == accuracy_score(LABELS, probabilities.argmax(axis=1))
