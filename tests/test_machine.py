"""What a result was computed on: precision by the hardware, and by hand."""

import pytest

from cnnlab import machine


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    monkeypatch.delenv(machine.PRECISION_VARIABLE, raising=False)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx2", "avx512_bf16"}, "mixed_bfloat16"),
        ({"amx_bf16"}, "mixed_bfloat16"),
        ({"avx2", "avx512f"}, "float32"),
        (set(), "float32"),
    ],
)
def test_bfloat16_is_chosen_only_where_the_processor_has_it(flags, precision, monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert machine.choose_precision() == precision


def test_precision_can_be_set_by_hand(monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setenv(machine.PRECISION_VARIABLE, "float32")
    assert machine.choose_precision() == "float32"
    assert machine.choose_precision("mixed_bfloat16") == "mixed_bfloat16", "an argument outweighs the environment"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'float8'; expected auto, float32"):
        machine.choose_precision("float8")


def test_a_row_names_the_gpu_that_the_driver_names(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "gpu_name", machine.gpu_name.__wrapped__)
    assert machine.environment()["accelerator"] == "gpu", "no tool to ask"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3'\necho another\n")
    tool.chmod(0o755)
    assert machine.environment()["accelerator"] == "NVIDIA H100 80GB HBM3"
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine.environment()["accelerator"] == "gpu", "the driver does not answer"


def test_environment_names_versions_and_hardware():
    facts = machine.environment()
    assert facts["backend"] == "tensorflow"
    assert facts["backend_version"].startswith("2.")
    assert facts["cores"] >= 1
    assert facts["cpu"]
