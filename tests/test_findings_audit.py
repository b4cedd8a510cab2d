"""The audit: a verdict on every published claim, each by a rule whose outcome is known beforehand."""

import io
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from cnnlab import studies
from cnnlab.findings import audit
from cnnlab.measures import claims as measurements
from cnnlab.measures.claims import Evidence, Measured
from cnnlab.studies import Store
from cnnlab.training import PROTOCOL

ROOT = Path(__file__).parents[1]
PATH = ROOT / audit.CLAIMS
CLAIMS = pd.read_csv(PATH, dtype=str, keep_default_na=False)
FACTS = ROOT.parent / "shared" / "published_claims.csv"
CLASSES = ("cat", "dog", "bird", "ship")


def nothing():
    return Evidence(pd.DataFrame(columns=["label"]), {}, lambda key: {})


def trained(means, seeds=5, noise=0.001, **facts):
    """Evidence of runs of each label: `means` maps a label to its accuracy, in all columns of accuracies."""
    generator = np.random.default_rng(0)
    shared = generator.normal(0, noise, seeds)
    columns = [f"{split}_accuracy_{epoch}" for split in ("test", "val", "train") for epoch in ("last", "best")]
    rows = []
    for label, mean in means.items():
        for seed in range(seeds):
            row = {name: mean + shared[seed] + generator.normal(0, noise) for name in columns}
            count = measurements.parameter_count(label)
            rows.append({"label": label, "seed": seed, "key": f"{label} {seed}", "parameters": count, **row})
    return Evidence(pd.DataFrame(rows), **{"histories": {}, "predictions": lambda key: {}, **facts})


def judge(evidence, quantity, published):
    """The audited row of one claim."""
    claims = pd.DataFrame([{"claim": "it is so", "quantity": quantity, "published": published}])
    return audit.audit_claims(io.StringIO(claims.to_csv(index=False)), evidence).iloc[0]


def test_the_committed_claims_are_the_facts_that_were_handed_over():
    if not FACTS.exists():
        pytest.skip("the facts lie outside the clone, and not on this machine")
    facts = ["id", "claim", "quantity", "published"]
    pd.testing.assert_frame_equal(CLAIMS[facts], pd.read_csv(FACTS, dtype=str)[facts])


def test_every_claim_is_whole_and_has_an_id_of_its_own():
    assert list(CLAIMS) == ["source", "dataset", "id", "claim", "quantity", "published"]
    assert (CLAIMS != "").all(axis=None)
    assert CLAIMS["id"].is_unique


def test_sources_are_told_apart_and_not_named():
    assert CLAIMS["source"].str.fullmatch(r"source \d{3} (README|notebook)").all()
    assert CLAIMS.groupby("source")["dataset"].nunique().eq(1).all()
    assert set(CLAIMS["dataset"]) == {"cifar10", "mars"}


def test_every_claim_gets_a_verdict_with_a_reason_even_where_nothing_was_measured():
    audited = audit.audit_claims(PATH, nothing())
    assert list(audited["id"]) == list(CLAIMS["id"])
    assert set(audited["verdict"]) <= set(audit.VERDICTS)
    assert (audited["reason"] != "").all()
    untested = audited[audited["verdict"] == audit.NOT_TESTABLE]
    assert untested["reason"].str.startswith(("not measured yet", "the ")).all()
    assert not untested["reason"].str.contains("is defined").any()
    assert "run python -m cnnlab study kernels" in audited.set_index("id").loc["C03", "reason"]


