"""Recipes from end to end: trained, stored, resumed, looked into, packed."""

import dataclasses
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
from cnnlab.recipes.fitting import Plan
from tiny_recipes import PUBLISHED, STUDY, TINY

from cnnlab import machine, recipe_studies
from cnnlab.measures import inspection
from cnnlab.studies import Store, select
from cnnlab.training import (
    RECIPE_CODE,
    RecipeResult,
    cross_entropy,
    model_path,
    predict_views,
    prepare,
    recipe_key,
    run_recipe,
)
from sagemaker_scripts import archive, package_model

PROGRAM = Path(__file__).parent / "tiny_recipes.py"
INCIDENTAL = ["seconds", "seconds_setup", "seconds_training", "seconds_tta", "cpu_seconds", "finished"]


@pytest.fixture(scope="module")
def result(bars_dataset):
    return run_recipe(TINY, bars_dataset, progress=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("undisturbed"), key=recipe_key)
    return store, recipe_studies.run(1, store, STUDY, progress=False)


def test_it_learns_and_the_row_describes_it(result, bars_dataset):
    row = result.row
    assert row["test_accuracy_last"] > 0.5, "four classes: chance is a quarter"
    assert row["parameters"] == result.model.count_params()
    assert row["epochs_trained"] == 8.5
    assert row["steps"] == 136
    assert len(result.history["loss"]) == 9, "eight whole epochs and a half"
    assert row["train_accuracy_last"] == result.history["accuracy"][-1]
    parts = [row[f"seconds_{part}"] for part in ("setup", "training", "tta")]
    assert row["seconds"] == pytest.approx(sum(parts))
    assert row["precision"] == "float32"
    assert json.dumps(row)
    images, labels = bars_dataset.split("test")
    plain, augmented = predict_views(result.model, images, 2)
    np.testing.assert_array_equal(plain, result.probabilities["test"])
    assert row["test_accuracy_last"] == np.mean(plain.argmax(axis=1) == labels)
    assert row["test_accuracy_tta"] == np.mean(augmented.argmax(axis=1) == labels)
    assert row["test_loss_tta"] == pytest.approx(cross_entropy(augmented, labels))


def test_equal_recipes_give_equal_results(result, undisturbed):
    store, frame = undisturbed
    row = frame.set_index("label").loc["full"]
    assert row["test_loss_last"] == result.row["test_loss_last"]
    test = result.probabilities["test"]
    np.testing.assert_array_equal(store.predictions(row["key"])["predicted"], test.argmax(axis=1))
    assert [round(loss, 5) for loss in result.history["loss"]] == store.row(TINY)["history"]["loss"]


def test_all_images_train_where_nothing_is_left_to_choose_on(bars_dataset, undisturbed):
    recipe = STUDY.trials[1]
    splits = prepare(recipe, bars_dataset)
    assert len(splits["train"][0]) == 256 + 64
    assert not len(splits["validation"][0])
    _, frame = undisturbed
    row = frame.set_index("label").loc["ema"]
    assert np.isnan(row["val_accuracy_last"])
    assert row["test_accuracy_last"] > 0.5


def test_a_pass_that_is_not_whole_is_a_shorter_one():
    assert Plan.of(dataclasses.replace(TINY, epochs=9.9, batch_size=1000), 40_000).steps == 396
    plan = Plan.of(TINY, 256)
    assert plan.stretches == [(0, 8, 16), (8, 9, 8)]
    assert Plan.of(dataclasses.replace(TINY, epochs=0.5), 256).stretches == [(0, 1, 8)]
    assert Plan.of(dataclasses.replace(TINY, batch_size=999), 256).batch_size == 256


def test_a_training_that_diverges_says_so_in_one_line(bars_dataset):
    wild = dataclasses.replace(PUBLISHED, loop="lab", optimizer="sgd", learning_rate=1e30, epochs=1, batch_size=128)
    with pytest.raises(RuntimeError, match="published, seed 0, diverged; a learning rate below 1e.30"):
        run_recipe(wild, bars_dataset, progress=False)


