"""The guide quotes the scripts: its commands have flags that exist, its errors are lines that are printed."""

import importlib
import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "sagemaker_scripts"
GUIDE = (SCRIPTS / "AWS_SAGEMAKER_GUIDE.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^ *python sagemaker_scripts/(\w+\.py)(.*)$", GUIDE, re.MULTILINE)))
QUOTES = re.findall(r"^> `(.+)`$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize(("script", "arguments"), COMMANDS)
def test_every_command_has_flags_that_exist(script, arguments):
    names = ["launch_training", "train"] if script == "launch_training.py" else [script.removesuffix(".py")]
    modules = [importlib.import_module(f"sagemaker_scripts.{name}") for name in names]
    shown = "".join(module.make_parser().format_help() for module in modules)
    for flag in re.findall(r"--[\w-]+", arguments):
        assert re.search(rf"{flag}(?![\w-])", shown), f"{script} has no {flag}"


@pytest.mark.parametrize(("module", "name"), sorted(set(re.findall(r"`(\w+)\.(py|[A-Z]\w+|launch_name)`", GUIDE))))
def test_every_file_and_name_in_the_code_that_the_guide_points_to_exists(module, name):
    (file,) = SCRIPTS.rglob(f"{module}.py")
    within = ".".join(file.relative_to(SCRIPTS.parent).with_suffix("").parts)
    assert name == "py" or hasattr(importlib.import_module(within), name)


@pytest.mark.parametrize("quote", QUOTES)
def test_every_quoted_error_is_one_that_is_printed(quote):
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(SCRIPTS.rglob("*.py")))
    # A sentence over several lines of code: what stands between its parts is not printed.
    source = re.sub(r'"\s*f?"', "", source)
    source = re.sub(r"\{[^{}]*\}", "…", source)
    for part in quote.split("…"):
        assert part.strip("; :") in source or part in ("; ", ": "), part


def test_there_are_ten_errors_each_with_its_line_cause_and_cure():
    sections = re.split(r"^\*\*\d+\. ", GUIDE, flags=re.MULTILINE)[1:]
    assert len(sections) == 10
    for section in sections:
        assert "> `" in section and "Cause" in section and "Cure:" in section, section[:40]


def test_every_script_is_named():
    for path in SCRIPTS.glob("*.py"):
        if "__main__" in path.read_text(encoding="utf-8"):
            assert f"`{path.name}`" in GUIDE, path.name
