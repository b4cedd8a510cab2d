"""The probes measure what they say, on tiny networks, and their records are whole and resumable."""

import dataclasses
import importlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import synthetic
import tiny_study
from scipy import ndimage
from tiny_study import FULL

from cnnlab import data
from cnnlab.measures import biases, probes, receptive_fields
from cnnlab.measures import calibration as confidence
from cnnlab.studies import Store
from cnnlab.studies.store import identity_of
from cnnlab.training import Trial, build, model_path, predict, trial_key
from cnnlab.training.batches import permute_pixels

SHAPE = {"input_shape": (16, 16, 3), "num_classes": 4}
IMAGES, LABELS = synthetic.bars(60)
RECORD = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(0)
    return build("cnn", filters=[4, 8], dense=16, **SHAPE)


@pytest.fixture(scope="module")
def dense():
    keras.utils.set_random_seed(0)
    return build("dense", units=[8], **SHAPE)


@pytest.mark.parametrize(("down", "right"), [(0, 3), (0, -3), (2, 0), (-2, 0), (1, -4)])
def test_shift_agrees_with_scipy(down, right):
    expected = ndimage.shift(IMAGES[:5], (0, down, right, 0), order=0, mode="mirror")
    assert np.array_equal(biases.shift_images(IMAGES[:5], down, right), expected)


def test_the_control_loses_the_same_strip_and_moves_nothing():
    held = biases.shift_and_back(IMAGES, 0, 5)
    moved = biases.shift_images(IMAGES, 0, 5)
    assert np.array_equal(held[:, :, :11], IMAGES[:, :, :11])
    assert np.array_equal(moved[:, :, 5:], held[:, :, :11])
    assert not np.array_equal(held[:, :, 11:], IMAGES[:, :, 11:])


def test_a_shift_by_the_whole_image_is_refused():
    with pytest.raises(ValueError, match=r"shift is \(0, 16\) pixels; expected less than the image's 16 x 16"):
        biases.shift_images(IMAGES, 0, 16)


def test_shift_accuracy_at_zero_is_the_accuracy(cnn):
    rows = biases.shift_accuracy(cnn, IMAGES, LABELS, shifts=(0, 3))
    still = rows[rows["shift"] == 0]
    assert len(rows) == 2 * 4 * 2
    assert set(still["accuracy"]) == {np.mean(predict(cnn, IMAGES).argmax(axis=1) == LABELS)}
    assert (still["same_answer"] == 1).all()


def test_shift_accuracy_sees_position():
    # A "network" that answers by the brightness of one corner: position is all that it knows.
    pixels = keras.Input(SHAPE["input_shape"])
    corner = keras.layers.Flatten()(pixels[:, :4, :4] / 255.0)
    answer = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(pixels, answer(corner))
    weights = np.stack([np.full(48, -1.0), np.full(48, 1.0)], axis=1)
    answer.set_weights([weights, np.array([24.0, -24.0])])
    images = np.zeros((20, 16, 16, 3), "uint8")
    labels = np.arange(20) % 2
    images[labels == 1, :4, :4] = 255
    accuracy = biases.shift_accuracy(model, images, labels, shifts=(0, 6))
    assert (accuracy.loc[accuracy["shift"] == 0, "accuracy"] == 1).all()
    accuracy = accuracy.set_index(["shift", "direction", "treatment"]).sort_index()
    # Moved away from the corner, class 1 is lost; with the far border mirrored in place, nothing is.
    assert accuracy.loc[(6, "right", "held"), "accuracy"] == 1
    assert accuracy.loc[(6, "up", "shifted"), "accuracy"] == 0.5


def test_a_convolution_moves_with_the_image_and_pooling_by_its_stride(cnn):
    rows = biases.equivariance(cnn, IMAGES[:8], shifts=range(5)).set_index(["layer", "shift"])
    error = rows["relative_error"]
    assert error["conv1"].max() < 1e-5
    assert rows.loc["conv1", "correlation"].min() > 0.99999
    assert error["pool1"][[0, 2, 4]].max() < 1e-5
    assert error["pool1"][[1, 3]].min() > 0.01
    assert error["features"][[1, 2, 3, 4]].min() > 0.01


