"""Where an answer rests: a network whose reasons are known says so, and the picture shows it."""

import keras
import matplotlib
import numpy as np
import pytest

from cnnlab import figures, measures

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def corner_network():
    """Answers 1 the more surely, the brighter the lower right quarter of an 8x8 image is, and looks nowhere else."""
    pixels = keras.Input((8, 8, 3))
    corner = keras.layers.Cropping2D(((4, 0), (4, 0)))(keras.layers.Rescaling(1 / 255)(pixels))
    mean = keras.layers.GlobalAveragePooling2D()(corner)
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(mean))
    model.layers[-1].set_weights([np.array([[-4.0, 4.0]] * 3), np.zeros(2)])
    return model


def test_covering_what_the_answer_rests_on_costs_most(corner_network):
    image = np.zeros((8, 8, 3), "uint8")
    image[4:, 4:] = 240
    fall = measures.occlusion_map(corner_network, image, patch=4, batch_size=3)
    # The corner gets the mean of the image, 60, and the logits shrink with it.
    whole, covered = (1 / (1 + np.exp(-24 * value / 255)) for value in (240, 60))
    np.testing.assert_allclose(fall, [[0, 0], [0, whole - covered]], atol=1e-5)
    assert image[4:, 4:].min() == 240, "the image itself stays as it is"


def test_a_patch_that_does_not_divide_the_image_is_refused(corner_network):
    with pytest.raises(ValueError, match="patch is 3; expected a divisor of the image's sides, 8 and 8 pixels"):
        measures.occlusion_map(corner_network, np.zeros((8, 8, 3), "uint8"), patch=3)


def test_the_picture_has_each_image_beside_its_map():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), "uint8")
    maps = [np.full((2, 2), fall, "float32") for fall in (0.5, 0.0, -0.1)]
    figure = figures.occlusion(images, maps, ["one", "two", "three"])
    axes = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in axes[::2]] == ["one", "two", "three"]
    assert [axis.get_title() for axis in axes[1::2]] == [f"covered: at most -{n} points" for n in (50, 0, 0)]
    assert np.array_equal(axes[0].images[0].get_array(), images[0])
    assert np.array_equal(axes[1].images[1].get_array(), maps[0])
