"""The probes' sentences, on rows whose truth is known: they change when the rows change."""

import math

import numpy as np
import pandas as pd
import pytest
from synthetic import noise

from cnnlab import measures
from cnnlab.findings import finding as estimates
from cnnlab.findings import probes as probe_findings
from cnnlab.findings import tables
from cnnlab.findings.finding import WORSE
from cnnlab.measures import calibration
from cnnlab.measures.biases import ORDERS
from cnnlab.measures.probes import PROBES

SEEDS = 5


def tabular_rows(shuffled=0.95, splits=3):
    draw = noise(0.01)
    return pd.DataFrame(
        {
            "label": label, "seed": seed, "order": order, "split": split, "test_rows": 25, "train_rows": 75,
            "accuracy": (shuffled if (label, order) == ("conv1d", "shuffled") else 0.95) + draw(),
        }
        for label in ("conv1d", "dense", "gradient_boosting")
        for seed in range(SEEDS)
        for order in ORDERS
        for split in range(splits)
    )  # fmt: skip


def test_columns_whose_order_means_nothing_and_something():
    open_, fallen = (probe_findings.columns_order(tabular_rows(shuffled)) for shuffled in (0.95, 0.80))
    assert open_.verdict == "cannot tell", "15 splits of the same few rows"
    assert fallen.verdict == WORSE
    assert fallen.numbers["against"]["dense"]["n"] == 15
    assert list(tables.probe_table("tabular", tabular_rows(0.80))["Verdict"])[0] == WORSE


def test_overlapping_splits_widen_the_error():
    values = np.array([0.01, 0.03, 0.02, 0.04, 0.0])
    ((_, plain),) = estimates.judge_contrasts([values])
    ((_, wide),) = estimates.judge_contrasts([values], spread=measures.overlap_spread(5, test_share=0.25))
    # Nadeau and Bengio: (1/n + test/train) s^2 in place of s^2 / n.
    half = values.std(ddof=1) * (1 / 5 + 0.25 / 0.75) ** 0.5 * 2.7764451
    assert wide["mean"] == pytest.approx(plain["mean"])
    assert wide["high"] - wide["mean"] == pytest.approx(half)
    assert wide["p_value"] > plain["p_value"]


def shift_rows(lost=0.2, seeds=SEEDS):
    draw = noise()
    return pd.DataFrame(
        {
            "label": label, "seed": seed, "shift": pixels, "direction": direction, "treatment": treatment,
            "images": 1_000,
            "accuracy": 0.7 + draw() - (pixels > 0) * (0.1 + (label == "cnn_4" and treatment == "shifted") * lost),
        }
        for label in ("dense_8", "cnn_4")
        for seed in range(seeds)
        for pixels in (0, 4)
        for direction in ("up", "down")
        for treatment in ("shifted", "held")
    )  # fmt: skip


def test_a_network_that_minds_where_things_are_and_one_that_does_not():
    minds, does_not = probe_findings.shift_cost(shift_rows()), probe_findings.shift_cost(shift_rows(lost=0.0))
    assert minds.verdict == WORSE
    assert minds.numbers["costs"] == pytest.approx({"dense_8": 0, "cnn_4": -0.2}, abs=0.01)
    assert does_not.verdict == "same"
    assert minds.sentence.startswith("When images move four pixels, the CNN loses 2")
    assert probe_findings.shift_cost(shift_rows(seeds=1)).verdict == "cannot tell"
    table = tables.probe_table("shift", shift_rows())
    assert len(table) == 2 * 2 * 2 and set(table["n"]) == {SEEDS}


def equivariance_rows(error):
    return pd.DataFrame(
        {
            "label": "cnn_4", "seed": seed, "layer": layer, "kind": kind, "stride": stride, "shift": pixels,
            "relative_error": 0.0 if pixels == 0 or (stride and pixels % stride == 0) else error, "positions": 9,
        }
        for seed in range(SEEDS)
        for layer, kind, stride in (("conv1", "map", 1), ("pool1", "map", 2), ("features", "vector", None))
        for pixels in range(5)
    )  # fmt: skip


def test_layers_that_move_with_the_image():
    finding = probe_findings.equivariant_layers(equivariance_rows(0.4))
    assert finding.numbers["cnn_4", "conv1"] == {"exact": [1, 2, 3, 4], "error": 0.0}
    assert finding.numbers["cnn_4", "pool1"] == {"exact": [2, 4], "error": pytest.approx(0.4)}
    exact = probe_findings.equivariant_layers(equivariance_rows(1e-7)).numbers
    assert all(layer["exact"] == [1, 2, 3, 4] for layer in exact.values())
    table = tables.probe_table("equivariance", equivariance_rows(0.4)).set_index("Layer")
    assert table.loc["pool1"].tolist() == ["CNN 4", "2, 4", "0.40"]


