"""Where an answer comes from: maps against other computations of them, and tests that tell good maps from bad."""

import json

import keras
import numpy as np
import packed
import pytest
import tensorflow as tf
from keras import layers

from cnnlab.measures import attribution
from cnnlab.training import build, transfer
from cnnlab.training.transfer import feature_extractor
from sagemaker_scripts import package_model
from sagemaker_scripts.serving import archive, savedmodel

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
    """`attribution.explained` by `model`'s own layer, in a graph, as it is exported."""
    layer, _ = attribution.explained_layer(model)
    return tf.function(lambda images: attribution.explained(model, layer, images), autograph=False)(tf.constant(pixels))


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
    layer, size = attribution.explained_layer(model)
    assert (layer.name, size) == (name, tuple(model.get_layer(name).output.shape[1:3]))
    probabilities, maps = explained(model, images())
    np.testing.assert_allclose(probabilities, model(images(), training=False), atol=1e-6)
    expected = computed(*split(model)(name), images())
    assert expected.max(axis=(1, 2)) == pytest.approx(1)
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_a_network_within_the_network_is_looked_into():
    model = nested()
    layer, size = attribution.explained_layer(model)
    assert (layer.name, size) == ("last", (12, 12))
    _, maps = explained(model, images())
    expected = computed(model.layers[0], keras.Sequential(model.layers[1:]), images())
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_efficientnet_explains_at_its_last_maps():
    keras.utils.set_random_seed(3)
    extractor = feature_extractor((SIDE, SIDE, 3))
    outputs = layers.Dense(CLASSES, "softmax")(extractor.outputs[0])
    model = keras.Model(extractor.inputs[0], outputs)
    layer, size = attribution.explained_layer(model)
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
    assert not [layer for layer in attribution.leaves(model) if "call" in vars(layer)]
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
    assert attribution.explained_layer(model) is None
    savedmodel.export(model, tmp_path / "1")
    assert not {"explain", "explain_image"} & set(tf.saved_model.load(str(tmp_path / "1")).signatures)


def test_a_last_convolution_of_one_position_leaves_the_one_before():
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, strides=2, name="before"),
         layers.Conv2D(8, 11), layers.Flatten(), layers.Dense(CLASSES, "softmax")]
    )  # fmt: skip
    layer, size = attribution.explained_layer(model)
    assert (layer.name, size) == ("before", (11, 11))


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


def test_the_packed_model_explains_numbers_and_pictures_alike(tiny):
    handlers = tiny.handlers
    model = packed.loaded()
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


def test_of_an_image_and_its_mirror_image_the_map_is_of_the_image():
    """In the form that a linear probe of both has."""
    convolution = layers.Conv2D(1, 1, use_bias=False, activation="relu")
    seen = keras.Sequential([keras.Input((8, 8, 3)), convolution, layers.GlobalAveragePooling2D()])
    features = transfer._joined([seen], (8, 8, 3), mirrored=True)
    model = keras.Model(features.inputs, layers.Dense(2, "softmax")(features.outputs[0]))
    convolution.set_weights([np.ones((1, 1, 3, 1))])
    model.layers[-1].set_weights([np.array([[-0.01, 0.01]]), np.zeros(2)])
    images = np.zeros((2, 8, 8, 3), "float32")
    images[0, 1, 0] = images[1, 5, 2] = 255
    maps = attribution.grad_cam(model, images)
    assert [np.argwhere(found == 1).tolist() for found in maps] == [[[1, 0]], [[5, 2]]]


def corner(weight=4.0):
    """Answers 1 the more surely, the brighter the lower right quarter of an 8x8 image is, and looks nowhere else."""
    pixels = keras.Input((8, 8, 3))
    lower = layers.Cropping2D(((4, 0), (4, 0)))(layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(lower)))
    model.layers[-1].set_weights([np.array([[-weight, weight]] * 3), np.zeros(2)])
    return model


@pytest.fixture(scope="module")
def corner_network():
    return corner()


def lit(count=6):
    """Images (n, 8, 8, 3), uint8: noise, and a lower right quarter that is bright."""
    found = np.random.default_rng(3).integers(0, 90, (count, 8, 8, 3), dtype="uint8")
    found[:, 4:, 4:] += 150
    return found


def test_covering_what_the_answer_rests_on_costs_its_share_of_the_logits(corner_network, monkeypatch):
    monkeypatch.setattr(attribution, "CELLS", 2)
    image = np.zeros((1, 8, 8, 3), "uint8")
    image[:, 4:, 4:] = 240
    (found,) = attribution.occlusion(corner_network, image)
    # The corner gets the mean of the image, 60; the logits are 12 times its brightness and -12 times it.
    np.testing.assert_allclose(found, [[0, 0], [0, 24 * (240 - 60) / 255]], atol=1e-4)
    assert image[:, 4:, 4:].min() == 240, "the image itself stays as it is"


def test_integrated_gradients_of_a_linear_score_are_weight_times_change(corner_network):
    image = lit(1)
    (found,) = attribution.integrated_gradients(corner_network, image)
    weight = np.zeros((8, 8, 1))
    weight[4:, 4:] = 8 / 255 / 16
    expected = (weight * (image[0] - image[0].mean(axis=(0, 1)))).sum(axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "make"), [("dense", lambda: network("dense")), *FLAT.items(), ("nested", nested)])