@pytest.mark.parametrize(
    ("claim", "verdict", "measured"),
    [
        ("A01", "contradicted", "402,250"),
        ("A02", "holds", "4,293,194"),
        ("A03", "contradicted", "2,126,378"),
        ("A04", "contradicted", "8,765,066"),
        ("A05", "contradicted", "18,261,770"),
        ("C01", "holds", "820,874"),
        ("D01", "holds", "1,162,176 fewer"),
        ("E03", "holds", "6,429,464"),
        ("E05", "holds", "4,591,064"),
        ("E06", "contradicted", "5,280,728"),
        ("E07", "contradicted", "6,315,224"),
        ("E08", "contradicted", "5,246,424"),
    ],
)
def test_parameter_counts_are_held_against_the_formula(claim, verdict, measured):
    row = judge(nothing(), *CLAIMS.set_index("id").loc[claim, ["quantity", "published"]])
    assert (row["verdict"], row["measured"]) == (verdict, measured)
    assert claim == "D01" or "by formula" in row["reason"]


def test_a_wrong_count_is_shown_with_its_distance():
    assert "64 too low" in judge(nothing(), "dense_128_64.params", "402186")["reason"]
    assert "2,154,496 too high" in judge(nothing(), "cnn_64_128_256.params", "10919562")["reason"]


def test_mars_networks_are_counted_at_the_published_size_whatever_was_trained():
    evidence = trained({"mars_cnn_k3": 0.5})
    row = judge(evidence, "mars_cnn_k3.params", "4.6M")
    assert (row["verdict"], row["value"]) == ("holds", 4_591_064)
    assert "128x128 pixels" in row["reason"]
    assert "64x64 pixels" in judge(evidence, "mars_cnn_k3.test_accuracy", "0.58")["reason"]


@pytest.mark.parametrize(
    ("published", "unit", "expected"),
    [
        ("0.4697", "share", (0.46965, 0.46975)),
        ("402186", "count", (402185.5, 402186.5)),
        ("6.4M", "count", (6.35e6, 6.45e6)),
        ("27.47", "points", (0.27465, 0.27475)),
        ("0.5", "share", (0.45, 0.55)),
        (">800000", "count", (800000, np.inf)),
    ],
)
def test_a_published_number_stands_for_what_its_digits_allow(published, unit, expected):
    assert audit.parse_number(published, unit) == pytest.approx(expected)


@pytest.mark.parametrize("published", ["none", "3x3", "monotone increasing", "beats with fewer"])
def test_words_are_no_numbers(published):
    assert audit.parse_number(published) is None


def test_an_open_claim_excludes_its_own_limit():
    low, _ = audit.parse_number(">800000")
    assert low > 800000


def test_an_accuracy_holds_is_within_noise_or_is_contradicted():
    evidence = trained({"dense_128_64": 0.47}, noise=0.004)
    values = evidence.rows["test_accuracy_last"]
    error, spread, t = stats.sem(values), values.std(), stats.t.ppf(0.975, 4)
    edge, far = values.mean() + t * error, values.mean() + t * spread * np.sqrt(1.2)
    for published, verdict in (
        (values.mean(), "holds"),
        (edge - 0.0002, "holds"),
        (edge + 0.0002, "within noise"),
        (far - 0.0002, "within noise"),
        (far + 0.0002, "contradicted"),
    ):
        row = judge(evidence, "dense_128_64.test_accuracy", f"{published:.5f}")
        assert row["verdict"] == verdict
        assert (row["n"], row["value"]) == (5, pytest.approx(values.mean()))
        assert (row["low"], row["high"]) == pytest.approx((values.mean() - t * error, edge))


def test_a_run_of_the_same_protocol_is_rarely_contradicted():
    generator, claims = np.random.default_rng(0), 400
    contradicted = sum(
        audit._judge_number(Measured([draw[:5]], "share"), draw[5], draw[5])[0] == "contradicted"
        for draw in generator.normal(0.7, 0.005, (claims, 6))
    )
    low, high = stats.binom.interval(0.999, claims, 0.05)
    assert low <= contradicted <= high


