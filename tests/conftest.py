"""Fixtures that several test modules share.

TensorFlow is loaded by those that need it, so that the process that hands tests to pytest-xdist's workers does without.
"""

import gc
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import synthetic
import tiny_mars

from cnnlab import data
from cnnlab.data import dataset

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure():
    """Make of this process what the tests expect of it."""
    # A shell has what it starts in the background ignore Ctrl-C; some tests press it all the same.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # What the tests start as programs is this checkout, whichever one the environment has installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Of workers and programs: NumPy's threads burn, waiting for each other, the time of the worker beside them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Every test makes and drops many small objects, few of them in circles: the collector looks less often.
    gc.set_threshold(20_000, 20, 20)


# What takes longest begins first, so that no worker of pytest-xdist is left with it at the end.
LONGEST = (
    "test_training_finetune", "test_package_model", "test_studies_run", "test_protocol", "test_course",
    "test_command_line", "test_deploy", "test_benchmarks_training", "test_launch_training", "test_notebooks",
    "test_train", "test_findings", "test_findings_recipes", "test_measures_mars", "test_figures", "test_report",
)  # fmt: skip
# Files of which one makes in seconds what the others take: the packed model, the trained recipe.
TOGETHER = (
    ("test_package_model", "test_page", "test_serving", "test_container_contract", "test_inference", "test_archive",
     "test_batch", "test_measures_attribution"),
    ("test_studies_run", "test_training_loop", "test_measures_probes", "test_machine"),
)  # fmt: skip


def _is_alone(nodeid):
    """Whether a test is a notebook's run, which takes as long as the longest file."""
    return "in_the_smoke_budget" in nodeid


def _scope(nodeid):
    """The name of what goes to one worker: a notebook's run, files of TOGETHER by the first of them, or a file."""
    file = Path(nodeid.split("::")[0]).stem
    return nodeid if _is_alone(nodeid) else next((files[0] for files in TOGETHER if file in files), file)


def pytest_collection_modifyitems(items):
    """Long files before short ones, each in its own order, and the notebooks' runs before all."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (not _is_alone(item.nodeid), places.get(_scope(item.nodeid), len(LONGEST))))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays: the garbage collector goes through it once, at the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What shares fixtures goes to one worker; a notebook's run is a file of its own."""
    from xdist.scheduler import LoadScopeScheduling

    class Scopes(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return Scopes(config, log)


# How many modules there were when the collector last looked, and how many more are many.
_modules = {"seen": 0}
MANY_MODULES = 100


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Nor does it go again through what a test imported. (To count what is out of its sight would take longer.)"""
    if len(sys.modules) > _modules["seen"] + MANY_MODULES:
        _modules["seen"] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def few_images_for_statistics():
    """Normalisations take their statistics of few images; see `as_many_images_for_statistics`."""
    import tiny_study

    with pytest.MonkeyPatch.context() as patch:
        tiny_study.few_images_for_statistics(patch.setattr)
        yield


@pytest.fixture(scope="module")
def as_many_images_for_statistics():
    """Normalisations take their statistics of as many images as outside the tests: for a test of the numbers."""
    from cnnlab.training import callbacks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnlab.training.loop.STATISTICS_IMAGES", callbacks.STATISTICS_IMAGES)
        yield


@pytest.fixture
def no_variables(monkeypatch, tmp_path):
    """No variable says where a data set lies, or is to be kept, and the home has none."""
    for variable in ("CNNLAB_CACHE", "CNNLAB_CIFAR10", "CNNLAB_MARS", "KERAS_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def cache(tmp_path):
    """A cache folder that nothing is in yet."""
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def bars_dataset():
    """A small Dataset of 16x16 images in four classes."""
    return synthetic.dataset()


@pytest.fixture(scope="session")
def full_result(bars_dataset):
    """The `training.Result` of tiny_study.FULL on `bars_dataset`."""
    import tiny_study

    from cnnlab.training import train

    return train(tiny_study.FULL, bars_dataset)


@pytest.fixture(scope="session")
def mars_copy(tmp_path_factory):
    """Path of a zip with a tiny Mars set in the published layout."""
    return tiny_mars.write_zip(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="session")
def mars_tiny(mars_copy, tmp_path_factory):
    """The Dataset of `mars_copy`, its images 16x16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "mars_arrays", partial(dataset.mars_arrays, spec=tiny_mars.SPEC))
        return data.load_mars(mars_copy, tmp_path_factory.mktemp("cache"), 16, progress=False)


@pytest.fixture(scope="session")
def mars_path():
    """Where the real Mars set lies on this machine; without it the test is skipped."""
    beside = ROOT.parent / "shared" / "data" / "msl-images.zip"
    variable = data.path_variable("mars")
    path = os.environ.get(variable) or beside
    if not Path(path).exists():
        pytest.skip(f"the Mars images are not at hand (name them in {variable})")
    return Path(path).resolve()
