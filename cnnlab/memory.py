"""Memory: less of it from the beginning, and what finished trainings hold on to given back."""

import ctypes
import gc
import inspect
import mmap
import os
import sys

import numpy as np

# What TensorFlow calls the gradients that it registers while it traces a training.
TRACED = "CustomGradient-"
# The module whose pipelines feed trainings, and nothing else.
FEEDER = "cnnlab.batches"

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
    """Give back the images, weights, moments and graphs of trainings that nobody refers to any more.

    Not to be called while a training goes on. TensorFlow registers a gradient of its own for each
    training that Keras compiles (it sums gradients over devices, of which there is one) and never
    forgets it; with it lives the whole graph with all variables, four times the size of the
    network. Nor does it forget the functions that fed a training, and with them its images. A
    model that was traced before still answers, and can be traced and trained again; only what is
    half differentiated, within a `tf.GradientTape`, could not be finished. On other backends this
    is `gc.collect`.
    """
    if framework := sys.modules.get("tensorflow.python.framework.ops"):
        registered = getattr(getattr(framework, "gradient_registry", None), "_registry", {})
        for name in [name for name in registered if name.startswith(TRACED)]:
            del registered[name]
        gc.collect()  # The pipelines first, which call a function as they end.
        called = getattr(framework.get_default_graph(), "_py_funcs_used_in_graph", [])
        called[:] = [function for function in called if not _fed_a_training(function)]
    gc.collect()
    _libc("malloc_trim", 0)


def _fed_a_training(function):
    """Whether TensorFlow made `function` for a pipeline of `batches.feed` (there are three to each)."""
    function, state = inspect.unwrap(function), None
    if inspect.ismethod(function):
        state = function.__self__
    elif inspect.isfunction(function) and "generator_state" in (names := function.__code__.co_freevars):
        state = function.__closure__[names.index("generator_state")].cell_contents
    return getattr(getattr(state, "_generator", None), "__module__", None) == FEEDER


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
