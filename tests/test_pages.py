"""What a notebook shows goes to its one place, and says where it comes from."""

import matplotlib
import numpy as np
import pytest

from cnnlab import figures as plotting
from cnnlab.findings.finding import Finding
from cnnlab.notebook import Page

matplotlib.use("Agg")


@pytest.fixture
def shown(monkeypatch):
    shown = []
    monkeypatch.setattr("cnnlab.pages.display", lambda page: shown.append(page.data))
    return shown


@pytest.fixture
def figure():
    return plotting.captioned_images(np.zeros((1, 4, 4, 3), "uint8"), ["black"], "A picture")


def test_a_figure_goes_to_the_budgets_folder_with_its_stamp(figure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    view = Page(studies.find_budget("smoke")).figure(figure, "mars_recurring_frame")
    assert (tmp_path / "runs" / "smoke" / "images" / "mars_recurring_frame.png").read_bytes() == view.data
    assert studies.find_budget("smoke").label in [text.get_text() for text in figure.texts]


def test_a_recorded_figure_is_stamped_as_such_and_a_missing_one_says_how_to_make_it(
    figure, shown, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    page = Page(studies.find_budget("smoke"), {"mars_recurring_frame": figure})
    page.from_record("mars_recurring_frame")
    assert studies.find_budget("full").label in [text.get_text() for text in figure.texts]
    assert page.from_record("mars_help_study") is None
    assert "mars_help_study" in shown[0]
    assert "python -m cnnlab record" in shown[0]


def test_sentences_say_whose_they_are(shown):
    Page(studies.find_budget("smoke")).say(Finding("It is.", None, {}), Finding("So.", None, {}), source="the record")
    assert shown == ["> **Finding, the record.** It is.\n\n> **Finding, the record.** So."]
