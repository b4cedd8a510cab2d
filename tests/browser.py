"""A headless Chromium, if one is installed, and scripts that act on the local server's page."""

import contextlib
import shutil
import tempfile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
# The sandbox needs privileges that a container does not have; the page is our own.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--window-size=1000,760",
)  # fmt: skip
MISSING = None if CHROMIUM and DRIVER else "needs chromium and chromedriver (Debian: chromium, chromium-driver)"

# Drops a file whose content is followed by `more` zero bytes.
DROP = """
const [text, name, kind, more] = arguments;
const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes, new Uint8Array(more)], name, { type: kind }));
for (const event of ["dragenter", "dragover", "drop"])
  document.getElementById("drop").dispatchEvent(
    new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true }));
"""


# Pastes a file, or text where there is no name.
PASTE = """
const [text, name, kind] = arguments;
const transfer = new DataTransfer();
if (name) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name, { type: kind }));
} else transfer.setData("text/plain", text);
document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
"""
# For each class in the order shown: name, share as displayed, widths of its bar and of the bar's track.
BARS = """
return [...document.querySelectorAll("#bars li")].map((item) => {
  const [name, share, bar, track] = ["name", "share", "bar", "track"].map((part) => item.querySelector(`.${part}`));
  const widths = [bar, track].map((part) => part.getBoundingClientRect().width);
  return [name.innerText, share.innerText, ...widths];
});
"""
# How dark the map is, 0 to 255, in the middle of each cell of a rows x columns grid.
DARKNESS = """
const [rows, columns] = arguments, map = document.getElementById("map");
const pixels = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
const at = (place, count, size) => Math.floor((place + 0.5) * size / count);
return Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) =>
  pixels[4 * (at(y, rows, map.height) * map.width + at(x, columns, map.width)) + 3]));
"""
# Red, green, blue in the middle of each of the model's pixels.
SEEN = """
const [rows, columns] = arguments, seen = document.getElementById("seen");
const pixels = seen.getContext("2d").getImageData(0, 0, seen.width, seen.height).data;
const at = (place, count, size) => Math.floor((place + 0.5) * size / count);
return Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) => Array.from(pixels.slice(
  4 * (at(y, rows, seen.height) * seen.width + at(x, columns, seen.width))).slice(0, 3))));
"""
# Records the sizes of what is sent from here on.
COUNT_SENT = """
const before = window.fetch;
window.sent = [];
window.fetch = (...all) => { if (all[1]?.body) sent.push(all[1].body.size); return before(...all); };
"""


@contextlib.contextmanager
def chromium():
    """A Selenium driver with a temporary profile."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()
