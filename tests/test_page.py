"""The local server's page in a real browser: drop a picture, read the answer, ask why; on a phone, behind a proxy."""

import base64
import json
import shlex
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import browser
import numpy as np
import packed
import pytest
import request_kinds
import servers

from cnnlab.training import build
from sagemaker_scripts import package_model, serve_local

pytestmark = [pytest.mark.long, pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING))]
SECONDS = 10

# What is left of a phone's screen between the bars of its browser.
PHONE = {"width": 390, "height": 664, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of a server whose archive has two examples."""
    tiny, folder = packed.tiny(), tmp_path_factory.mktemp("examples")
    for number in (1, 2):
        (folder / f"bar{number}.png").write_bytes(packed.picture(tiny.images[number]))
    with pytest.MonkeyPatch.context() as patch:
        packed.export_no_more(patch)
        archive = package_model.package(
            tiny.keras, folder / "model.tar.gz", class_names=tiny.dataset.class_names, row=tiny.row,
            examples=sorted(folder.glob("*.png")),
        )  # fmt: skip
    with serve_local.start(archive) as url:
        yield url


@pytest.fixture(scope="module")
def prefixed(url):
    """The page's address behind a proxy that serves it under a prefix."""
    with servers.prefixed(urlsplit(url).port) as address:
        yield address


@pytest.fixture(scope="module")
def driver():
    with browser.chromium() as driver:
        yield driver


@pytest.fixture
def page(driver, url):
    return opened(driver, url)


@pytest.fixture
def phone(driver, url):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    yield opened(driver, url)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def opened(driver, url):
    driver.get(url)
    wait(driver, lambda: "classes" in text(driver, "about"))
    return driver


def text(driver, name):
    return driver.find_element("id", name).text


def wait(driver, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, SECONDS).until(lambda _: condition())


def drop(driver, content, name="picture.png", kind="image/png", more=0):
    driver.execute_script(browser.DROP, base64.b64encode(content).decode(), name, kind, more)


def bars(driver):
    """{class: (shown percent, width of its bar as a share of the track)} in the order shown."""
    shown = driver.execute_script(browser.BARS)
    return {name: (float(share.split()[0]), bar / track) for name, share, bar, track in shown}


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
    large = np.random.default_rng(0).integers(0, 256, (600, 600, 3), "uint8")
    drop(page, packed.picture(large), more=packed.tiny().handlers.MAX_BODY_BYTES)
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


def test_a_picture_is_pasted(page):
    image = packed.tiny().images[4]
    page.execute_script(browser.PASTE, base64.b64encode(packed.picture(image)).decode(), "image.png", "image/png")
    check_answer(page, image)
    page.execute_script(browser.PASTE, "words", None, None)
    wait(page, lambda: "not a file" in text(page, "error"))


def test_an_example_of_the_archive_is_asked_by_a_click(page):
    buttons = page.find_elements("css selector", "#examples button")
    pictures = page.find_elements("css selector", "#examples img")
    wait(page, lambda: all(picture.get_property("naturalWidth") == 16 for picture in pictures))
    assert [picture.accessible_name for picture in pictures] == ["Example bar1.png", "Example bar2.png"]
    for number, button in enumerate(buttons, start=1):
        button.click()
        check_answer(page, packed.tiny().images[number])


def test_cleared_the_page_is_as_before(page):
    assert not page.find_element("id", "clear").is_displayed()
    drop(page, packed.picture(packed.tiny().images[0]))
    check_answer(page, packed.tiny().images[0])
    page.find_element("id", "clear").click()
    for name, shown in {"hint": True, "answer": False, "error": False, "preview": False, "why": False}.items():
        assert page.find_element("id", name).is_displayed() == shown, name
    drop(page, packed.picture(packed.tiny().images[1]))
    check_answer(page, packed.tiny().images[1])


def test_the_picture_is_shown_as_the_model_sees_it(page):
    image = packed.tiny().images[0]
    drop(page, packed.picture(image))
    wait(page, lambda: "16 × 16" in text(page, "caption"))
    np.testing.assert_array_equal(page.execute_script(browser.SEEN, 16, 16), image)


def check_map(page, image):
    """That the map lies on the picture, dark where nothing speaks for the answer."""
    tiny = packed.tiny()
    best = max(expected_of(image), key=expected_of(image).get)
    wait(page, lambda: text(page, "caption") == f"bright: evidence for {best}")
    expected = tiny.handlers.explain_pixels(image[None].astype("float32"), packed.loaded())[1][0]
    found = np.array(page.execute_script(browser.DARKNESS, *expected.shape))
    np.testing.assert_allclose(found, 255 * 0.85 * (1 - expected), atol=12)
    assert np.ptp(found) > 150
    places = [page.find_element("id", name).rect for name in ("seen", "map")]
    assert places[0] == pytest.approx(places[1], abs=1)


def test_why_shows_where_the_network_looked_until_it_is_pressed_again(page):
    first, second = packed.tiny().images[:2]
    drop(page, packed.picture(first))
    check_answer(page, first)
    page.find_element("id", "why").click()
    check_map(page, first)
    drop(page, packed.picture(second))
    check_map(page, second)
    check_answer(page, second)
    page.find_element("id", "why").click()
    wait(page, lambda: "16 × 16" in text(page, "caption"))
    assert not np.any(page.execute_script(browser.DARKNESS, 8, 8))


def test_a_dense_network_is_not_asked_why(driver, tmp_path):
    build("dense", (16, 16, 3), 4, units=[8]).save(tmp_path / "dense.keras")
    path = package_model.package(tmp_path / "dense.keras", tmp_path / "model.tar.gz", class_names=list("abcd"))
    with serve_local.start(path) as url:
        page = opened(driver, url)
        drop(page, packed.picture(packed.tiny().images[0]))
        wait(page, lambda: "16 × 16" in text(page, "caption"))
        assert not page.find_element("id", "why").is_displayed()
        assert not page.find_elements("css selector", "#examples button")


def test_under_a_prefix_everything_is_found(driver, prefixed):
    image = packed.tiny().images[2]
    for address in (prefixed, prefixed.rstrip("/") + "/?a=b"):
        page = opened(driver, address)
        drop(page, packed.picture(image))
        check_answer(page, image)
        page.find_element("id", "why").click()
        check_map(page, image)
        (example, _) = page.find_elements("css selector", "#examples button")
        example.click()
        check_answer(page, packed.tiny().images[1])
        assert prefixed + "invocations" in page.find_element("id", "curl").get_attribute("textContent")


def test_on_a_phone_the_bars_are_seen_without_scrolling(phone):
    assert phone.execute_script("return innerWidth") == PHONE["width"]
    image = packed.tiny().images[0]
    drop(phone, packed.picture(image))
    check_answer(phone, image)
    wait(phone, lambda: "16 × 16" in text(phone, "caption"))
    assert phone.execute_script("return scrollY") == 0
    # Ten classes, as CIFAR-10 has; these are four.
    top, bottom = (phone.execute_script(f"return document.getElementById('bars').getBoundingClientRect().{side}")
                   for side in ("top", "bottom"))  # fmt: skip
    assert top + 10 * (bottom - top) / 4 < PHONE["height"]
    assert phone.execute_script("return document.documentElement.scrollWidth") == PHONE["width"]


def test_a_phones_camera_is_offered_where_there_is_one(phone, tmp_path):
    button, camera = phone.find_element("id", "photograph"), phone.find_element("id", "camera")
    assert button.is_displayed()
    assert camera.get_attribute("capture") == "environment"
    (tmp_path / "photograph.jpg").write_bytes(packed.picture(packed.tiny().images[0]))
    camera.send_keys(str(tmp_path / "photograph.jpg"))
    check_answer(phone, packed.tiny().images[0])


def test_with_a_mouse_no_camera_is_offered(page):
    assert not page.find_element("id", "photograph").is_displayed()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_ways_that_are_shown_to_ask_from_elsewhere_work(page, tmp_path):
    image = packed.tiny().images[0]
    drop(page, packed.picture(image), name="bar.png")
    check_answer(page, image)
    (tmp_path / "bar.png").write_bytes(packed.picture(image))
    page.find_element("css selector", "#how summary").click()
    curl, python = (page.find_element("id", name).text for name in ("curl", "python"))
    for command in (shlex.split(curl), [sys.executable, "-c", python]):
        run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert max(expected_of(image), key=expected_of(image).get) in run.stdout
    assert json.loads(subprocess.check_output(shlex.split(curl), cwd=tmp_path))["predictions"]


@pytest.mark.parametrize("name", ["a b.png", "$(touch x).png", "-o.png", "'.png", '"+x+".png'])
def test_a_files_name_is_no_command(page, name):
    drop(page, packed.picture(packed.tiny().images[0]), name=name)
    wait(page, lambda: text(page, "verdict"))
    for way in ("curl", "python"):
        assert "picture.jpg" in page.find_element("id", way).get_attribute("textContent")


def test_a_photograph_is_made_smaller_before_it_is_sent(page):
    """And is upright: the browser turns it as its camera was held, before that is lost."""
    image = packed.tiny().images[0]
    stored = np.kron(np.rot90(image), np.ones((150, 150, 1), "uint8"))
    photograph = packed.picture(stored, "JPEG", quality=95, exif=request_kinds.orientation(6))
    page.execute_script(browser.COUNT_SENT)
    drop(page, photograph, name="photograph.jpg", kind="image/jpeg", more=2_000_000)
    wait(page, lambda: "16 × 16" in text(page, "caption"))
    sizes = page.execute_script("return sent")
    assert len(sizes) == 2 and max(sizes) < 500_000
    assert {name: share / 100 for name, (share, _) in bars(page).items()} == pytest.approx(expected_of(image), abs=0.05)


def test_what_only_the_browser_can_read_is_read_there(page):
    image = packed.tiny().images[0]
    drop(
        page, packed.picture(np.kron(image, np.ones((20, 20, 1), "uint8")), "AVIF", quality=100), "a.avif", "image/avif"
    )
    wait(page, lambda: text(page, "verdict"))
    shown = {name: share / 100 for name, (share, _) in bars(page).items()}
    assert shown == pytest.approx(expected_of(image), abs=0.05)