def test_the_published_loop_validates_every_epoch_and_is_trained_as_published(undisturbed):
    store, frame = undisturbed
    row = frame.set_index("label").loc["published"]
    assert row["epochs_trained"] == 2
    assert len(next(r["history"]["loss"] for r in store.records() if r["label"] == "published")) == 2
    assert row["loop"] == PUBLISHED.loop


def test_killed_at_a_row_it_ends_in_the_undisturbed_table(undisturbed, tmp_path):
    _, expected = undisturbed
    environment = {**os.environ, "PYTHONPATH": f"{PROGRAM.parent}{os.pathsep}{PROGRAM.parent.parent}"}
    process = subprocess.Popen([sys.executable, PROGRAM, tmp_path], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("*.json")):
        assert process.poll() is None, "the study ended without a row"
        assert time.monotonic() < deadline, "the study made no progress"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    frame = recipe_studies.run(1, Store(tmp_path, key=recipe_key), STUDY, progress=False)
    assert kept.items() <= {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}.items()
    exact = ["label", "seed", "key", "steps", "parameters", "code_version"]
    pd.testing.assert_frame_equal(frame[exact], expected[exact])
    # Another process adds in another order: the last bits may differ, the answers hardly.
    np.testing.assert_allclose(frame["test_loss_last"], expected["test_loss_last"], rtol=1e-3)