@pytest.mark.parametrize(("published", "verdict"), [("0.45", "cannot tell"), ("0.99", "contradicted")])
def test_a_mean_that_is_hardly_known_bears_out_nothing_and_may_still_contradict(published, verdict):
    evidence = trained({"mars_cnn_k7": 0.45}, seeds=3, noise=0.06)
    half = stats.t.ppf(0.975, 2) * stats.sem(evidence.rows["test_accuracy_best"])
    assert half > audit.WIDE
    assert judge(evidence, "mars_cnn_k7.test_accuracy", published)["verdict"] == verdict


def test_a_direction_that_wide_intervals_leave_open_cannot_be_told():
    names = ("mars_cnn_k3", "mars_cnn_k5", "mars_cnn_k7", "mars_cnn_k3to5")
    evidence = trained(dict(zip(names, (0.40, 0.38, 0.36, 0.38), strict=True)), seeds=3, noise=0.06)
    assert judge(evidence, "mars_kernels.best", "3x3")["verdict"] == "cannot tell"


def test_one_run_is_no_test():
    row = judge(trained({"dense_128_64": 0.47}, seeds=1), "dense_128_64.test_accuracy", "0.4697")
    assert row["verdict"] == "not testable"
    assert "no interval" in row["reason"]


def test_published_runs_are_compared_with_their_own_number_of_epochs_and_their_last_epoch():
    evidence = trained({"cnn_32_64_128": 0.70, "cnn_32_64_128_15_epochs": 0.74, "dense_128_64": 0.47})
    evidence.rows["test_accuracy_best"] = 0.9
    assert judge(evidence, "cnn_32_64_128.test_accuracy", "0.7400")["value"] == pytest.approx(0.74, abs=0.003)
    row = judge(evidence, "cnn_minus_dense.test_accuracy_pp", "27.0")
    assert row["verdict"] == "holds"
    assert row["value"] == pytest.approx(0.27, abs=0.003)


FILTERS = ("cnn_16_32_64", "cnn_32_64_128", "cnn_64_128_256", "cnn_128_256_512")


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ((0.68, 0.70, 0.72, 0.74), "holds"),
        ((0.68, 0.70, 0.72, 0.72), "within noise"),
        ((0.68, 0.70, 0.72, 0.69), "contradicted"),
    ],
)
def test_a_ranking_needs_every_step(accuracies, verdict):
    means = {**dict(zip(FILTERS, accuracies, strict=True)), "cnn_32_64_128_15_epochs": accuracies[1] + 0.01}
    row = judge(trained(means), "filters.ranking", "monotone increasing")
    assert row["verdict"] == verdict
    assert row["measured"].count(" to ") == 3


@pytest.mark.parametrize(
    ("small", "large", "absence", "direction"),
    [
        (0.70, 0.70, "holds", "within noise"),
        (0.70, 0.72, "contradicted", "contradicted"),
        (0.72, 0.70, "contradicted", "holds"),
    ],
)
def test_absences_and_directions_are_judged_by_paired_tests(small, large, absence, direction):
    evidence = trained({"cnn_32_64_k3": small, "cnn_32_64_k5": large})
    assert judge(evidence, "kernel_5_minus_3.test_accuracy_pp", "not significant")["verdict"] == absence
    assert judge(evidence, "kernel_3_vs_5.test_accuracy", "3x3 better")["verdict"] == direction


def test_a_claim_of_two_parts_needs_both():
    evidence = trained({"cnn_32_64_k3": 0.70, "dense_256_128": 0.50})
    quantity = "cnn_32_64_k3_vs_dense_256_128"
    row = judge(evidence, quantity, "beats with fewer")
    assert row["verdict"] == "holds"
    assert "545,098 against 820,874 parameters" in row["reason"]
    larger = trained({"cnn_32_64_128": 0.70, "dense_256_128": 0.50})
    assert judge(larger, "cnn_32_64_128_vs_dense_256_128", "beats with fewer")["verdict"] == "contradicted"


