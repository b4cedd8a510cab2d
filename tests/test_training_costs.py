"""What a network costs, by formula and by hand."""

import pytest

from cnnlab.training import build, expected_parameters, forward_flops, training_flops

# Parameter counts by hand arithmetic, from the lab's fact sheet.
MARS = {
    "num_classes": 24,
    "filters": [32, 64, 128, 256],
    "batch_norm": True,
    "dense": 256,
    "input_shape": (128, 128, 3),
}
MARS_DENSE = {"units": [512, 256], "dropout": [0.3, 0.0], "num_classes": 24}
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
    ("dense", {**MARS_DENSE, "input_shape": (64, 64, 3)}, 6_429_464),
    ("dense", {**MARS_DENSE, "input_shape": (128, 128, 3)}, 25_303_832),
    ("cnn", {**MARS, "kernel_size": 3}, 4_591_064),
    ("cnn", {**MARS, "kernel_size": 5}, 5_280_728),
    ("cnn", {**MARS, "kernel_size": 7}, 6_315_224),
]


@pytest.mark.parametrize(("kind", "options", "parameters"), KNOWN)
def test_formula_and_model_agree_on_every_known_count(kind, options, parameters):
    assert expected_parameters(kind, **options) == parameters
    assert build(kind, **options).count_params() == parameters


@pytest.mark.parametrize(
    "options",
    [
        {"filters": [8], "pools": 0, "dense": 0},
        {"filters": [8, 4], "kernel_size": [5, 1], "head": "gap", "dense": 0, "dropout": 0.0},
        {"filters": [3, 5, 7, 9], "head": "gap", "dense": 11, "batch_norm": True, "input_shape": (40, 24, 1)},
        {"filters": [3, 5, 7], "pools": 3, "num_classes": 2},
        {"filters": [3, 5], "kernel_size": [5, 3], "padding": "valid", "input_shape": (27, 20, 3)},
    ],
)
def test_formula_holds_for_unusual_networks(options):
    assert build("cnn", **options).count_params() == expected_parameters("cnn", **options)


def test_blocks_have_no_formula():
    with pytest.raises(ValueError, match="no formula for 'blocks'; expected 'dense' or 'cnn'"):
        expected_parameters("blocks")


def test_flops_of_a_convolution_by_hand():
    model = build("cnn", filters=[4], pools=1, dense=0, input_shape=(8, 8, 3))
    convolution, classifier = 8 * 8 * 4 * 3 * 3 * 3, 4 * 4 * 4 * 10
    assert forward_flops(model) == 2 * (convolution + classifier)
    assert training_flops(model, images=7) == 3 * 7 * forward_flops(model)
