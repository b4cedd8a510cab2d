"""Sentences and verdicts on synthetic frames whose truth is known."""

import functools
import itertools
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from statsmodels.stats.power import TTestPower

from cnnlab import findings, wording
from cnnlab.findings.finding import NUMBER, judge
from cnnlab.studies import STUDIES

PARAMETERS = {"cnn_16_32_64": 2_126_378, "cnn_32_64_128": 4_293_194, "cnn_64_128_256": 8_765_066}
CLASSES = ("cat", "dog", "bird", "ship")


def frame(means, seeds=5, noise=0.002, seed=0):
    """A tidy frame: `means` of each label, seed effects shared by all labels, and noise."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, 0.01, seeds)
    rows = []
    for run in range(seeds):
        for label, mean in means.items():
            accuracy = mean + shared[run] + generator.normal(0, noise)
            rows.append({
                "label": label, "seed": run, "parameters": PARAMETERS.get(label, 402_250), "seconds": 60.0 + run,
                "cpu_seconds": 110.0 + run,
                "test_accuracy_best": accuracy, "test_accuracy_last": accuracy - 0.01, "val_accuracy_best": accuracy,
                "test_loss_best": 2 - accuracy, "test_loss_last": 2 - accuracy,
            })  # fmt: skip
    return pd.DataFrame(rows)


RISING = {"cnn_16_32_64": 0.70, "cnn_32_64_128": 0.73, "cnn_64_128_256": 0.73}


@pytest.mark.parametrize(
    ("best", "verdict", "text"),
    [
        (0.58, "better", "buys 27.0 points over the published dense network, 15.0 over one at its best: better"),
        (0.63, "better", "better training explains most of it."), (0.73, "same", "convolution was not needed."),
        (0.78, "worse", "convolution was not needed."),
    ],
)  # fmt: skip
def test_what_convolution_buys_against_both(best, verdict, text):
    rows = frame({"dense_a": 0.46, "dense_b": best, "cnn_a": 0.73}, noise=1e-4)
    found = findings.convolution_buys(rows, "cnn_a", "dense_a", "dense_b")
    assert found.verdict == verdict
    assert text in found.sentence
    assert found.numbers["mean"] == pytest.approx(0.73 - best, abs=1e-3)
    assert found.numbers["plain"]["mean"] == pytest.approx(0.27, abs=1e-3)


@pytest.mark.parametrize(("gain", "verdict"), [(0.0, "same"), (0.05, "better"), (-0.05, "worse")])
def test_trainings_on_a_gpu_are_held_against_others_variant_by_variant(gain, verdict):
    means = {f"cnn_{filters}": 0.6 + 0.001 * filters for filters in range(1, 13)}
    without = frame(means, seed=1).assign(accelerator="none")
    beside = frame({label: mean + gain for label, mean in means.items()}, seed=2).assign(accelerator="a GPU")
    alone = frame({"cnn_99": 0.2}).assign(accelerator="none")
    rows = pd.concat([without, beside, alone])
    rows.loc[rows["label"] == "cnn_3", "test_accuracy_best"] = np.nan  # It keeps the last.
    (found,) = findings.on_gpu(rows)
    assert (found.verdict, found.numbers["n"]) == (verdict, 12)
    difference = beside["test_accuracy_best"].mean() - without["test_accuracy_best"].mean()
    assert found.numbers["mean"] == pytest.approx(difference)
    assert list(findings.on_gpu_table(rows)["Verdict"]) == [verdict]
    for one_kind in (without, beside, pd.concat([without, beside[beside["seed"] == 0]])):
        assert findings.on_gpu(one_kind) == []
        assert findings.on_gpu_table(one_kind).empty


def test_better_and_worse_are_two_sides_of_one_difference():
    rows = frame(RISING)
    better = findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64")
    worse = findings.against_baseline(rows, "cnn_16_32_64", "cnn_32_64_128")
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.numbers["low"] < 0.03 < better.numbers["high"]


@pytest.mark.parametrize(
    ("accuracy", "noise", "verdict"), [(0.732, 0.001, "same"), (0.732, 0.02, "cannot tell"), (0.76, 0.001, "better")]
)
def test_a_small_difference_is_the_same_where_it_is_known_well_and_else_cannot_be_told(accuracy, noise, verdict):
    rows = frame({"cnn_16_32_64": 0.73, "cnn_32_64_128": accuracy}, noise=noise)
    assert findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64").verdict == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.02, 0.05), "better"), ((-0.05, -0.02), "worse"), ((-0.009, 0.009), "same"), ((0.001, 0.009), "same"),
     ((-0.02, 0.005), "cannot tell"), ((np.nan, np.nan), "cannot tell")],
)  # fmt: skip
def test_an_interval_is_judged_against_zero_and_the_margin(interval, verdict):
    assert judge(interval) == verdict


@pytest.mark.parametrize("centre", [0.0, 0.006, 0.009, 0.015, -0.01])
def test_the_same_is_that_of_two_one_sided_tests_by_hand(centre):
    values = centre + np.random.default_rng(1).normal(0, 0.003, 5)
    low, high = stats.t.interval(0.9, 4, values.mean(), stats.sem(values))
    assert (judge(values) == "same") == (low > -findings.MARGIN and high < findings.MARGIN)


def test_differences_without_any_spread_are_judged_by_their_size():
    assert [judge(np.full(3, size)) for size in (0.0, 0.005, 0.05, -0.05)] == ["same", "same", "better", "worse"]


@pytest.mark.parametrize(
    ("sentence", "verdict", "message"),
    [("word " * 26, None, "26 words"), ("1 and 2, 3 and 4.", None, "4 numbers"), ("It is so.", "best", "verdict")],
)
def test_a_finding_that_says_too_much_is_refused(sentence, verdict, message):
    with pytest.raises(ValueError, match=message):
        findings.Finding(sentence, verdict, {})


def test_pairing_sees_what_the_spread_of_seeds_would_hide():
    rows = frame({"cnn_16_32_64": 0.70, "cnn_32_64_128": 0.712}, noise=0.0005, seed=3)
    values = [group["test_accuracy_best"] for _, group in rows.groupby("label")]
    assert stats.ttest_ind(*values).pvalue > 0.05
    assert findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64").verdict == "better"


def test_one_seed_draws_no_conclusion():
    rows = frame(RISING, seeds=1)
    for found in (
        findings.choose(rows),
        findings.sweep(rows),
        findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64"),
        *findings.adjacent(rows),
    ):
        assert found.verdict == "cannot tell"
        assert "low" not in found.numbers


def test_only_seeds_that_both_variants_have_are_paired():
    rows = frame(RISING)
    rows = rows[~((rows["label"] == "cnn_16_32_64") & (rows["seed"] > 2))]
    assert findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64").numbers["n"] == 3


def test_findings_change_when_the_rows_change():
    rows = frame(RISING)
    before = findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64")
    rows.loc[rows["label"] == "cnn_32_64_128", "test_accuracy_best"] -= 0.06
    after = findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64")
    assert (before.verdict, after.verdict) == ("better", "worse")
    assert before.sentence != after.sentence


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda rows: rows.iloc[:0], ("cnn_32_64_128", "cnn_16_32_64"), "no rows"),
        (lambda rows: rows, ("cnn_32_64_128", "cnn_1"), "no variant 'cnn_1'; it has cnn_16_32_64"),
        (lambda rows: rows, ("cnn_32_64_128", "cnn_32_64_128"), "compared with itself"),
        (lambda rows: rows, ("cnn_32_64_128", "cnn_16_32_64", "accuracy"), "no column 'accuracy'"),
        (lambda rows: rows, ("cnn_32_64_128", "cnn_16_32_64", "parameters"), "cannot be compared"),
        (lambda rows: pd.concat([rows, rows]), ("cnn_32_64_128", "cnn_16_32_64"), "two rows of one seed"),
        (
            lambda rows: rows[(rows["seed"] == 0) == (rows["label"] == "cnn_16_32_64")],
            ("cnn_32_64_128", "cnn_16_32_64"),
            "no seed has both",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(change, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        findings.against_baseline(change(frame(RISING)), *arguments)
    assert "\n" not in str(error.value)


def test_adjacent_steps_follow_the_order_of_the_sweep():
    found = findings.adjacent(frame({**RISING, "cnn_128_256_512": 0.70}))
    assert [step.verdict for step in found] == ["better", "same", "worse"]
    assert found[0].sentence.startswith("The 32-filter CNN beats the 16-filter CNN by 3.")


@pytest.mark.parametrize(
    ("no_pooling", "verdict", "words"),
    [(0.67, "worse", "No pooling costs most, "), (0.729, "same", "Undoing a single decision has no clear cost")],
)
def test_the_decision_that_costs_most_when_undone_is_named(no_pooling, verdict, words):
    found = findings.undone(frame({"as designed": 0.73, "no pooling": no_pooling, "no dropout": 0.76}))
    assert (found.verdict, found.numbers["label"]) == (verdict, "no pooling")
    assert found.numbers["verdicts"]["no dropout"] == "better"
    assert found.sentence.startswith(words)
    assert found.sentence.endswith(f"{('one of two', 'all two')[verdict == 'worse']} decisions can be shown to matter.")


def test_where_no_decision_matters_none_of_them_does():
    same = frame(dict.fromkeys(["as designed", "no pooling", "no dropout"], 0.73))
    assert findings.undone(same).sentence.endswith("; none of two decisions can be shown to matter.")


@pytest.mark.parametrize(
    ("means", "stops_at", "verdict", "gain"),
    [
        ((0.70, 0.73, 0.76), "cnn_64_128_256", "better", 0.06),
        ((0.70, 0.73, 0.73), "cnn_32_64_128", "same", 0.03),
        ((0.70, 0.73, 0.70), "cnn_32_64_128", "worse", 0.03),
        ((0.73, 0.73, 0.76), "cnn_16_32_64", "same", 0.0),
        ((0.73, 0.70, 0.73), "cnn_16_32_64", "worse", -0.03),
    ],
)
def test_a_sweep_says_where_more_stops_helping(means, stops_at, verdict, gain):
    found = findings.sweep(frame(dict(zip(RISING, means, strict=True))))
    assert (found.numbers["stops_at"], found.verdict) == (stops_at, verdict)
    assert found.numbers["mean"] == pytest.approx(gain, abs=0.004)


def test_a_sweep_in_noise_cannot_tell_and_one_of_two_kinds_is_refused():
    assert findings.sweep(frame(RISING, noise=0.2)).verdict == "cannot tell"
    with pytest.raises(ValueError, match="several kinds"):
        findings.sweep(frame({"dense_128_64": 0.4, "cnn_16_32_64": 0.7}))


LABELS = [trial.label for study in STUDIES.values() for trial in study.trials]
METRICS = ["test_accuracy_best", "test_accuracy_last"]


@pytest.mark.parametrize("metric", [METRICS[0], pytest.param(METRICS[1], marks=pytest.mark.long)])
@pytest.mark.parametrize(("effect", "noise", "seeds"), [
    (0.03, 0.001, 5), (-0.03, 0.001, 5), (0.0, 0.001, 5), (0.0, 0.1, 5), (0.3, 0.001, 1),
])  # fmt: skip
def test_no_form_of_a_sentence_is_too_long(effect, noise, seeds, metric):
    """A Finding that says too much is a ValueError: here is every form, with the longest names of the studies."""
    longest = sorted(dict.fromkeys(LABELS), key=lambda label: len(wording.short(label).split()))[-8:]
    for first, second in itertools.pairwise(longest):
        rows = frame({first: 0.5, second: 0.5 + effect}, seeds=seeds, noise=noise)
        findings.adjacent(rows, metric)
        findings.against_baseline(rows, second, first, metric)
        findings.epochs_confound(rows, second, first)
        findings.choose(rows, metric)
    for label in ("gap_{}_256_512", "cnn_32_64_k{}", "dense_{}_512"):
        for turns in itertools.product((0, effect, -effect), repeat=2):
            means = dict(
                zip([label.format(width) for width in (64, 128, 256)], 0.5 + np.cumsum([0, *turns]), strict=True)
            )
            rows = frame(means, seeds=seeds, noise=noise)
            found = findings.sweep(rows, metric)
            assert found.verdict in ("better", "worse", "same", "cannot tell")


def test_the_table_of_contrasts_has_what_the_sentences_leave_out():
    rows = frame({**RISING, "cnn_128_256_512": 0.70})
    table = findings.contrast_table(rows)
    assert list(table["Verdict"]) == ["better", "same", "worse"]
    assert list(table["n"]) == [5, 5, 5]
    numbers = findings.adjacent(rows)[0].numbers
    assert table.loc[0, "95% interval"] == f"{100 * numbers['low']:+.2f} to {100 * numbers['high']:+.2f}"
    assert table.loc[0, "First"] == "CNN 32-64-128"
    assert list(findings.contrast_table(rows, base="cnn_16_32_64")["Second"].unique()) == ["CNN 16-32-64"]
    once = findings.contrast_table(frame(RISING, seeds=1), "test_accuracy_last")
    assert set(once["95% interval"]) == {"one run"}
    assert list(once.columns)[2] == "Difference in final test accuracy, points"


def test_holm_can_take_back_what_one_contrast_alone_would_show():
    means = {"cnn_16_32_64": 0.70, "cnn_32_64_128": 0.7175, "cnn_64_128_256": 0.7175, "dense": 0.7175}
    rows = frame(means, noise=0.01, seed=7)
    alone = findings.against_baseline(rows, "cnn_32_64_128", "cnn_16_32_64")
    assert alone.verdict == "better"
    together = findings.adjacent(rows)[0]
    assert together.numbers["p_holm"] == pytest.approx(3 * alone.numbers["p_value"])
    assert together.verdict == "cannot tell"


def test_false_alarms_are_as_rare_as_the_level_says():
    repetitions = 200
    alarms = sum(
        findings.against_baseline(frame({"cnn_a": 0.7, "cnn_b": 0.7}, noise=0.02, seed=k), "cnn_a", "cnn_b").verdict
        != "cannot tell"
        for k in range(repetitions)
    )
    low, high = stats.binom.interval(0.999, repetitions, 0.05)
    assert low <= alarms <= high


@pytest.mark.long
def test_false_alarms_of_a_whole_sweep_are_as_rare_as_the_level_says():
    repetitions, level = 200, {"cnn_a": 0.7, "cnn_b": 0.7, "cnn_c": 0.7, "cnn_d": 0.7}
    families = [findings.adjacent(frame(level, noise=0.02, seed=1000 + k)) for k in range(repetitions)]
    alarms = sum(any(step.verdict in ("better", "worse") for step in steps) for steps in families)
    uncorrected = sum(any(step.numbers["p_value"] < 0.05 for step in steps) for steps in families)
    assert alarms <= stats.binom.ppf(0.999, repetitions, 0.05)
    assert uncorrected > stats.binom.ppf(0.999, repetitions, 0.05)


@pytest.mark.long
def test_a_difference_that_the_power_is_made_for_is_seen_four_times_in_five():
    repetitions, noise = 200, 0.02
    # The noise of a difference of two is sqrt(2) times that of one.
    size = TTestPower().solve_power(nobs=5, alpha=0.05, power=0.8) * noise * np.sqrt(2)
    seen = sum(
        findings.against_baseline(
            frame({"cnn_a": 0.7, "cnn_b": 0.7 + size}, noise=noise, seed=k), "cnn_b", "cnn_a"
        ).verdict
        == "better"
        for k in range(repetitions)
    )
    low, high = stats.binom.interval(0.999, repetitions, 0.8)
    assert low <= seen <= high


@pytest.mark.parametrize(
    ("means", "chosen", "edge"),
    [
        ({"cnn_16_32_64": 0.70, "cnn_32_64_128": 0.75, "cnn_64_128_256": 0.73}, "cnn_32_64_128", False),
        ({"cnn_16_32_64": 0.70, "cnn_32_64_128": 0.73, "cnn_64_128_256": 0.75}, "cnn_64_128_256", True),
        ({"cnn_16_32_64": 0.75, "cnn_32_64_128": 0.73, "cnn_64_128_256": 0.70}, "cnn_16_32_64", True),
    ],
)
def test_the_choice_says_whether_it_lies_on_the_edge(means, chosen, edge):
    found = findings.choose(frame(means))
    assert (found.numbers["chosen"], found.numbers["edge"]) == (chosen, edge)
    assert found.verdict == "better"


def test_the_choice_is_made_on_validation_and_not_on_the_test_set():
    rows = frame({"cnn_16_32_64": 0.70, "cnn_32_64_128": 0.73})
    first = rows["label"] == "cnn_16_32_64"
    rows.loc[first, "val_accuracy_best"] += 0.1
    found = findings.choose(rows)
    assert found.numbers["chosen"] == "cnn_16_32_64"
    assert found.verdict == "worse"


def test_baseline_sentence_has_both_scores_and_both_costs():
    found = findings.against_baseline(
        frame({"dense_128_64": 0.47, "cnn_32_64_128": 0.73}), "cnn_32_64_128", "dense_128_64"
    )
    assert found.verdict == "better"
    assert found.sentence.startswith("The CNN beats the dense network by ")
    assert found.sentence.endswith(" with 10.7 times the parameters.")
    assert found.numbers["parameters"] == PARAMETERS["cnn_32_64_128"] / 402_250


def test_longer_training_is_compared_at_the_last_epoch():
    rows = frame({"cnn_32_64_128": 0.73, "cnn_32_64_128_15_epochs": 0.73})
    rows.loc[rows["label"] == "cnn_32_64_128_15_epochs", "test_accuracy_last"] += 0.02
    found = findings.epochs_confound(rows)
    assert found.verdict == "better"
    assert found.numbers["low"] < 0.02 < found.numbers["high"]


def test_two_networks_on_the_same_images():
    labels = np.arange(1000) % 4
    half = np.where(np.arange(1000) < 500, labels, (labels + 1) % 4)
    most = np.where(np.arange(1000) < 600, labels, (labels + 1) % 4)
    compare = functools.partial(findings.compare_predictions, names=("the first network", "the second"))
    assert compare(labels, most, half).verdict == "better"
    assert compare(labels, half, most).verdict == "worse"
    rolled = compare(labels, half, np.roll(half, 4))
    assert (rolled.verdict, rolled.numbers["n"]) == ("same", 1000)
    assert compare(labels[::25], most[::25], half[::25]).verdict == "cannot tell"


def test_table_of_a_study_has_means_with_intervals():
    rows = frame(RISING)
    table = findings.study_table(rows)
    values = rows[rows["label"] == "cnn_32_64_128"]["test_accuracy_best"]
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert table.loc[1].tolist() == [
        "CNN 32-64-128", "4,293,194", 5, f"{values.mean():.1%}", f"{low:.1%} to {high:.1%}",
        f"{2 - values.mean():.3f}", "112 s",
    ]  # fmt: skip


def test_table_as_markdown_reads_back():
    text = findings.to_markdown(findings.study_table(frame(RISING, seeds=1)))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0][:3] == ["Variant", "Parameters", "Seeds"]
    assert {len(line) for line in lines} == {7}
    assert lines[2][:3] == ["CNN 16-32-64", "2,126,378", "1"]
    assert lines[2][4] == "one run"
    assert findings.to_markdown(pd.DataFrame({"a": ["x|y\nz"]})).splitlines()[-1] == r"| x\|y z |"
    assert "| 0.10 |" in findings.to_markdown(pd.DataFrame({"a": ["0.10"]}))


def predictions(accuracies, images=400, seed=0):
    """(labels, predicted): class k answered right with `accuracies[k]`, else taken for the next class."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(accuracies)), images)
    right = generator.random(len(labels)) < np.repeat(accuracies, images)
    return labels, np.where(right, labels, (labels + 1) % len(accuracies))


