"""The report: pages, tables and figures that follow the rows, one entry of CHAPTERS for each question."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny_study

from cnnlab import evidence, findings, record, report, results, studies
from cnnlab.studies import Store
from cnnlab.training import PROTOCOL

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def recorded():
    return report.Record(ROOT)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder whose record is a toy study, declared in two places."""
    study = replace(tiny_study.CNNS, name="toy", question="Does anything play?", seeds=3)
    monkeypatch.setitem(studies.STUDIES, "toy", study)
    monkeypatch.setitem(report.CHAPTERS, "toy", report.of_study("toy", "A toy"))
    monkeypatch.setattr(results, "QUESTIONS", ("toy",))
    folder = tmp_path / "results" / "trials"
    folder.mkdir(parents=True)
    for number, trial in enumerate(study.runs(seeds=3)):
        accuracy = 0.5 + 0.1 * (trial.label == "cnn_4") + 0.001 * number
        row = trial.resolved().configuration() | {
            "key": Store(folder).key(trial), "label": trial.label, "protocol": PROTOCOL, "parameters": 10,
            "history": {},
            "cpu": "abacus", "cores": 2, "accelerator": "none", "keras": "3", "backend": "beads",
            "backend_version": "1", "seconds": 60.0, "cpu_seconds": 90.0, "test_accuracy_best": accuracy,
            "test_loss_best": 1 - accuracy, "val_accuracy_best": accuracy,
        }  # fmt: skip
        pd.Series(row).to_json(folder / f"{row['key']}.json")
    (tmp_path / results.README).write_text("<!-- begin:questions -->\n<!-- end:questions -->\n")
    return tmp_path


def test_a_new_study_is_one_declaration_and_one_chapter(toy):
    written = {path.relative_to(toy).as_posix() for path in results.rebuild(toy)}
    assert written == {"results/toy.csv", "images/toy_study.png", "results/RESULTS.md", "README.md"}
    assert len(pd.read_csv(toy / "results" / "toy.csv")) == 6
    page = (toy / results.RESULTS).read_text()
    (said,) = record.listed(findings.adjacent(report.Record(toy)["toy"]))
    assert f"- {said.sentence}\n" in page
    assert "(../images/toy_study.png)" in page
    assert re.search(r"^\| CNN 4 \| 10 \| 3 \| 60\.3% \|", page, re.MULTILINE)
    assert f"(results/RESULTS.md#toy)** {said.sentence}" in (toy / results.README).read_text()


def test_what_is_rebuilt_again_is_the_same(toy):
    first = {path: path.read_bytes() for path in results.rebuild(toy)}
    assert {path: path.read_bytes() for path in results.rebuild(toy)} == first


def test_a_readme_with_a_block_that_nothing_fills_leaves_all_as_it_was(toy):
    (toy / results.README).write_text("<!-- begin:b -->\n<!-- end:b -->")
    with pytest.raises(ValueError, match="the README has a block 'b' that nothing fills; expected answer"):
        results.rebuild(toy)
    assert not (toy / "results" / "toy.csv").exists()


def test_a_record_without_rows_is_refused(tmp_path):
    shutil.copy(ROOT / results.README, tmp_path)
    with pytest.raises(ValueError, match="no finished trials"):
        results.rebuild(tmp_path)


def test_the_pages_say_what_the_rows_say(recorded):
    readme = (ROOT / results.README).read_text(encoding="utf-8")
    assert results.fill(readme, results.blocks(recorded)) == readme, "run `make report`"
    assert results.results_page(recorded) == (ROOT / results.RESULTS).read_text(encoding="utf-8"), "run `make report`"


def test_the_tables_of_the_record_are_those_of_the_rows(recorded, tmp_path):
    (tmp_path / "results").mkdir()
    for name, frame in recorded.items():
        written = results.write_table(name, frame, tmp_path)
        assert written.read_bytes() == (ROOT / "results" / written.name).read_bytes(), "run `make report`"


def test_every_study_and_probe_has_a_chapter_and_every_figure_its_file(recorded):
    assert {*studies.STUDIES, *findings.OF_PROBES} <= report.CHAPTERS.keys()
    names = [name for chapter in report.CHAPTERS.values() for name in chapter.figures]
    assert len(set(names)) == len(names), "a name is used twice"
    for name in report.drawings(recorded):
        assert (ROOT / "images" / f"{name}.png").exists()


def test_findings_change_when_the_rows_change(recorded):
    changed = report.Record(ROOT)
    changed.frames = {name: frame.copy() for name, frame in recorded.items()}
    for name in ("filters", "baselines"):
        changed.frames[name]["test_accuracy_best"] -= 0.1 * (changed[name]["model"] == "cnn")
    for name, differs in (("answer", True), ("filters", True), ("baselines", False)):
        before, after = (report.CHAPTERS[name].section(name, one) for one in (recorded, changed))
        assert (before != after) is differs


def test_a_chapter_without_rows_says_how_to_make_them(tmp_path):
    empty = report.Record(tmp_path)
    section = report.CHAPTERS["mars"].section("mars", empty)
    assert "make mars PROFILE=full" in section
    assert report.CHAPTERS["mars"].findings(empty) == []
    assert report.drawings(empty) == {}
    assert report.drawing(empty, "mars_ladder") is None
    assert report.audit(empty) is None


def test_what_is_of_mars_reads_no_image_of_cifar10(recorded, monkeypatch):
    whole = report.CHAPTERS["audit"].of(recorded)
    monkeypatch.setattr(evidence, "load_cifar10", lambda: pytest.fail("CIFAR-10 was loaded"))
    of_mars = report.audit(report.Record(ROOT), "mars")
    pd.testing.assert_frame_equal(of_mars, whole[whole["dataset"] == "mars"].reset_index(drop=True))
    assert callable(report.drawing(report.Record(ROOT), "mars_ladder"))


def test_the_summary_has_eight_rows_of_which_targets_count_their_augmentation(recorded):
    table = results.summary(recorded).set_index("Network")
    assert len(table) == 8
    rows = recorded["targets"].query("label == 'to_94'")["test_accuracy_tta"]
    assert table.loc["recipe `to_94`", "Seeds"] == len(rows)
    assert table.loc["recipe `to_94`", "Test accuracy"] == f"{100 * rows.mean():.1f}%"


def test_a_block_is_filled_and_the_rest_left_alone():
    text = "one\n<!-- begin:a -->\nold\n<!-- end:a -->\ntwo\n"
    filled = results.fill(text, {"a": "new"})
    assert filled == "one\n<!-- begin:a -->\nnew\n<!-- end:a -->\ntwo\n"
    assert results.fill(filled, {"a": "new"}) == filled


def test_the_tables_of_mars_are_of_all_seeds_that_are_recorded(recorded):
    rows = pd.concat(recorded[name] for name in studies.MARS_STUDIES).drop_duplicates("key")
    seeds = recorded.mars["scores"].groupby("label")["seeds"].agg(["min", "max"])
    expected = rows.groupby("label").size()
    assert len(expected) > 10
    assert seeds.loc[expected.index, "min"].tolist() == seeds.loc[expected.index, "max"].tolist() == expected.tolist()