def test_a_second_run_trains_nothing_and_progress_tells_the_time_left(undisturbed, tmp_path, monkeypatch, capsys):
    store, frame = undisturbed
    monkeypatch.setattr(recipe_studies, "run_recipe", lambda *a, **k: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(recipe_studies.run(1, store, STUDY, progress=False), frame)

    def untrained(recipe, dataset, progress):
        row = {"code_version": "any", **recipe.configuration()}
        return RecipeResult(recipe, row, {}, None, {"test": np.ones((1, 2))})

    monkeypatch.setattr(recipe_studies, "run_recipe", untrained)
    recipe_studies.run(2, Store(tmp_path, key=recipe_key), dataclasses.replace(STUDY, trials=(TINY,)))
    shown = capsys.readouterr().out
    assert "tiny 1/2  full seed 0: done, 1 to go, about 0:00:0" in shown
    assert "tiny 2/2  full seed 1: done" in shown


def test_the_record_is_both_studies_each_with_its_seeds(tmp_path, monkeypatch):
    def untrained(recipe, dataset, progress):
        row = {"code_version": machine.code_version(*RECIPE_CODE), **recipe.resolved().configuration()}
        return RecipeResult(recipe, row, {}, None, {"test": np.ones((1, 2))})

    monkeypatch.setattr(recipe_studies, "run_recipe", untrained)
    monkeypatch.setattr(recipe_studies, "STUDY", dataclasses.replace(STUDY, trials=(PUBLISHED, TINY)))
    monkeypatch.setattr(recipe_studies, "TARGET_STUDY", dataclasses.replace(STUDY, trials=(PUBLISHED,), seeds=3))
    store = Store(tmp_path, key=recipe_key)
    frame = recipe_studies.run_record(store, progress=False)
    assert frame.groupby("label")["seed"].nunique().to_dict() == {"published": 3, "full": 1}
    recipe_studies.run(4, store, dataclasses.replace(STUDY, trials=(TINY,)), progress=False)
    more = recipe_studies.read(store=store, study=recipe_studies.STUDY)
    assert more.groupby("label")["seed"].nunique().to_dict() == {"published": 3, "full": 4}, (
        "who runs more is shown more"
    )


def test_rows_of_trials_and_of_recipes_are_told_apart(undisturbed):
    store, frame = undisturbed
    records = store.records()
    assert len(select(records, [TINY])) == 1
    foreign = [{"model": "cnn", "code_version": "f" * 12, "precision": "float32"}]
    assert select(foreign, [TINY]).empty
    assert select(records, []).empty
    assert list(frame["label"]) == [trial.label for trial in STUDY.trials]


def test_the_study_asks_what_the_issue_asks_and_fits_every_budget(monkeypatch):
    # Elsewhere the recipe in float32 is the assignment's.
    monkeypatch.setenv(machine.PRECISION_VARIABLE, "mixed_bfloat16")
    study = recipe_studies.STUDY
    for name in ("smoke", "quick"):
        small = study.within(studies.find_budget(name))
        assert all(trial.epochs <= studies.find_budget(name).sweep_epochs for trial in small.trials)
        assert len({recipe_key(trial) for trial in small.trials}) == len(small.trials)
    with pytest.raises(ValueError, match="no recipe is called 'to_99'; expected one of published, float32, assignment"):
        recipe_studies.find("to_99")
    with pytest.raises(ValueError, match="seeds is 0; expected at least 1"):
        recipe_studies.run(0, Store("nowhere", key=recipe_key))
    assert not Path("nowhere").exists()


def test_a_named_recipe_is_trained_to_a_file_that_packs_and_explains_itself(
    tmp_path, monkeypatch, bars_dataset, result
):
    monkeypatch.setitem(recipe_studies.RECIPES, "tiny", TINY)
    monkeypatch.setattr(recipe_studies, "run_recipe", lambda recipe, *_: result)
    with pytest.raises(ValueError, match=r"out is .*model.h5; expected a file that ends in .keras"):
        recipe_studies.train("tiny", out=tmp_path / "model.h5")
    _, path = recipe_studies.train("tiny", out=tmp_path / "tiny.keras", progress=False)
    model = keras.models.load_model(path, compile=False)
    images, labels = bars_dataset.split("test", 8)
    np.testing.assert_allclose(model.predict_on_batch(images), result.probabilities["test"][:8], rtol=1e-5)
    row = json.loads(path.with_suffix(".json").read_text())
    assert row["key"] == recipe_key(TINY)

    table = inspection.layer_table(model).set_index("layer")
    # 2 pixels of a patch, 4 by the first block, 2 x 2 and 4 by its pooling and second convolution.
    assert list(table.loc[["whitening", "conv1_1", "pool1", "conv1_2"], "receptive_field"]) == [2, 4, 5, 9]
    assert inspection.first_layer_filters(model).shape == (24, 2, 2, 3)
    maps = inspection.feature_maps(model, images[0])
    assert {name: values.shape for name, values in maps.items()}["relu2_2"] == (3, 3, 16)
    assert inspection.embeddings(model, images).shape == (8, 16)

    package_model.package(path, tmp_path / "model.tar.gz", class_names=bars_dataset.class_names, row=row)
    with archive.unpacked(tmp_path / "model.tar.gz") as folder:
        card = json.loads((Path(folder) / "code" / "model_card.json").read_text())
    assert card["metrics"]["test_accuracy_last"] == result.row["test_accuracy_last"]


def test_the_network_that_the_record_kept_is_not_trained_again(tmp_path, monkeypatch, result):
    trained = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipe_studies.RECIPES, "tiny", TINY)
    monkeypatch.setattr(recipe_studies, "train", lambda *_: trained.append(1) or (result, Path("new.keras")))
    assert recipe_studies.kept_or_trained("tiny")[2] == Path("new.keras")
    recipe_studies.store_of().save(result)
    kept = model_path(studies.find_budget("full").models_folder, recipe_key(TINY))
    kept.parent.mkdir(parents=True)
    result.model.save(kept)
    row, model, path = recipe_studies.kept_or_trained("tiny")
    assert (row["key"], path) == (recipe_key(TINY), kept)
    for found, wanted in zip(model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    recipe_studies.kept_or_trained("tiny", budget=studies.find_budget("smoke"))
    recipe_studies.kept_or_trained("tiny", seed=1)
    assert len(trained) == 3


def test_mixed_precision_trains_the_fast_network_to_the_same_answers(bars_dataset):
    if not machine.BFLOAT16_FLAGS & machine.cpu_flags():
        pytest.skip("this processor has no bfloat16, and emulates it slowly")
    found = run_recipe(dataclasses.replace(TINY, precision="mixed_bfloat16"), bars_dataset, progress=False)
    assert found.row["test_accuracy_last"] > 0.5
    assert {weight.dtype for weight in found.model.get_weights()} == {np.dtype("float32")}