def test_worst_class_is_told_from_chance():
    found = findings.worst_class(*predictions([0.5, 0.8, 0.8, 0.8]), CLASSES)
    assert (found.verdict, found.numbers["class"]) == ("worse", "cat")
    assert found.sentence.startswith("The worst class is cat, most often taken for dog: ")
    alike = findings.worst_class(*predictions([0.8, 0.8, 0.8, 0.8]), CLASSES)
    assert alike.verdict == "cannot tell"


def test_worst_of_several_classes_pays_for_having_been_looked_for():
    labels, predicted = predictions([0.72, 0.8, 0.8, 0.8], images=150, seed=5)
    found = findings.worst_class(labels, predicted, CLASSES)
    cats, right = labels == 0, labels == predicted
    counts = [[np.sum(cats & right), np.sum(cats & ~right)], [np.sum(~cats & right), np.sum(~cats & ~right)]]
    alone = stats.fisher_exact(counts).pvalue
    assert found.numbers["p_value"] == pytest.approx(4 * alone)
    assert alone < 0.05 < found.numbers["p_value"]
    assert found.verdict == "cannot tell"


def test_class_names_may_be_numbers_and_long():
    names = ("0", "1.5", "2", "no. 3 of the left-hand shelf, as it was found in 1987")
    assert names[3] in findings.worst_class(*predictions([0.9, 0.8, 0.7, 0.4]), names).sentence
    with pytest.raises(ValueError, match="6 numbers"):
        findings.Finding("1 for 2, 3 for 4, 5 for 6.", None, {})


