"""What is read out of a network is what the network is, and does."""

import keras
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from cnnlab.measures import inspection
from cnnlab.training import build, predict


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(1)
    return build("cnn", filters=[4, 6, 8], dense=12, input_shape=(16, 16, 3), num_classes=4)


@pytest.fixture(scope="module")
def normed():
    return build("cnn", filters=[4, 6], batch_norm=True, dense=12, input_shape=(16, 16, 3), num_classes=4)


@pytest.fixture(scope="module")
def images(bars_dataset):
    return bars_dataset.split("test")[0]


def test_layer_table_agrees_with_the_model(cnn):
    table = inspection.layer_table(cnn).set_index("layer")
    assert table["parameters"].sum() == cnn.count_params()
    assert table.loc[["conv2", "features"], "formula"].tolist() == ["(3 × 3 × 4 + 1) × 6", "(128 + 1) × 12"]
    formulas = table["formula"].str.replace("×", "*").replace("", "0")
    assert formulas.map(eval).tolist() == table["parameters"].tolist()
    assert table.loc["conv2", "shape"] == (8, 8, 6)
    assert table.loc["conv2", "values"] == 8 * 8 * 6
    assert table.loc["conv2", "detail"] == "3×3, ReLU"
    assert table.loc["probabilities", "detail"] == "softmax"


def test_receptive_field_is_where_a_change_of_the_input_is_felt(cnn):
    """Independent of the formula: change one pixel after another and see which move the centre unit."""
    table = inspection.layer_table(cnn).set_index("layer")["receptive_field"]
    assert table["input"] == 1
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (16, 16, 3), dtype="uint8")
    columns = np.repeat(image[None], 16, axis=0)
    columns[np.arange(16), :, np.arange(16)] = generator.integers(0, 256, (16, 16, 3))
    for layer in ("conv1", "conv2"):
        submodel = keras.Model(cnn.inputs, cnn.get_layer(layer).output)
        maps = submodel.predict_on_batch(columns) - submodel.predict_on_batch(image[None])
        centre = maps.shape[2] // 2
        felt = np.flatnonzero(np.abs(maps[:, :, centre]).max(axis=(1, 2)))
        assert felt[-1] - felt[0] + 1 == table[layer]
    assert table["features"] == 16  # The whole image, and never more than that.
    assert table["conv3"] <= 16


def test_filters_are_scaled_one_by_one_about_zero(cnn):
    filters = inspection.first_layer_filters(cnn)
    weights = cnn.get_layer("conv1").get_weights()[0]
    assert filters.shape == (4, 3, 3, 3)
    for index, shown in enumerate(filters):
        assert np.allclose(np.abs(shown - 0.5).max(), 0.5)
        assert np.allclose((shown - 0.5) * 2 * np.abs(weights[..., index]).max(), weights[..., index], atol=1e-6)


def test_a_dead_filter_is_grey_and_a_dense_network_refused(cnn):
    twin = keras.models.clone_model(cnn)
    kernel, bias = twin.get_layer("conv1").get_weights()
    kernel[..., 2] = 0
    twin.get_layer("conv1").set_weights([kernel, bias])
    assert (inspection.first_layer_filters(twin)[2] == 0.5).all()
    with pytest.raises(ValueError, match="has no convolution; its layers are .*dense1"):
        inspection.first_layer_filters(build("dense", units=[8], input_shape=(8, 8, 3)))


def test_feature_maps_are_the_convolution_of_the_scaled_image(cnn, images):
    maps = inspection.feature_maps(cnn, images[0])
    assert {name: values.shape for name, values in maps.items()} == {
        "conv1": (16, 16, 4), "conv2": (8, 8, 6), "conv3": (4, 4, 8),
    }  # fmt: skip
    kernel, bias = cnn.get_layer("conv1").get_weights()
    patch = images[0, 4:7, 4:7].astype("float32") / 255
    expected = np.maximum(np.tensordot(patch, kernel, axes=3) + bias, 0)
    assert np.allclose(maps["conv1"][5, 5], expected, atol=1e-5)


@pytest.mark.parametrize("name", inspection.KERNELS)
def test_a_picture_is_filtered_as_a_convolution_of_keras_does(images, name):
    kernel = np.float32(inspection.KERNELS[name])
    layer = keras.layers.Conv2D(1, 3, use_bias=False)
    layer.build((None, 16, 16, 1))
    layer.set_weights([kernel[..., None, None]])
    expected = layer(images[:1].astype("float32").mean(axis=3, keepdims=True) / 255)
    np.testing.assert_allclose(inspection.filtered(images[0], kernel), expected[0, ..., 0], atol=1e-5)


