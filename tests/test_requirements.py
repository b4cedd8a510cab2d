"""What is declared: pins within their bounds, and an installation that holds all that the packages need."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from cnnlab import supported

ROOT = Path(__file__).parent.parent
PACKAGES = ("cnnlab", "sagemaker_scripts")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


PINNED = {canonicalize_name(each.name): each for each in requirements("constraints.txt")}
LOWEST, CEILING = supported.bounds()
# The lowest Python that is promised, and a late release of each line up to the highest.
PROMISED = [".".join(map(str, LOWEST)), *(f"3.{minor}.9" for minor in range(LOWEST[1], CEILING[1]))]


@pytest.mark.parametrize("needed", [*requirements("requirements.txt"), *requirements("requirements-dev.txt")], ids=str)
def test_a_pinned_version_is_within_its_bounds(needed):
    (pin,) = PINNED[canonicalize_name(needed.name)].specifier
    assert pin.operator == "=="
    assert needed.specifier.contains(pin.version)


@pytest.mark.parametrize("python", PROMISED)
def test_the_pins_resolve_on_every_python_that_is_promised(python):
    """As pip does, from what the pinned packages say of themselves."""
    environment = {"python_version": python.rsplit(".", 1)[0], "python_full_version": python, "extra": ""}
    refused, contradicted = [], []
    for name, pin in PINNED.items():
        try:
            package = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system than this one
        assert pin.specifier.contains(package["Version"]), f"{pin} is pinned, {package['Version']} is installed"
        if not SpecifierSet(package["Requires-Python"] or "").contains(python):
            refused.append(f"{pin} needs Python {package['Requires-Python']}")
        for line in package.get_all("Requires-Dist") or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate(environment):
                continue
            other = PINNED.get(canonicalize_name(needed.name))
            if other and not needed.specifier.contains(str(other.specifier).removeprefix("=="), prereleases=True):
                contradicted.append(f"{pin} needs {needed}, {other} is pinned")
    assert (refused, contradicted) == ([], [])


def test_what_is_installed_needs_what_requirements_txt_lists():
    assert set(map(str, requirements("requirements.txt"))) == {
        str(Requirement(line)) for line in importlib.metadata.requires("cnnlab")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_an_installation_has_every_file_of_a_package(package):
    files = [path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    # A folder without __init__.py is no package to setuptools, and is left out.
    assert {path.parent for path in files} == {path.parent for path in files if path.name == "__init__.py"}
    others = {path.relative_to(ROOT / package).as_posix() for path in files if path.suffix != ".py"}
    assert others == set(PYPROJECT["tool"]["setuptools"]["package-data"].get(package, []))


def test_the_command_and_the_scripts_start_from_any_folder(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = Path(sysconfig.get_path("scripts")) / "cnnlab"
    for program in ([command, "data"], [sys.executable, ROOT / "sagemaker_scripts" / "cleanup.py"]):
        run = subprocess.run([*program, "--help"], cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert run.returncode == 0, run.stderr


def test_no_script_hides_a_library():
    """Python puts the folder of the script that it starts before all others."""
    libraries = set(importlib.metadata.packages_distributions()) | sys.stdlib_module_names
    assert not libraries & {path.stem for path in (ROOT / "sagemaker_scripts").glob("*.py")} - {"__init__"}
