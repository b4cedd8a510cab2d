"""Where a network looked: the map of the exported graph against one computed in Keras, layer by layer."""

import json

import keras
import numpy as np
import packed
import pytest
import tensorflow as tf
from keras import layers

from cnnlab.training import build
from cnnlab.training.transfer import feature_extractor
from sagemaker_scripts import archive, package_model, savedmodel

SIDE, CLASSES = 24, 5


def images(count=3, side=SIDE):
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3)).astype("float32")


def network(model="cnn", **options):
    keras.utils.set_random_seed(1)
    return build(model, (SIDE, SIDE, 3), CLASSES, **options)


def nested():
    """A classifier around a network that is a layer of it, in whose way back there is an addition."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(6, 3, padding="same", strides=2, activation="relu")(x)
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x))
    backbone = keras.Model(inputs, layers.ReLU(name="last")(layers.Add()([x, y])), name="backbone")
    return keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), backbone, layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, "softmax")]
    )


def explained(model, pixels):
    """`savedmodel.explained` by `model`'s own layer, in a graph, as it is exported."""
    layer, _ = savedmodel.explained_layer(model)
    return tf.function(lambda images: savedmodel.explained(model, layer, images), autograph=False)(tf.constant(pixels))


def split(model):
    """(network up to the maps, network from them to the probabilities) of a flat `model`, cut behind a layer."""

    def at(name):
        index = [layer.name for layer in model.layers].index(name)
        tail = keras.Sequential(model.layers[index + 1 :])
        return keras.Model(model.inputs, model.layers[index].output), tail

    return at


def computed(head, tail, pixels):
    """Selvaraju's equations 1 and 2 for the probability of the likeliest class, in float64, scaled to 1."""
    features = tf.Variable(head(pixels, training=False))
    with tf.GradientTape() as tape:
        probabilities = tail(features, training=False)
        best = tf.reduce_max(probabilities, axis=-1)
    slopes = tape.gradient(best, features).numpy().astype("float64")
    maps = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * features.numpy()).sum(axis=-1), 0)
    return maps / maps.max(axis=(1, 2), keepdims=True)


FLAT = {
    "conv2": lambda: network(filters=[4, 6], dense=8),
    "relu2": lambda: network(filters=[4, 6], dense=0, batch_norm=True, head="gap"),
    "relu2_2": lambda: network("blocks", filters=[8, 8]),
    "gelu2_2": lambda: network("blocks", filters=[8, 8], activation="gelu", whitening=True),
    "silu2_2": lambda: network("blocks", filters=[8, 8], activation="silu"),
}


@pytest.mark.parametrize("name", FLAT)
def test_the_map_is_the_one_computed_in_keras(name):
    model = FLAT[name]()
    layer, size = savedmodel.explained_layer(model)
    assert (layer.name, size) == (name, tuple(model.get_layer(name).output.shape[1:3]))
    probabilities, maps = explained(model, images())
    np.testing.assert_allclose(probabilities, model(images(), training=False), atol=1e-6)
    expected = computed(*split(model)(name), images())
    assert expected.max(axis=(1, 2)) == pytest.approx(1)
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_a_network_within_the_network_is_looked_into():
    model = nested()
    layer, size = savedmodel.explained_layer(model)
    assert (layer.name, size) == ("last", (12, 12))
    _, maps = explained(model, images())
    expected = computed(model.layers[0], keras.Sequential(model.layers[1:]), images())
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_efficientnet_explains_at_its_last_maps():
    keras.utils.set_random_seed(3)
    extractor = feature_extractor((SIDE, SIDE, 3))
    outputs = layers.Dense(CLASSES, "softmax")(extractor.outputs[0])
    model = keras.Model(extractor.inputs[0], outputs)
    layer, size = savedmodel.explained_layer(model)
    backbone = extractor.get_layer("efficientnet_lite0")
    assert layer.name == "head_relu"
    assert size == backbone.output_shape[1:3]
    _, maps = explained(model, images())
    head = keras.Model(extractor.inputs[0], extractor.get_layer("features").input)
    tail = keras.Sequential([layers.GlobalAveragePooling2D(), model.layers[-1]])
    np.testing.assert_allclose(maps, computed(head, tail, images()), atol=1e-3)


