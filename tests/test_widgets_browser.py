"""The widgets in JupyterLab and a real browser: what is moved there changes its picture, and no other."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import browser
import nbformat
import pytest
import tiny_folder
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING)),
]
ROOT = Path(__file__).resolve().parents[1]
SECONDS = 240
# As `make lab` starts it.
UPLOADS = shlex.split(re.search(r"^UPLOADS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1])
MADE = """
import sys
sys.path.insert(0, {tests!r})
from cnnlab import import_keras, widgets
import_keras()
import keras, synthetic
keras.utils.set_random_seed(0)
from cnnlab.training import build, predict
dataset = synthetic.dataset()
images, labels = dataset.split("test")
names = dataset.class_names
model = build("cnn", filters=[4, 8], dense=16, input_shape=(16, 16, 3), num_classes=4)
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
_ = model.fit(*dataset.split("train"), epochs=3, verbose=0)
"""
SHOWN = {
    "kernel": "widgets.kernel(images)",
    "shift": "widgets.shift(model, images, labels, names)",
    "temperature": "widgets.temperature(predict(model, images), labels)",
    "attribution": "widgets.attribution(model, images, names)",
    "own_picture": "widgets.own_picture(model, names, images[0])",
}
# All cells stay in the page, also those out of sight.
SETTINGS = '{"windowingMode": "none"}'
# A file chooser cannot be driven; what it would fill in is caught before it opens.
CATCH = """
HTMLInputElement.prototype.click = function () {
  if (this.type === "file" && !this.isConnected) { this.id = "caught"; document.body.append(this); }
};
"""


@contextlib.contextmanager
def lab(folder):
    """The address of a JupyterLab on `folder`, which keeps nothing elsewhere."""
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(SETTINGS)
    kept = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    variables = os.environ | kept | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
        "--ServerApp.token=x", "--ServerApp.port=0", f"--ServerApp.root_dir={folder}", *UPLOADS,
    ]  # fmt: skip
    log = folder / "log"
    with log.open("w") as file, subprocess.Popen(command, stderr=file, stdout=file, env=variables) as server:
        try:
            deadline = time.monotonic() + SECONDS
            while not (found := re.search(r"http://127\.0\.0\.1:\d+/lab", log.read_text())):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield found[0]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A driver with a notebook open in which every cell has run."""
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(source) for source in (MADE.format(tests=str(ROOT / "tests")), *SHOWN.values())]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "moving.ipynb")
    with lab(folder) as address, browser.chromium() as driver:
        driver.set_window_size(1200, 3600)
        driver.get(f"{address}/tree/moving.ipynb?token=x")
        wait(driver, lambda: driver.execute_script("return !!window.jupyterapp?.shell.currentWidget?.content?.widgets"))
        driver.execute_script(
            "const app = window.jupyterapp;"
            "app.shell.currentWidget.sessionContext.ready.then(() => app.commands.execute('notebook:run-all-cells'));"
        )
        wait(driver, lambda: len(pictures(driver)) == len(SHOWN))
        driver.execute_script(CATCH)
        yield driver


def wait(driver, condition):
    WebDriverWait(driver, SECONDS).until(lambda _: condition())


def pictures(driver):
    """What each widget shows, in their order: the source of its picture, or a line of text."""
    return driver.execute_script(
        "return [...document.querySelectorAll('.widget-html-content')]"
        ".map((shown) => shown.querySelector('img')?.src ?? shown.innerText);"
    )


def moved(driver, name, act):
    """What the widget `name` shows after `act`, which no other widget hears of."""
    place, before = list(SHOWN).index(name), pictures(driver)
    act()
    wait(driver, lambda: pictures(driver)[place] != before[place])
    after = pictures(driver)
    assert before[:place] + before[place + 1 :] == after[:place] + after[place + 1 :]
    return after[place]


def test_a_number_of_the_kernel_and_a_named_kernel_filter_the_picture_anew(notebook):
    numbers = notebook.find_elements("css selector", "input[type=number]")
    assert moved(notebook, "kernel", lambda: (numbers[4].clear(), numbers[4].send_keys("5\n"))).startswith("data:")
    button = notebook.find_element("xpath", "//button[text()='outline']")
    assert moved(notebook, "kernel", button.click).startswith("data:")
    assert [number.get_attribute("value") for number in numbers] == ["-1"] * 4 + ["8"] + ["-1"] * 4


@pytest.mark.parametrize(("name", "slider"), [("shift", 2), ("temperature", 4), ("attribution", 5)])
def test_a_slider_draws_its_own_picture_anew(notebook, name, slider):
    handle = notebook.find_elements("css selector", ".noUi-handle")[slider]
    assert moved(notebook, name, lambda: handle.send_keys(Keys.ARROW_RIGHT)).startswith("data:")


def test_another_map_and_another_class_are_drawn_anew(notebook):
    kind, asked = (Select(each) for each in notebook.find_elements("css selector", ".widget-dropdown select"))
    moved(notebook, "attribution", lambda: kind.select_by_visible_text("Grad-CAM"))
    # Which class was asked for at first depends on the network; one that is chosen already draws nothing.
    first = asked.first_selected_option.text
    other = next(option.text for option in asked.options if option.text != first)
    moved(notebook, "attribution", lambda: asked.select_by_visible_text(other))


def test_a_file_is_answered_or_refused_in_one_line(notebook, tmp_path):
    good, large, bad = tmp_path / "photo.png", tmp_path / "large.bmp", tmp_path / "letter.png"
    good.write_bytes(tiny_folder.encoded(tiny_folder.photo(4, (400, 300))))
    large.write_bytes(tiny_folder.encoded(tiny_folder.photo(5, (2400, 1800)), "BMP"))  # 13 MB, as telephones make them
    bad.write_text("no picture")

    def choose(path):
        notebook.execute_script("document.getElementById('caught')?.remove()")
        notebook.find_element("xpath", "//button[contains(., 'your picture')]").click()
        notebook.find_element("id", "caught").send_keys(str(path))

    answered = moved(notebook, "own_picture", lambda: choose(good))
    assert answered.startswith("data:")
    assert moved(notebook, "own_picture", lambda: choose(bad)).startswith("letter.png is not a JPEG/PNG/")
    assert moved(notebook, "own_picture", lambda: choose(good)) == answered
    assert moved(notebook, "own_picture", lambda: choose(large)).startswith("data:")
