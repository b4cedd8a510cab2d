"""The README and the pages in results/: short, their links lead somewhere, and the README's own example runs."""

import re
from pathlib import Path

import pytest
import synthetic

from cnnlab.figures import alternative_text

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "results" / "RESULTS.md", ROOT / "results" / "PROTOCOL.md"]
# What a command in it makes or takes, and what lies outside the clone.
NOT_HERE = ("runs/", "~", "mine", "cifar-10-python", "msl-images")


def test_the_readme_is_two_screens():
    assert len(README.read_bytes()) <= 9 * 1_024


def test_the_example_of_ones_own_images_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    images, labels = synthetic.bars(200, classes=2, side=16)
    exec(example, {"images": images, "labels": labels})  # noqa: S102 - the README's code is what is tested
    accuracy = float(capsys.readouterr().out.split()[-1])
    assert 0 <= accuracy <= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_place_in_it(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, place = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not place or f'<a id="{place}"></a>' in found.read_text(encoding="utf-8"), f"{page.name}: {target}"


def test_every_file_that_its_commands_name_exists():
    text = README.read_text(encoding="utf-8")
    code = " ".join(block or span for block, span in re.findall(r"```\n(.*?)```|`([^`\n]+)`", text, re.DOTALL))
    named = {word for word in re.findall(r"[\w./~-]+", code) if re.search(r"/|\.(?:py|ipynb|txt|md)$", word)}
    assert len(named) > 3
    for path in named:
        assert path.startswith(NOT_HERE) or (ROOT / path).exists(), f"the README names {path}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_has_its_alternative_text(page):
    for text, path in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert text == alternative_text(Path(path).stem)
