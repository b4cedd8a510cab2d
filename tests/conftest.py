"""Fixtures that several test modules share.

Only fixtures that need TensorFlow load it: the process that hands tests to pytest-xdist's workers does without.
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
    """Set up this process as the tests expect it."""
    # Shells make background jobs ignore Ctrl-C; some tests need it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Programs that the tests start use this checkout, whatever the environment has installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # For workers and programs: NumPy's threads spin while they wait, and take time from the other worker.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Tests make and drop many small objects, few of them in cycles: run the garbage collector less often.
    gc.set_threshold(20_000, 20, 20)


# The longest files start first, so that no worker of pytest-xdist is left with one at the end.
LONGEST = (
    "test_training_finetune", "test_package_model", "test_studies_run", "test_protocol", "test_course",
    "test_command_line", "test_deploy", "test_benchmarks_training", "test_launch_training", "test_notebooks",
    "test_train", "test_findings", "test_findings_recipes", "test_measures_mars", "test_figures", "test_report",
)  # fmt: skip
# Files that share what takes seconds to make: the packed model, the trained recipe.
TOGETHER = (
    ("test_package_model", "test_page", "test_serving", "test_container_contract", "test_inference", "test_archive",
     "test_batch", "test_measures_attribution"),
    ("test_studies_run", "test_training_loop", "test_measures_probes", "test_machine"),
)  # fmt: skip


def _is_alone(nodeid):
    """Whether a test is a notebook's run, which takes as long as the longest file."""
    return "in_the_smoke_budget" in nodeid


def _scope(nodeid):
    """The name of what goes to one worker: a notebook's run, files in TOGETHER (by the first), or one file."""
    file = Path(nodeid.split("::")[0]).stem
    return nodeid if _is_alone(nodeid) else next((files[0] for files in TOGETHER if file in files), file)


def pytest_collection_modifyitems(items):
    """Put long files before short ones, each in its own order, and the notebooks' runs before all."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (not _is_alone(item.nodeid), places.get(_scope(item.nodeid), len(LONGEST))))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Run the garbage collector once, after collection, because imported objects stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Send what shares fixtures to one worker; a notebook's run counts as a file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scopes(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return Scopes(config, log)


# How many modules there were at the last collection, and how many new ones call for another.
_modules = {"seen": 0}
MANY_MODULES = 100


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Freeze what a test imported as well. (Counting the frozen objects instead would take longer.)"""
    if len(sys.modules) > _modules["seen"] + MANY_MODULES:
        _modules["seen"] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def few_images_for_statistics():
    """Compute normalisation statistics from few images; see `as_many_images_for_statistics`."""
    import tiny_study

    with pytest.MonkeyPatch.context() as patch:
        tiny_study.few_images_for_statistics(patch.setattr)
        yield


@pytest.fixture(scope="module")
def as_many_images_for_statistics():
    """Compute normalisation statistics from as many images as outside the tests, to test the numbers."""
    from cnnlab.training import callbacks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnlab.training.loop.STATISTICS_IMAGES", callbacks.STATISTICS_IMAGES)
        yield


@pytest.fixture
def no_variables(monkeypatch, tmp_path):
    """No variable names a data set or a cache, and the home folder has none."""
    for variable in ("CNNLAB_CACHE", "CNNLAB_CIFAR10", "CNNLAB_MARS", "KERAS_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def cache(tmp_path):
    """Path of a cache folder that does not exist yet."""
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
    """Path of the real Mars set on this machine; without it the test is skipped."""
    beside = ROOT.parent / "shared" / "data" / "msl-images.zip"
    variable = data.path_variable("mars")
    path = os.environ.get(variable) or beside
    if not Path(path).exists():
        pytest.skip(f"the Mars images are not available (set {variable} to their path)")
    return Path(path).resolve()
