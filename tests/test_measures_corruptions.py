"""Corruptions do what they are called, more so the stronger; FGSM moves every value by its step, uphill."""

import keras
import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.colors import rgb_to_hsv

from cnnlab import measures
from cnnlab.measures import FGSM_STEPS, KINDS, STRENGTHS
from cnnlab.training import accuracy, build, predict

IMAGES, LABELS = synthetic.bars(40, side=32)
GREY = np.full((20, 32, 32, 3), 128, "uint8")


def shares(images):
    return images.astype("float64") / 255


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_corruption_grows_with_its_strength_and_comes_again(kind, channels):
    images = IMAGES[..., :channels]
    before = images.copy()
    changed = [measures.corrupt(images, kind, strength) for strength in STRENGTHS]
    assert {(each.dtype.name, each.shape) for each in changed} == {("uint8", images.shape)}
    distances = [np.abs(shares(each) - shares(images)).mean() for each in changed]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert np.array_equal(changed[2], measures.corrupt(images, kind, 3))
    assert np.array_equal(images, before)


@pytest.mark.parametrize("kind", ["Gaussian noise", "shot noise", "fog"])
def test_another_seed_draws_other_noise_for_each_image(kind):
    one, other = (measures.corrupt(GREY, kind, 3, seed) for seed in (0, 1))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_noise_has_the_deviation_that_its_kind_says():
    """Constant in Gaussian noise; in shot noise the root of the brightness over the photons."""
    assert (shares(measures.corrupt(GREY, "Gaussian noise", 5)) - 128 / 255).std() == pytest.approx(0.10, rel=0.03)
    for level in (40, 160):
        noisy = shares(measures.corrupt(np.full_like(GREY, level), "shot noise", 3))
        assert noisy.mean() == pytest.approx(level / 255, rel=0.01)
        assert noisy.std() == pytest.approx((level / 255 / 100) ** 0.5, rel=0.03)


def test_brightness_moves_value_alone():
    before, after = (rgb_to_hsv(shares(each)) for each in (IMAGES, measures.corrupt(IMAGES, "brightness", 3)))
    fine = (before[..., 2] > 0.3) & (before[..., 2] < 0.8)
    assert np.allclose((after - before)[fine][:, 2], 0.15, atol=0.003)
    assert np.allclose((after - before)[fine][:, :2], 0, atol=0.02)
    assert measures.corrupt(np.zeros_like(GREY), "brightness", 5).mean() == pytest.approx(0.3 * 255, abs=1)


def test_contrast_shrinks_the_spread_about_the_mean():
    before, after = shares(IMAGES), shares(measures.corrupt(IMAGES, "contrast", 5))
    assert np.allclose(after.mean(axis=(1, 2)), before.mean(axis=(1, 2)), atol=0.003)
    assert np.allclose(after.std(axis=(1, 2)), 0.15 * before.std(axis=(1, 2)), atol=0.003)


def test_blur_spreads_a_point_over_a_disk_and_leaves_the_even_alone():
    point = np.zeros((1, 33, 33, 3), "uint8")
    point[0, 16, 16] = 255
    blurred = measures.corrupt(point, "defocus blur", 5)[0, ..., 0].astype("float64")
    away = np.hypot(*np.mgrid[-16:17, -16:17])
    assert blurred.sum() == pytest.approx(255, rel=0.03)
    assert (blurred[away > 2 + 2**0.5] == 0).all()
    assert blurred[away < 1.2].min() == blurred.max()
    for kind in ("defocus blur", "pixelate", "JPEG"):
        assert np.abs(measures.corrupt(GREY, kind, 5).astype(int) - 128).max() <= 1


def test_pixelate_leaves_fewer_different_rows():
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype="uint8")[None, :, None, None], (1, 32, 32, 3)).copy()
    found = measures.corrupt(ramp, "pixelate", 5)[0, :, 0, 0]
    assert len(np.unique(found)) < len(np.unique(ramp))


