"""The command line: good help, one clear line for a bad call, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tiny_recipes
import tiny_study

from cnnlab import recipe_studies, studies
from cnnlab.__main__ import main

ROOT = Path(__file__).parent.parent


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cnnlab", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(studies.STUDIES, "tiny", tiny_study.STUDY)


def test_help_names_the_commands_and_the_studies():
    shown = run("--help").stdout
    assert all(command in shown for command in ("data", "notebook", "study", "probe", "report"))
    assert "filters_gap" in run("study", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "filtres"], "no study is called 'filtres'; expected one of baselines, filters"),
        (["study", "filters", "--seeds", "-1"], "'-1' is not a whole number from 1"),
        (["study", "filters", "--seeds", "0"], "'0' is not a whole number from 1"),
        (["study", "filters", "--budget", "tiny"], "invalid choice: 'tiny'"),
        (["study", "recipes"], "expected one of baselines, filters"),
        (["study", "recipes"], ", recipe\n"),
        (["train", "--recipe", "to_95"], "no recipe is called 'to_95'; expected one of published, "),
        (["train", "--recipe", "to_74", "--seed", "-1"], "'-1' is not a whole number from 0"),
        (["train", "--recipe", "to_74", "--out", "model.h5"], "expected a file that ends in .keras"),
        (["probe", "shfit"], "no probe is called 'shfit'"),
        (["studdy"], "invalid choice: 'studdy'"),
    ],
)
def test_a_bad_call_gets_one_clear_line_and_exit_code_2(arguments, message, capsys):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr().err
    assert code == 2
    assert message in shown
    assert "Traceback" not in shown


def test_a_misspelt_study_says_one_line_and_nothing_of_tensorflow():
    finished = run("study", "filtres")
    assert finished.returncode == 2
    assert finished.stderr.startswith("cnnlab: no study is called")
    assert finished.stderr.count("\n") == 1


def test_an_unwritable_store_gets_one_line_and_exit_code_1(tiny, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["study", "tiny", "--seeds", "1", "--store", str(tmp_path / "file" / "rows")]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "file" in shown


def test_a_missing_notebook_gets_one_line_and_exit_code_1(capsys):
    assert main(["notebook", "absent.ipynb"]) == 1
    assert "there is no notebook absent.ipynb" in capsys.readouterr().err


def test_a_study_shows_its_table_and_findings(tiny, tmp_path, capsys):
    assert main(["study", "tiny", "--seeds", "2", "--store", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Does anything happen?" in shown
    assert "cnn_4" in shown or "CNN 4" in shown
    assert "n = 2" in shown


def test_a_trained_recipe_says_its_accuracies_its_files_and_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(recipe_studies.RECIPES, "tiny", tiny_recipes.TINY)
    path = tmp_path / "tiny.keras"
    assert main(["train", "--recipe", "tiny", "--out", str(path)]) == 0
    shown = capsys.readouterr()
    row = json.loads(path.with_suffix(".json").read_text())
    for split, short in (("validation", "val"), ("test", "test")):
        plain, augmented = row[f"{short}_accuracy_last"], row[f"{short}_accuracy_tta"]
        assert f"{split} accuracy {plain:.2%}, with test-time augmentation {augmented:.2%}" in shown.out
    assert f"package_model.py {path} --row {path.with_suffix('.json')}" in shown.out
    assert "tiny, seed 0" in shown.out, "the progress bar says what is trained"
    assert keras.models.load_model(path, compile=False).count_params() == row["parameters"]


def test_ctrl_c_says_what_is_kept(tiny, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "run_trial", interrupted)
    assert main(["study", "tiny", "--seeds", "1", "--store", str(tmp_path)]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_ctrl_c_in_a_single_training_promises_nothing(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_studies, "train", interrupted)
    assert main(["train", "--recipe", "to_74", "--out", str(tmp_path / "model.keras")]) == 130
    assert "nothing is kept of this training" in capsys.readouterr().err


def test_missing_mars_images_are_said_in_one_message_with_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path / "cache"))
    assert main(["data", "--mars", "--path", str(tmp_path / "absent.zip")]) == 1
    shown = capsys.readouterr().err
    assert shown.count("What you can do:") == 1
    assert "absent.zip" in shown
    assert "CNNLAB_MARS" in shown
