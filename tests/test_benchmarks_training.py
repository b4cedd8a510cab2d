"""The benchmark of training: what it is asked for, it measures, prints and keeps."""

import json
import types

import numpy as np
import pytest

from benchmarks import training
from cnnlab.data import DataUnavailableError
from cnnlab.findings import RECIPE_TURNS, THROUGHPUT, benchmark_findings
from cnnlab.machine import choose_precision
from cnnlab.studies import RECIPES
from cnnlab.training.callbacks import EVERY
from cnnlab.training.loop import STEPS_PER_EXECUTION


@pytest.fixture
def noise(monkeypatch):
    """Images of the right size in the place of CIFAR-10, of which a benchmark takes the speed alone."""

    def split(name, limit):
        random = np.random.default_rng(0)
        return random.integers(0, 256, (limit, 32, 32, 3), "uint8"), random.integers(0, 10, limit, "uint8")

    splits = {"train": range(40_000), "validation": range(10_000)}
    monkeypatch.setattr(
        training, "load_cifar10", lambda progress=True: types.SimpleNamespace(split=split, splits=splits)
    )


@pytest.mark.long
def test_throughput_is_measured_printed_and_kept_as_ratios(noise, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)  # As where no PyTorch is.
    path = tmp_path / "record" / "training.json"
    training.main(["--only", "throughput", "--rounds", "1", "--images", "64", "--output", str(path)])
    rows = json.loads(path.read_text())["tables"][THROUGHPUT]["rows"]
    ways = ["published: model.fit, float32", *dict.fromkeys(["here, float32", f"here, {choose_precision()}"])]
    assert [row["way"] for row in rows] == ways
    assert rows[0]["times_published"] == 1
    for row in rows:
        assert row["times_published"] == pytest.approx(row["images_per_second"] / rows[0]["images_per_second"])
    shown = capsys.readouterr().out
    assert all(way in shown for way in ways)


def test_what_trains_elsewhere_takes_turns_in_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "willing.py").write_text("import sys\nprint('1.0', flush=True)\nfor _ in sys.stdin: print(flush=True)")
    (tmp_path / "broken.py").write_text("raise SystemExit('no compiler')")
    (tmp_path / "short.py").write_text("print('1.0', flush=True)\ninput()")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{training.os.pathsep}{training.os.environ['PYTHONPATH']}")
    with training.elsewhere(64, "json", "willing", "eager") as (name, turn):
        assert name == "json 1.0, eager"
        assert turn() > 0 and turn() > 0
    for package, module in (("nosuchpackage", "willing"), ("json", "broken")):
        with training.elsewhere(64, package, module, "eager") as found:
            assert found is None
    with (
        training.elsewhere(64, "json", "short", "eager") as (_, turn),
        pytest.raises(SystemExit, match="the process of short, eager, ended"),
    ):
        turn()


@pytest.mark.long
def test_recipes_are_timed_side_by_side_and_a_whole_training_follows(noise, monkeypatch):
    few = {label: RECIPES[label] for label in ("published", "assignment", "to_74")}
    monkeypatch.setattr(training, "RECIPES", few)
    images, labels = training.load_cifar10().split("train", 64)
    table = training.recipes(images, labels.astype("int32"), rounds=2).set_index("recipe")
    rates, rounds = table["images_per_second"], table[["round_0", "round_1"]]
    assert list(table.index) == list(few)
    # The assignment's CNN has ten epochs of 40,000 images, published and here, the recipe its own of 50,000.
    passes = RECIPES["to_74"].epochs
    for label, trained in (("published", 400_000), ("assignment", 400_000), ("to_74", passes * 50_000)):
        assert table.loc[label, "seconds"] == pytest.approx(rounds.loc[label].median())
        assert table.loc[label, "seconds"] == pytest.approx(trained / rates[label])
    ratios = rounds.loc["to_74"] / rounds.loc["published"]
    assert table.loc["to_74", "baseline_times"] == pytest.approx(ratios.median())
    assert benchmark_findings({RECIPE_TURNS: table.reset_index()}) == [], "the chapter on targets says it"


def test_a_turn_of_a_recipe_has_all_that_its_steps_need():
    assert training.few_images(RECIPES["assignment"]) % (64 * STEPS_PER_EXECUTION) == 0
    large = RECIPES["muon"]
    assert training.one_pass(large, training.few_images(large)).steps == EVERY


def test_a_schedule_spans_all_turns_of_a_recipe(noise, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "compile_model", lambda model, trial, plan: seen.append(plan))
    images, labels = training.load_cifar10().split("train", 128)
    training.trial_turn(RECIPES["to_74"].resolved(), images, labels.astype("int32"), turns=3)
    assert [(plan.steps, plan.epoch_steps) for plan in seen] == [(3, 1)]


@pytest.mark.long
def test_the_ceiling_is_taken_in_the_assignments_batches_and_in_large_ones(noise, monkeypatch):
    monkeypatch.setattr(training, "FILTERS", ((4, 8),))
    monkeypatch.setattr(training, "MATRIX", 64)
    images, labels = training.load_cifar10().split("train", 128)
    table = training.share_of_ceiling(images, labels.astype("int32"), rounds=1)
    assert list(table["filters"]) == ["matrix product", "4-8"]
    assert list(table["large_batch"].unique()) == [128], "there are no more images"
    assert list(table.loc[0, ["share", "share_large"]]) == [1, 1]
    assert list(table["gflops"] / table["gflops"][0]) == pytest.approx(list(table["share"]))
    assert (table["share_large"] > 0).all()


def test_without_the_data_it_says_what_to_do(monkeypatch):
    def absent():
        raise DataUnavailableError("no data; upload it")

    monkeypatch.setattr(training, "load_cifar10", absent)
    with pytest.raises(SystemExit, match="no data; upload it"):
        training.main(["--only", "throughput"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "'0' is not a whole number of 1 or more"),
        (["--images", "1"], "'1' is not a whole number of 64 or more"),
        (["--only", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_a_bad_call_gets_one_clear_line_before_anything_is_loaded(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(training, "load_cifar10", lambda: pytest.fail("it was loaded"))
    with pytest.raises(SystemExit) as stop:
        training.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_turns_are_taken_in_turn_and_the_first_is_not_counted():
    taken = []
    ways = {way: lambda way=way: taken.append(way) or len(taken) for way in ("a", "b")}
    assert training.take_turns(ways, 2) == {"a": [3, 5], "b": [4, 6]}
    assert taken == ["a", "b"] * 3
