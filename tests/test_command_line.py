"""The command line: good help at once, one clear line for a bad call, exit codes."""

import dataclasses
import errno
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_folder
import tiny_study
from PIL import Image

from cnnlab import __main__, data, measures, own_pictures, studies
from cnnlab.__main__ import main
from cnnlab.machine import LIBRARY_CACHES
from cnnlab.training import build, model_path

ROOT = Path(__file__).parent.parent
# Seconds of the processor: a process that loads no Keras needs less than one, and one that does five.
AT_ONCE = 2.0


def run(*arguments):
    """A command as a process of its own, and the seconds of the processor that it took."""
    before = os.times()
    finished = subprocess.run(
        [sys.executable, "-m", "cnnlab", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    after = os.times()
    return finished, sum(after[2:4]) - sum(before[2:4])


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(studies.STUDIES, "tiny", tiny_study.CNNS)


@pytest.fixture
def trained_once(monkeypatch):
    """All trials of a model get the result of the first that is trained."""
    monkeypatch.setattr(importlib.import_module("cnnlab.studies.run"), "train", tiny_study.trained_once())


@pytest.fixture
def interrupted(monkeypatch):
    """Training that is interrupted as soon as it begins."""

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("cnnlab.studies.run"), "train", interrupt)


def test_help_names_the_commands_at_once():
    finished, seconds = run("--help")
    assert all(command in finished.stdout for command in ("data", "notebook", "study", "train", "probe", "report"))
    assert finished.returncode == 0
    assert not finished.stderr
    assert seconds < AT_ONCE


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(["study"], ("filters_gap", "recipe")), (["train"], ("to_94", "assignment")), (["probe"], ("shift", "tabular"))],
)
def test_help_of_a_command_names_what_it_can_do(arguments, names, monkeypatch, capsys):
    # It is looked up only where the help of that command is asked for.
    monkeypatch.setattr(sys, "argv", ["cnnlab", *arguments, "--help"])
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "filtres"], "no study is called 'filtres'; expected one of baselines, filters"),
        (["study", "filters", "--seeds", "-1"], "'-1' is not a whole number of 1 or more"),
        (["study", "filters", "--seeds", "0"], "'0' is not a whole number of 1 or more"),
        (["study", "filters", "--budget", "tiny"], "invalid choice: 'tiny'"),
        (["study", "recipes"], "expected one of baselines, filters"),
        (["study", "recipes"], ", targets\n"),
        (["train", "--recipe", "to_95"], "no recipe is called 'to_95'; expected one of published, "),
        (["train", "--recipe", "to_74", "--seed", "-1"], "'-1' is not a whole number of 0 or more"),
        (["train", "--recipe", "to_74", "--out", "model.h5"], "expected a file that ends in .keras"),
        (["probe", "shfit"], "no probe is called 'shfit'"),
        (["probe", "shift", "--images", "x"], "--images is for the probe corruptions; shift measures on"),
        (["probe", "corruptions", "--images", "nowhere"], "cnnlab: nowhere: there is no such file or folder"),
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


def test_a_probe_that_is_measured_says_all_that_it_found(interrupted, capsys):
    for name in (name for name in __main__.PROBE_NAMES if not measures.read_probe(name).empty):
        assert main(["probe", name, "--seeds", "2"]) in (0, None)
        assert capsys.readouterr().out.strip().endswith("."), name


LISTED_AT_ONCE = [
    ["study", "nope"], ["probe", "nope"], ["probe", "permutation"], ["train", "--recipe", "nope"],
    ["train", "--recipe", "to_74", "--out", "model.h5"], ["notebook", "nope.ipynb"],
    ["study", "--help"], ["probe", "--help"], ["train", "--help"], ["notebook", "--help"],
]  # fmt: skip
# Runs the commands, a list of their words, that come as JSON, and writes [code, what it said] of each, until one asks
# for TensorFlow.
WITHOUT_TENSORFLOW = """
import contextlib, io, json, sys
class Refused:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("tensorflow", "keras", "jax", "torch"):
            sys.exit("asked for " + name)
sys.meta_path.insert(0, Refused())
from cnnlab.__main__ import main
for arguments in json.load(sys.stdin):
    sys.argv[1:] = arguments
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, said.getvalue()]))
"""


