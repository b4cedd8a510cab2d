"""The report: README tables that follow the rows, and nothing else."""

import shutil
from pathlib import Path

import pytest

from cnnlab import report

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def frames():
    return report.record(ROOT / report.RECORD.store_folder)


def test_the_readme_says_what_the_rows_say(frames):
    readme = (ROOT / report.README).read_text(encoding="utf-8")
    assert report.fill(readme, report.blocks(frames, ROOT)) == readme, "run `python -m cnnlab report`"


def test_the_tables_of_the_record_are_those_of_the_rows(frames, tmp_path):
    (tmp_path / "results").mkdir()
    for name, frame in frames.items():
        written = report.write_table(name, frame, tmp_path)
        assert written.read_bytes() == (ROOT / "results" / written.name).read_bytes(), "run `python -m cnnlab report`"


def test_a_figure_of_the_record_exists_for_every_study_that_draws_one(frames):
    for name in report.figures(frames):
        assert (ROOT / "images" / f"{name}.png").exists()


def test_findings_change_when_the_rows_change(frames):
    before = report.blocks(frames, ROOT)
    changed = {name: frame.copy() for name, frame in frames.items()}
    for name in ("filters", "baselines"):
        changed[name]["test_accuracy_best"] -= 0.1 * (changed[name]["model"] == "cnn")
    after = report.blocks(changed, ROOT)
    assert after["answer"] != before["answer"]
    assert after["table:filters"] != before["table:filters"]
    assert after["table:baselines"] == before["table:baselines"]


def test_a_block_is_filled_and_the_rest_left_alone():
    text = "one\n<!-- begin:a -->\nold\n<!-- end:a -->\ntwo\n"
    filled = report.fill(text, {"a": "new"})
    assert filled == "one\n<!-- begin:a -->\nnew\n<!-- end:a -->\ntwo\n"
    assert report.fill(filled, {"a": "new"}) == filled


def test_a_block_that_nothing_fills_is_refused():
    with pytest.raises(ValueError, match="the README has a block 'b' that nothing fills; expected a"):
        report.fill("<!-- begin:b -->\n<!-- end:b -->", {"a": ""})


def test_a_record_without_rows_is_refused(tmp_path):
    shutil.copy(ROOT / report.README, tmp_path)
    with pytest.raises(ValueError, match="no finished trials"):
        report.rebuild(tmp_path)
