"""The local server's page in a real browser: drop a picture, read the answer."""

import base64

import browser
import numpy as np
import packed
import pytest

from sagemaker_scripts import serve_local

pytestmark = pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING))
SECONDS = 10

DROP = """
const [text, name, kind] = arguments;
const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type: kind }));
for (const event of ["dragenter", "dragover", "drop"])
  document.getElementById("drop").dispatchEvent(
    new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true }));
"""


@pytest.fixture(scope="module")
def url():
    with serve_local.start(packed.tiny().archive) as url:
        yield url


@pytest.fixture(scope="module")
def driver():
    with browser.chromium() as driver:
        yield driver


@pytest.fixture
def page(driver, url):
    driver.get(url)
    wait(driver, lambda: "classes" in text(driver, "about"))
    return driver


def text(driver, name):
    return driver.find_element("id", name).text


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, SECONDS).until(lambda _: condition())


def drop(driver, content, name="picture.png", kind="image/png"):
    driver.execute_script(DROP, base64.b64encode(content).decode(), name, kind)


def bars(driver):
    """{class: (shown percent, width of its bar as a share of the track)} in the order shown."""
    found = {}
    for item in driver.find_elements("css selector", "#bars li"):
        name, share = (item.find_element("class name", part).text for part in ("name", "share"))
        widths = [item.find_element("class name", part).size["width"] for part in ("bar", "track")]
        found[name] = float(share.split()[0]), widths[0] / widths[1]
    return found


def expected_of(image):
    names = packed.tiny().dataset.class_names
    return dict(zip(names, packed.straight([image])[0].tolist(), strict=True))


def check_answer(driver, image):
    expected = expected_of(image)
    best = max(expected, key=expected.get)
    wait(driver, lambda: text(driver, "verdict") == f"{best}, {100 * expected[best]:.1f} %")
    shown = bars(driver)
    assert list(shown) == sorted(expected, key=expected.get, reverse=True)
    for name, (percent, width) in shown.items():
        assert percent == pytest.approx(100 * expected[name], abs=0.06)
        assert width == pytest.approx(expected[name], abs=0.01)
    assert not driver.find_element("id", "error").is_displayed()


def test_a_dropped_picture_is_answered_with_every_class_as_a_bar(page):
    for image in packed.tiny().images[:2]:
        drop(page, packed.picture(image))
        check_answer(page, image)
    assert page.find_element("id", "preview").is_displayed()


def test_a_chosen_file_is_answered_whatever_its_name_says(page, tmp_path):
    image = np.repeat(np.repeat(packed.tiny().images[3], 8, axis=0), 8, axis=1)
    path = tmp_path / "photograph.png"
    path.write_bytes(packed.picture(image, "JPEG"))
    page.find_element("id", "file").send_keys(str(path))
    wait(page, lambda: text(page, "verdict"))
    assert sum(percent for percent, _ in bars(page).values()) == pytest.approx(100, abs=0.3)


def test_a_picture_that_is_too_large_to_send_is_shrunk_first(page):
    large = np.random.default_rng(0).integers(0, 256, (1700, 1700, 3), "uint8")
    content = packed.picture(large)
    assert len(content) > packed.tiny().handlers.MAX_BODY_BYTES
    drop(page, content)
    wait(page, lambda: text(page, "verdict"))
    grey = expected_of(np.full((16, 16, 3), large.mean()))
    assert {name: share / 100 for name, (share, _) in bars(page).items()} == pytest.approx(grey, abs=0.05)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no picture at all", "Refused: content type"),
        (b"", "Refused: the body is empty"),
        (packed.picture(np.zeros((9, 9, 3), "uint8"))[:50], "Refused: the PNG is cut off"),
    ],
    ids=["text", "nothing", "cut"],
)
def test_what_is_no_picture_is_refused_in_words_and_the_next_one_works(page, content, words):
    drop(page, content)
    wait(page, lambda: words in text(page, "error"))
    assert not page.find_element("id", "answer").is_displayed()
    drop(page, packed.picture(packed.tiny().images[0]))
    check_answer(page, packed.tiny().images[0])


def test_the_page_speaks_to_nobody_else_and_throws_no_errors(page, url):
    drop(page, packed.picture(packed.tiny().images[0]))
    wait(page, lambda: text(page, "verdict"))
    addresses = page.execute_script("return performance.getEntries().map((entry) => entry.name)")
    remote = [name for name in addresses if ":" in name and not name.startswith((url, "blob:", "data:"))]
    assert not remote
    assert any(name.endswith("/invocations") for name in addresses)
    errors = [
        entry
        for entry in page.get_log("browser")
        if entry["level"] == "SEVERE" and "with a status of 4" not in entry["message"]
    ]
    assert not errors


def test_the_page_can_be_used_without_a_mouse_or_a_screen(page):
    chooser = page.find_element("id", "file")
    assert chooser.accessible_name.startswith("Drop a picture here, or choose one")
    page.execute_script("document.activeElement.blur()")
    page.switch_to.active_element.send_keys("\ue004")  # Tab
    assert page.switch_to.active_element.get_attribute("id") == "file"
    drop(page, packed.picture(packed.tiny().images[0]))
    wait(page, lambda: text(page, "verdict"))
    assert page.find_element("id", "preview").accessible_name == "The picture picture.png"
    assert page.find_element("id", "answer").find_element("xpath", "..").get_attribute("aria-live") == "polite"
