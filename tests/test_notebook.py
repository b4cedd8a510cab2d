"""What a notebook shows goes to its one place, and says where it comes from."""

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

from cnnlab import figures as plotting
from cnnlab import find_budget, report, results
from cnnlab.findings.finding import Finding
from cnnlab.notebook import Page

matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent


@pytest.fixture
def shown(monkeypatch):
    shown = []
    monkeypatch.setattr("cnnlab.notebook.display", lambda page: shown.append(page.data))
    return shown


@pytest.fixture
def figure():
    return plotting.captioned_images(np.zeros((1, 4, 4, 3), "uint8"), ["black"], "A picture")


def test_a_figure_goes_to_the_budgets_folder_with_its_stamp(figure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    view = Page(find_budget("smoke")).figure(figure, "mars_recurring_frame")
    saved = plt.imread(tmp_path / "runs" / "smoke" / "images" / "mars_recurring_frame.png")[..., :3]
    shown = plt.imread(io.BytesIO(view.data))[..., :3]
    assert shown.shape == saved.shape
    assert np.abs(shown - saved).max() < 0.1, "256 colours are enough for a figure"
    assert find_budget("smoke").label in [text.get_text() for text in figure.texts]


def test_a_recorded_figure_is_stamped_as_such_and_a_missing_one_says_how_to_make_it(
    figure, shown, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    chapter = report.Chapter("Once?", lambda record: record, figures={"mars_recurring_frame": lambda _: figure})
    monkeypatch.setattr(report, "CHAPTERS", {"frames": chapter})
    page = Page(find_budget("smoke"), report.Record(tmp_path, {"frames": [1]}))
    page.from_record("mars_recurring_frame")
    assert find_budget("full").label in [text.get_text() for text in figure.texts]
    assert page.from_record("mars_ladder") is None
    assert "mars_ladder" in shown[0]
    assert "python -m cnnlab record" in shown[0]


def test_what_a_notebook_shows_has_alternative_text_where_nbconvert_renders_it(figure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    view = Page(find_budget("smoke")).figure(figure, "mars_recurring_frame")
    page = new_notebook(
        cells=[new_code_cell("page", outputs=[new_output("display_data", {"text/html": view._repr_html_()})])]
    )
    html, _ = HTMLExporter(template_name="lab").from_notebook_node(page)
    assert f'<img alt="{plotting.alternative_text("mars_recurring_frame")}" ' in html
    assert "No description has been provided" not in html


def test_the_record_is_quoted_as_results_has_it(shown):
    recorded = report.Record(ROOT)
    page = Page(find_budget("smoke"), recorded)
    page.quote("filters")
    assert shown[0].count("> **Finding, the record.** ") == len(report.CHAPTERS["filters"].findings(recorded))
    page.table("filters")
    written = (ROOT / results.RESULTS).read_text(encoding="utf-8")
    assert all(table in written for table in shown[1:])


def test_a_chapter_that_is_not_recorded_says_how_to_make_its_rows(shown, tmp_path):
    Page(find_budget("smoke"), report.Record(tmp_path)).quote("kernels")
    assert "`cnnlab study kernels`" in shown[0]


def test_sentences_say_whose_they_are(shown):
    Page(find_budget("smoke")).say(Finding("It is.", None, {}), Finding("So.", None, {}), source="the record")
    assert shown == ["> **Finding, the record.** It is.\n\n> **Finding, the record.** So."]


def test_guesses_are_held_against_what_was_measured(shown):
    page = Page(find_budget("smoke"))
    page.guess("lead, points", 20, 30)
    page.guess("cost, points", 1, 2)
    page.guess("nothing said")
    page.guess("never measured", 0, 1)
    for quantity, measured in (("lead, points", 27.84), ("cost, points", 5), ("nothing said", 1_449)):
        page.reveal(quantity, measured)
    assert [text.split("measured: ")[1] for text in shown] == ["27.8.", "5.", "1,450."]
    table = page.guesses().set_index("quantity")
    assert list(table.index) == ["lead, points", "cost, points"]
    assert table.loc["cost, points"].to_dict() == {"low": 1, "high": 2, "measured": 5}
    assert "1 of your 2 intervals" in shown[-1]


def test_a_run_without_guesses_passes_and_says_how_to_make_one(shown):
    page = Page(find_budget("smoke"))
    assert page.guesses() is None
    page.guess("lead, points")
    page.reveal("lead, points", 1)
    assert page.guesses() is None
    assert "`low` and `high`" in shown[-1]


@pytest.mark.parametrize("interval", [(1, None), (None, 1), (2, 1)])
def test_half_a_guess_is_refused(interval):
    with pytest.raises(ValueError, match="expected two numbers, the smaller first, or None twice"):
        Page(find_budget("smoke")).guess("lead", *interval)


def test_a_quantity_that_nobody_guessed_is_named():
    page = Page(find_budget("smoke"))
    with pytest.raises(ValueError, match="nobody guessed 'lead'; the guesses are: none yet"):
        page.reveal("lead", 1)