def test_a_dense_layer_does_not_move_with_the_image():
    """The same comparison, written out by hand, for a convolution and a dense layer of the same output."""
    keras.utils.set_random_seed(0)
    convolution = keras.Sequential([keras.Input(SHAPE["input_shape"]), keras.layers.Conv2D(2, 3, padding="same")])
    dense = keras.Sequential(
        [keras.Input(SHAPE["input_shape"]), keras.layers.Flatten(), keras.layers.Dense(512),
         keras.layers.Reshape((16, 16, 2))]
    )  # fmt: skip
    errors = []
    for model in (convolution, dense):
        before, after = (predict(model, images) for images in (IMAGES[:8], biases.shift_images(IMAGES[:8], 0, 3)))
        expected, found = before[:, 1:-1, 1:-4], after[:, 1:-1, 4:-1]
        errors.append(np.abs(found - expected).mean() / np.abs(expected).mean())
    assert errors[0] < 1e-5
    assert errors[1] > 0.5


def test_theoretical_fields_are_what_a_unit_depends_on():
    """Against brute force: light one pixel at a time, all weights positive, and see which units notice."""
    model = build("cnn", filters=[2, 2, 2], kernel_size=[3, 5, 3], dense=0, **SHAPE)
    model.set_weights([np.ones_like(weights) for weights in model.get_weights()])
    names = list(fields := receptive_fields.theoretical_fields(model))
    maps = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    lit = np.zeros((16 * 16, 16, 16, 3), "float32")
    lit.reshape(256, 256, 3)[np.arange(256), np.arange(256)] = 255
    for name, bright, dark in zip(names, maps.predict_on_batch(lit), maps.predict_on_batch(lit[:1] * 0), strict=True):
        for position in range(dark.shape[1]):
            notices = np.abs(bright - dark)[:, position, position].max(axis=1).reshape(16, 16) > 0
            first, last = np.clip(fields[name].span(position), 0, 16)
            expected = np.zeros((16, 16), bool)
            expected[first:last, first:last] = True
            assert np.array_equal(notices, expected), (name, position)


def test_theoretical_fields_of_strides_and_no_padding():
    model = keras.Sequential([
        keras.Input((17, 17, 1)), keras.layers.Conv2D(2, 3, strides=2, padding="same", name="a"),
        keras.layers.Conv2D(2, 3, name="b"),
    ])  # fmt: skip
    fields = receptive_fields.theoretical_fields(model)
    assert fields["a"] == receptive_fields.Field(3, 2, -1)
    assert fields["b"] == receptive_fields.Field(7, 2, -1)


def test_the_effective_field_is_zero_outside_the_theoretical_one(cnn):
    field = receptive_fields.theoretical_fields(cnn)["conv2"]
    sensitivity = receptive_fields.sensitivity_map(cnn, "conv2", IMAGES[:10])
    first, last = field.span(4)
    inside = sensitivity[first:last, first:last]
    assert sensitivity.sum() == pytest.approx(inside.sum())
    assert np.count_nonzero(sensitivity) == np.count_nonzero(inside) > 9
    rows = receptive_fields.effective_field(cnn, IMAGES[:10])
    assert list(rows.groupby("layer")["theoretical"].first()) == [3, 8]
    assert rows.groupby("layer")["sensitivity"].max().tolist() == [1, 1]
    second = rows[rows["layer"] == "conv2"]
    assert np.allclose(second["sensitivity"], inside.ravel() / inside.max())


def test_the_gradient_of_an_active_convolution_is_its_kernel():
    model = build("cnn", filters=[4], pools=0, dense=0, **SHAPE)
    layer = model.get_layer("conv1")
    kernel = layer.get_weights()[0]
    layer.set_weights([kernel, np.full(4, 100.0)])  # No unit is cut off by its ReLU.
    sensitivity = receptive_fields.sensitivity_map(model, "conv1", IMAGES[:4])
    assert np.allclose(sensitivity[7:10, 7:10], np.abs(kernel.sum(axis=3)).sum(axis=2) / 255, atol=1e-6)