def test_networks_against_the_same_answer_always():
    rows = frame({"cnn_16_32_64": 0.70, "dense_128_64": 0.40})
    better, same = findings.against_constant(rows, {seed: 0.40 + 0.001 * (seed % 2) for seed in range(5)})
    assert better.verdict == "better"
    assert better.numbers["mean"] == pytest.approx(rows.iloc[::2]["test_accuracy_best"].mean() - 0.4004)
    assert re.match(r"The 16-filter CNN beats a constant answer by [\d.]+ points of test accuracy\.", str(better))
    assert same.verdict in ("same", "cannot tell")


def test_the_share_of_right_answers_comes_with_its_interval():
    found = findings.rightly_answered(np.arange(10) < 8, np.arange(10))
    assert found.sentence == "80.0% of the test pictures are answered correctly; of others like them, 49.0% to 94.3%."
    assert (found.numbers["accuracy"], found.numbers["n"]) == (0.8, 10)


def test_confusions_are_listed_by_class_the_commonest_first():
    table = findings.confusions_table([0, 0, 0, 0, 1, 2], [0, 2, 2, 1, 1, 2], ("cat", "dog", "owl"))
    assert table.to_dict("list") == {
        "Class": ["cat", "dog", "owl"], "Images": [4, 1, 1], "Right": [1, 1, 1], "Taken for": ["owl 2, dog 1", "", ""]
    }  # fmt: skip


