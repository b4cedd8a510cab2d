"""Rows on disk: whole or not there, found by what they say, and never mixed; the recorded ones among them."""

import dataclasses
import importlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_study import CNNS

from cnnlab.studies import STUDIES, Store, find_recipe, read_all, select
from cnnlab.studies.store import PROTOCOL_OF_CODE, identity_of, protocols_of
from cnnlab.training import PROTOCOL, Result, Trial, trial_key
from cnnlab.training.networks import checked

RECORD = Path(__file__).parents[1] / "results" / "trials"
# Studies of which seeds are planned that are not recorded yet; RESULTS.md counts both.
BEGUN = ()
ROWS = 737
TRIAL, OTHER = CNNS.trials
RUNS = CNNS.runs()


def result_of(trial, version="v1", **facts):
    """A Result as training would give it, with four answers of four classes."""
    trial = trial.resolved()
    row = {"label": trial.label, **trial.configuration(), "data_version": version, "protocol": PROTOCOL, **facts}
    test = np.eye(4)[[0, 1, 2, trial.seed % 4]] * 0.5 + 0.125
    return Result(trial, row, {"loss": [1.25, 0.123456789]}, None, {"test": test})


@pytest.fixture
def store(tmp_path):
    """One row for each run of CNNS."""
    store = Store(tmp_path / "trials")
    for number, trial in enumerate(RUNS):
        store.save(result_of(trial, number=number))
    return store


@pytest.fixture(scope="module")
def record():
    return Store(RECORD).records()


def test_a_saved_result_is_found_with_its_curves_and_predictions(store):
    row = store.row(TRIAL)
    assert row["key"] == store.key(TRIAL) == trial_key(TRIAL)
    assert row["history"] == {"loss": [1.25, 0.12346]}
    assert (row["number"], row["protocol"]) == (0, PROTOCOL)
    predictions = store.predictions(row["key"])
    assert predictions["predicted"].tolist() == [0, 1, 2, 0]
    assert predictions["confidence"].tolist() == [0.625] * 4


def test_files_are_whole_and_nothing_half_stays(store):
    names = {path.name for path in store.folder.iterdir()}
    assert names == {f"{trial_key(trial)}.{kind}" for trial in RUNS for kind in ("json", "npz")}
    for path in store.folder.glob("*.json"):
        assert {"key", "history", "protocol", "data_version", "finished"} <= json.loads(path.read_text()).keys()


def test_a_row_is_found_by_what_it_says_whatever_its_file_is_called(store):
    path = store.folder / f"{trial_key(TRIAL)}.json"
    row = json.loads(path.read_text())
    path.rename(store.folder / "0123456789abcdef.json")
    (store.folder / "0123456789abcdef.json").write_text(json.dumps({**row, "key": "0123456789abcdef"}))
    assert TRIAL in store
    assert store.key(TRIAL) == "0123456789abcdef"
    assert store.row(dataclasses.replace(TRIAL, label="renamed"))["number"] == 0


@pytest.mark.parametrize(
    "changes",
    [{"seed": 7}, {"epochs": 9}, {"options": {"filters": [3]}}, {"precision": "mixed_bfloat16"}, {"flip": "random"}],
)
def test_another_trial_is_not_found(store, changes):
    other = dataclasses.replace(TRIAL, **changes)
    assert other not in store
    assert store.key(other) == trial_key(other)
    with pytest.raises(KeyError, match=f"no result of cnn_2, seed {other.seed}"):
        store.row(other)


def test_rows_of_another_protocol_are_not_found(store, monkeypatch):
    monkeypatch.setattr(importlib.import_module("cnnlab.studies.store"), "PROTOCOL", PROTOCOL + 1)
    assert TRIAL not in store


def test_a_row_of_another_version_of_the_data_is_not_found_and_kept_beside(store):
    assert store.find(TRIAL, "v1")["number"] == 0
    assert store.find(TRIAL, "v2") is None
    store.save(result_of(TRIAL, "v2", number=10))
    assert [store.find(TRIAL, version)["number"] for version in ("v1", "v2")] == [0, 10]
    assert len(store.records()) == 5
    assert len(list(store.folder.glob("*.npz"))) == 5