def test_receptive_field_tells_the_widths():
    rows = pd.DataFrame(
        {"label": "cnn_4", "seed": seed, "layer": "conv1", "theoretical": 3, "sensitivity": [1.0] * 4 + [0.01] * 5}
        for seed in range(SEEDS)
    ).explode("sensitivity")
    finding = probe_findings.effective_fields(rows.astype({"sensitivity": float}))
    assert finding.numbers["conv1"] == {"theoretical": 3, "effective": pytest.approx(3**0.5)}
    assert "could see 3 pixels across" in finding.sentence


def calibration_rows(after, accuracy_after=0.7):
    draw = noise(0.002)
    return pd.DataFrame(
        {
            "label": "cnn_4", "seed": seed, "stage": stage, "ece": ece + draw(), "temperature": temperature,
            "overall_accuracy": accuracy,
        }
        for seed in range(SEEDS)
        for stage, ece, temperature, accuracy in (("before", 0.1, 1.0, 0.7), ("after", after, 1.5, accuracy_after))
    )  # fmt: skip


def test_temperature_scaling_that_helps_and_that_does_not():
    helps = probe_findings.calibration_over_seeds(calibration_rows(0.02))
    assert helps.verdict == "better"
    assert helps.numbers["cnn_4"]["after"] == pytest.approx(0.02, abs=0.005)
    assert probe_findings.calibration_over_seeds(calibration_rows(0.1)).verdict == "same"
    assert probe_findings.calibration_over_seeds(calibration_rows(0.2)).verdict == WORSE
    table = tables.probe_table("calibration", calibration_rows(0.02))
    assert list(table["Scaling"]) == ["before", "after"]
    with pytest.raises(ValueError, match="changed the accuracy of cnn_4"):
        probe_findings.calibration_over_seeds(calibration_rows(0.02, accuracy_after=0.69))


def test_the_reliability_diagram_averages_the_bins_of_all_seeds():
    generator = np.random.default_rng(0)
    confidence, correct = generator.uniform(0.2, 1, (2, 300)), generator.random((2, 300)) < 0.6
    each = [calibration.reliability_bins(*pair) for pair in zip(confidence, correct, strict=True)]
    rows = pd.concat(
        bins.assign(label="cnn_4", seed=seed, stage="before", ece=0.1 * (1 + seed)) for seed, bins in enumerate(each)
    )
    (bins,) = calibration.reliability_panels(rows)["CNN 4"].values()
    np.testing.assert_allclose(bins, (each[0] + each[1]) / 2)
    assert list(calibration.reliability_panels(rows)["CNN 4"]) == ["before scaling (error 15.0%)"]


def conformal_rows(coverage, sols=False, width=0.005, own=0.9):
    """Rows as of `measures.conformal_coverage`, of a network that says 2.2 classes; of Mars with a row a span."""
    spans = [(np.nan, np.nan), (500.0, 549.0)] if sols else [(np.nan, np.nan)]
    return pd.DataFrame(
        {
            "label": "mars_probe_mirrored" if sols else "cnn_4", "seed": seed, "split": split, "first_sol": first,
            "last_sol": last, "coverage": share, "low": share - width, "high": share + width, "size": 2.2,
            "single": 0.5, "single_accuracy": 0.95, "empty": 0.0, "promised": 0.9,
        }
        for seed in range(1 if sols else SEEDS)
        for split, share in (("test", coverage), ("validation", own))
        for first, last in spans
    )  # fmt: skip


@pytest.mark.parametrize(
    ("coverage", "width", "verdict", "end"),
    [
        (0.903, 0.005, "same", "2.2 classes on average, hold the true class for 90.3% of test images: as promised."),
        (0.86, 0.005, WORSE, "86.0% of test images: less than promised."),
        (0.94, 0.005, "better", "94.0% of test images: more than promised."),
        (0.9, 0.05, "cannot tell", "cannot tell whether that is as promised."),
    ],
)
def test_a_promise_is_kept_broken_or_open(coverage, width, verdict, end):
    (finding,) = probe_findings.promise_kept(conformal_rows(coverage, width=width))
    assert (finding.verdict, finding.numbers["coverage"]) == (verdict, pytest.approx(coverage))
    assert finding.sentence.startswith("The CNN's sets, 2.2 ") and finding.sentence.endswith(end)