def test_calibration_sentence_knows_which_way_the_network_errs():
    confidence = np.full(1000, 0.9)
    correct = np.arange(1000) < 700
    over = findings.calibration_error(confidence, correct)
    assert "overconfident by 20.0 points" in over.sentence
    assert (over.verdict, over.numbers["ece"]) == ("worse", pytest.approx(0.2))
    assert "underconfident" in findings.calibration_error(np.full(1000, 0.5), correct).sentence
    assert findings.calibration_error(np.full(1000, 0.7), correct).verdict == "cannot tell"
    assert findings.calibration_error(np.full(100_000, 0.7), np.tile(correct, 100)).verdict == "same"


def test_temperature_scaling_is_judged_on_the_test_images():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, (3000, 4))
    true = special.softmax(logits, axis=1)
    labels = (generator.random((3000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    sure = special.softmax(3 * logits, axis=1)
    found = findings.temperature_scaling(sure[:1500], labels[:1500], sure[1500:], labels[1500:])
    assert found.verdict == "better"
    assert found.numbers["temperature"] == pytest.approx(3, rel=0.15)
    assert found.numbers["ece_after"] < found.numbers["ece_before"]
    harmful = findings.temperature_scaling(sure[:1500], labels[:1500], true[1500:], labels[1500:])
    assert harmful.verdict == "worse"
    needless = findings.temperature_scaling(true[:1500], labels[:1500], true[1500:], labels[1500:])
    assert needless.verdict == "cannot tell"


def test_confidence_of_right_and_wrong_answers():
    confidence, correct = [0.9, 0.95, 0.5, 0.85, 0.3, 0.2], [True, True, True, False, False, False]
    found = findings.confidence_split(confidence, correct)
    assert (found.numbers["correct"], found.numbers["wrong"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.verdict == "cannot tell"
    assert findings.confidence_split([0.9] * 90 + [0.1] * 90, [True] * 90 + [False] * 90).verdict == "better"
    assert "no wrong answers" in findings.confidence_split([0.9], [True]).sentence


def test_spatial_correlation_says_no_more_than_the_table():
    table = pd.DataFrame({"direction": "horizontal", "distance": [1, 4, 8], "correlation": [0.94, 0.6, 0.3]})
    found = findings.correlation_by_distance(table)
    assert (found.numbers["near"], found.numbers["far"]) == (0.94, 0.3)
    assert "lies near it" in found.sentence
    noise = findings.correlation_by_distance(table.assign(correlation=[0.01, 0.0, 0.01]))
    assert "say little about each other" in noise.sentence


def test_overfitting_is_read_from_the_curves():
    found = findings.overfitting({"accuracy": [0.5, 0.7, 0.9], "val_accuracy": [0.5, 0.64, 0.6]})
    assert found.numbers == pytest.approx({"best_epoch": 2, "epochs": 3, "gap": 0.3})
    assert found.sentence.endswith("training ends 30.0 points above it: the network memorises.")
    rising = findings.overfitting({"accuracy": [0.5, 0.7], "val_accuracy": [0.5, 0.74]})
    assert rising.sentence.endswith("4.0 points below it: little is memorised.")


@pytest.mark.parametrize(
    ("accuracies", "cost", "numbers", "meaning"),
    [
        ([0.3, 0.6], 0.5, {"epoch": 2, "rival_epoch": 3, "time": 1 / 3}, "its processor time: faster."),
        ([0.3, 0.6], 6, {"epoch": 2, "rival_epoch": 3, "time": 4}, "faster in epochs, not in time."),
        ([0.3, 0.5, 0.4, 0.51], 0.6, {"epoch": 4, "rival_epoch": 3, "time": 0.8}, "faster in time, not in epochs."),
        ([0.3, 0.5, 0.51], 1, {"epoch": 3, "rival_epoch": 3, "time": 1}, "not faster."),
        ([0.3, 0.5], 1, {"epoch": None, "rival_epoch": 3, "time": None}, "never passes B's best validation accuracy."),
    ],
)
def test_who_learns_faster_is_read_from_two_histories(accuracies, cost, numbers, meaning):
    rival = {"val_accuracy": [0.2, 0.4, 0.5, 0.45]}
    found = findings.overtaking({"val_accuracy": accuracies}, rival, ("the A", "B"), cost)
    assert found.numbers == pytest.approx(numbers)
    assert found.sentence.startswith("The A ")
    assert found.sentence.endswith(meaning)


def test_near_twins_in_training_are_counted_with_and_without_their_label():
    table = pd.DataFrame({"correlation": [0.99, 0.97, 0.5, 0.949], "nearest_label": [1, 2, 3, 0]})
    found = findings.near_duplicates(table, np.array([1, 0, 3, 0]))
    assert found.numbers == {"twins": 2, "same_label": 1, "n": 4, "threshold": 0.95}
    assert findings.near_duplicates(table.assign(correlation=0.1), np.array([1, 0, 3, 0])).numbers["twins"] == 0


def test_errors_within_a_group_are_counted_beside_blind_guessing():
    names = ("cat", "dog", "ship", "truck", "car")
    groups = {"animals": ["cat", "dog"], "vehicles": ["ship", "truck", "car"]}
    labels, predicted = [0, 0, 0, 0, 2, 3, 4], [1, 1, 1, 2, 2, 3, 4]
    found = findings.errors_within(labels, predicted, names, groups)
    assert found.numbers["animals"]["share"] == 0.75
    assert found.numbers["animals"]["blind"] == 0.25
    assert found.numbers["animals"]["low"] < 0.75 < found.numbers["animals"]["high"]
    assert "vehicles" not in found.numbers
    assert found.verdict == "better"


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("dense_128_64", "dense 128-64"),
        ("cnn_32_64_128_15_epochs", "CNN 32-64-128, 15 epochs"),
        ("cnn_32_64_k3_n500", "CNN 32-64, 3x3 kernels, 500 training images"),
        ("cnn_32_64_128_permuted", "CNN 32-64-128, permuted pixels"),
        ("gap_16_32_64", "CNN with global average pooling 16-32-64"),
        ("mars_cnn_k3to5", "Mars CNN, 3x3 to 5x5 kernels"),
        ("mars_cnn_8_16_k5_edited", "Mars CNN 8-16, 5x5 kernels, edited"),
        ("conv1d", "1-D CNN"),
        ("mars_probe", "Linear probe"),
        ("mars_tuned_vote", "Fine-tuned network, vote"),
        ("something_else", "something_else"),
    ],
)
def test_labels_are_written_as_people_say_them(label, text):
    assert wording.readable(label) == text


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("cnn_64_128_256", "the 64-filter CNN"),
        ("dense_128_64", "the 128-unit dense network"),
        ("cnn_32_64_k5", "the CNN with five-pixel kernels"),
        ("cnn_32_64_128_15_epochs", "the CNN of 15 epochs"),
        ("mars_cnn_k3to5", "the CNN with mixed kernels"),
        ("mars_cnn_k3_weighted", "the CNN with rare classes weighted"),
        ("mars_cnn_k3_vote", "the vote of the CNN with three-pixel kernels"),
        ("mars_tuned", "the fine-tuned network"),
        ("mars_dense_512_256", "the dense network"),
        ("dense_128_64_edited", "the edited dense network"),
        ("something_else", "something_else"),
    ],
)
def test_sentences_have_short_names_with_one_number_at_most(label, text):
    assert wording.short(label) == text
    assert len(NUMBER.findall(wording.short(label))) <= 1


def test_an_estimate_has_two_digits():
    assert [wording.about(n) for n in (826.3, 1_449, 25_501, 7.04)] == [
        "about 830",
        "about 1,400",
        "about 26,000",
        "about 7",
    ]


def test_findings_need_no_tensorflow():
    code = "import sys, cnnlab.findings; print({'tensorflow', 'keras'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
