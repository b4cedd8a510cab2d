"""What a result was computed on: hardware, versions, precision, and the code that made it."""

import ast
import hashlib
import importlib.metadata
import io
import os
import platform
import subprocess
import tokenize
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Elsewhere bfloat16 is emulated and several times slower than float32.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
PRECISION_VARIABLE = "CNNLAB_PRECISION"


def choose_precision(requested="auto"):
    """The Keras dtype policy to train with: as asked, else by looking at the hardware.

    `requested` is "auto" or one of PRECISIONS; the environment variable CNNLAB_PRECISION
    decides for "auto". Raises ValueError for another name.
    """
    name = os.environ.get(PRECISION_VARIABLE) or "auto" if requested == "auto" else requested
    if name == "auto":
        return "mixed_bfloat16" if has_gpu() or BFLOAT16_FLAGS & cpu_flags() else "float32"
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; expected auto, {', '.join(PRECISIONS)}")
    return name


def environment():
    """Versions and hardware of this process, as a flat dict of strings and numbers."""
    import keras

    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": _version("keras"),
        "backend": backend,
        "backend_version": _version(backend),
        "numpy": _version("numpy"),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "accelerator": gpu_name() if has_gpu() else "none",
    }


def usable_cores():
    """Processor cores this process may run on (a container may own fewer than the machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@cache
def cpu_flags():
    """Instruction-set flags that Linux reports; an empty set on other systems."""
    return frozenset(_cpuinfo("flags").split())


def cpu_name():
    """Model name of the first processor."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def gpu_name():
    """Name of the first NVIDIA GPU, from its driver's own tool; "gpu" where that cannot be asked."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "gpu"
    return next(iter(asked.stdout.splitlines()), "gpu").strip()


@cache
def has_gpu():
    """Whether Keras's backend sees a GPU."""
    import keras

    try:
        return bool(keras.distribution.list_devices("gpu"))
    except (RuntimeError, AttributeError):  # JAX's answer where it has no GPU at all, and Keras's for PyTorch.
        return False


@cache
def code_version(*modules):
    """Fingerprint of what `modules` (names) compute: 12 hex digits.

    Blind to comments, docstrings and layout: a stored result is only reused by the code that
    made it, and mending a sentence must not throw away hours of training.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(_bare_code(Path(find_spec(name).origin).read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def _bare_code(source):
    """`source` without docstrings, comments and white space.

    From the text and not from `ast.dump`, whose form changes between Python versions.
    """
    lines = source.splitlines()
    for start, end in sorted(_prose(source), reverse=True):
        (first, left), (last, right) = start, end
        lines[first - 1 : last] = [lines[first - 1][:left] + lines[last - 1][right:]]
    return "".join("".join(lines).split())


def _prose(source):
    """Spans ((line, column), (line, column)) of the docstrings and comments in `source`."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start, token.end
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            text = body[0]
            yield (text.lineno, text.col_offset), (text.end_lineno, text.end_col_offset)


def _is_text(statement):
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def _cpuinfo(field):
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    values = (line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field)
    return next(values, "")


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
