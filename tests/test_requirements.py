"""What is pinned as tested lies within the bounds that are declared."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def requirements(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


PINNED = {each.name.lower().replace("_", "-"): each for each in requirements("constraints.txt")}


@pytest.mark.parametrize("needed", [*requirements("requirements.txt"), *requirements("requirements-dev.txt")], ids=str)
def test_a_pinned_version_is_within_its_bounds(needed):
    (pin,) = PINNED[needed.name].specifier
    assert pin.operator == "=="
    assert needed.specifier.contains(pin.version)
