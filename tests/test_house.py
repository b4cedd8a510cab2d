"""The house: imports go one way and through the rooms' fronts, and no file is too small to stand alone."""

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data", "training", "studies", "measures", "findings", "figures")
# A file of fewer lines belongs to a neighbour.
FEWEST_LINES = 40
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def test_no_contract_of_imports_is_broken():
    command = [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache", "--no-logo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in run.stdout
    # All files are in what was analysed, those of functions' own imports too.
    files = [*(ROOT / "cnnlab").rglob("*.py"), *(ROOT / "sagemaker_scripts").rglob("*.py")]
    assert int(re.search(r"Analyzed (\d+) files", run.stdout)[1]) == len(files)


def test_every_room_is_behind_its_front():
    guarded = {name for each in CONTRACTS if each["type"] == "protected" for name in each["protected_modules"]}
    assert guarded == {f"cnnlab.{room}.*" for room in ROOMS}
    assert {path.parent.name for path in (ROOT / "cnnlab").glob("*/__init__.py")} == set(ROOMS)


def test_no_file_is_too_small_to_stand_alone():
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "cnnlab").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert len(lines) > 40
    assert {name: count for name, count in lines.items() if count < FEWEST_LINES} == {}
