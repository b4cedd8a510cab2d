"""Studies as they are run: resumable, safe under two processes, on one version of the data; and kept models."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import synthetic
from tiny_study import CNNS, FULL, PUBLISHED, SMALLEST, STUDY, at_once

from cnnlab import data, measures, studies
from cnnlab.studies import RECIPES, Store, read, run_study, train_recipe, trained_model
from cnnlab.training import load_model, model_path, train, trial_key
from sagemaker_scripts import package_model
from sagemaker_scripts.serving import archive

PROGRAM = Path(__file__).parent / "tiny_study.py"
# What may differ between two runs of one trial.
INCIDENTAL = ["seconds", "cpu_seconds", "seconds_setup", "seconds_training", "seconds_tta", "finished"]
ROWS = [["cnn_2", 0], ["full", 0], ["ema", 0], ["published", 0], ["cnn_2", 1]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    return store, run_study(STUDY, store, progress=False)


@pytest.fixture
def module():
    """The module itself, to replace what it trains with."""
    return importlib.import_module("cnnlab.studies.run")


@pytest.fixture
def untrained(module, monkeypatch):
    """In the place of training: rows at once. Lists the trials that would have been trained."""
    trained = []

    def train(trial, dataset, callbacks=(), scoring_batch=500):
        trained.append((trial.label, trial.seed))
        return at_once(trial, dataset)

    monkeypatch.setattr(module, "train", train)
    return trained


def start(folder, *words):
    environment = {**os.environ, "PYTHONPATH": f"{PROGRAM.parent}{os.pathsep}{PROGRAM.parent.parent}"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), *words], env=environment, stdout=subprocess.PIPE, text=True
    )


def finished(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the study ended before it"
        assert time.monotonic() < deadline, "the study made no progress"
        time.sleep(0.01)


def assert_same_but_for_time(actual, expected):
    # Another process may add in another order: the last bits may differ, the answers hardly.
    pd.testing.assert_frame_equal(
        actual.drop(columns=INCIDENTAL), expected.drop(columns=INCIDENTAL), rtol=1e-3, check_exact=False
    )


def test_one_row_a_trial_and_seed_in_the_order_of_the_study(undisturbed):
    _, frame = undisturbed
    assert frame[["label", "seed"]].to_numpy().tolist() == ROWS
    assert frame["key"].is_unique
    assert frame["test_accuracy_best"].dropna().between(0, 1).all()
    assert frame["test_accuracy_last"].between(0, 1).all()
    ema = frame.set_index("label").loc["ema"]
    assert np.isnan(ema["val_accuracy_last"]), "all images train, and none validate"
    assert ema["test_accuracy_last"] > 0.5


def test_the_published_loop_validates_every_epoch_and_is_trained_as_published(undisturbed):
    row = undisturbed[0].row(PUBLISHED)
    assert row["epochs_trained"] == 2
    assert row["loop"] == "published"
    assert {name: len(curve) for name, curve in row["history"].items()} == dict.fromkeys(
        ("loss", "accuracy", "val_loss", "val_accuracy"), 2
    )


def test_equal_trials_give_equal_results(full_result, undisturbed):
    store, frame = undisturbed
    row = frame.set_index("label").loc["full"]
    assert row["test_loss_last"] == full_result.row["test_loss_last"]
    test = full_result.probabilities["test"]
    np.testing.assert_array_equal(store.predictions(row["key"])["predicted"], test.argmax(axis=1))
    assert [round(loss, 5) for loss in full_result.history["loss"]] == store.row(FULL)["history"]["loss"]


def test_the_answers_of_a_variant_stand_by_seed(undisturbed, tmp_path):
    store, frame = undisturbed
    answers = studies.predictions({STUDY.name: STUDY}, store)
    assert {label: len(each) for label, each in answers.items()} == {"cnn_2": 2, "full": 1, "ema": 1, "published": 1}
    assert list(studies.predictions({STUDY.name: STUDY}, store, labels=["ema", "none"])) == ["ema"]
    for row in frame.itertuples():
        labels = data.load("bars", row.seed).split("test")[1]
        kept = row.test_accuracy_best if row.keep == "best" else row.test_accuracy_last
        assert np.mean(answers[row.label][row.seed] == labels) == pytest.approx(kept)
    with pytest.raises(ValueError, match="has no rows of tiny; run them first"):
        studies.predictions({STUDY.name: STUDY}, Store(tmp_path))


def test_a_second_run_trains_nothing(undisturbed, untrained):
    store, frame = undisturbed
    pd.testing.assert_frame_equal(run_study(STUDY, store, progress=False), frame)
    assert not untrained


def test_more_seeds_add_rows_and_leave_the_others(untrained, tmp_path):
    store = Store(tmp_path)
    one = run_study(STUDY, store, 1, progress=False)
    assert one[["label", "seed"]].to_numpy().tolist() == ROWS[:4]
    before = finished(tmp_path)
    two = run_study(STUDY, store, 2, progress=False)
    assert len(two) == 8
    pd.testing.assert_frame_equal(two[:4], one)
    assert before.items() <= finished(tmp_path).items()
    # As the study records: some variants have more seeds than others.
    assert read(STUDY, store)[["label", "seed"]].to_numpy().tolist() == ROWS


def test_interrupted_in_the_midst_it_keeps_its_rows_and_goes_on_from_the_epoch_that_it_was_at(
    undisturbed, tmp_path, module, monkeypatch
):
    begun = []

    def train_on(trial, dataset, callbacks, scoring_batch=500):
        if trial.seed == 0:
            return at_once(trial, dataset)

        def end(epoch, logs):
            begun.append(epoch)
            if begun == [0, 1]:
                raise KeyboardInterrupt

        return train(trial, dataset, [*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=end)], scoring_batch)

    monkeypatch.setattr(module, "train", train_on)
    study = dataclasses.replace(STUDY, trials=(SMALLEST,), more_seeds={})
    with pytest.raises(KeyboardInterrupt):
        run_study(study, Store(tmp_path), 2, progress=False)
    before = finished(tmp_path)
    assert len(before) == len(list((tmp_path / ".checkpoints").glob("*.npz"))) == 1
    run_study(study, Store(tmp_path), 2, progress=False)
    assert begun == [0, 1, 2, 3], "an epoch was trained again"
    _, trial = study.runs(2)
    rows = [store.row(trial).items() for store in (Store(tmp_path), undisturbed[0])]
    found, expected = ({name: value for name, value in row if name not in INCIDENTAL} for row in rows)
    assert found == expected
    assert before.items() <= finished(tmp_path).items(), "a finished row was lost or written again"
    assert not list((tmp_path / ".checkpoints").glob("*")), "a checkpoint outlived its trial"


@pytest.mark.long
def test_killed_in_the_midst_it_keeps_its_rows_and_ends_in_the_undisturbed_table(undisturbed, tmp_path):
    _, expected = undisturbed
    checkpoints = tmp_path / ".checkpoints"
    process = start(tmp_path)
    # A row is there, and the trial after it is under way.
    wait_for(lambda: finished(tmp_path) and any(checkpoints.glob("*.npz")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = finished(tmp_path)
    assert 0 < len(before) < len(expected)
    assert_same_but_for_time(run_study(STUDY, Store(tmp_path), progress=False), expected)
    assert before.items() <= finished(tmp_path).items(), "a finished row was lost or written again"
    assert not list(checkpoints.glob("*")), "a checkpoint outlived its trial"


@pytest.mark.long
def test_two_processes_share_the_work_and_do_nothing_twice(tmp_path, module, monkeypatch, capsys):
    monkeypatch.setattr(module, "train", at_once)
    process = start(tmp_path, "at once")
    wait_for(lambda: any(tmp_path.glob(".locks/*")), process)
    frame = run_study(STUDY, Store(tmp_path), progress=False)
    theirs = process.communicate()[0].splitlines()
    mine = capsys.readouterr().out.splitlines()
    assert process.returncode == 0
    assert frame[["label", "seed"]].to_numpy().tolist() == ROWS
    assert sorted(mine + theirs) == sorted(f"trained {label} {seed}" for label, seed in ROWS)
    assert mine and theirs, "one of them did all the work"
    assert len(finished(tmp_path)) == len(ROWS)


def test_another_version_of_the_data_is_trained_beside_the_old(untrained, tmp_path, monkeypatch):
    store = Store(tmp_path)
    old = run_study(CNNS, store, progress=False)
    before = finished(tmp_path)
    # As where the seed of the split changes.
    monkeypatch.setitem(data.LOADERS, "bars", lambda seed: synthetic.dataset(seed=seed + 100))
    assert store.find(SMALLEST, data.load("bars", 0).fingerprint) is None
    del untrained[:]
    new = run_study(CNNS, store, progress=False)
    assert untrained == [("cnn_2", 0), ("cnn_4", 0), ("cnn_2", 1), ("cnn_4", 1)]
    assert len(finished(tmp_path)) == 8
    assert before.items() <= finished(tmp_path).items()
    assert len(new) == 4
    assert new.groupby("seed")["data_version"].nunique().tolist() == [1, 1], "rows of two versions in one table"
    assert set(old["data_version"]).isdisjoint(data.load("bars", seed).fingerprint for seed in (0, 1))
    del untrained[:]
    run_study(CNNS, store, progress=False)
    assert not untrained


def test_an_unwritable_store_is_refused_before_any_training(untrained, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(OSError, match="file"):
        run_study(STUDY, Store(blocked / "store"), 1, progress=False)
    assert not untrained


def test_an_interrupted_trial_is_not_stored(tmp_path, module, monkeypatch, full_result):
    interrupted = dataclasses.replace(full_result, interrupted=True)
    monkeypatch.setattr(module, "train", lambda *_: interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, Store(tmp_path), 1, progress=False)
    assert not finished(tmp_path)


def test_progress_tells_what_is_done_and_the_time_left(tmp_path, untrained, capsys):
    run_study(CNNS, Store(tmp_path), 1)
    shown = capsys.readouterr().out
    assert "tiny_cnns 1/2  cnn_2 seed 0: done, 1 to go, about 0:0" in shown
    assert "tiny_cnns 2/2  cnn_4 seed 0: done" in shown


def test_missing_rows_give_an_empty_frame_and_no_seeds_an_error(tmp_path):
    assert read(STUDY, Store(tmp_path)).empty
    with pytest.raises(ValueError, match="seeds is 0; expected at least 1"):
        run_study(STUDY, Store(tmp_path / "nowhere"), 0)
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_trained_again_to_the_same_weights(tmp_path):
    trial = dataclasses.replace(SMALLEST, model="dense", options={"units": [4]}, epochs=1)
    store = Store(tmp_path / "trials")
    first = trained_model(trial, tmp_path / "models", store, progress=False)
    rows = finished(tmp_path / "trials")
    again = trained_model(trial, tmp_path / "others", store, progress=False)
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert finished(tmp_path / "trials") == rows
    (tmp_path / "others" / f"{trial_key(trial)}.keras").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is not a model that Keras can load; delete it"):
        trained_model(trial, tmp_path / "others", store)


def test_another_process_at_work_is_named(tmp_path):
    with (
        Store(tmp_path).claim(SMALLEST),
        pytest.raises(RuntimeError, match="another process is training cnn_2, seed 0"),
    ):
        trained_model(SMALLEST, tmp_path / "models", Store(tmp_path), progress=False)


def test_a_study_keeps_its_models_under_the_keys_of_their_rows(tmp_path, module, monkeypatch, full_result):
    monkeypatch.setattr(module, "train", lambda *_: full_result)
    study = dataclasses.replace(STUDY, trials=(FULL,), more_seeds={})
    frame = run_study(study, Store(tmp_path / "trials"), progress=False, models_folder=tmp_path / "models")
    (path,) = (tmp_path / "models").iterdir()
    assert path == model_path(tmp_path / "models", frame["key"][0])
    for found, wanted in zip(load_model(path).get_weights(), full_result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_named_recipe_is_trained_to_a_file_that_packs_and_explains_itself(
    tmp_path, monkeypatch, module, bars_dataset, full_result
):
    monkeypatch.setitem(RECIPES, "tiny", FULL)
    monkeypatch.setattr(module, "train", lambda *_: full_result)
    with pytest.raises(ValueError, match=r"out is .*model.h5; expected a file that ends in .keras"):
        train_recipe("tiny", out=tmp_path / "model.h5")
    _, path = train_recipe("tiny", out=tmp_path / "tiny.keras", progress=False)
    model = load_model(path)
    images, labels = bars_dataset.split("test", 8)
    np.testing.assert_allclose(model.predict_on_batch(images), full_result.probabilities["test"][:8], rtol=1e-5)
    row = json.loads(path.with_suffix(".json").read_text())
    assert row["key"] == trial_key(FULL)

    table = measures.layer_table(model).set_index("layer")
    # 2 pixels of a patch, 4 by the first block, 2 x 2 and 4 by its pooling and second convolution.
    assert list(table.loc[["whitening", "conv1_1", "pool1", "conv1_2"], "receptive_field"]) == [2, 4, 5, 9]
    assert measures.first_layer_filters(model).shape == (24, 2, 2, 3)
    maps = measures.feature_maps(model, images[0])
    assert {name: values.shape for name, values in maps.items()}["relu2_2"] == (3, 3, 16)
    assert measures.embeddings(model, images).shape == (8, 16)

    package_model.package(path, tmp_path / "model.tar.gz", class_names=bars_dataset.class_names, row=row)
    with archive.unpacked(tmp_path / "model.tar.gz") as folder:
        card = json.loads((Path(folder) / "code" / "model_card.json").read_text())
    assert card["metrics"]["test_accuracy_last"] == full_result.row["test_accuracy_last"]


def test_a_recipe_that_is_interrupted_goes_on_with_the_next_call(tmp_path, monkeypatch, module, undisturbed):
    monkeypatch.setitem(RECIPES, "tiny", SMALLEST)
    interruptions = []

    def interrupted_once(trial, dataset, callbacks):
        def end(epoch, logs):
            if epoch == 1 and not interruptions:
                interruptions.append(epoch)
                raise KeyboardInterrupt

        return train(trial, dataset, [*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=end)])

    monkeypatch.setattr(module, "train", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        train_recipe("tiny", out=tmp_path / "tiny.keras", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.checkpoint"]
    result, path = train_recipe("tiny", out=tmp_path / "tiny.keras", progress=False)
    kept = undisturbed[0].row(SMALLEST)["history"]
    assert {name: [round(value, 5) for value in curve] for name, curve in result.history.items()} == kept
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tiny.json", "tiny.keras"]