def test_a_promise_over_sols_is_held_against_its_own_days():
    rows = pd.concat([conformal_rows(0.9), conformal_rows(0.7, sols=True, width=0.06)])
    _, finding = probe_findings.promise_kept(rows)
    assert finding.verdict == WORSE
    assert finding.sentence == (
        "On Mars, sets hold the true class for 90.0% of pictures from the fit's days, 70.0% of later ones: days are "
        "not exchangeable."
    )
    for coverage, verdict in ((0.9, "same"), (0.88, "cannot tell"), (0.97, "better")):
        width = 0.005 if verdict == "same" else 0.05
        assert probe_findings.promise_kept(conformal_rows(coverage, sols=True, width=width))[0].verdict == verdict
    table = tables.probe_table("conformal", rows)
    assert list(table["Network"]) == ["CNN 4"] * 2 + ["Linear probe, mirror images averaged"] * 2
    assert list(table["Images"]) == ["test", "like the fit's"] * 2
    assert table["Sets with the true class"].iloc[2] == "70.0% (64.0% to 76.0%)"
    assert list(table["n"]) == [SEEDS, SEEDS, 1, 1]


def attribution_rows(gain, kept=0.1):
    return pd.DataFrame(
        {
            "label": label, "seed": seed, "map": name, "images": 10, "deletion": 0.4 - share, "random": 0.4,
            "gain": share, "low": share - 0.02, "high": share + 0.02,
            "randomised": stays, "randomised_low": stays - 0.1, "randomised_high": stays + 0.1,
        }
        for label in ("dense_8", "cnn_4")
        for seed in range(2)
        for name, share, stays in (("integrated gradients", gain, 0.0), ("occlusion", gain - 0.03, kept))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("noise", "networks", "text"),
    [
        (0.05, ["a", "b"], ", and at 0.8"), (0.05, ["a"], "with their random start: pictures of them show the init"),
        (2.0, ["a", "b"], "pictures of them show what was learned."),
    ],
)  # fmt: skip
def test_a_picture_of_filters_shows_where_they_began_or_what_they_learned(noise, networks, text):
    generator = np.random.default_rng(0)
    before = generator.normal(0, 0.1, 864)
    rows = pd.concat(
        pd.DataFrame({"label": label, "seed": 0, "filter": np.arange(864) // 27, "before": before,
                      "after": before + generator.normal(0, noise, 864)})
        for label in networks
    )  # fmt: skip
    found = probe_findings.first_filters(rows)
    assert text in found.sentence
    assert found.numbers["with_start"] == pytest.approx(0.1 / np.hypot(0.1, noise), abs=0.05)


def test_the_nearest_image_is_a_share_of_right_answers():
    rows = pd.DataFrame({"label": "nearest", "seed": [0, 1], "images": 10_000, "accuracy": [0.35, 0.37]})
    assert "for 36.0% of test images" in probe_findings.nearest_image(rows).sentence
    assert tables.probe_table("nearest", rows)["Answer"].tolist() == ["Nearest training image"]


def corruption_rows(means, left, seeds=3):
    """`means` {label: (clean, corrupted)}, `left` {label: by a step against it}; the recipe begins with seed 22."""
    draw, first = noise(0.002), {"to_93": 22}
    rows = []
    for label, (clean, corrupted) in means.items():
        for seed in range(first.get(label, 0), first.get(label, 0) + seeds):
            for kind, strength, mean in (
                ("unchanged", 0, clean), ("fog", 1, corrupted + 0.1), ("fog", 5, corrupted - 0.1),
                ("FGSM", 2, left[label]), ("FGSM", 8, 0.0),
            ):  # fmt: skip
                rows.append((label, seed, kind, strength, 1_000, mean + draw()))
    return pd.DataFrame(rows, columns=["label", "seed", "kind", "strength", "images", "accuracy"])


MEANS = {"dense_128_64": (0.46, 0.43), "cnn_32_64_128": (0.75, 0.62), "to_93": (0.93, 0.68)}
LEFT = {"dense_128_64": 0.30, "cnn_32_64_128": 0.10, "to_93": 0.20}


def test_worse_images_cost_the_better_network_more_and_it_still_leads():
    worse, against = probe_findings.worse_images(corruption_rows(MEANS, LEFT))
    assert worse.verdict == "better"
    assert worse.numbers["costs"] == pytest.approx(
        {"dense_128_64": 0.03, "cnn_32_64_128": 0.13, "to_93": 0.25}, abs=5e-3
    )
    assert worse.sentence.startswith("Corruptions cost the dense network ")
    assert worse.sentence.endswith(" points; the recipe still leads.")
    assert against.numbers["left"] == pytest.approx(LEFT, abs=5e-3)
    assert against.sentence.startswith("An attack of two grey levels leaves the dense network ")
    assert against.sentence.endswith(": two lose more than half.")