def test_the_verdict_follows_the_rows():
    evidence = trained({"dense_128_64": 0.47})
    assert judge(evidence, "dense_128_64.val_accuracy", "0.470")["verdict"] == "holds"
    evidence.rows["val_accuracy_last"] += 0.05
    assert judge(evidence, "dense_128_64.val_accuracy", "0.470")["verdict"] == "contradicted"


def test_the_plateau_is_read_from_the_curves():
    curve = [0.30, 0.40, 0.42, 0.45, 0.455, 0.452]
    histories = {f"dense_128_64 {seed}": {"val_accuracy": curve} for seed in range(5)}
    evidence = trained({"dense_128_64": 0.47}, histories=histories)
    assert judge(evidence, "dense_128_64.plateau_epoch", "6")["verdict"] == "contradicted"
    assert judge(evidence, "dense_128_64.plateau_epoch", "4")["verdict"] == "holds"
    histories["dense_128_64 0"] = {"val_accuracy": [0.30, 0.40, 0.42, 0.43, 0.44, 0.455]}
    assert judge(evidence, "dense_128_64.plateau_epoch", "4")["value"] == pytest.approx((4 * 4 + 6) / 5)


def answering(taken_for):
    """Evidence of five nets: `taken_for` maps a class to what half of its images are answered with."""
    labels = np.repeat(np.arange(4), 50)
    said = labels.copy()
    for name, other in taken_for.items():
        said[labels == CLASSES.index(name)] = np.where(np.arange(50) % 2, CLASSES.index(other), CLASSES.index(name))
    generator = np.random.default_rng(0)
    answers = {}
    for seed in range(5):
        noisy = np.where(generator.random(200) < 0.05, generator.integers(0, 4, 200), said)
        sure = np.where(noisy == labels, 0.95, 0.5)
        answers[f"cnn_32_64_128_15_epochs {seed}"] = {"predicted": noisy, "confidence": sure.astype("float16")}
    facts = {"predictions": answers.get, "labels": labels, "class_names": CLASSES}
    return trained({"cnn_32_64_128_15_epochs": 0.7}, **facts)


def test_confusions_and_confidence_are_read_from_the_stored_answers():
    evidence = answering({"cat": "dog", "bird": "ship"})
    assert judge(evidence, "confusion.cat", "dog")["verdict"] == "holds"
    row = judge(evidence, "confusion.bird", "dog")
    assert row["verdict"] == "contradicted"
    assert "bird taken for dog" in row["reason"]
    assert judge(evidence, "confusion.cat", "horse")["verdict"] == "not testable"
    row = judge(evidence, "confidence.correct_above_0_8", "most")
    assert (row["verdict"], row["value"]) == ("holds", 0.5)


def test_answers_of_another_test_set_are_not_used():
    evidence = answering({})
    short = Evidence(**{**vars(evidence), "labels": evidence.labels[:100]})
    assert "do not cover all 100 test images" in judge(short, "confusion.cat", "dog")["reason"]


def test_mars_claims_become_testable_with_their_rows():
    names = ("mars_cnn_k3", "mars_cnn_k5", "mars_cnn_k7", "mars_cnn_k3to5")
    assert judge(nothing(), "mars_kernels.best", "3x3")["verdict"] == "not testable"
    evidence = trained(dict(zip(names, (0.58, 0.55, 0.52, 0.55), strict=True)))
    assert judge(evidence, "mars_kernels.best", "3x3")["verdict"] == "holds"
    assert judge(evidence, "mars_cnn_k7.test_accuracy", "0.52")["verdict"] == "holds"


