"""What training costs, in one run: throughput, the recipes, the machine's ceiling, loading, the time to 74.44%.

The published way is the assignment's CNN with plain `model.fit` on float32 arrays. The ways take
turns, so that other load on the machine slows all of them. On a busy machine read the ratios,
not the times.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from cnnlab.data import CIFAR10_CLASSES, DataUnavailableError, load_cifar10
from cnnlab.findings import (
    LOADING_COST,
    MARS_RUN,
    NOTEBOOK_RUN,
    RATE_SHARE,
    RECIPE_TURNS,
    THROUGHPUT,
    TIME_TO_TARGET,
    run_benchmarks,
)
from cnnlab.machine import ROOT_VARIABLE, choose_precision, import_keras, progress_bar, whole_number
from cnnlab.studies import ASSIGNMENT, FILTERS, PUBLISHED, RECIPES, find_recipe

# Before anything else loads Keras, so that it starts quietly.
import_keras()

import keras  # noqa: E402

from cnnlab.training import (  # noqa: E402
    History,
    Plan,
    ProgressBar,
    build,
    compile_model,
    dtype_policy,
    fit,
    set_initial_weights,
    train,
    training_flops,
)

BATCH = 64
# The rate is also measured at this batch size, to see how much of it the assignment's batches cost.
LARGE_BATCH = 256
MATRIX = 4096
SHARES = tuple(f"{share}{end}" for share in ("share", "share_large") for end in ("", "_lowest", "_highest"))
# A recipe's turn: its images, a multiple of the 25 steps of 64 that the lab runs at once, and its fewest
# steps, enough for weights to be averaged once (see `callbacks.WeightAverage`).
RECIPE_IMAGES, RECIPE_STEPS = 3_200, 5
# (package, module that trains with it turn by turn, way): measured if the package is installed.
ELSEWHERE = (
    ("torch", "benchmarks.pytorch_turns", "eager, float32"),
    ("torch", "benchmarks.pytorch_turns", "eager, bfloat16"),
    ("torch", "benchmarks.pytorch_turns", "compiled, bfloat16"),
    ("jax", "benchmarks.jax_turns", choose_precision()),
)
ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1e6
# Interval between two readings of the notebook processes' memory.
POLL_SECONDS = 0.5


def throughput(images, labels, rounds):
    """Training images per second of the assignment's CNN, median of `rounds` turns: one row per way.

    times_published is the median of the ratios within a round, which range from lowest to highest.
    """
    ways = {
        "published: model.fit, float32": published(images, labels),
        "here, float32": here(images, labels, "float32"),
        f"here, {choose_precision()}": here(images, labels, choose_precision()),
    }
    with contextlib.ExitStack() as processes:
        others = [processes.enter_context(elsewhere(len(images), *other)) for other in ELSEWHERE]
        seconds = take_turns(ways | dict(filter(None, others)), rounds)
    counted = len(images) // BATCH * BATCH
    rounds = pd.DataFrame(seconds)
    ratios = rounds.rdiv(rounds.iloc[:, 0], axis=0)
    columns = {
        "images_per_second": counted / rounds.median(), "times_published": ratios.median(),
        "lowest": ratios.min(), "highest": ratios.max(),
    }  # fmt: skip
    return pd.DataFrame(columns).rename_axis("way").reset_index()


def take_turns(ways, rounds):
    """{way: seconds of each of `rounds` turns}, after one uncounted turn each.

    `ways`: {way: a function that runs one turn and returns its seconds}.
    """
    seconds = {way: [] for way in ways}
    with progress_bar((rounds + 1) * len(ways), "turns", "turn") as bar:
        for count in range(rounds + 1):
            for way, turn in ways.items():
                taken = turn()
                if count:
                    seconds[way].append(taken)
                bar.update()
    return seconds


def timed(work):
    """A turn that does `work`."""

    def turn():
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return turn


class Steps(keras.callbacks.Callback):
    """The seconds of a training from its start to the end of its last step.

    Where Keras builds the pipeline, TensorFlow's tuner sleeps when it ends, for 10 ms times a power of
    two, up to as long as the epoch took (see `cnnlab.training.feeding`). In turns this short that would
    be a lottery. Only the published way has this sleep, so leaving it out favours that way.
    """

    def on_train_begin(self, logs=None):
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds = time.perf_counter() - self.begin


def published(images, labels):
    """A turn of the published way: one epoch of plain `fit` on arrays."""
    with dtype_policy("float32"):
        model = build("cnn")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    pixels = images.astype("float32")

    def turn():
        steps = Steps()
        model.fit(pixels, labels, verbose=0, callbacks=[steps], batch_size=BATCH)
        return steps.seconds

    return turn


def here(images, labels, precision, filters=FILTERS[1], batch_size=BATCH):
    """A turn of the lab's way: one epoch of the assignment's CNN, with `filters`, as `training.train` runs it."""
    trial = dataclasses.replace(
        ASSIGNMENT, options={"filters": list(filters)}, batch_size=batch_size, precision=precision
    )
    return trial_turn(trial, images, labels)


def trial_turn(trial, images, labels, turns=1):
    """A turn that is one pass of `trial`'s training over `images`, timed like all other turns (see `Steps`).

    `turns`: how many turns the learning-rate schedule spans.
    """
    keras.utils.set_random_seed(trial.seed)
    with dtype_policy(trial.precision):
        model = build(trial.model, images.shape[1:], len(CIFAR10_CLASSES), fused=True, **trial.options)
    set_initial_weights(model, trial.network, images)
    one = one_pass(trial, len(images))
    compile_model(model, trial, dataclasses.replace(one, steps=turns * one.steps))
    splits = {"train": (images, labels), "validation": (images[:0], labels[:0])}

    def turn():
        steps = Steps()
        fit(model, trial, one, splits, [History(), steps])
        return steps.seconds

    return turn


@contextlib.contextmanager
def elsewhere(images, package, module, way):
    """(name, turn) of `module`'s `way` in its own process; None where `package` is missing or the start fails."""
    if not importlib.util.find_spec(package):
        yield None
        return
    command = [sys.executable, "-m", module, str(images), str(BATCH), way]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    keras_on_it = {**os.environ, "KERAS_BACKEND": package} if package == "jax" else None
    with subprocess.Popen(command, cwd=ROOT, env=keras_on_it, **pipes) as process:
        version = process.stdout.readline().strip()

        def epoch():
            print(file=process.stdin, flush=True)
            if not process.stdout.readline():
                raise SystemExit(f"the process of {module}, {way}, ended; run the command without it to have the rest")

        yield (f"{package} {version}, {way}", timed(epoch)) if version else None


