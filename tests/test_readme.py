"""The README's own example runs as it stands."""

import re
from pathlib import Path

import synthetic

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_ones_own_images_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    images, labels = synthetic.bars(200, classes=2, side=16)
    exec(example, {"images": images, "labels": labels})  # noqa: S102 - the README's code is what is tested
    accuracy = float(capsys.readouterr().out.split()[-1])
    assert 0 <= accuracy <= 1


def test_every_folder_and_script_that_it_names_exists():
    root = README.parent
    named = re.findall(r"^\| `([\w./]+)`", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) > 5
    for path in set(named) - {"runs/"}:
        assert (root / path).exists(), f"the README names {path}, which is not there"