@pytest.mark.parametrize(
    ("images", "kind", "strength", "message"),
    [
        (IMAGES, "snow", 1, "no corruption is called 'snow'; expected one of Gaussian noise, "),
        (IMAGES, "fog", 0, "strength is 0; expected a whole number from 1 to 5"),
        (IMAGES / 255, "fog", 1, r"images are float64 \(40, 32, 32, 3\); expected uint8"),
        (IMAGES[..., :2], "fog", 1, r"images are uint8 \(40, 32, 32, 2\); expected uint8"),
    ],
)
def test_what_cannot_be_corrupted_is_named(images, kind, strength, message):
    with pytest.raises(ValueError, match=message):
        measures.corrupt(images, kind, strength)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = build("dense", (32, 32, 3), 4, units=[])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, epochs=20, verbose=0)
    return model


def test_fgsm_moves_up_the_loss_by_its_step(model):
    """Of a logistic regression the gradient of the loss is known: the kernel times probabilities less the truth."""
    images = np.clip(IMAGES, 8, 247)
    moved = measures.fgsm(model, images, LABELS)
    kernel = model.get_weights()[0]
    slopes = (predict(model, images) - np.eye(4)[LABELS]) @ kernel.T
    sure = np.abs(slopes) > 1e-4
    for step, changed in zip(FGSM_STEPS, moved, strict=True):
        difference = (changed.astype("int64") - images).reshape(len(images), -1)
        assert changed.dtype == np.uint8
        assert np.array_equal(difference[sure], step * np.sign(slopes)[sure])
    scores = [accuracy(predict(model, each), LABELS) for each in (images, *moved)]
    assert scores[0] > scores[-1]
    assert scores == sorted(scores, reverse=True)


def test_fgsm_moves_against_a_network_that_is_sure_and_stays_within_pixels(model):
    predicted, margins = predict(model, IMAGES).argmax(axis=1), -np.log(1 - predict(model, IMAGES).max(axis=1))
    sure = keras.models.clone_model(model)
    sure.set_weights([50 / margins.max() * weights for weights in model.get_weights()])
    certain = predict(sure, IMAGES).max(axis=1) == 1
    assert certain.sum() > 5, "the loss of these is zero, and so is its gradient in single precision"
    moved = measures.fgsm(sure, IMAGES, predicted)[-1].astype("int64")
    assert np.abs(moved - IMAGES).max() == FGSM_STEPS[-1]
    assert (moved != IMAGES)[certain].mean() > 0.9


def test_every_network_is_asked_about_the_same_images(model):
    rows = measures.accuracy_when_changed(model, IMAGES, LABELS)
    assert len(rows) == 1 + len(KINDS) * len(STRENGTHS) + len(FGSM_STEPS)
    assert set(rows["images"]) == {len(IMAGES)}
    found = rows.set_index(["kind", "strength"])["accuracy"]
    assert found["unchanged", 0] == accuracy(predict(model, IMAGES), LABELS)
    assert found["fog", 4] == accuracy(predict(model, measures.corrupt(IMAGES, "fog", 4)), LABELS)


def test_strengths_are_averaged_steps_are_not_and_a_pair_without_a_network_is_left_out():
    rows = pd.DataFrame(
        [
            ("a", 0, "fog", 1, 0.4), ("a", 0, "fog", 2, 0.2), ("a", 0, "FGSM", 2, 0.1), ("a", 1, "fog", 1, 0.9),
            ("b", 22, "fog", 1, 0.6), ("b", 22, "fog", 2, 0.5), ("b", 22, "FGSM", 2, 0.3),
        ],
        columns=["label", "seed", "kind", "strength", "accuracy"],
    )  # fmt: skip
    found = measures.mean_over_strengths(rows)
    assert found["kind"].tolist() == ["fog", "FGSM by 2 of 255"]
    assert found[["a", "b"]].to_numpy() == pytest.approx(np.array([[0.3, 0.55], [0.1, 0.3]]))
