"""Models: what the builders build, refuse and cost."""

import keras
import numpy as np
import pytest

from cnnlab import models

# Parameter counts by hand arithmetic, from the lab's fact sheet.
MARS = {
    "num_classes": 24,
    "filters": [32, 64, 128, 256],
    "batch_norm": True,
    "dense": 256,
    "input_shape": (128, 128, 3),
}
KNOWN = [
    ("dense", {"units": [128, 64]}, 402_250),
    ("dense", {"units": [256, 128]}, 820_874),
    ("dense", {"units": [512, 256]}, 1_707_274),
    ("cnn", {"filters": [32, 64], "dense": 128}, 545_098),
    ("cnn", {"filters": [32, 64], "dense": 128, "kernel_size": 5}, 579_402),
    ("cnn", {"filters": [16, 32, 64]}, 2_126_378),
    ("cnn", {"filters": [32, 64, 128]}, 4_293_194),
    ("cnn", {"filters": [64, 128, 256]}, 8_765_066),
    ("cnn", {"filters": [128, 256, 512]}, 18_261_770),
    ("dense", {"units": [512, 256], "dropout": [0.3, 0.0], "input_shape": (64, 64, 3), "num_classes": 24}, 6_429_464),
    (
        "dense",
        {"units": [512, 256], "dropout": [0.3, 0.0], "input_shape": (128, 128, 3), "num_classes": 24},
        25_303_832,
    ),
    ("cnn", {**MARS, "kernel_size": 3}, 4_591_064),
    ("cnn", {**MARS, "kernel_size": 5}, 5_280_728),
    ("cnn", {**MARS, "kernel_size": 7}, 6_315_224),
]


@pytest.mark.parametrize(("kind", "options", "parameters"), KNOWN)
def test_formula_and_model_agree_on_every_known_count(kind, options, parameters):
    assert training.expected_parameters(kind, **options) == parameters
    assert models.build(kind, **options).count_params() == parameters


@pytest.mark.parametrize(
    "options",
    [
        {"filters": [8], "pools": 0, "dense": 0},
        {"filters": [8, 4], "kernel_size": [5, 1], "head": "gap", "dense": 0, "dropout": 0.0},
        {"filters": [3, 5, 7, 9], "head": "gap", "dense": 11, "batch_norm": True, "input_shape": (40, 24, 1)},
        {"filters": [3, 5, 7], "pools": 3, "num_classes": 2},
    ],
)
def test_formula_holds_for_unusual_networks(options):
    assert models.build("cnn", **options).count_params() == training.expected_parameters("cnn", **options)


def test_flops_of_a_convolution_by_hand():
    model = models.build_cnn([4], pools=1, dense=0, input_shape=(8, 8, 3))
    convolution, classifier = 8 * 8 * 4 * 3 * 3 * 3, 4 * 4 * 4 * 10
    assert training.forward_flops(model) == 2 * (convolution + classifier)
    assert training.training_flops(model, images=7) == 3 * 7 * training.forward_flops(model)


@pytest.mark.parametrize("model", [models.build_dense([4]), models.build_cnn([2, 3], dense=4)])
def test_raw_pixels_go_in_and_probabilities_come_out(model):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), "uint8")
    probabilities = model.predict_on_batch(images)
    assert isinstance(model.layers[0], keras.layers.Rescaling)
    assert probabilities.shape == (5, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(images.astype("float32")), probabilities, atol=1e-6)


def test_kernel_size_and_dropout_may_differ_by_layer():
    cnn = models.build_cnn([2, 3], kernel_size=[3, 5], dense=4)
    assert [cnn.get_layer(f"conv{i}").kernel_size for i in (1, 2)] == [(3, 3), (5, 5)]
    dense = models.build_dense([4, 4, 4], dropout=[0.3, 0, 0.1])
    assert [layer.rate for layer in dense.layers if isinstance(layer, keras.layers.Dropout)] == [0.3, 0.1]


def test_batch_normalisation_stands_between_convolution_and_relu():
    names = [layer.name for layer in models.build_cnn([2, 3], batch_norm=True, dense=4).layers]
    assert names.index("conv1") + 1 == names.index("norm1") == names.index("relu1") - 1


@pytest.mark.parametrize(
    ("build", "options", "reason"),
    [
        (models.build_cnn, {"filters": [8] * 6}, "6 poolings halve 32 pixels to nothing; a 32x32 image allows 5"),
        (models.build_cnn, {"filters": [8], "pools": 2}, "pools is 2; expected 0 to 1"),
        (models.build_cnn, {"filters": [8], "kernel_size": 4}, "kernel_size 4 is even.*use 3 or 5"),
        (models.build_cnn, {"filters": [8], "kernel_size": 0}, "kernel_size is 0"),
        (models.build_cnn, {"filters": [8, 8], "kernel_size": [3, 3, 3]}, "kernel_size has 3 values for 2 layers"),
        (models.build_cnn, {"filters": []}, "filters is .*at least one positive"),
        (models.build_cnn, {"filters": [8, 0]}, "filters is .*at least one positive"),
        (models.build_cnn, {"head": "max"}, "head is 'max'; expected 'flatten' or 'gap'"),
        (models.build_cnn, {"dense": -1}, "dense is -1"),
        (models.build_cnn, {"dropout": 1.0}, "dropout is 1.0"),
        (models.build_cnn, {"num_classes": 1}, "num_classes is 1"),
        (models.build_cnn, {"input_shape": (32, 32)}, "input_shape is"),
        (models.build_dense, {"units": []}, "units is"),
        (models.build_dense, {"units": [8, 8], "dropout": [0.1]}, "dropout has 1 values for 2 layers"),
    ],
)
def test_impossible_networks_are_refused_with_a_reason(build, options, reason):
    with pytest.raises(ValueError, match=reason):
        build(**options)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no model is called 'rnn'; expected one of dense, cnn"):
        models.build("rnn")
