"""Networks: what is built and refused, own layers, the weights they begin with, and what they cost, by hand."""

import json

import keras
import numpy as np
import pytest
import synthetic

from cnnlab import training
from cnnlab.training import (
    Trial,
    build,
    build_for,
    expected_parameters,
    forward_flops,
    set_initial_weights,
    training_flops,
)
from cnnlab.training.initial_weights import dirac, whitening_filters
from cnnlab.training.models import batch_normalization

BLOCKS = Trial(
    "blocks", model="blocks", options={"filters": [4, 8], "whitening": True, "dirac": True}, keep="last",
    precision="float32",
)  # fmt: skip
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


@pytest.fixture(scope="module")
def images():
    return synthetic.bars(200)[0]


@pytest.mark.parametrize("model", [build("dense", units=[4]), build("cnn", filters=[2, 3], dense=4)])
def test_raw_pixels_go_in_and_probabilities_come_out(model):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), "uint8")
    probabilities = model.predict_on_batch(images)
    assert isinstance(model.layers[0], keras.layers.Rescaling)
    assert probabilities.shape == (5, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(images.astype("float32")), probabilities, atol=1e-6)


def test_kernel_size_and_dropout_may_differ_by_layer():
    cnn = build("cnn", filters=[2, 3], kernel_size=[3, 5], dense=4)
    assert [cnn.get_layer(f"conv{i}").kernel_size for i in (1, 2)] == [(3, 3), (5, 5)]
    dense = build("dense", units=[4, 4, 4], dropout=[0.3, 0, 0.1])
    assert [layer.rate for layer in dense.layers if isinstance(layer, keras.layers.Dropout)] == [0.3, 0.1]


def test_batch_normalisation_stands_between_convolution_and_relu():
    names = [layer.name for layer in build("cnn", filters=[2, 3], batch_norm=True, dense=4).layers]
    assert names.index("conv1") + 1 == names.index("norm1") == names.index("relu1") - 1


def test_a_trial_is_built_for_the_images_and_classes_of_its_data(bars_dataset):
    model = build_for(BLOCKS, bars_dataset)
    assert model.input_shape == (None, 16, 16, 3)
    assert model.output_shape == (None, 4)
    fused = build_for(BLOCKS, bars_dataset, fused=True)
    assert [w.shape for w in fused.weights] == [w.shape for w in model.weights]


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("cnn", {"filters": [8] * 6}, "6 poolings halve 32 pixels to nothing; a 32x32 image allows 5"),
        ("cnn", {"filters": [8] * 4, "padding": "valid"}, "without padding 4 convolutions and 4 poolings leave"),
        ("cnn", {"padding": "full"}, "padding is 'full'; expected 'same' or 'valid'"),
        ("cnn", {"filters": [8], "pools": 2}, "pools is 2; expected at most 1"),
        ("cnn", {"filters": [8], "kernel_size": 4}, "kernel_size is 4; expected an odd number.*use 3 or 5"),
        ("cnn", {"filters": [8], "kernel_size": 0}, "kernel_size is 0; expected greater than or equal to 1"),
        ("cnn", {"filters": [8, 8], "kernel_size": [3, 3, 3]}, "kernel_size has 3 values for 2 layers"),
        ("cnn", {"filters": []}, r"filters is \[\]"),
        ("cnn", {"filters": [8, 0]}, "filters.1 is 0; expected greater than or equal to 1"),
        ("cnn", {"head": "max"}, "head is 'max'; expected 'flatten' or 'gap'"),
        ("cnn", {"dense": -1}, "dense is -1; expected greater than or equal to 0"),
        ("cnn", {"dropout": 1.0}, "dropout is 1.0; expected less than 1"),
        ("cnn", {"num_classes": 1}, "num_classes is 1"),
        ("cnn", {"input_shape": (32, 32)}, "input_shape is"),
        ("dense", {"units": [8, 8], "dropout": [0.1]}, "dropout has 1 values for 2 layers"),
        ("blocks", {"filters": [4] * 4, "input_shape": (16, 16, 3)},
         "4 blocks halve 15 pixels to nothing; images of 16x16 allow 3"),
        ("blocks", {"activation": "tanh"}, "activation is 'tanh'; expected 'relu', 'silu' or 'gelu'"),
        ("rnn", {}, "no model is called 'rnn'; expected one of dense, cnn, blocks"),
    ],
)  # fmt: skip
def test_impossible_networks_are_refused_with_a_reason(model, options, reason):
    with pytest.raises(ValueError, match=reason):
        build(model, **options)