def test_help_misspelt_names_and_listings_ask_for_no_tensorflow():
    """In one process, each as the first would find it: what was not asked for is not there for the next."""
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW], cwd=ROOT, input=json.dumps(LISTED_AT_ONCE), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    for arguments, line in zip(LISTED_AT_ONCE, finished.stdout.splitlines(), strict=True):
        code, said = json.loads(line)
        assert said.count("\n") == ("--help" not in arguments), arguments
        assert code == (0 if "--help" in arguments else 1 if "nope.ipynb" in arguments else 2), (arguments, said)


def test_a_misspelt_study_is_said_at_once():
    finished, seconds = run("study", "nope")
    assert finished.stderr.startswith("cnnlab: no study is called 'nope'")
    assert seconds < AT_ONCE


def test_the_probes_that_help_names_are_those_there_are():
    assert list(measures.PROBES) == list(__main__.PROBE_NAMES)


@pytest.mark.parametrize("command", ["data", "notebook", "study", "train", "probe", "record", "report"])
def test_a_command_keeps_what_libraries_write_in_the_labs_cache(command, monkeypatch, tmp_path):
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path))
    for variable in LIBRARY_CACHES:
        monkeypatch.setenv(variable, "restored at the end")
        monkeypatch.delenv(variable)
    arguments = {"notebook": ["x"], "study": ["x"], "probe": ["x"], "train": ["--recipe", "x"]}.get(command, [])
    kept = {}
    monkeypatch.setattr(__main__, f"_{command}", lambda options: kept.update(os.environ))
    assert main([command, *arguments]) == 0
    assert kept["MPLCONFIGDIR"] == str(tmp_path / "matplotlib")


UNWRITABLE = {
    "a store that is a file": ["study", "filters", "--store", "file"],
    "a store below a file": ["study", "filters", "--store", "file/rows"],
    "a model below a file": ["train", "--recipe", "to_74", "--out", "file/model.keras"],
    "runs that is a file": ["study", "filters", "--budget", "smoke"],
}


@pytest.mark.parametrize("arguments", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_cannot_be_written_is_said_at_once_in_one_line_with_advice(arguments, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "runs").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    monkeypatch.setattr(__main__, "import_keras", lambda: pytest.fail("waited for TensorFlow"))
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert re.search(r"(file|runs)\S* cannot be written \(.*\): fix that, or name another place .*CNNLAB_ROOT", shown)


def test_a_folder_that_may_not_be_written_is_said_likewise(monkeypatch, capsys):
    def forbidden(folder):
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), "runs/quick")

    monkeypatch.setattr("cnnlab.studies.store.check_writable", forbidden)
    assert main(["study", "filters"]) == 1
    assert "runs/quick cannot be written (Read-only file system)" in capsys.readouterr().err


def test_a_missing_notebook_gets_one_line_and_exit_code_1(capsys):
    assert main(["notebook", "absent.ipynb"]) == 1
    assert "there is no notebook absent.ipynb" in capsys.readouterr().err