def recipes(images, labels, rounds):
    """The seconds of each recipe's training, extrapolated from a few steps, all in turns: one row per recipe.

    For each of `rounds` turns (round_0, ...), and their median; baseline_times is the median of the
    ratios to the published code's within a round. Setup and the scoring of test images are left out
    here; so is the published code's validation after each epoch, which favours the published code.
    """
    dataset = load_cifar10(progress=False)
    chosen = {label: recipe.resolved() for label, recipe in RECIPES.items()}
    counts = {label: min(len(images), few_images(recipe)) for label, recipe in chosen.items()}
    ways = {
        label: published(images[:count], labels[:count])
        if chosen[label].loop == "published"
        else trial_turn(chosen[label], images[:count], labels[:count], rounds + 1)
        for label, count in counts.items()
    }
    rows = []
    for label, seconds in take_turns(ways, rounds).items():
        whole, turn = Plan.on(chosen[label], dataset), one_pass(chosen[label], counts[label])
        trained = turn.steps * turn.batch_size
        times = np.multiply(seconds, whole.steps * whole.batch_size / trained)
        rows.append(
            {
                "recipe": label, "images_per_second": trained / np.median(seconds), "seconds": np.median(times),
                **{f"round_{n}": time for n, time in enumerate(times)},
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    by_round = frame.filter(like="round_")
    ratios = by_round / by_round[frame["recipe"] == PUBLISHED.label].to_numpy()
    return frame.assign(baseline_times=ratios.median(axis=1))


def few_images(recipe):
    """How many images a turn of `recipe` trains on: RECIPE_IMAGES, or RECIPE_STEPS batches if that is more."""
    return max(RECIPE_IMAGES, RECIPE_STEPS * recipe.batch_size)


def one_pass(recipe, images):
    """The `training.Plan` of one pass of `recipe` over `images`, a number."""
    return Plan.of(dataclasses.replace(recipe, epochs=1), images)


def share_of_ceiling(images, labels, rounds):
    """Floating-point rate of training each variant of the filter study, and its share of a matrix product's rate.

    The product, of 4096 x 4096 matrices in the same precision, takes turns with the trainings. Each variant
    trains in the assignment's batches and in large ones (at most all `images`), whose share is share_large:
    the same network and images, fewer steps. Shares are medians of the ratios within a round, with their
    range.
    """
    precision = choose_precision()
    sizes = {"share": BATCH, "share_large": min(LARGE_BATCH, len(images))}
    product = matrix_product("bfloat16" if precision == "mixed_bfloat16" else "float32")
    ways = {
        (filters, size): here(images, labels, precision, filters, size)
        for filters, size in itertools.product(FILTERS, sizes.values())
    }
    seconds = take_turns({"matrix product": product, **ways}, rounds)
    ceiling = 2 * MATRIX**3 / np.array(seconds["matrix product"])
    rows = [{"filters": "matrix product", "gflops": np.median(ceiling) / 1e9, **dict.fromkeys(SHARES, 1.0)}]
    for filters in FILTERS:
        network, row = build("cnn", filters=filters), {"filters": "-".join(map(str, filters))}
        for column, size in sizes.items():
            rate = training_flops(network, len(images) // size * size) / np.array(seconds[filters, size])
            shares = rate / ceiling
            row |= {column: np.median(shares), f"{column}_lowest": shares.min(), f"{column}_highest": shares.max()}
            row.setdefault("gflops", np.median(rate) / 1e9)
        rows.append(row)
    return pd.DataFrame(rows).assign(large_batch=sizes["share_large"])


def matrix_product(dtype):
    matrix = keras.ops.cast(np.random.default_rng(0).normal(size=(MATRIX, MATRIX)), dtype)
    # One element is read, because a backend may return before the product is done.
    return timed(lambda: float(keras.ops.matmul(matrix, matrix)[0, 0]))


# What each way of loading runs in its own process; both load the same arrays, because there may be no network.
LOADING = {
    "keras.datasets' arrays, out of our cache, and float conversion": """
from cnnlab.data import cifar10_arrays
arrays = {name: array.copy() for name, array in cifar10_arrays(progress=False).items()}
train, test = (arrays[name].astype("float32") / 255 for name in ("x_train", "x_test"))
""",
    "here": """
from cnnlab.data import load_cifar10
dataset = load_cifar10(progress=False)
train, validation, test = (split.take()[0] for split in dataset.splits.values())
""",
}
MEASURED = """
import re, resource, time
from pathlib import Path
import numpy, pandas, sklearn.model_selection
import cnnlab.data

def peak():
    # On Linux getrusage includes the process that this one was forked from, the benchmark itself.
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search("VmHWM:\\s*(\\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before, begin = peak(), time.perf_counter()
{}
print(time.perf_counter() - begin, peak() - before)
"""


def loading(rounds):
    """Seconds and peak memory, in megabytes beyond the imports, to load the images: one row per way.

    Medians of `rounds` turns, and their ratios to those of the first way.
    """
    found = {way: [] for way in LOADING}
    for _ in range(rounds):
        for way, code in LOADING.items():
            process = subprocess.run(
                [sys.executable, "-c", MEASURED.format(code)], cwd=ROOT, check=False, capture_output=True, text=True
            )
            if process.returncode:
                raise SystemExit(f"{way}: loading failed:\n{process.stderr}")
            found[way].append([float(number) for number in process.stdout.split()])
    rows = [
        {"way": way, "seconds": np.median(values, axis=0)[0], "peak_MB": np.median(values, axis=0)[1] / MEGABYTE}
        for way, values in found.items()
    ]
    frame = pd.DataFrame(rows)
    for column in ("seconds", "peak_MB"):
        frame[f"{column}_ratio"] = frame[column] / frame[column][0]
    return frame


def time_to_target(label="to_74"):
    """One training of the published code and one of the recipe `label`: seconds, accuracy, and the ratio."""
    dataset = load_cifar10(progress=False)
    rows = []
    for recipe in (PUBLISHED, find_recipe(label)):
        row = train(recipe, dataset, [ProgressBar(recipe.label)]).row
        rows.append({"recipe": recipe.label, "seconds": row["seconds"], "test_accuracy": row["test_accuracy_tta"]})
    frame = pd.DataFrame(rows)
    frame["baseline_times"] = frame["seconds"] / frame["seconds"][0]
    return frame


def notebook(name):
    """Minutes to run the notebook `name` in the quick budget, and the total peak memory of its processes.

    It runs in a folder of its own, so that it starts from nothing, whatever earlier runs have left.
    """
    command = [sys.executable, "-m", "cnnlab", "notebook", name, "--budget", "quick"]
    with tempfile.TemporaryDirectory() as folder:
        for needed in (name, "results", "sagemaker_scripts"):
            (Path(folder) / needed).symlink_to(ROOT / needed)
        begin, peak = time.perf_counter(), 0
        environment = {**os.environ, ROOT_VARIABLE: folder}
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):  # A process may end while it is being read.
                    peak = max(peak, occupied([watched, *watched.children(recursive=True)]))
                time.sleep(POLL_SECONDS)
        minutes = (time.perf_counter() - begin) / 60
    if process.returncode:
        raise SystemExit(f"{name} failed with exit code {process.returncode}; run it by itself to see why")
    return pd.DataFrame([{"minutes": minutes, "peak_MB": peak / MEGABYTE}])


def occupied(processes):
    """Total bytes of memory of `psutil.Process`es: what they share, such as libraries, counts in parts (Linux).

    In the process where this adds most, shared memory counts in full: it shares libraries with this benchmark.
    """
    found = [process.memory_full_info() for process in processes]
    parts = [getattr(memory, "pss", memory.rss) for memory in found]
    return sum(parts) + max(memory.rss - part for memory, part in zip(found, parts, strict=True))


# Measurements: a short name, a title, and a function of (images, labels, rounds).
MEASUREMENTS = {
    "throughput": (THROUGHPUT, throughput),
    "recipes": (RECIPE_TURNS, recipes),
    "ceiling": (RATE_SHARE, share_of_ceiling),
    "loading": (LOADING_COST, lambda _images, _labels, rounds: loading(rounds)),
    "target": (TIME_TO_TARGET, lambda *_: time_to_target()),
    "notebook": (NOTEBOOK_RUN, lambda *_: notebook("cnn_assignment.ipynb")),
    "mars": (MARS_RUN, lambda *_: notebook("cnn_exploration.ipynb")),
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole_number(1), default=5, help="turns per way (default: %(default)s)")
    parser.add_argument(
        "--images", type=whole_number(BATCH), default=6_400, help="trained on in each turn (default: %(default)s)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), help="measure only these (default: all)"
    )
    parser.add_argument("--output", type=Path, help="also write everything to this JSON file")
    options = parser.parse_args(arguments)
    try:
        images, labels = load_cifar10().split("train", options.images)
    except DataUnavailableError as error:
        raise SystemExit(str(error)) from None
    labels = labels.astype("int32")
    chosen = {}
    for name in options.only:
        title, take = MEASUREMENTS[name]
        chosen[title] = functools.partial(take, images, labels, options.rounds)
    run_benchmarks(chosen, output=options.output)


if __name__ == "__main__":
    main()