@pytest.mark.parametrize(
    ("corrupted", "seeds", "verdict", "text"),
    [
        (0.62, 5, "same", "; the recipe no longer leads the CNN."),
        (0.50, 5, "worse", "; the recipe falls behind the CNN."),
        (0.68, 1, "cannot tell", "; cannot tell whether the recipe still leads."),
    ],
)
def test_a_lead_that_worse_images_take_away_is_said(corrupted, seeds, verdict, text):
    rows = corruption_rows({**MEANS, "to_93": (0.93, corrupted)}, dict.fromkeys(LEFT, 0.0), seeds)
    worse, against = probe_findings.worse_images(rows)
    assert worse.verdict == verdict
    assert worse.sentence.endswith(text)
    assert against.sentence.endswith(": all lose more than half.")


def test_a_table_of_worse_images_has_a_column_a_network():
    table = tables.probe_table("corruptions", corruption_rows(MEANS, LEFT))
    assert table["Images"].tolist() == ["unchanged", "fog", "FGSM by 2 of 255", "FGSM by 8 of 255"]
    assert list(table.columns[1:]) == ["Dense 128-64", "CNN 32-64-128", "The recipe for 93%", "n"]
    assert table.loc[1, "The recipe for 93%"].startswith("68.")
    assert set(table["n"]) == {3}


def test_maps_are_trusted_where_deletion_gains_and_shuffled_weights_change_them():
    for gain, verdict in ((0.12, "better"), (0.01, "cannot tell"), (-0.2, WORSE)):
        falls, stays = probe_findings.maps_trusted(attribution_rows(gain))
        assert (falls.verdict, falls.numbers["gain"]) == (verdict, pytest.approx(gain))
        assert "images in the order of integrated gradients costs the CNN" in falls.sentence
        assert stays.sentence.endswith("at most 0.10: maps depend on the weights.")
    assert "2.0 points less probability" not in falls.sentence and "20.0 points less probability" in falls.sentence
    _, stays = probe_findings.maps_trusted(attribution_rows(0.1, kept=-0.8))
    assert stays.sentence.endswith("at most 0.80: occlusion shows the image, not the network.")
    some = "20 maps flat and the others with a rank correlation of at most 0.20: maps depend on the weights."
    all_but_few = "36 of 40 maps flat: too few remain to tell what maps show."
    for flat, kept, said in ((5, 0.1, some), (9, 0.0, all_but_few), (10, math.nan, all_but_few.replace("36", "40"))):
        _, stays = probe_findings.maps_trusted(attribution_rows(0.1, kept=kept).assign(flat=flat))
        assert stays.sentence == f"Shuffling the weights leaves {said}"
    table = tables.probe_table("attribution", attribution_rows(0.12))
    assert list(table["Map"]) == ["integrated gradients", "occlusion"] * 2
    assert table["Gain, points"].iloc[0] == "+12.00 (+10.00 to +14.00)"


@pytest.mark.parametrize("seeds", [1, 2, SEEDS])
@pytest.mark.parametrize("effect", [0.0, 0.004, 0.2, -0.2])
def test_no_form_of_a_sentence_is_too_long(effect, seeds):
    """A Finding that says too much is a ValueError: here is every form of those that compare."""
    probe_findings.columns_order(tabular_rows(0.95 - effect / 2, splits=max(1, seeds - 1)))
    probe_findings.shift_cost(shift_rows(lost=effect, seeds=seeds))
    for noise_scale in (1, 20):
        rows = calibration_rows(0.1 + effect / 3)
        probe_findings.calibration_over_seeds(rows[rows["seed"] < seeds].assign(ece=rows["ece"] * noise_scale))
    for error in (0.4, 1e-7):
        probe_findings.equivariant_layers(equivariance_rows(error))


def test_no_rows_are_no_finding():
    with pytest.raises(ValueError, match="no rows of shift; run `python -m cnnlab probe shift`"):
        tables.probe_table("shift", pd.DataFrame())


def test_every_probe_has_its_sentence():
    assert probe_findings.OF_PROBES.keys() == PROBES.keys()
    assert tables.TABLES.keys() | {"equivariance", "tabular"} == PROBES.keys()


def test_zero_activations_are_averaged_over_layers_and_seeds():
    rows = pd.DataFrame(
        [
            ("cnn_32_64_128", seed, layer, share + 0.01 * seed)
            for seed in (0, 1)
            for layer, share in (("conv1", 0.2), ("conv2", 0.6))
        ],
        columns=["label", "seed", "layer", "zero_fraction"],
    )
    finding = probe_findings.zero_activations(rows)
    assert finding.numbers["cnn_32_64_128"] == pytest.approx(0.405)
    assert finding.sentence.startswith("40.5% of the CNN's ReLU activations are zero")