def test_diameters_of_a_plateau_and_of_a_peak():
    flat, peak = np.ones(100), np.full(100, 0.01)
    peak[0] = 1
    rows = pd.concat(
        pd.DataFrame({"layer": name, "theoretical": 10, "sensitivity": values})
        for name, values in (("flat", flat), ("peak", peak))
    )
    widths = receptive_fields.effective_diameters(rows).set_index("layer")
    assert widths["effective"].to_dict() == pytest.approx({"flat": 50**0.5, "peak": 1})


def test_a_dense_network_does_not_notice_permuted_pixels(dense):
    """With the rows of its first weights permuted alike, its answers are the same."""
    order = np.random.default_rng(7).permutation(256)
    twin = keras.models.clone_model(dense)
    first, *others = dense.get_weights()
    twin.set_weights([first.reshape(256, 3, -1)[order].reshape(first.shape), *others])
    assert np.allclose(predict(twin, permute_pixels(IMAGES, 7)), predict(dense, IMAGES), atol=1e-6)
    assert not np.allclose(predict(dense, permute_pixels(IMAGES, 7)), predict(dense, IMAGES), atol=1e-2)


def test_temperature_mends_a_network_that_is_too_sure(dense):
    sure = keras.models.clone_model(dense)
    sure.set_weights([*dense.get_weights()[:-2], 50 * dense.get_weights()[-2], dense.get_weights()[-1]])
    rows = confidence.reliability(sure, (IMAGES, LABELS), (IMAGES, LABELS))
    before, after = (rows[rows["stage"] == stage] for stage in ("before", "after"))
    assert before["count"].sum() == after["count"].sum() == len(IMAGES)
    assert after["temperature"].iloc[0] > 1 == before["temperature"].iloc[0]
    assert after["ece"].iloc[0] < before["ece"].iloc[0]
    assert after["loss"].iloc[0] < before["loss"].iloc[0]
    assert after["overall_accuracy"].iloc[0] == before["overall_accuracy"].iloc[0]


def test_tabular_answers_for_every_model_and_order_and_again_alike():
    generator = np.random.default_rng(0)
    values, labels = generator.normal(size=(80, 8)), np.arange(80) % 2
    values[:, 5] += 6 * labels
    rows, again = (biases.tabular_answers(3, (values, labels), splits=1, epochs=25) for _ in range(2))
    pd.testing.assert_frame_equal(rows, again)
    assert rows.groupby(["label", "order"]).size().tolist() == [1] * 6
    assert rows[["train_rows", "test_rows"]].drop_duplicates().to_numpy().tolist() == [[60, 20]]
    assert rows["accuracy"].min() > 0.6  # One column decides: chance is a half.


def test_the_two_networks_of_the_tabular_probe_are_of_comparable_size():
    sizes = [build(30, 2).count_params() for build in biases.NETWORKS.values()]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where the tests that do not ask about training keep their models and rows."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def train_once():
    """What `bench` trains with: a seed is measured like another."""
    return tiny_study.trained_once()


@pytest.fixture
def bench(tmp_path, trained, train_once, monkeypatch):
    """A probe of two tiny trials, as (run, asked, results folder, trials); `asked` lists whom it measured."""
    monkeypatch.setattr(importlib.import_module("cnnlab.studies.run"), "train", train_once)
    monkeypatch.setitem(data.LOADERS, "bars", lambda seed: synthetic.dataset(64, 32, 32, seed=seed))
    common = {"dataset": "bars", "epochs": 1, "batch_size": 32, "precision": "float32"}
    trials = (
        Trial("dense_4", model="dense", options={"units": [4]}, **common),
        Trial("cnn_2", options={"filters": [2], "dense": 4}, **common),
    )
    asked = []

    def shift(model, dataset, limit):
        asked.append(model.name)
        return biases.shift_accuracy(model, *dataset.split("test", limit), shifts=(0,))

    probe = dataclasses.replace(probes.PROBES["shift"], measure=shift, trials=trials)
    monkeypatch.setitem(probes.PROBES, "shift", probe)
    folders = {"models_folder": trained / "models", "results_folder": tmp_path}
    store = Store(trained / "trials")
    return (
        lambda seeds: probes.run_probe("shift", seeds, store, **folders, progress=False),
        asked,
        tmp_path,
        trials,
    )


