"""Widgets show what the network answers to what was moved, and leave a picture where none runs."""

import datetime
import re

import ipywidgets
import keras
import nbformat
import numpy as np
import pytest
import tiny_folder
from nbconvert import HTMLExporter
from scipy import ndimage

from cnnlab import execution, figures, find_budget, measures, widgets
from cnnlab.training import build, predict

NAMES = ("a", "b", "c", "d")
NOW = datetime.datetime.now(datetime.UTC)
PICTURE = re.compile(r'<img alt="[^"]{20,}" width="800" style="[^"]+" src="data:image/png;base64,[^"]+">')


@pytest.fixture(scope="module")
def cnn():
    keras.utils.set_random_seed(2)
    return build("cnn", filters=[4, 8], dense=16, input_shape=(16, 16, 3), num_classes=4)


@pytest.fixture(scope="module")
def dense():
    return build("dense", units=[8], input_shape=(16, 16, 3), num_classes=4)


@pytest.fixture(scope="module")
def shown(bars_dataset):
    """(images, labels) of the test set."""
    return bars_dataset.split("test")


@pytest.fixture
def drawn(monkeypatch):
    """What the last picture was drawn of: the positional arguments of its function."""
    calls = []
    for name in ("filtered_picture", "answer_bars", "confidence_moved", "attribution"):
        draw = getattr(figures, name)
        monkeypatch.setattr(figures, name, lambda *given, draw=draw: calls.append(given) or draw(*given))
    return calls


def upload(widget, name, content):
    """As the browser does."""
    file = {"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": NOW}
    widget.controls["files"].value = [file]


def test_a_weight_that_is_moved_filters_the_picture_anew(shown, drawn):
    widget = widgets.kernel(shown[0], "blur")
    before = widget.picture.value
    widget.controls["weight_1_1"].value = 5
    kernel = np.full((3, 3), 1 / 9)
    kernel[1, 1] = 5
    grey = shown[0][0].mean(axis=2) / 255
    np.testing.assert_allclose(drawn[-1][2], ndimage.correlate(grey, kernel)[1:-1, 1:-1])
    assert PICTURE.fullmatch(widget.picture.value) and widget.picture.value != before


def test_a_named_kernel_sets_nine_weights_and_draws_once(shown, drawn):
    widget = widgets.kernel(shown[0])
    buttons = {button.description: button for button in widget.children[0].children[1].children[0].children}
    assert set(buttons) == set(measures.KERNELS)
    buttons["outline"].click()
    assert len(drawn) == 2
    assert drawn[-1][1].tolist() == np.array(measures.KERNELS["outline"]).tolist()


def test_a_moved_picture_is_answered_as_the_network_does(cnn, shown, drawn):
    images, labels = shown
    widget = widgets.shift(cnn, images, labels, NAMES)
    widget.put(picture=3, right=-4, down=2)
    moved = ndimage.shift(images, (0, 2, -4, 0), order=0, mode="mirror")
    pictures, answers, _, title = drawn[-1]
    assert np.array_equal(pictures["-4 right, 2 down"], moved[3])
    np.testing.assert_allclose(answers["unmoved"], predict(cnn, images)[3], atol=1e-6)
    np.testing.assert_allclose(answers["moved"], predict(cnn, moved)[3], atol=1e-6)
    shares = [np.mean(predict(cnn, each).argmax(axis=1) == labels) for each in (images, moved)]
    assert title.startswith(f"truth: {NAMES[labels[3]]}; of 64 pictures {shares[0]:.1%} are right")
    assert f"{shares[1]:.1%} moved" in title
    still, after = (pictures[name] for name in list(pictures)[1:])
    maps = [measures.feature_maps(cnn, each[3])["conv2"] for each in (images, moved)]
    channel = maps[0].mean(axis=(0, 1)).argmax()
    np.testing.assert_allclose([still, after], [each[..., channel] for each in maps], atol=1e-6)


def test_a_network_without_convolutions_is_moved_without_a_map(dense, shown, drawn):
    widgets.shift(dense, *shown, NAMES)
    assert len(drawn[-1][0]) == 1