def test_a_torn_row_is_named_and_left_out(store):
    torn = store.folder / f"{trial_key(TRIAL)}.json"
    torn.write_text(torn.read_text()[:40])
    with pytest.warns(UserWarning, match="is not a complete row"):
        assert len(select(store.records(), RUNS)) == 3


def test_what_is_changed_on_disk_is_read_again(store):
    assert store.row(TRIAL)["number"] == 0
    path = store.folder / f"{trial_key(TRIAL)}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "number": 99}))
    assert store.row(TRIAL)["number"] == 99
    path.unlink()
    assert TRIAL not in store


@pytest.mark.parametrize(("on_gpu", "kept"), [([], [0, 1, 2, 3]), ([1, 3], [0, 2]), ([0, 1, 2, 3], [0, 1, 2, 3])])
def test_times_on_a_gpu_do_not_stand_beside_others(tmp_path, on_gpu, kept):
    store = Store(tmp_path)
    for number, trial in enumerate(RUNS):
        device = "NVIDIA H200" if number in on_gpu else "none"
        store.save(result_of(trial, number=number, accelerator=device, seconds_training=9.0, cpu_seconds=8.0))
    frame = select(store.records(), RUNS)
    assert sorted(frame["number"]) == [0, 1, 2, 3]
    for column in ("seconds_training", "cpu_seconds"):
        assert sorted(frame.loc[frame[column].notna(), "number"]) == kept


def test_a_claim_is_of_one_process_and_given_back(store, tmp_path):
    beside = Store(store.folder)
    with store.claim(TRIAL) as mine, beside.claim(TRIAL) as theirs, beside.claim(OTHER) as another:
        assert (mine, theirs, another) == (True, False, True)
    with beside.claim(TRIAL) as theirs:
        assert theirs
    assert len(store.records()) == 4


def test_an_unwritable_store_says_so_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Store(tmp_path / "file" / "store").check_writable()
    Store(tmp_path / "new").check_writable()
    assert not list((tmp_path / "new").iterdir())


# --- select ------------------------------------------------------------------------------------


def test_the_table_has_the_order_and_the_labels_of_the_trials(store):
    trials = [dataclasses.replace(trial, label=f"new_{trial.label}") for trial in reversed(RUNS)]
    frame = select(store.records(), trials)
    assert frame["label"].tolist() == [trial.label for trial in trials]
    assert frame["number"].tolist() == [3, 2, 1, 0]
    assert "history" not in frame
    assert frame.attrs["protocol"] == PROTOCOL
    assert select(store.records(), []).empty
    assert select([], RUNS).empty


def test_rows_of_another_protocol_are_kept_apart(store):
    records = store.records()
    foreign = [{**record, "protocol": PROTOCOL + 1, "number": -1} for record in records]
    frame = select(records, RUNS)
    pd.testing.assert_frame_equal(select([*foreign[:3], *records], RUNS), frame)
    assert select(foreign, RUNS).attrs["protocol"] == PROTOCOL + 1
    assert len(select([*foreign[:3], records[3]], RUNS)) == 3, "rows of two protocols in one table"
    assert len(select([*foreign, *records], RUNS)) == 4, "as many of each: those of the newer protocol"
    assert set(select([*foreign, *records], RUNS)["number"]) == {-1}


def test_rows_of_two_versions_of_the_data_are_not_mixed(store):
    records = store.records()
    for seed, when in ((0, "2000"), (1, "2100")):
        new = [{**r, "data_version": "v2", "finished": when} for r in records if r["seed"] == seed]
        frame = select([*records, *new[:1]], RUNS)
        assert len(frame) == 4
        assert set(frame["data_version"]) == {"v1"}, "the version that most rows have"
        frame = select([*new, *records], RUNS).set_index("seed")
        assert len(frame) == 4
        # As many of each: what was trained last.
        assert set(frame.loc[seed, "data_version"]) == {"v2" if when == "2100" else "v1"}
        assert set(frame.loc[1 - seed, "data_version"]) == {"v1"}


def test_where_the_machine_chooses_the_precision_the_most_complete_is_taken(store):
    records = store.records()
    auto = [dataclasses.replace(trial, precision="auto") for trial in RUNS]
    other = [{**record, "precision": "mixed_bfloat16"} for record in records]
    assert set(select([*records, *other[:3]], auto)["precision"]) == {"float32"}
    assert set(select([*records[:3], *other], auto)["precision"]) == {"mixed_bfloat16"}
    assert set(select([*records[:1], *other], RUNS)["precision"]) == {"float32"}, "a precision of their own"