def test_whitened_patches_are_uncorrelated_and_of_variance_one(images):
    kernel, bias = whitening_filters(images, 2, epsilon=0.0)
    layer = keras.layers.Conv2D(kernel.shape[-1], 2)
    layer.build((None, *images.shape[1:]))
    layer.set_weights([kernel, bias])
    outputs = keras.ops.convert_to_numpy(layer(images / np.float32(255))).reshape(-1, kernel.shape[-1])
    half = kernel.shape[-1] // 2
    np.testing.assert_allclose(np.cov(outputs[:, :half], rowvar=False), np.eye(half), atol=2e-2)
    np.testing.assert_allclose(outputs[:, :half].mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(outputs[:, half:], -outputs[:, :half], atol=1e-4)


def test_the_covariance_of_patches_is_numpys(images):
    kernel, bias = whitening_filters(images, 2)
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
    patches = np.moveaxis(windows, 3, -1).reshape(-1, 12) / 255
    variances = np.linalg.eigvalsh(np.cov(patches, rowvar=False))[::-1]
    norms = np.linalg.norm(kernel.reshape(12, -1), axis=0)[:12]
    np.testing.assert_allclose(norms, 1 / np.sqrt(variances + 3e-5), rtol=1e-3)
    np.testing.assert_allclose(bias, -patches.mean(axis=0) @ kernel.reshape(12, -1), rtol=1e-3, atol=1e-3)


def test_the_first_whitening_filter_sees_what_varies_most(images):
    kernel, _ = whitening_filters(images, 2)
    norms = np.linalg.norm(kernel.reshape(12, -1), axis=0)[:12]
    assert (np.diff(norms) > 0).all(), "a component that varies more is divided by more"


def test_dirac_filters_pass_on_their_input_and_leave_the_others(images):
    drawn = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype("float32")
    kernel = dirac(drawn)
    layer = keras.layers.Conv2D(5, 3, padding="same", use_bias=False)
    layer.build((None, *images.shape[1:]))
    layer.set_weights([kernel])
    outputs = keras.ops.convert_to_numpy(layer(images[:4].astype("float32")))
    np.testing.assert_allclose(outputs[..., :3], images[:4], rtol=1e-6)
    np.testing.assert_array_equal(kernel[..., 3:], drawn[..., 3:])


def test_the_network_begins_as_the_trial_says(images):
    model = build("blocks", images.shape[1:], 4, **BLOCKS.options)
    set_initial_weights(model, BLOCKS.network, images)
    kernel, bias = whitening_filters(images, 2)
    whitening = model.get_layer("whitening")
    np.testing.assert_array_equal(whitening.get_weights()[0], kernel)
    np.testing.assert_array_equal(whitening.get_weights()[1], bias)
    assert not whitening.trainable_variables
    for name in ("conv1_1", "conv2_1", "conv2_2"):
        weights = model.get_layer(name).get_weights()[0]
        np.testing.assert_array_equal(dirac(weights), weights)
    answers = model.predict_on_batch(images[:3])
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused operation is TensorFlow's")
def test_fused_normalization_is_keras_own(images):
    import tensorflow as tf

    inputs = tf.constant(images[:32, :5, :5].astype("float32"))
    options = {"momentum": 0.6, "epsilon": 1e-5, "scale": False}
    found = []
    for fused in (False, True):
        layer = batch_normalization(fused, **options)
        layer.build(inputs.shape)
        layer.beta.assign([0.1, -0.2, 0.3])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.sin(outputs))
        gradients = tape.gradient(loss, [inputs, layer.beta.value])
        found.append([outputs, *gradients, layer.moving_mean, layer(inputs, training=False)])
        variance = layer.moving_variance.numpy()
    for own, fused in zip(*found, strict=True):
        np.testing.assert_allclose(own, fused, rtol=2e-3, atol=2e-4)
    unbiased = inputs.numpy().reshape(-1, 3).var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, 0.6 + 0.4 * unbiased, rtol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused operation is TensorFlow's")
def test_fused_normalization_is_that_in_bfloat16_and_compiled_too(images):
    import tensorflow as tf

    inputs = tf.constant(images[:32, :5, :5].astype("float32"))
    options = {"momentum": 0.6, "epsilon": 1e-5, "scale": False}

    def trained(fused, policy):
        layer = batch_normalization(fused, dtype=policy, **options)
        layer.build(inputs.shape)

        @tf.function(jit_compile=False)
        def step(pixels):
            with tf.GradientTape() as tape:
                outputs = layer(tf.cast(pixels, layer.compute_dtype), training=True)
                loss = tf.reduce_sum(tf.sin(tf.cast(outputs, "float32") + 0.3))
            return tf.cast(outputs, "float32"), tape.gradient(loss, layer.beta.value)

        return [*step(inputs), layer.moving_mean, layer.moving_variance]

    for own, fused in zip(trained(False, "float32"), trained(True, "mixed_bfloat16"), strict=True):
        np.testing.assert_allclose(own, fused, rtol=2e-2, atol=2e-2)


def test_dtype_policy_is_restored():
    before = keras.config.dtype_policy().name
    with training.dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == before


@pytest.fixture(scope="module")
def tiny():
    return build(filters=[4, 6], dense=8, batch_norm=True, input_shape=(16, 16, 3), num_classes=4)


def test_a_kept_model_is_whole_and_answers_alike_and_no_model_is_named(tiny, tmp_path):
    pictures = synthetic.bars(3)[0].astype("float32")
    path = training.model_path(tmp_path / "models", "0123")
    training.save_model(tiny, path)
    assert [each.name for each in path.parent.iterdir()] == ["0123.keras"]
    np.testing.assert_array_equal(training.load_model(path)(pictures), tiny(pictures))
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is not a model that Keras can load; delete it"):
        training.load_model(path)


def test_the_row_lies_beside_the_model(tiny, tmp_path):
    path = tmp_path / "new" / "folder" / "mine.keras"
    training.save_with_row(tiny, {"label": "mine", "seed": 3}, path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["mine.json", "mine.keras"]
    assert json.loads(path.with_suffix(".json").read_text()) == {"label": "mine", "seed": 3}


def test_the_row_travels_within_the_model_which_keras_reads_as_ever(tiny, tmp_path):
    row = {"label": "mine", "class_names": ["Käse", "b", "c", "d"], "val_accuracy_last": None}
    training.save_model(tiny, tmp_path / "mine.keras", row)
    assert training.row_within(tmp_path / "mine.keras") == row
    pictures = synthetic.bars(3)[0].astype("float32")
    np.testing.assert_array_equal(training.load_model(tmp_path / "mine.keras")(pictures), tiny(pictures))
    tiny.save(tmp_path / "bare.keras")
    (tmp_path / "none.keras").write_bytes(b"no archive")
    assert [training.row_within(tmp_path / f"{name}.keras") for name in ("bare", "none", "absent")] == [{}] * 3


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
