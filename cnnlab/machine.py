"""The machine: hardware, versions, precision, memory; progress bars, whole files, and where the lab's folders are."""

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
# Elsewhere bfloat16 is emulated and several times slower than float32.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
PRECISION_VARIABLE = "CNNLAB_PRECISION"
ROOT_VARIABLE = "CNNLAB_ROOT"
CACHE_VARIABLE = "CNNLAB_CACHE"
# What says where a library keeps its own, and the folder in the lab's cache that it gets; the Makefile has them too.
LIBRARY_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "jupyter",
    "JUPYTER_DATA_DIR": "jupyter",
    "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
    "KERAS_HOME": "keras",
}


def root():
    """The folder that has `results/`, `images/` and `runs/`: never the working folder by chance.

    CNNLAB_ROOT says which; else it is the clone that this package lies in, and for a package that
    was installed without one, ~/cnnlab.
    """
    if named := os.environ.get(ROOT_VARIABLE):
        return Path(named).expanduser().resolve()
    clone = Path(__file__).resolve().parents[1]
    return clone if (clone / "pyproject.toml").is_file() else Path.home() / "cnnlab"


def cache_folder(cache=None):
    """The one folder outside the clone that the lab writes to: `cache`, or CNNLAB_CACHE, or ~/.cache/cnnlab."""
    return Path(cache or os.environ.get(CACHE_VARIABLE) or "~/.cache/cnnlab").expanduser()


def gather_caches():
    """Have libraries that are imported later, here and in processes started from here, keep their caches in the lab's.

    What somebody has set is left alone. For commands; a notebook of the reader's own keeps to the reader's folders.
    """
    for variable, folder in LIBRARY_CACHES.items():
        os.environ.setdefault(variable, str(cache_folder() / folder))


@contextlib.contextmanager
def variables_set(variables):
    """The environment has `variables`, {name: text}, within the block, and what it had before afterwards."""
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
    """A bar on standard output that leaves no trace when it is finished.

    Plain text in the terminal and in the notebook alike: a widget would be empty in the
    saved notebook.
    """
    return tqdm(total=total, desc=description, unit=unit, leave=False, file=sys.stdout, mininterval=0.5, **options)


def byte_bar(total, description, **options):
    """A bar that counts bytes (kB, MB, GB); `total` may be None where it is not known."""
    return progress_bar(total, description, "B", unit_scale=True, **options)


@contextlib.contextmanager
def atomic_file(path, suffix=""):
    """A path beside `path` (a Path) to write to, which takes its name when the block ends well.

    A killed process leaves at most that partial file, which ends in .partial and `suffix`; a
    block that fails leaves `path` as it was. Raises OSError where the file cannot be.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial{suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(folder):
    """Raise OSError at once, rather than after an hour of work, if nothing can be written to the Path `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".writable.{os.getpid()}"
    probe.touch()
    probe.unlink()


def output_path(path):
    """`path`, where a model is to be written, as a Path: before an hour of work, and not after it.

    Raises ValueError for a file that is no .keras, OSError where its folder cannot be written.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"out is {path}; expected a file that ends in .keras")
    check_writable(path.parent)
    return path


def import_keras():
    """Import Keras and start its backend while nothing can be written to standard error.

    TensorFlow's C++ part logs there (a missing GPU among other things) before any setting can
    hush it. What really goes wrong is an exception, and is still seen.
    What comes with it stays: `release` need not look through it again and again.
    """
    is_first = "keras" not in sys.modules
    with _no_standard_error():
        import keras

        with contextlib.suppress(AttributeError):  # Keras has no devices to tell for PyTorch.
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


# Settings of glibc's mallopt, by their numbers there: the heap is one for all threads, serves all but
# the largest blocks, and keeps what is freed for the next step, within limits in bytes. Left to itself
# glibc asks the system for many blocks of each step of a training again, which takes a fifth of its time.
MALLOPT = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 1 << 25), "M_TRIM_THRESHOLD": (-1, 1 << 28),
           "M_TOP_PAD": (-2, 1 << 26)}  # fmt: skip


def be_frugal():
    """Have TensorFlow take memory from the system's heap, and not from a pool that never shrinks.

    To be called before TensorFlow is imported; later it changes nothing. For notebooks on small
    machines: less memory for a little more time. A setting of the user's in
    TF_ONEDNN_USE_SYSTEM_ALLOCATOR is left alone.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    for number, value in MALLOPT.values():
        _libc("mallopt", number, value)


def release():
    """Give back the images, weights and moments of trainings that nobody refers to any more."""
    gc.collect()
    _libc("malloc_trim", 0)


def forget(array):
    """Let go of what was read of `array`, where it is mapped from a file: what is wanted again is read again.

    Until the system needs the room for something else, it counts as this process's memory.
    """
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def _libc(function, *arguments):
    """Call `function` of the C library, where it is glibc and has it."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), function):
        getattr(library, function)(*arguments)


def whole_number(least):
    """For argparse's `type`: a function from text to a whole number (int) of `least` or more.

    For any other text argparse prints the command's usage and the one line of the error, and exits with 2.
    """

    def number(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return number
