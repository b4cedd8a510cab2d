"""A network written by hand: described by a Trial, trained like the lab's own, refused with a line."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers

from cnnlab.training import Trial, build_for, initial_network, load_model, save_model, train, trial_of

SETTINGS = {"epochs": 1, "batch_size": 32, "precision": "float32"}
TRIAL = Trial("tiny", options={"filters": [4, 8], "dense": 16, "dropout": 0.5}, **SETTINGS)


def by_hand(*more, classes=4, shape=(16, 16, 3), filters=(4, 8), size=3, dense=16):
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(filters[0], 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(filters[1], size, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            *more,
            layers.Flatten(),
            layers.Dense(dense, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def test_a_network_like_the_labs_gives_the_labs_numbers(bars_dataset):
    like = dataclasses.replace(trial_of(by_hand(), TRIAL), dataset=bars_dataset.key)
    own = train(trial_of(by_hand(), "by hand", **SETTINGS), bars_dataset)
    assert dataclasses.replace(like, label="by hand") == own.trial, "of a Trial, all but the network is taken"
    lab = train(TRIAL, bars_dataset)
    assert own.history == lab.history
    np.testing.assert_array_equal(own.probabilities["test"], lab.probabilities["test"])
    assert {name for name in lab.row if name not in own.row} == set()
    assert own.row["parameters"] == lab.row["parameters"]
    assert own.row["label"] == "by hand"


@pytest.mark.parametrize(
    ("edit", "label"),
    [
        (lambda: by_hand(), "tiny"),
        (lambda: by_hand(classes=3), "tiny"),
        (lambda: by_hand(filters=(4, 16)), "cnn_4_16"),
        (lambda: by_hand(size=5), "cnn_4_8_k3to5"),
        (lambda: by_hand(filters=(4, 4), size=(3, 5)), "cnn_4_4_edited"),
        (lambda: by_hand(dense=32), "cnn_4_8_edited"),
        (lambda: by_hand(layers.ReLU()), "cnn_4_8_edited"),
        (lambda: keras.Sequential(by_hand().layers), "tiny"),
        (lambda: keras.Sequential([layers.Flatten(), layers.Dense(8), layers.Dense(4)]), "dense_8_edited"),
    ],
)
def test_an_edited_network_is_not_called_by_the_name_of_what_it_was(edit, label):
    assert trial_of(edit(), TRIAL).label == label


def test_its_row_says_every_layer_and_gives_the_trial_back():
    trial = trial_of(by_hand(), "by hand", **SETTINGS)
    row = json.loads(json.dumps(trial.configuration()))
    assert dataclasses.replace(trial, **row) == trial
    assert [layer["class_name"] for layer in row["options"]["layers"]][:3] == ["Rescaling", "Conv2D", "MaxPooling2D"]
    assert trial.identity == trial_of(by_hand(), "again", **SETTINGS).identity, "names that Keras counts up decide it"
    assert trial.identity != trial_of(by_hand(layers.ReLU()), "by hand", **SETTINGS).identity


def test_a_normalisation_is_trained_fused_and_answers_with_renewed_statistics(bars_dataset, tmp_path):
    trial = trial_of(by_hand(layers.BatchNormalization()), "by hand", **SETTINGS)
    assert trial.is_normalised
    assert not trial_of(by_hand(), "by hand").is_normalised
    fused = build_for(trial, bars_dataset, fused=True)
    assert type(fused.get_layer("norm1")) is not layers.BatchNormalization
    result = train(trial, bars_dataset)
    norm = result.model.get_layer("norm1")
    assert type(norm) is layers.BatchNormalization
    images = bars_dataset.split("train")[0].astype("float32")
    seen = np.asarray(keras.Model(result.model.inputs[0], norm.input)(images))
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=0.1, atol=0.02)
    save_model(result.model, tmp_path / "own.keras", result.row)
    again = load_model(tmp_path / "own.keras")(images[:8])
    np.testing.assert_allclose(again, result.model(images[:8]), atol=1e-6)


def test_precision_is_the_trials_whatever_the_layers_were_made_in(bars_dataset):
    trial = trial_of(by_hand(), "by hand", precision="mixed_bfloat16")
    model = initial_network(trial, bars_dataset)
    assert model.get_layer("conv1").compute_dtype == "bfloat16"
    assert model.get_layer("probabilities").compute_dtype == "float32"


@keras.saving.register_keras_serializable("test")
class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def doubled(inputs):
    return 2 * inputs


def functional():
    pixels = keras.Input((16, 16, 3))
    return keras.Model(pixels, layers.Dense(4, activation="softmax")(layers.Flatten()(pixels)))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (functional, "is a Functional; expected a keras.Sequential"),
        (lambda: by_hand, "is a function; expected a keras.Sequential"),
        (lambda: by_hand(Doubled()), "is a Doubled; expected layers from keras.layers, without code"),
        (lambda: by_hand(layers.Lambda(lambda x: x)), "is a Lambda; expected layers from keras.layers"),
        (lambda: keras.Sequential([by_hand()]), "is a Sequential; expected layers from keras.layers"),
        (lambda: by_hand(layers.Activation(doubled)), "is a Activation; expected layers from keras.layers"),
        (lambda: by_hand(layers.Activation(lambda x: x)), "is a Activation; expected layers from keras.layers"),
        (lambda: keras.Sequential([]), "layers is"),
    ],
)
def test_what_cannot_be_written_down_is_refused_with_the_reason(make, reason):
    with pytest.raises(ValueError, match=reason) as said:
        trial_of(make(), "by hand")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: by_hand(classes=5), r"ends in \(5,\) with softmax; expected a probability for each of 4 classes"),
        (
            lambda: keras.Sequential(by_hand().layers[:-1]),
            r"ends in \(16,\) with no activation; expected a probability",
        ),
        (lambda: keras.Sequential(by_hand().layers[:4]), "ends in .* expected a probability for each of 4 classes"),
        (lambda: by_hand(shape=(28, 28, 3)), r"takes images of \(28, 28, 3\); the data set's are \(16, 16, 3\)"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_with_the_reason(make, reason, bars_dataset):
    with pytest.raises(ValueError, match=reason) as said:
        build_for(trial_of(make(), "by hand"), bars_dataset)
    assert "\n" not in str(said.value)


def test_what_was_written_for_no_size_fits_any(bars_dataset):
    trial = trial_of(keras.Sequential([layers.Flatten(), layers.Dense(4, activation="softmax")]), "by hand")
    assert build_for(trial, bars_dataset).input_shape == (None, 16, 16, 3)
