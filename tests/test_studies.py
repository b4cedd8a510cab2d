"""Studies and their store: resumable, safe under two processes, never mixed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_study import STUDY

from cnnlab import data, machine, store, studies
from cnnlab.studies import Store, read, run_study, select
from cnnlab.training import Trial, trial_key

PROGRAM = Path(__file__).parent / "tiny_study.py"
# What may differ between two runs of one trial.
INCIDENTAL = ["seconds", "cpu_seconds", "finished"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = Store(tmp_path_factory.mktemp("undisturbed"))
    return folder, run_study(STUDY, STUDY.seeds, folder, progress=False)


def start(folder):
    environment = {**os.environ, "PYTHONPATH": f"{PROGRAM.parent}{os.pathsep}{PROGRAM.parent.parent}"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )


def finished(folder):
    return {path.name for path in folder.glob("*.json")}


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the study made no progress"
        time.sleep(0.02)


def test_one_row_a_trial_and_seed_in_the_order_of_the_study(undisturbed):
    _, frame = undisturbed
    assert frame[["label", "seed"]].to_numpy().tolist() == [["cnn_2", 0], ["cnn_4", 0], ["cnn_2", 1], ["cnn_4", 1]]
    assert frame["key"].is_unique
    assert frame["test_accuracy_best"].between(0, 1).all()


def test_the_answers_of_a_variant_stand_by_seed(undisturbed, tmp_path):
    folder, frame = undisturbed
    answers = studies.predictions({STUDY.name: STUDY}, folder)
    assert list(answers) == ["cnn_2", "cnn_4"]
    for row in frame.itertuples():
        labels = data.load("bars", row.seed).split("test")[1]
        assert np.mean(answers[row.label][row.seed] == labels) == pytest.approx(row.test_accuracy_best)
    with pytest.raises(ValueError, match="has no rows of tiny; run them first"):
        studies.predictions({STUDY.name: STUDY}, Store(tmp_path))


def test_a_second_run_trains_nothing(undisturbed, monkeypatch):
    folder, frame = undisturbed

    def train_again(*arguments, **options):
        raise AssertionError("a finished trial was trained again")

    monkeypatch.setattr(studies, "run_trial", train_again)
    pd.testing.assert_frame_equal(run_study(STUDY, STUDY.seeds, folder, progress=False), frame)


def test_more_seeds_add_rows_and_leave_the_others(undisturbed, tmp_path):
    folder, frame = undisturbed
    one = run_study(STUDY, 1, Store(tmp_path), progress=False)
    pd.testing.assert_frame_equal(one.drop(columns=INCIDENTAL), frame[:2].drop(columns=INCIDENTAL))


def test_killed_at_any_moment_it_ends_in_the_undisturbed_table(undisturbed, tmp_path):
    _, expected = undisturbed
    checkpoints = tmp_path / ".checkpoints"
    moments = [
        lambda: checkpoints.exists() and any(checkpoints.glob("*.npz")),  # within the first trial
        lambda: len(finished(tmp_path)) >= 2,  # right after a row
    ]
    before = {}
    for moment in moments:
        process = start(tmp_path)
        wait_for(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        rows = {name: (tmp_path / name).read_bytes() for name in finished(tmp_path)}
        assert before.items() <= rows.items(), "a finished row was lost or written again"
        before = rows
    process = start(tmp_path)
    assert process.wait() == 0
    process.communicate()
    actual = read(STUDY, STUDY.seeds, Store(tmp_path))
    pd.testing.assert_frame_equal(actual.drop(columns=INCIDENTAL), expected.drop(columns=INCIDENTAL))
    assert before.items() <= {name: (tmp_path / name).read_bytes() for name in finished(tmp_path)}.items()
    assert not list(checkpoints.glob("*")), "a checkpoint outlived its trial"


def test_two_processes_share_the_work_and_do_nothing_twice(undisturbed, tmp_path):
    _, expected = undisturbed
    processes = [start(tmp_path), start(tmp_path)]
    output = "".join(process.communicate()[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    actual = read(STUDY, STUDY.seeds, Store(tmp_path))
    pd.testing.assert_frame_equal(actual.drop(columns=INCIDENTAL), expected.drop(columns=INCIDENTAL))
    # A training shows its empty bar once, when it starts.
    assert output.count("| 0/64 [") == len(expected)


def test_predictions_are_those_behind_the_accuracy(undisturbed, bars_dataset):
    folder, frame = undisturbed
    _, labels = bars_dataset.split("test")
    predictions = folder.predictions(frame["key"][0])
    assert np.mean(predictions["predicted"] == labels) == pytest.approx(frame["test_accuracy_best"][0])
    assert predictions["confidence"].min() >= 0.25 - 1e-3


def test_rows_of_another_code_version_are_kept_apart(undisturbed):
    folder, frame = undisturbed
    records = folder.records()
    foreign = [{**record, "code_version": "f" * 12, "test_accuracy_best": 0.0} for record in records]
    runs = STUDY.runs(STUDY.seeds)
    version = frame.attrs["code_version"]
    mixed = select([*foreign[:3], *records], runs, version)
    pd.testing.assert_frame_equal(mixed, frame)
    only_foreign = select(foreign, runs, version)
    assert only_foreign.attrs["code_version"] == "f" * 12
    assert len(select([*foreign[:3], records[3]], runs, version)) == 3, "rows of two versions in one table"


def test_changed_code_changes_the_key_and_so_nothing_is_reused(undisturbed, monkeypatch):
    folder, _ = undisturbed
    trial = STUDY.trials[0]
    assert trial in folder
    monkeypatch.setattr("cnnlab.trials.code_version", lambda *modules: "another")
    assert trial not in folder


def test_comments_and_docstrings_are_not_code(tmp_path, monkeypatch):
    versions = []
    for number, text in enumerate(('"""One."""\nx = 1  # one\n', '"""Two."""\nx  =  1\n', "x = 2\n")):
        (tmp_path / f"version_probe{number}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        versions.append(machine.code_version.__wrapped__(f"version_probe{number}"))
    assert versions[0] == versions[1] != versions[2]


def test_a_torn_row_is_named_and_left_out(undisturbed, tmp_path):
    folder, frame = undisturbed
    for path in folder.folder.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    torn = tmp_path / f"{frame['key'][1]}.json"
    torn.write_text(torn.read_text()[:40])
    with pytest.warns(UserWarning, match="is not a whole row"):
        rows = read(STUDY, STUDY.seeds, Store(tmp_path))
    assert len(rows) == len(frame) - 1


def test_an_unwritable_store_is_refused_before_any_training(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr(studies, "run_trial", lambda *a, **k: pytest.fail("trained first"))
    with pytest.raises(OSError, match="file"):
        run_study(STUDY, 1, Store(blocked / "store"), progress=False)


def test_an_interrupted_trial_is_not_stored(tmp_path, monkeypatch):
    train = studies.run_trial

    def interrupted(*arguments, **options):
        result = train(*arguments, **{**options, "progress": False})
        return dataclasses.replace(result, interrupted=True)

    monkeypatch.setattr(studies, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, 1, Store(tmp_path), progress=False)
    assert not finished(tmp_path)


def test_missing_rows_give_an_empty_frame_and_a_missing_row_a_key_error(tmp_path):
    empty = Store(tmp_path)
    assert read(STUDY, 1, empty).empty
    with pytest.raises(KeyError, match="no result of cnn_2, seed 0"):
        empty.row(STUDY.trials[0])


def test_progress_tells_what_is_done_and_the_time_left(tmp_path, capsys):
    run_study(STUDY, 1, Store(tmp_path))
    shown = capsys.readouterr().out
    assert "tiny 1/2  cnn_2 seed 0: done, 1 to go, about 0:0" in shown
    assert "tiny 2/2  cnn_4 seed 0: done" in shown


def test_studies_ask_what_the_issue_asks():
    filters = studies.find_study("filters")
    assert [trial.options["filters"] for trial in filters.trials][-1] == [128, 256, 512]
    assert len({trial.epochs for trial in filters.trials}) == 1, "one number of epochs for all"
    assert [t.options.get("kernel_size", 3) for t in studies.find_study("kernels").trials] == [1, 3, 5, 7]
    assert {t.options["head"] for t in studies.find_study("filters_gap").trials} == {"gap"}
    steps = {t.epochs * t.steps_per_epoch for t in studies.find_study("sample_size").trials}
    assert len(steps) == 1, "equal steps"


def test_seeds_are_paired_and_come_one_after_another():
    runs = studies.find_study("filters").runs(2)
    assert [trial.seed for trial in runs] == [0] * 4 + [1] * 4


def test_a_misspelt_study_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="no study is called 'filter'; expected one of baselines, filters"):
        studies.find_study("filter")


@pytest.mark.parametrize("name", ["smoke", "quick"])
def test_a_budget_limits_every_trial_and_repeats_none(name):
    for study in studies.STUDIES.values():
        budget = studies.find_budget(name, study.dataset)
        small = study.within(budget)
        assert all(trial.epochs <= study.trials[0].epochs for trial in small.trials)
        assert all(trial.train_images <= budget.sweep_images for trial in small.trials)
        keys = [trial_key(trial) for trial in small.trials]
        assert len(set(keys)) == len(keys)


def test_the_full_budget_changes_nothing():
    trial = Trial("any", epochs=15)
    assert studies.find_budget("full").limit(trial) == trial


def test_an_unknown_budget_is_refused(monkeypatch):
    monkeypatch.setenv("CNNLAB_PROFILE", "fast")
    with pytest.raises(ValueError, match="no budget is called 'fast'; expected one of full, quick, smoke"):
        studies.find_budget()


def test_records_hold_json_and_nothing_half(undisturbed):
    folder, _ = undisturbed
    for path in folder.folder.glob("*.json"):
        assert {"key", "history", "code_version"} <= json.loads(path.read_text()).keys()
    assert not list(folder.folder.glob("*.partial"))
    assert store.Store(folder.folder).records()