def test_where_the_network_is_sure_the_map_is_still_there():
    model = network(filters=[4, 6], dense=8)
    kernel, bias = model.layers[-1].get_weights()
    pixels = images(8)
    second, first = np.sort(np.log(model(pixels)), axis=-1)[:, -2:].T
    # So far apart that float32 has no probability between the first and 1.
    kernel *= 60 / (first - second).max()
    model.layers[-1].set_weights([kernel, bias])
    probabilities, maps = explained(model, pixels)
    sure = tf.reduce_max(probabilities, axis=-1).numpy() == 1
    assert sure.sum() >= 2
    assert np.isfinite(maps).all()
    # By logits in float64, which do not round the others' probabilities away.
    head, tail = split(model)("conv2")
    tail = keras.Sequential([*tail.layers[:-1], layers.Dense(CLASSES)])
    tail.build(head.output_shape)
    tail.layers[-1].set_weights([kernel, bias])
    features = tf.Variable(head(pixels))
    with tf.GradientTape() as tape:
        values = tf.sort(tf.cast(tail(features), "float64"), direction="DESCENDING")
        score = values[:, 0] - tf.reduce_logsumexp(values[:, 1:], axis=-1)
    slopes = tape.gradient(score, features).numpy()
    expected = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * features.numpy()).sum(axis=-1), 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    np.testing.assert_allclose(maps[sure], expected[sure], atol=1e-3)
    assert maps.numpy()[sure].max(axis=(1, 2)).max() == 1


def test_the_layers_are_as_before_afterwards():
    model = nested()
    before = model(images(), training=False)
    explained(model, images())
    assert not [layer for layer in savedmodel.leaves(model) if "call" in vars(layer)]
    np.testing.assert_array_equal(model(images(), training=False), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: network("dense"),
        # One position has no where.
        lambda: keras.Sequential(
            [keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, SIDE), layers.Flatten(),
             layers.Dense(CLASSES, "softmax")]
        ),
    ],
)  # fmt: skip
def test_what_has_no_place_to_point_to_has_no_map(make, tmp_path):
    model = make()
    assert savedmodel.explained_layer(model) is None
    savedmodel.export(model, tmp_path / "1")
    assert not {"explain", "explain_image"} & set(tf.saved_model.load(str(tmp_path / "1")).signatures)


def test_a_last_convolution_of_one_position_leaves_the_one_before():
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, strides=2, name="before"),
         layers.Conv2D(8, 11), layers.Flatten(), layers.Dense(CLASSES, "softmax")]
    )  # fmt: skip
    layer, size = savedmodel.explained_layer(model)
    assert (layer.name, size) == ("before", (11, 11))


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


def test_the_packed_model_explains_numbers_and_pictures_alike(tiny):
    handlers = tiny.handlers
    model = handlers.model_fn(tiny.folder)
    assert handlers.card()["grad_cam"] == {"layer": "conv2", "size": [8, 8]}
    pixels = tiny.images[:4].astype("float32")
    probabilities, maps = handlers.explain_pixels(pixels, model)
    expected = computed(*split(tiny.model)("conv2"), pixels)
    np.testing.assert_allclose(probabilities, packed.straight(pixels), atol=1e-6)
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    files = tf.constant([packed.picture(image) for image in tiny.images[:4]])
    np.testing.assert_allclose(model.signatures["explain_image"](images=files)["grad_cam"], expected, atol=1e-4)


def test_the_map_is_part_of_the_answer_only_where_it_is_asked_for(tiny):
    handlers = tiny.handlers
    row, rows = [[0.1, 0.2, 0.3, 0.4]], [[[0.12345, 1.0], [0.0, 0.5]]]
    plain, explained = (json.loads(handlers.encode(row, handlers.card(), maps)) for maps in (None, rows))
    assert explained["predictions"][0].pop("grad_cam") == [[0.123, 1.0], [0.0, 0.5]]
    assert plain == explained


@pytest.mark.parametrize(
    ("text", "asked"),
    [("explain", True), ("explain=true", True), ("Explain=1", True), ("token=abc&explain", True),
     ("a=b, explain", True), ("tfs-model-name=cnn,explain=yes", True), ("explain=0", False),
     ("explain=false", False), ("explained", False), ("token=explain", False), ("", False), (None, False)],
)  # fmt: skip
def test_who_asks_why(tiny, text, asked):
    assert tiny.handlers.asks_why(text) is asked


def test_a_model_without_a_map_says_so(tmp_path):
    model = build("dense", (16, 16, 3), 4)
    model.save(tmp_path / "dense.keras")
    path = package_model.package(tmp_path / "dense.keras", tmp_path / "model.tar.gz", class_names=list("abcd"))
    with archive.unpacked(path) as folder:
        handlers = archive.load_handlers(folder)
        assert handlers.card()["grad_cam"] is None
        with pytest.raises(handlers.RequestError, match="no convolution") as caught:
            handlers.asks_why("explain")
    assert caught.value.status_code == 400