def test_a_shift_begins_where_it_costs_the_answer(cnn, shown, drawn):
    images, labels = shown
    sure = predict(cnn, images).argmax(axis=1)  # labels that are right unmoved
    widget = widgets.shift(cnn, images, sure, NAMES)
    changed = predict(cnn, measures.shift_images(images, 0, 5)).argmax(axis=1) != sure
    assert changed.any() and widget.controls["picture"].value == changed.argmax()


def test_a_temperature_moves_confidence_and_no_answer(cnn, shown, drawn):
    probabilities, labels = predict(cnn, shown[0]), shown[1]
    widget = widgets.temperature(probabilities, labels)
    widget.controls["temperature"].value = 0.5
    bins, (trained, scaled) = drawn[-1][0], drawn[-1][1].values()
    squared = probabilities.astype("float64") ** 2
    np.testing.assert_allclose(scaled, (squared / squared.sum(axis=1, keepdims=True)).max(axis=1), rtol=1e-5)
    assert list(bins)[1].startswith("temperature 0.50, error ")
    for table, values in zip(bins.values(), (trained, scaled), strict=True):
        assert np.average(table["confidence"], weights=table["count"]) == pytest.approx(values.mean())
        share = np.average(table["accuracy"], weights=table["count"])
        assert share == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels))


@pytest.mark.parametrize("kind", ["Grad-CAM", "occlusion"])
def test_maps_of_the_answer_and_of_the_class_that_was_asked_for(cnn, shown, drawn, kind):
    images, _ = shown
    widget = widgets.attribution(cnn, images, NAMES)
    widget.put(picture=2, kind=kind, asked=1)
    answer = predict(cnn, images)[2].argmax()
    expected = [measures.MAPS[kind](cnn, images[2:3], [place])[0] for place in (answer, 1)]
    np.testing.assert_allclose(drawn[-1][1][kind], expected, atol=1e-4)
    assert drawn[-1][2][1].startswith("asked for b, ")


def test_ones_own_picture_is_answered_and_a_bad_file_gets_one_line(cnn, shown, drawn):
    widget = widgets.own_picture(cnn, NAMES, shown[0][0])
    assert np.array_equal(drawn[-1][0]["a test picture, as the network sees it"], shown[0][0])
    square = tiny_folder.photo(5, (16, 16))
    upload(widget, "photo.png", tiny_folder.encoded(square))
    np.testing.assert_allclose(drawn[-1][1]["answer"], predict(cnn, np.asarray(square)[None])[0], atol=1e-6)
    for name, content in (
        ("<b>.txt", b"no picture"),
        ("empty.png", b""),
        ("cut.png", tiny_folder.encoded(square)[:60]),
    ):
        upload(widget, name, content)
        line = widget.picture.value
        assert re.fullmatch(r"<p>[^<>]+ is (not a .*picture|empty).*</p>", line), line
        assert name.replace("<", "&lt;").replace(">", "&gt;") in line
    upload(widget, "photo.png", tiny_folder.encoded(square))
    assert PICTURE.fullmatch(widget.picture.value)


def test_beside_the_widget_stands_its_picture_for_where_none_runs(shown):
    bundle = widgets.kernel(shown[0])._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", execution.WIDGET_VIEW}
    assert PICTURE.match(bundle["text/html"])
    assert isinstance(widgets.kernel(shown[0]), ipywidgets.DOMWidget)


def test_an_executed_notebook_and_its_html_hold_the_picture_and_no_widget(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNLAB_ROOT", str(tmp_path))
    sources = (
        "from cnnlab import find_budget, widgets\nBUDGET = find_budget()",
        "import ipywidgets\nfrom matplotlib.figure import Figure\nalt = 'A figure on which nothing is drawn.'\n"
        "widgets.Movable(lambda number: Figure(), alt, {'number': ipywidgets.IntSlider()})",
    )
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "moving.ipynb")
    copy = nbformat.read(execution.execute_notebook("moving.ipynb", find_budget("smoke")), as_version=4)
    (output,) = copy.cells[1].outputs
    assert set(output.data) == {"text/plain", "text/html"}
    assert "widgets" not in copy.metadata
    page, _ = HTMLExporter().from_notebook_node(copy)
    source = re.search('src="(.+?)"', output.data["text/html"])[1]
    assert page.count(source) == page.count("A figure on which nothing is drawn.") - 1 == 1
