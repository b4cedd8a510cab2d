"""The machine: hardware, versions, precision and memory; progress bars, atomic files and the lab's folders."""

import argparse
import contextlib
import ctypes
import gc
import importlib.metadata
import mmap
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Processors without these emulate bfloat16, several times slower than float32.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
PRECISION_VARIABLE = "CNNLAB_PRECISION"
ROOT_VARIABLE = "CNNLAB_ROOT"
CACHE_VARIABLE = "CNNLAB_CACHE"
# Variables that say where a library keeps its files, and its folder in the lab's cache; the Makefile sets them too.
LIBRARY_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "jupyter",
    "JUPYTER_DATA_DIR": "jupyter",
    "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
    "KERAS_HOME": "keras",
}


def root():
    """The folder that holds `results/`, `images/` and `runs/`, whatever the working folder is.

    CNNLAB_ROOT if it is set; else the clone that contains this package; else, for a package
    installed without a clone, ~/cnnlab.
    """
    if named := os.environ.get(ROOT_VARIABLE):
        return Path(named).expanduser().resolve()
    clone = Path(__file__).resolve().parents[1]
    return clone if (clone / "pyproject.toml").is_file() else Path.home() / "cnnlab"


def cache_folder(cache=None):
    """The one folder outside the clone that the lab writes to: `cache`, or CNNLAB_CACHE, or ~/.cache/cnnlab."""
    return Path(cache or os.environ.get(CACHE_VARIABLE) or "~/.cache/cnnlab").expanduser()


def gather_caches():
    """Make libraries imported later, in this process and its children, keep their caches inside the lab's.

    Variables that are already set are left alone. For commands only: a reader's own notebook uses the reader's folders.
    """
    for variable, folder in LIBRARY_CACHES.items():
        os.environ.setdefault(variable, str(cache_folder() / folder))


@contextlib.contextmanager
def variables_set(variables):
    """Set the environment `variables`, {name: text}, within the block, and restore the old values afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def choose_precision(requested="auto"):
    """The Keras dtype policy to train with: the one requested, else the one that suits the hardware.

    `requested` is "auto" or one of PRECISIONS; for "auto", the environment variable
    CNNLAB_PRECISION decides if it is set. Raises ValueError for any other name.
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
    """Processor cores this process may run on (a container may have fewer than the machine)."""
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
    """Name of the first NVIDIA GPU, as nvidia-smi gives it; "gpu" where that fails."""
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
    except (RuntimeError, AttributeError):  # from JAX without any GPU, and from Keras on PyTorch
        return False


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


def progress_bar(total, description, unit, **options):
    """A progress bar on standard output that erases itself when it is finished.

    Plain text in the terminal and in the notebook alike: a widget would be empty in the
    saved notebook.
    """
    return tqdm(total=total, desc=description, unit=unit, leave=False, file=sys.stdout, mininterval=0.5, **options)


def byte_bar(total, description, **options):
    """A bar that counts bytes (kB, MB, GB); `total` may be None if it is not known."""
    return progress_bar(total, description, "B", unit_scale=True, **options)


@contextlib.contextmanager
def atomic_file(path, suffix=""):
    """A temporary path beside `path` (a Path) to write to, renamed to `path` when the block succeeds.

    A killed process leaves at most the temporary file, which ends in .partial and `suffix`; a
    block that fails leaves `path` as it was. Raises OSError where the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial{suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(folder):
    """Raise OSError at once, rather than after an hour of work, if the Path `folder` cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".writable.{os.getpid()}"
    probe.touch()
    probe.unlink()


def output_path(path):
    """`path`, where a model will be written, as a Path, checked before an hour of work rather than after it.

    Raises ValueError for a file that is not a .keras, OSError where its folder cannot be written to.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"out is {path}; expected a file that ends in .keras")
    check_writable(path.parent)
    return path


def import_keras():
    """Import Keras and start its backend with standard error silenced.

    TensorFlow's C++ code logs there (about a missing GPU, for example) before any setting can
    silence it. Real failures are exceptions, and still seen.
    What the import creates is frozen, so that `release` need not search it every time.
    """
    is_first = "keras" not in sys.modules
    with _no_standard_error():
        import keras

        with contextlib.suppress(AttributeError):  # Keras cannot list PyTorch's devices.
            keras.distribution.list_devices()
    if is_first:
        gc.freeze()


@contextlib.contextmanager
def _no_standard_error():
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is wanted, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Settings of glibc's mallopt, (its number, value): one heap for all threads, which serves all but the
# largest blocks and keeps freed memory for the next step, within limits in bytes. By default glibc asks
# the system for many blocks again at every training step, which takes a fifth of the training's time.
MALLOPT = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 1 << 25), "M_TRIM_THRESHOLD": (-1, 1 << 28),
           "M_TOP_PAD": (-2, 1 << 26)}  # fmt: skip


def be_frugal():
    """Make TensorFlow allocate from the system's heap instead of a pool that never shrinks.

    Call it before TensorFlow is imported; later it changes nothing. For notebooks on small
    machines: less memory for a little more time. If the user has set
    TF_ONEDNN_USE_SYSTEM_ALLOCATOR, it is left alone.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    for number, value in MALLOPT.values():
        _libc("mallopt", number, value)


def release():
    """Free the images, weights and optimizer moments of trainings that nothing refers to any more."""
    gc.collect()
    _libc("malloc_trim", 0)


def forget(array):
    """Drop what was read of `array` from memory, if it is mapped from a file; it is read again when needed.

    Otherwise it counts as this process's memory until the system needs the space for something else.
    """
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def _libc(function, *arguments):
    """Call `function` of the C library, if this is Linux and the library has it."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), function):
        getattr(library, function)(*arguments)


def whole_number(least):
    """A `type` for argparse: a function from text to a whole number (int), `least` or more.

    For any other text argparse prints the command's usage and one line of error, and exits with 2.
    """

    def number(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return number