def test_probes_supply_what_the_store_cannot_say(tmp_path):
    for quantity, published, supplied, verdict in (
        ("cnn_32_64_128.relu_zero_fraction", "0.5", [0.52, 0.51, 0.53], "holds"),
        ("cnn_32_64_128.relu_zero_fraction", "0.5", [0.72, 0.71, 0.73], "contradicted"),
        ("shift.cnn_accuracy_drop", "none", [0.05, 0.06, 0.055], "contradicted"),
        ("shift.cnn_accuracy_drop", "none", [0.001, -0.001, 0.0005], "holds"),
        ("mars.images", "6691", 6691, "holds"),
        ("mars.images", "6691", 6737, "contradicted"),
    ):
        evidence = measurements.gather_evidence(Store(tmp_path), extra={quantity: supplied})
        assert judge(evidence, quantity, published)["verdict"] == verdict


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store with two seeds of the studies `baselines` and `epochs`, and a tiny data set."""
    store = Store(tmp_path_factory.mktemp("store"))
    dataset = synthetic.dataset()
    labels = dataset.split("test")[1]
    runs = [trial for name in ("baselines", "epochs") for trial in studies.find_study(name).runs(2)]
    for place, trial in enumerate(runs):
        accuracy = 0.4 + place / 1000
        row = {
            "label": trial.label, **trial.resolved().configuration(), "protocol": PROTOCOL,
            "parameters": measurements.parameter_count(trial.label),
            "test_accuracy_last": accuracy,
        }  # fmt: skip
        result = types.SimpleNamespace(
            trial=trial, row=row, history={"val_accuracy": [0.1, 0.3, 0.305]},
            probabilities={"test": np.eye(4, dtype="float32")[labels]},
        )  # fmt: skip
        store.save(result)
    return store, dataset


def test_evidence_is_gathered_from_the_store_and_the_data(stored):
    store, dataset = stored
    evidence = measurements.gather_evidence(store, dataset)
    assert evidence.rows.groupby("label").size().to_dict() == {
        "dense_128_64": 2, "dense_256_128": 2, "dense_512_256": 2, "cnn_32_64_128": 2, "cnn_32_64_128_15_epochs": 2,
    }  # fmt: skip
    images = np.concatenate([dataset.split(name)[0] for name in ("train", "validation")])
    assert evidence.extra == pytest.approx({"pixels.mean": images.mean(), "pixels.std": images.std()})
    assert judge(evidence, "pixels.mean", "255")["verdict"] == "contradicted"
    assert judge(evidence, "pixels.std", f"{images.std():.0f}")["verdict"] == "holds"
    predicted, confidence = evidence.answers("cnn_32_64_128")[0]
    assert np.array_equal(predicted, dataset.split("test")[1])
    assert (confidence == 1).all()
    assert judge(evidence, "dense_128_64.plateau_epoch", "2")["value"] == 2
    assert judge(evidence, "dense_128_64.test_accuracy", "0.4015")["verdict"] == "holds"
    assert "study filters" in judge(evidence, "filters.ranking", "monotone increasing")["reason"]


def test_a_claim_that_nobody_can_measure_is_named():
    assert "no measurement of moon.phase" in judge(nothing(), "moon.phase", "full")["reason"]
    assert "no model called cnn_1" in judge(nothing(), "cnn_1.params", "12")["reason"]


def test_the_table_for_readers_speaks_one_unit():
    histories = {f"dense_128_64 {seed}": {"val_accuracy": [0.4, 0.5]} for seed in range(5)}
    audited = audit.audit_claims(PATH, trained({"dense_128_64": 0.47}, histories=histories))
    table = audit.audit_table(audited).set_index(audited["id"])
    assert table.loc["A06", "Published"] == "46.97%"
    assert table.loc["A06", "Measured"].startswith("47.")
    assert table.loc["A14", "Published"] == "68.23%"
    assert table.loc["A01", "Published"] == "402186"
    numbers = audit.audit_summary(audited).numbers
    assert sum(numbers.values()) == len(CLAIMS)
    assert numbers["holds"] == (audited["verdict"] == "holds").sum()
    assert audit.audit_summary(audited).sentence.startswith(f"Of {len(CLAIMS)} published claims, {numbers['holds']} ")