def test_integrated_gradients_add_up_to_the_difference_of_scores(name, make):
    model, pixels = make(), images()
    found = attribution.integrated_gradients(model, pixels, classes := np.array([0, 1, 4]))
    means = np.broadcast_to(pixels.mean(axis=(1, 2), keepdims=True), pixels.shape)
    of_image, of_mean = (
        np.log(p / (1 - p)) for p in (model.predict_on_batch(x)[np.arange(3), classes] for x in (pixels, means))
    )
    np.testing.assert_allclose(
        found.sum(axis=(1, 2)), of_image - of_mean, atol=0.0101 * max(1, np.abs(of_image - of_mean).max())
    )


def test_too_few_steps_are_told(monkeypatch):
    model = network(filters=[4, 6], dense=8)
    for layer in model.layers[2:]:
        layer.set_weights([3 * each for each in layer.get_weights()])
    monkeypatch.setattr(attribution, "STEPS", (1,))
    with pytest.warns(UserWarning, match="integrated gradients of 1 steps miss their sum by"):
        attribution.integrated_gradients(model, images(2))


def test_cells_cover_images_of_any_size():
    for shape in ((1, 32, 32, 3), (1, 30, 45, 3), (1, 5, 9, 3)):
        cells, (rows, columns) = attribution.cell_numbers(np.zeros(shape))
        assert cells.shape == shape[1:3] and (rows, columns) == (min(8, shape[1]), min(8, shape[2]))
        sizes = np.bincount(cells.ravel(), minlength=rows * columns)
        assert sizes.min() > 0 and sizes.max() <= 2.5 * sizes.min()


def test_without_a_convolution_there_is_no_grad_cam():
    model = network("dense")
    assert attribution.maps_of(model) == ["integrated gradients", "occlusion"]
    with pytest.raises(ValueError, match="has no convolution with positions"):
        attribution.grad_cam(model, images())


def test_deletion_begins_with_the_image_and_ends_with_its_mean_colour(corner_network):
    order = np.tile(np.arange(64)[::-1], (6, 1))
    curves = attribution.deletion_curve(corner_network, lit(), order)
    assert curves.shape == (6, 1 + attribution.LOOKS)
    plain = np.broadcast_to(lit().mean(axis=(1, 2), keepdims=True), lit().shape)
    np.testing.assert_allclose(curves[:, 0], corner_network.predict_on_batch(lit())[:, 1], atol=1e-6)
    np.testing.assert_allclose(curves[:, -1], corner_network.predict_on_batch(plain)[:, 1], atol=1e-6)


def test_maps_that_know_what_matters_beat_chance_and_a_map_of_nothing_does_not(monkeypatch):
    unsure = corner(0.6)
    noise = np.random.default_rng(0).random((6, 8, 8)).astype("float32")
    monkeypatch.setitem(attribution.MAPS, "noise", lambda *_: noise)
    names = ["integrated gradients", "occlusion", "noise"]
    table = attribution.trust_in_maps(unsure, lit(), names=names).set_index("map")
    assert (table["images"] == 6).all()
    assert table.loc["noise", "flat"] == 0
    assert (table.loc[names[:2], "low"] > 0.03).all()
    assert table.loc["noise", "low"] < 0
    np.testing.assert_allclose(table["gain"], table["random"] - table["deletion"], atol=1e-6)
    assert table.loc["noise", "randomised"] == pytest.approx(1), (
        "a map that does not look at the weights stays as it is"
    )
    grouped = attribution.trust_in_maps(unsure, lit(), groups=[0, 0, 0, 1, 1, 1], names=["occlusion"])
    assert grouped["gain"].item() == pytest.approx(table.loc["occlusion", "gain"])
    assert grouped["high"].item() != table.loc["occlusion", "high"]


def test_maps_change_when_weights_change_places():
    model = network(filters=[4, 6], dense=8)
    twin = attribution.shuffled_weights(model, np.random.default_rng(0))
    for before, after in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert sorted(before.ravel()) == sorted(after.ravel())
    assert not np.array_equal(model.get_weights()[0], twin.get_weights()[0])
    table = attribution.trust_in_maps(model, images(12)).set_index("map")
    assert list(table.index) == list(attribution.MAPS)
    assert table["randomised"].abs().max() < 0.6


def test_a_map_that_is_the_same_everywhere_is_counted_and_correlates_with_nothing(monkeypatch):
    ramp = np.linspace(0, 1, 64, dtype="float32").reshape(8, 8)
    unsure, flat = corner(0.6), np.arange(6) < 2
    monkeypatch.setitem(
        attribution.MAPS,
        "half",
        lambda model, *_: np.where((model is not unsure) & flat[:, None, None], np.float32(1), ramp),
    )
    (row,) = attribution.trust_in_maps(unsure, lit(), names=["half"]).itertuples()
    assert (row.flat, row.randomised) == (2, pytest.approx(4 / 6))