def test_one_layer_asked_for_alone_is_the_one_among_all(cnn, images):
    alone = inspection.feature_maps(cnn, images[0], ["conv3"])["conv3"]
    np.testing.assert_allclose(alone, inspection.feature_maps(cnn, images[0])["conv3"], atol=1e-6)
    dense = build("dense", units=[7], input_shape=(16, 16, 3), num_classes=4)
    row = inspection.zero_activations(dense, images).iloc[0]
    hidden = keras.Model(dense.inputs, dense.get_layer(row["layer"]).output).predict_on_batch(images)
    assert row["zero_fraction"] == pytest.approx(np.mean(hidden == 0))
    assert row["never_active"] == pytest.approx(np.mean((hidden == 0).all(axis=0)))


def test_feature_maps_come_after_the_relu_where_there_is_normalisation(normed, images):
    maps = inspection.feature_maps(normed, images[0])
    assert list(maps) == ["relu1", "relu2"]
    assert all(values.min() == 0 for values in maps.values())


def test_feature_maps_come_after_any_activation(images):
    stack = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(4, 3, name="plain"),
        keras.layers.Activation("silu", name="s"),
    ]
    model = keras.Sequential([*stack, keras.layers.Conv2D(2, 3, activation="gelu", name="g"), keras.layers.Flatten()])
    assert list(inspection.feature_maps(model, images[0])) == ["s", "g"]
    assert inspection.relu_layers(model) == []


def test_most_active_orders_channels_by_their_mean():
    maps = np.zeros((2, 2, 4))
    maps[..., 2], maps[0, 0, 1] = 1, 2
    assert inspection.most_active(maps, 3).tolist() == [2, 1, 0]


def test_embeddings_are_what_the_classifier_sees(cnn, images):
    features = inspection.embeddings(cnn, images)
    assert features.shape == (len(images), 12)
    kernel, bias = cnn.get_layer("probabilities").get_weights()
    logits = features @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(expected, predict(cnn, images), atol=1e-5)


def test_layers_that_are_not_there_are_named(cnn, images):
    with pytest.raises(ValueError, match="model cnn has no layer conv9; its layers are .*conv1"):
        inspection.feature_maps(cnn, images[0], ["conv1", "conv9"])
    with pytest.raises(ValueError, match="the last layer's input has shape .*expected one number per unit"):
        inspection.embeddings(keras.Model(cnn.inputs, cnn.get_layer("conv1").output), images)


def test_tsne_keeps_clusters_and_repeats_itself():
    generator = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    features = generator.normal(size=(120, 60)) + 8 * np.eye(3, 60)[truth]
    points = inspection.tsne_map(features, seed=3, perplexity=15)
    assert points.shape == (120, 2)
    found = KMeans(3, n_init=5, random_state=0).fit_predict(points)
    assert adjusted_rand_score(truth, found) > 0.95
    assert np.array_equal(points, inspection.tsne_map(features, seed=3, perplexity=15))
    with pytest.raises(ValueError, match="120 rows; t-SNE with perplexity 120"):
        inspection.tsne_map(features, perplexity=120)


def test_zero_activations_are_counted_over_all_images(cnn, images, monkeypatch):
    monkeypatch.setattr(inspection, "_CHUNK", 10)  # Several chunks, the last of them smaller.
    table = inspection.zero_activations(cnn, images).set_index("layer")
    assert list(table.index) == ["conv1", "conv2", "conv3", "features"]
    activations = keras.Model(cnn.inputs, cnn.get_layer("conv2").output).predict_on_batch(images)
    assert np.isclose(table.loc["conv2", "zero_fraction"], np.mean(activations == 0))
    assert np.isclose(table.loc["conv2", "never_active"], np.mean((activations == 0).all(axis=(0, 1, 2))))


def test_a_filter_with_a_hopeless_bias_is_never_active(cnn, images):
    twin = keras.models.clone_model(cnn)
    kernel, bias = twin.get_layer("conv1").get_weights()
    twin.get_layer("conv1").set_weights([kernel, np.array([-1e6, 1e6, 1e6, 1e6])])
    row = inspection.zero_activations(twin, images).set_index("layer").loc["conv1"]
    assert row["never_active"] == row["zero_fraction"] == 0.25