def test_a_study_shows_its_table_and_findings(tiny, trained_once, tmp_path, capsys):
    assert main(["study", "tiny", "--seeds", "2", "--store", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Does anything happen?" in shown
    assert "cnn_4" in shown or "CNN 4" in shown
    assert "| 2 |" in shown


def test_a_trained_recipe_says_its_accuracies_its_files_and_what_to_do_next(tmp_path, monkeypatch, capsys):
    short = dataclasses.replace(tiny_study.SMALLEST, epochs=1, keep="last", tta=1)
    monkeypatch.setitem(studies.RECIPES, "tiny", short)
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


@pytest.mark.parametrize(
    "arguments", [["study", "tiny", "--seeds", "1", "--store"], ["train", "--recipe", "to_74", "--out"]]
)
def test_ctrl_c_says_that_the_same_command_goes_on(
    arguments, tiny, interrupted, tmp_path, monkeypatch, capsys, bars_dataset
):
    monkeypatch.setitem(data.LOADERS, "cifar10", lambda seed: bars_dataset)
    assert main([*arguments, str(tmp_path / "kept.keras")]) == 130
    assert "the same command continues from here" in capsys.readouterr().err


@pytest.fixture
def packed_here(monkeypatch):
    """Packing takes place in this process, which has TensorFlow already."""
    from sagemaker_scripts import common, package_model

    run_program = subprocess.run

    def run_here(command, **options):
        if command[:3] != [sys.executable, "-m", package_model.__name__]:
            return run_program(command, **options)
        return subprocess.CompletedProcess(command, common.run(package_model.main, list(map(str, command[3:]))))

    monkeypatch.setattr(subprocess, "run", run_here)


def test_a_study_of_ones_own_pictures_gives_a_table_findings_and_a_packed_model(
    tmp_path, monkeypatch, capsys, packed_here, trained_once
):
    from sagemaker_scripts.serving import archive as archives

    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path / "lab"))
    pictures = tiny_folder.write(tmp_path / "pets", 10)
    command = ["study", "--folder", str(pictures), "--size", "16", "--budget", "smoke", "--variant"]
    assert main([*command, "dense_128_64", "dense_256_128", "--seeds", "2"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\| dense 128-64 +\| [\d,]+ +\| 2 ", shown)
    assert re.search(r"(beats|worse than|as good as|cannot be told from) .*a constant answer", shown)
    assert "Validation chooses" in shown
    assert all(re.search(rf"\| {name} +\| 2 ", shown) for name in tiny_folder.CLASSES)
    folder = tmp_path / "lab" / "runs" / "folder-pets-16"
    assert f"next: python sagemaker_scripts/serve_local.py {folder / 'model.tar.gz'}" in shown
    assert [entry.name for entry in (tmp_path / "lab").iterdir()] == ["runs"], "nothing went to the record"
    rows = [json.loads(path.read_text()) for path in (folder / "results" / "trials").glob("*.json")]
    assert {(row["label"], row["seed"]) for row in rows} == {
        (label, seed) for label in ("dense_128_64", "dense_256_128") for seed in (0, 1)
    }
    assert {row["dataset"] for row in rows} == {"folder-pets-16"}
    assert all(row["class_names"] == list(tiny_folder.CLASSES) for row in rows)
    card = archives.read_card(folder / "model.tar.gz")
    assert card["class_names"] == list(tiny_folder.CLASSES)
    assert card["data"]["name"] == "folder-pets-16"
    assert "aspect ratio kept" in card["pictures"]
    # What is there is not trained again.
    monkeypatch.setattr(importlib.import_module("cnnlab.studies.run"), "train", lambda *_: pytest.fail("trained again"))
    packed = []
    monkeypatch.setattr(own_pictures, "_pack", lambda *files: packed.append(files))
    assert main([*command, "dense_128_64", "--seeds", "2"]) == 0
    key = next(row["key"] for row in rows if (row["label"], row["seed"]) == ("dense_128_64", 0))
    assert packed == [(model_path(folder / "models", key), folder / "model.tar.gz")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study"], "name a study"),
        (["study", "filters", "--variant", "cnn_16_32_64"], "--variant and --groups need --folder"),
        (["study", "--folder", "absent"], "no such file or folder"),
        (
            ["study", "--folder", ".", "--variant", "cnn_1"],
            "no variant is called 'cnn_1'; expected some of dense_128_64",
        ),
        (["study", "recipe", "--folder", "."], "no variant is called 'assignment'"),
        (["study", "--folder", ".", "--store", "results/trials"], "is part of the record"),
    ],
)
def test_a_study_of_no_pictures_or_no_variant_says_one_line_at_once(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    for module in (__main__, own_pictures):
        monkeypatch.setattr(module, "import_keras", lambda: pytest.fail("waited for TensorFlow"))
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_transfer_goes_from_a_folder_of_pictures_to_a_packed_model(tmp_path, monkeypatch, capsys, packed_here):
    """The folder, the answer and its interval, the confusions, the archive, and the command that serves it."""
    from sagemaker_scripts.serving import archive as archives

    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path / "cache"))
    backbone = tmp_path / "backbone.keras"
    build(filters=[4, 8], head="gap", dense=0, input_shape=(16, 16, 3), num_classes=2).save(backbone)
    pictures = tiny_folder.write(tmp_path / "pets", 10)
    (pictures / "cat" / "empty.jpg").touch()
    for number in range(90, 99):
        # Transparent in part, and lying on its side.
        picture = tiny_folder.photo(number).convert("RGBA")
        picture.putalpha(picture.getchannel("R"))
        exif = Image.Exif()
        exif[0x0112] = 6
        path = pictures / tiny_folder.CLASSES[number % 3] / f"{number}.png"
        path.write_bytes(tiny_folder.encoded(picture, exif=exif))
    out = tmp_path / "new" / "pets.keras"
    options = ["--size", "16", "--backbone", str(backbone), "--out", str(out)]
    assert main(["transfer", "--folder", str(pictures), *options]) == 0
    shown = capsys.readouterr().out
    assert "cat/empty.jpg is empty" in shown
    assert re.search(
        r"[\d.]+% of the test pictures are answered correctly; of others like them, [\d.]+% to [\d.]+%.", shown
    )
    assert all(re.search(rf"\| {name} +\| [23] ", shown) for name in tiny_folder.CLASSES)
    archive = out.with_name("model.tar.gz")
    assert f"next: python sagemaker_scripts/serve_local.py {archive}" in shown
    card = archives.read_card(archive)
    assert card["class_names"] == list(tiny_folder.CLASSES)
    assert card["data"]["name"] == "folder-pets-16"
    assert "aspect ratio kept" in card["pictures"]
    row = json.loads(out.with_suffix(".json").read_text())
    assert card["metrics"]["test_accuracy_last"] == row["test_accuracy_last"]
    # A picture as it lies on the disk gets the answer that Keras gives to the image that was trained on.
    dataset = data.load_folder(pictures, 16, progress=False)
    images, _ = dataset.split("test")
    expected = keras.models.load_model(out)(images.astype("float32"))
    with archives.unpacked(archive) as folder:
        handlers = archives.load_handlers(folder)
        model = handlers.model_fn(folder)
        for row, answer in zip(dataset.splits["test"].indices, expected, strict=True):
            body = (pictures / dataset.metadata["file"][row]).read_bytes()
            found = handlers.predict_fn(handlers.input_fn(body, "image/png"), model)
            np.testing.assert_allclose(found[0], answer, atol=0.02)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--folder", "absent"], 2, "has no 'absent'; expected a folder"),
        (["--folder", "."], 2, "expected a folder of pictures for each of two or more classes"),
        (["--folder", ".", "--out", "model.h5"], 2, "expected a file that ends in .keras"),
        (["--folder", ".", "--size", "4"], 2, "'4' is not a whole number of 8 or more"),
        ([], 2, "required: --folder"),
    ],
)
def test_transfer_without_pictures_says_one_line(options, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        found = main(["transfer", *options])
    except SystemExit as stop:
        found = stop.code
    assert found == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["data", "notebook"])
def test_ctrl_c_in_what_begins_again_promises_nothing(command, monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, f"_{command}", interrupt)
    assert main([command, *(["any.ipynb"] if command == "notebook" else [])]) == 130
    assert "the same command starts again from the beginning" in capsys.readouterr().err


def test_missing_mars_images_are_said_in_one_message_with_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path / "cache"))
    assert main(["data", "--mars", "--path", str(tmp_path / "absent.zip")]) == 1
    shown = capsys.readouterr().err
    assert shown.count("What you can do:") == 1
    assert "absent.zip" in shown
    assert "CNNLAB_MARS" in shown
