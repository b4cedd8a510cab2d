"""train.py as people, SageMaker's toolkit and the SDK's drivers start it."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnnlab import data
from cnnlab.studies import Store
from cnnlab.training import Checkpoint, Trial
from cnnlab.training import train as train_trial
from sagemaker_scripts import common, launch_training, train

ROOT = Path(__file__).resolve().parents[1]
# A training that is long enough to be killed in the middle, and one that is over soon.
FLAGS = {"dataset": "bars", "filters": "[4, 8]", "dense": "16", "epochs": "12", "batch_size": "32", "seed": "3"}
TRIAL = Trial("trial", options={"filters": [4, 8], "dense": 16}, dataset="bars", epochs=12, batch_size=32, seed=3)
QUICK_FLAGS = {
    "dataset": "bars", "model": "dense", "units": "[8, 4]", "epochs": "3", "batch_size": "32", "seed": "3"
}  # fmt: skip
QUICK = dataclasses.replace(TRIAL, model="dense", options={"units": [8, 4]}, epochs=3)
# Lets a job know a small data set.
BARS = """
import synthetic
from cnnlab import data
data.LOADERS["bars"] = lambda seed: synthetic.dataset()
"""
# The row's columns that a clock decides.
CLOCK = {"seconds", "cpu_seconds", "seconds_setup", "seconds_training", "seconds_tta", "finished"}


def undisturbed(trial, folder, dataset):
    """The row and the predictions of `trial`, trained in one go by the library."""
    store = Store(folder)
    store.save(train_trial(trial, dataset))
    row = store.row(trial)
    return row, store.predictions(row["key"])


@pytest.fixture
def code(tmp_path):
    """The folder of the code that a job carries."""
    launch_training.stage_source(tmp_path / "code")
    (tmp_path / "code" / "sagemaker_scripts" / "__init__.py").write_text(BARS, encoding="utf-8")
    return tmp_path / "code"


@pytest.fixture
def job(tmp_path, code):
    """The environment of a training job whose /opt/ml lies in `tmp_path`."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests"),
        "SM_MODEL_DIR": str(tmp_path / "ml" / "model"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "ml" / "output" / "data"),
        "SM_CHANNEL_TRAINING": str(tmp_path / "ml" / "input" / "data" / "training"),
        "SM_CHANNEL_CODE": str(code),
        "SM_CHANNEL_SM_DRIVERS": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
    }


def command_line(flags):
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def epochs_in(checkpoint_dir):
    """Finished epochs in the one checkpoint below a folder."""
    for path in checkpoint_dir.glob("*.npz"):
        with np.load(path) as file:
            return len(json.loads(str(file["facts"]))["curves"]["loss"])
    return 0