def test_run_probe_trains_records_and_goes_on(bench, trained):
    run, asked, folder, trials = bench
    first = run(1)
    assert first["label"].unique().tolist() == ["dense_4", "cnn_2"]
    assert first["key"].unique().tolist() == [trial_key(trial) for trial in trials]
    assert {path.stem for path in (trained / "models").iterdir()} >= set(first["key"])
    assert all(trial in Store(trained / "trials") for trial in trials)
    both = run(2)
    assert asked == ["dense", "cnn"] * 2  # Seed 0 was not measured twice.
    pd.testing.assert_frame_equal(both[both["seed"] == 0].reset_index(drop=True), first)
    pd.testing.assert_frame_equal(run(1), first)
    pd.testing.assert_frame_equal(probes.read_probe("shift", folder), both)


def test_seeds_are_counted_from_the_first_of_each_trial(bench, monkeypatch):
    run, asked, _, trials = bench
    pair = (trials[0], dataclasses.replace(trials[1], seed=22))
    monkeypatch.setitem(probes.PROBES, "shift", dataclasses.replace(probes.PROBES["shift"], trials=pair))
    one, both = run(1), run(2)
    assert both[["label", "seed"]].drop_duplicates().to_numpy().tolist() == [
        ["dense_4", 0], ["cnn_2", 22], ["dense_4", 1], ["cnn_2", 23],
    ]  # fmt: skip
    assert len(asked) == 4
    pd.testing.assert_frame_equal(run(1), one)


def test_images_of_ones_own_are_scored_by_every_network_and_not_recorded(bench, tmp_path, trained, monkeypatch):
    *_, trials = bench
    monkeypatch.setitem(probes.PROBES, "corruptions", dataclasses.replace(probes.PROBES["corruptions"], trials=trials))
    sets = [("bars", 0, IMAGES, LABELS), ("fog", 3, IMAGES[:20], LABELS[:20])]
    monkeypatch.setattr(data, "load_variants", lambda path, limit: sets)
    folders = {"store": Store(trained / "trials"), "models_folder": trained / "models"}
    before = sorted(tmp_path.rglob("*"))
    rows = probes.measure_images("somewhere", **folders, progress=False)
    assert rows[["label", "seed", "kind", "strength", "images"]].to_numpy().tolist() == [
        [label, 0, kind, strength, count]
        for label in ("dense_4", "cnn_2")
        for kind, strength, count in (("bars", 0, 60), ("fog", 3, 20))
    ]
    model = keras.models.load_model(model_path(trained / "models", trial_key(trials[1])))
    assert rows["accuracy"].iloc[2] == np.mean(predict(model, IMAGES).argmax(axis=1) == LABELS)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_killed_probe_leaves_whole_rows_and_goes_on(bench, monkeypatch):
    run, asked, folder, _ = bench
    probe = probes.PROBES["shift"]

    def killed(model, dataset, limit):
        if model.name == "cnn":
            raise KeyboardInterrupt
        return probe.measure(model, dataset, limit)

    monkeypatch.setitem(probes.PROBES, "shift", dataclasses.replace(probe, measure=killed))
    with pytest.raises(KeyboardInterrupt):
        run(1)
    assert [path.name for path in folder.iterdir()] == ["shift.csv"]
    assert probes.read_probe("shift", folder)["label"].unique().tolist() == ["dense_4"]
    monkeypatch.setitem(probes.PROBES, "shift", probe)
    assert run(1)["label"].unique().tolist() == ["dense_4", "cnn_2"]
    assert asked == ["dense", "cnn"]