def test_what_is_no_row_of_a_trial_is_left_out(store):
    foreign = [{"model": "cnn", "protocol": PROTOCOL, "precision": "float32"}, {}, {"label": "x", "epochs": -1}]
    assert [identity_of(each) for each in foreign[1:]] == [None, None]
    assert select(foreign, RUNS).empty
    pd.testing.assert_frame_equal(select([*foreign, *store.records()], RUNS), select(store.records(), RUNS))


# --- the record --------------------------------------------------------------------------------


def test_every_recorded_row_is_of_a_trial_that_a_study_declares(record):
    assert len(record) == ROWS
    assert all(protocols_of(row) for row in record)
    identities = Counter((identity_of(row), row["precision"]) for row in record)
    assert (None, "float32") not in identities
    declared = {trial.identity for study in STUDIES.values() for trial in study.runs()}
    assert {identity for identity, _ in identities} <= declared
    assert max(identities.values()) == 1, "two rows of one trial"


def test_every_declared_trial_has_its_row(record):
    for name, study in STUDIES.items():
        frame = select(record, study.runs())
        assert len(frame) == len(study.runs()) or name in BEGUN, name
        assert frame.empty or frame["key"].is_unique
    assert sum(len(study.runs()) for study in STUDIES.values()) >= ROWS


def test_rows_of_the_two_former_kinds_are_those_of_todays_trials(record):
    by_label = {(row["label"], row["seed"]): row for row in record}
    for label in ("published", "assignment", "only_triangular", "only_lookahead"):
        row = by_label[label, 1]
        trial = dataclasses.replace(find_recipe(label), seed=1)
        assert identity_of(row) == trial.identity
        assert row["code_version"] in PROTOCOL_OF_CODE


def test_code_that_nobody_knows_has_no_protocol_and_its_rows_are_left_out(record):
    study = STUDIES["baselines"]
    strange = [{**row, "code_version": "f" * 12} for row in record if "protocol" not in row]
    assert {protocols_of(row) for row in strange} == {()}
    assert select(strange, study.runs()).empty


def test_protocol_2_left_networks_without_normalisation_as_they_were(record):
    """tests/test_protocol.py keeps their losses, which protocol 2 did not touch."""
    found = {row["label"]: protocols_of(row) for row in record if "protocol" not in row}
    assert found["cnn_32_64_128"] == found["assignment"] == (1, 2)
    normalised = next(row for row in record if "protocol" not in row and row["label"] == "cnn_32_64_128")
    assert protocols_of({**normalised, "options": {**normalised["options"], "batch_norm": True}}) == (1,)


def test_a_field_that_is_added_with_a_default_leaves_every_recorded_row_found(monkeypatch):
    @checked
    class Later(Trial):
        cutout: int = 0

    rooms = [importlib.import_module(f"cnnlab.studies.{name}") for name in ("store", "study")]
    for room in rooms:
        monkeypatch.setattr(room, "Trial", Later)
    monkeypatch.setattr(rooms[0], "FIELDS", tuple(field.name for field in dataclasses.fields(Later)))

    record = Store(RECORD).records()  # read anew: a row that was read knows what it is of

    def later(trial, **changes):
        return Later(trial.label, **trial.configuration(), **changes)

    keys = set()
    for study in STUDIES.values():
        trials = [later(trial) for trial in study.runs()]
        assert {trial.identity for trial in trials}.isdisjoint(trial.identity for trial in study.runs())
        keys |= set(select(record, trials).get("key", ()))
    assert len(keys) == ROWS
    trial = STUDIES["baselines"].trials[0]
    assert later(trial) in Store(RECORD) or later(trial).resolved().precision not in {r["precision"] for r in record}
    assert select(record, [later(trial, cutout=8)]).empty


def test_all_studies_are_read_with_one_look(record):
    frames = read_all(STUDIES, Store(RECORD))
    assert frames.keys() == STUDIES.keys()
    complete = [name for name in STUDIES if name not in BEGUN]
    assert all(len(frames[name]) == len(STUDIES[name].runs()) for name in complete)