@pytest.mark.long
def test_a_job_killed_in_the_middle_and_started_again_ends_in_the_same_row(job, code, tmp_path, bars_dataset):
    checkpoints = tmp_path / "ml" / "checkpoints"
    flags = {**FLAGS, "checkpoint-dir": str(checkpoints)}

    # First as SageMaker's toolkit starts a script: with --model_dir and hyperparameters as flags.
    toolkit = [sys.executable, launch_training.ENTRY, *command_line(flags), "--model_dir", "s3://bucket/model"]
    process = subprocess.Popen(toolkit, cwd=code, env=job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    limit = time.monotonic() + 120
    while epochs_in(checkpoints) < 2:
        assert process.poll() is None and time.monotonic() < limit, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    first = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    assert "ignored, unknown to train.py: --model_dir s3://bucket/model" in first
    done = epochs_in(checkpoints)
    assert 2 <= done < TRIAL.epochs
    assert not (tmp_path / "ml" / "model").exists()

    # Then as the SDK's own driver does, which reads hyperparameters from JSON.
    sdk = Path(importlib.util.find_spec("sagemaker.train").origin).parent
    driver = sdk / "container_drivers" / "distributed_drivers" / "basic_script_driver.py"
    environment = {**job, "SM_ENTRY_SCRIPT": launch_training.ENTRY, "SM_HPS": json.dumps(flags)}
    second = subprocess.run(
        [sys.executable, str(driver)],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "epoch 12/12" in second

    row, predictions = undisturbed(TRIAL, tmp_path / "undisturbed", bars_dataset)
    store = Store(tmp_path / "ml" / "output" / "data" / "trials")
    resumed = store.row(TRIAL)
    assert {k: v for k, v in resumed.items() if k not in CLOCK} == {k: v for k, v in row.items() if k not in CLOCK}
    np.testing.assert_array_equal(store.predictions(row["key"])["predicted"], predictions["predicted"])
    assert (tmp_path / "ml" / "model" / "model.keras").is_file()
    assert not list(checkpoints.glob("*.npz"))


def test_a_job_leaves_its_row_and_model_and_every_metric_in_its_log(tmp_path, bars_dataset, monkeypatch, capsys):
    monkeypatch.setitem(data.LOADERS, "bars", lambda seed: bars_dataset)
    model, output = tmp_path / "ml" / "model", tmp_path / "ml" / "output" / "data"
    flags = [
        *command_line({**QUICK_FLAGS, "checkpoint-dir": str(tmp_path / "kept")}),
        "--model_dir",
        "s3://bucket/model",
    ]
    assert train.main(flags, {"SM_MODEL_DIR": str(model), "SM_OUTPUT_DATA_DIR": str(output)}) == common.EXIT_DONE
    log = capsys.readouterr().out
    assert "ignored, unknown to train.py: --model_dir s3://bucket/model" in log
    store = Store(output / "trials")
    row = store.row(QUICK)
    expected, predictions = undisturbed(QUICK, tmp_path / "undisturbed", bars_dataset)
    assert {k: v for k, v in row.items() if k not in CLOCK} == {k: v for k, v in expected.items() if k not in CLOCK}
    np.testing.assert_array_equal(store.predictions(row["key"])["predicted"], predictions["predicted"])
    assert (model / "model.keras").is_file()
    assert not list((tmp_path / "kept").glob("*.npz"))
    history = row["history"]
    for definition in train.METRIC_DEFINITIONS:
        found = [float(text) for text in re.findall(definition["Regex"], log)]
        curve = {name: curve for curve, name in train.CURVES.items()}.get(definition["Name"])
        expected = history[curve] if curve else [row[definition["Name"]]]
        assert found == pytest.approx(expected, abs=1e-5), definition
    assert train.OBJECTIVE in {definition["Name"] for definition in train.METRIC_DEFINITIONS}

    # The same again: the row is there, and nothing is trained.
    assert train.train(QUICK, output, model, dataset=None) == row
    assert "epoch" not in capsys.readouterr().out.replace("best_epoch", "")


def test_a_trial_that_keeps_the_last_epoch_says_its_scores_too(tmp_path, bars_dataset, capsys):
    trial = Trial("short", "dense", {"units": [4]}, dataset="bars", epochs=0.5, keep="last", train_split="all")
    row = train.train(trial, tmp_path, dataset=bars_dataset)
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"test_accuracy_last={row['test_accuracy_last']:.6f}" in last
    assert "val_" not in last, "no image is left to validate on"
    assert "best" not in last


def test_epoch_lines_appear_while_the_training_runs(capsys):
    lines = train.epoch_lines(2)
    lines.on_epoch_end(0, {"loss": 0.5, "accuracy": 0.25, "val_loss": 0.75, "val_accuracy": 0.125})
    assert capsys.readouterr().out == (
        "epoch 1/2 train_loss=0.500000 train_accuracy=0.250000 val_loss=0.750000 val_accuracy=0.125000\n"
    )
    lines.on_epoch_end(1, {"loss": 1.0, "accuracy": 0.25})
    assert capsys.readouterr().out.startswith("epoch 2/2 train_loss=1.000000")


def test_epochs_before_a_restart_are_not_printed_again(tmp_path, bars_dataset, capsys, monkeypatch):
    """The log has one line an epoch, whatever was killed: here, what a checkpoint holds is three of four epochs."""
    trial = Trial("short", "dense", {"units": [4]}, dataset="bars", epochs=4, precision="float32")

    class Killed(Exception):  # noqa: N818
        pass

    def end(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 2:
            raise Killed

    save = Checkpoint.on_epoch_end
    monkeypatch.setattr(Checkpoint, "on_epoch_end", end)
    with pytest.raises(Killed):
        train.train(trial, tmp_path, dataset=bars_dataset)
    monkeypatch.setattr(Checkpoint, "on_epoch_end", save)
    train.train(trial, tmp_path, dataset=bars_dataset)
    assert re.findall(r"epoch (\d)/4", capsys.readouterr().out) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("filters", ["16,32", "16 32", "[16, 32]"])
def test_a_list_is_read_however_it_is_written(filters):
    arguments = train.make_parser().parse_args(["--filters", filters, "--kernel-size", "3", "--batch-norm", "True"])
    assert train.make_trial(arguments) == Trial(
        "trial", options={"filters": [16, 32], "kernel_size": 3, "batch_norm": True}
    )


def test_a_variant_of_a_study_is_that_study_s_trial():
    from cnnlab.studies import find_study

    arguments = train.make_parser().parse_args(["--study", "kernels", "--variant", "cnn_32_64_k5", "--seed", "4"])
    expected = next(
        trial for trial in find_study("kernels").runs(5) if (trial.label, trial.seed) == ("cnn_32_64_k5", 4)
    )
    assert train.make_trial(arguments) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--study", "kernel"], "no study is called 'kernel'"),
        (["--study", "kernels", "--variant", "k5"], "expected one of cnn_32_64_k1"),
        (["--epochs", "0"], "epochs is 0; expected greater than 0"),
        (["--kernel-size", "4", "--dataset", "bars"], "kernel_size is 4; expected an odd number"),
        (["--flip", "always"], "flip is 'always'; expected 'none', 'random' or 'alternating'"),
        (["--train-images", "9999", "--dataset", "bars"], "expected at most 256"),
    ],
)
def test_what_makes_no_trial_is_one_line_and_writes_nothing(argv, message, tmp_path, monkeypatch, capsys, bars_dataset):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(data.LOADERS, "bars", lambda seed: bars_dataset)
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    assert common.run(train.main) == common.EXIT_BAD_ARGUMENTS
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.*"))


def test_a_misspelled_value_is_argparse_s_exit_code(capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(["--class-weights", "maybe"])
    assert ended.value.code == common.EXIT_BAD_ARGUMENTS
    assert "invalid boolean value: 'maybe'" in capsys.readouterr().err


def test_the_data_channel_is_chosen_and_handed_on(monkeypatch):
    seen = {}
    monkeypatch.setitem(data.LOADERS, "cifar10", lambda seed: seen.update(path=os.environ["CNNLAB_CIFAR10"]))
    monkeypatch.setenv("CNNLAB_CIFAR10", "elsewhere")
    channels = {"SM_CHANNEL_CODE": "/code", "SM_CHANNEL_SM_DRIVERS": "/drivers"}
    train.load_data(Trial("x"), {**channels, "SM_CHANNEL_CIFAR": "/cifar"})
    assert seen["path"] == "/cifar"
    assert train.data_channel(channels) is None
    assert train.data_channel({"SM_CHANNEL_A": "/a", "SM_CHANNEL_TRAIN": "/train"}) == "/train"
    with pytest.raises(common.BadArgumentsError, match="channels a, b; expected one, or one called training"):
        train.data_channel({"SM_CHANNEL_A": "/a", "SM_CHANNEL_B": "/b"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kernel-size", "2"], "kernel_size is 2; expected an odd number"),
        (["--learning_rate", "fast"], "argument --learning-rate: invalid float value: 'fast'"),
        (["--epochs=many"], "argument --epochs: invalid int value: 'many'"),
        (["--batch-norm", "perhaps"], "argument --batch-norm: invalid boolean value: 'perhaps'"),
        (["--filters", "32,x"], "argument --filters: invalid integers value: '32,x'"),
        (["--seed"], "argument --seed: expected one argument"),
        (["--optimizer", "none"], "none"),
        (["--study", "none"], "none"),
    ],
)
def test_a_failed_job_says_why_in_one_line_where_sagemaker_looks(tmp_path, bars_dataset, monkeypatch, words, message):
    monkeypatch.setitem(data.LOADERS, "bars", lambda seed: bars_dataset)
    environment = {"SM_MODEL_DIR": str(tmp_path / "model"), "SM_OUTPUT_DATA_DIR": str(tmp_path / "output" / "data")}
    with pytest.raises(common.BadArgumentsError):
        train.main(["--dataset", "bars", *words, "--checkpoint-dir", str(tmp_path)], environment)
    failure = (tmp_path / "output" / "failure").read_text()
    assert message in failure
    assert "\n" not in failure


def test_an_error_that_nobody_foresaw_is_named_too(tmp_path, bars_dataset, monkeypatch):
    def broken(seed):
        raise MemoryError("all\nused up")

    monkeypatch.setitem(data.LOADERS, "bars", broken)
    environment = {"SM_MODEL_DIR": str(tmp_path / "model"), "SM_OUTPUT_DATA_DIR": str(tmp_path / "output" / "data")}
    with pytest.raises(MemoryError):
        train.main(["--dataset", "bars", "--checkpoint-dir", str(tmp_path)], environment)
    assert (tmp_path / "output" / "failure").read_text() == "MemoryError: all used up"