def test_rows_of_another_version_are_measured_anew(bench, monkeypatch):
    run, asked, folder, _ = bench
    run(1)
    path = folder / "shift.csv"
    pd.read_csv(path).assign(version=0, accuracy=9.0).to_csv(path, index=False)
    assert run(1)["accuracy"].max() <= 1
    assert asked == ["dense", "cnn"] * 2
    # As where what is measured changes.
    probe = probes.PROBES["shift"]
    monkeypatch.setitem(probes.PROBES, "shift", dataclasses.replace(probe, version=2))
    assert set(run(1)["version"]) == {2}
    assert asked == ["dense", "cnn"] * 3


def test_rows_with_a_hash_of_known_code_in_place_of_a_version_are_kept(bench):
    run, asked, folder, _ = bench
    rows, path = run(1), folder / "shift.csv"
    known, strange = next(iter(probes.VERSION_OF_CODE)), "another"
    for code in (known, strange):
        # Read back, for a record that nothing was added to stays as it was written.
        former = probes.read_probe("shift", folder).drop(columns="version").assign(code_version=code)
        former.to_csv(path, index=False)
        pd.testing.assert_frame_equal(run(1), rows, check_dtype=False)
    assert asked == ["dense", "cnn"] * 2, "measured again for the strange code alone"


@pytest.mark.parametrize("name", probes.PROBES)
def test_every_recorded_probe_has_a_known_version_and_known_trials(name):
    probe, rows = probes.find_probe(name), probes.read_probe(name, RECORD / "probes")
    if rows.empty:
        pytest.skip(f"{name} is not recorded yet")
    assert set(rows["version"]) == {probe.version}
    store = Store(RECORD / "trials")
    keys = {row["key"]: identity_of(row) for row in store.records()}
    wanted = probe.parts(probe.seeds, lambda trial: trial.identity)
    found = {(seed, keys.get(key, key)) for seed, key in rows[["seed", "key"]].drop_duplicates().to_numpy()}
    assert found == set(wanted)


@pytest.mark.parametrize(
    ("name", "message"),
    [("shfit", "no probe is called 'shfit'; expected one of shift, "), ("permutation", "cnnlab study permutation")],
)
def test_names_that_are_no_probe(name, message):
    with pytest.raises(ValueError, match=message):
        probes.run_probe(name, 1)


def test_no_record_is_an_empty_frame_and_a_broken_one_is_named(tmp_path):
    assert probes.read_probe("shift", tmp_path).empty
    (tmp_path / "shift.csv").write_text("shift,accuracy\n0,1\n")
    with pytest.raises(ValueError, match="has no column key, label, seed, version; delete it"):
        probes.read_probe("shift", tmp_path)


@pytest.mark.parametrize(
    "name", ["shift", "equivariance", "receptive_field", "calibration", "conformal", "attribution"]
)
def test_every_probe_measures_a_model_at_hand(name, cnn, bars_dataset):
    trial = Trial("cnn_4_8", seed=2)
    rows = probes.measure_probe(name, cnn, bars_dataset, trial, limit=8)
    assert len(rows) and set(rows["label"]) == {"cnn_4_8"} and set(rows["seed"]) == {2}


def test_a_probe_of_recipes_takes_the_kept_model_and_trains_what_is_not_kept(tmp_path, monkeypatch, full_result):
    trained = []
    module = importlib.import_module("cnnlab.studies.run")
    monkeypatch.setattr(module, "train", lambda *_: trained.append(1) or full_result)
    probe = dataclasses.replace(probes.PROBES["shift"], trials=(FULL,))
    monkeypatch.setitem(probes.PROBES, "shift", probe)
    folders = {"models_folder": tmp_path / "models", "results_folder": tmp_path / "probes", "progress": False}
    rows = probes.run_probe("shift", 1, Store(tmp_path / "trials"), **folders)
    assert rows["key"].unique().tolist() == [trial_key(FULL)]
    assert rows["label"].unique().tolist() == ["full"]
    (tmp_path / "probes" / "shift.csv").unlink()
    again = probes.run_probe("shift", 1, Store(tmp_path / "trials"), **folders)
    pd.testing.assert_frame_equal(again, rows)
    assert len(trained) == 1
    assert model_path(tmp_path / "models", trial_key(FULL)).exists()
