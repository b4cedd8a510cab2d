"""What is said of permuted pixels and of few images, on rows whose truth is known: it changes when the rows change."""

import numpy as np
import pandas as pd
import pytest
from synthetic import noise

from cnnlab import measures
from cnnlab.findings import biases as bias_findings
from cnnlab.findings.finding import WORSE

SEEDS = 5


def study_rows(means, sizes=None, seeds=SEEDS):
    """Rows as a study has them: `means` {label: accuracy}, `sizes` {label: training images}."""
    draw = noise()
    return pd.DataFrame(
        {
            "label": label, "model": label.split("_")[0], "seed": seed, "test_accuracy_best": mean + draw(),
            "train_images": (sizes or {}).get(label),
        }
        for label, mean in means.items()
        for seed in range(seeds)
    )  # fmt: skip


def permutation_rows(dense=0.46, cnn=0.50, seeds=SEEDS):
    means = {"dense_8": 0.46, "dense_8_permuted": dense, "cnn_4": 0.74, "cnn_4_permuted": cnn}
    return study_rows(means, seeds=seeds)


def test_a_permutation_that_only_the_cnn_notices():
    finding = bias_findings.permutation(permutation_rows())
    assert finding.verdict == WORSE
    assert finding.numbers["dense_verdict"] == "same"
    assert finding.numbers["cnn"] == pytest.approx(-0.24, abs=0.01)
    assert finding.numbers["cnn_lead"] > 0.03
    assert finding.sentence.endswith(": convolution lives on neighbourhoods.")


def test_a_dense_network_that_changes_is_not_waved_through():
    assert bias_findings.permutation(permutation_rows(dense=0.43)).numbers["dense_verdict"] == WORSE


def test_one_seed_shows_nothing_about_a_permutation():
    found = bias_findings.permutation(permutation_rows(seeds=1))
    assert (found.verdict, found.numbers["dense_verdict"]) == ("cannot tell", "cannot tell")


def test_permutation_needs_both_networks():
    rows = permutation_rows()
    with pytest.raises(ValueError, match="no permuted dense network; run `python -m cnnlab study permutation`"):
        bias_findings.permutation(rows[rows["label"] != "dense_8_permuted"])


SIZES = (500, 1000, 2000, 4000)


def sample_rows(cnn, dense=(0.26, 0.30, 0.36, 0.44), seeds=SEEDS):
    means, sizes = {}, {}
    for family, curve in (("dense_8", dense), ("cnn_4", cnn)):
        for size, accuracy in zip(SIZES, curve, strict=True):
            means[f"{family}_n{size}"], sizes[f"{family}_n{size}"] = accuracy, size
    return study_rows(means, sizes, seeds)


def test_the_cnn_passes_the_dense_network():
    finding = bias_findings.sample_size(sample_rows((0.22, 0.34, 0.54, 0.64)))
    assert finding.verdict == "better"
    assert finding.numbers["ahead_from"] == 1000
    assert finding.numbers["gaps"][500] == pytest.approx(-0.04, abs=0.01)
    assert finding.numbers["needed"] == pytest.approx(
        1000 * 2**0.5, rel=0.05
    )  # Half way from 34% to 54%, in log images.
    assert finding.sentence.startswith("The CNN leads from 1,000 images on; ")
    table = bias_findings.sample_size_table(sample_rows((0.22, 0.34, 0.54, 0.64)))
    assert list(table["Images"]) == ["500", "1,000", "2,000", "4,000"]
    assert list(table["Verdict"]) == [WORSE, "better", "better", "better"]
    shrinks = bias_findings.sample_size(sample_rows((0.46, 0.48, 0.49, 0.5)))
    assert shrinks.numbers["gaps"][4000] == pytest.approx(0.06, abs=0.01)
    assert shrinks.sentence.startswith("The CNN leads at every size; ")


def test_the_cnn_that_never_gets_there():
    finding = bias_findings.sample_size(sample_rows((0.20, 0.22, 0.24, 0.26)))
    assert finding.verdict == WORSE
    assert finding.numbers["ahead_from"] is None and finding.numbers["needed"] == np.inf
    assert finding.sentence.startswith("The CNN leads at no size; ")
    assert finding.sentence.endswith("needs more than all of them.")


def test_a_study_cut_short_counts_the_seeds_that_are_whole():
    rows = sample_rows((0.22, 0.34, 0.54, 0.64))
    cut = rows[~((rows["label"] == "cnn_4_n4000") & (rows["seed"] == SEEDS - 1))]
    finding = bias_findings.sample_size(cut)
    whole = rows[rows["seed"] != SEEDS - 1]
    assert finding.numbers["needed"] == pytest.approx(bias_findings.sample_size(whole).numbers["needed"])
    with pytest.raises(ValueError, match="no seed of sample_size has all sizes"):
        bias_findings.sample_size(cut[(cut["seed"] == SEEDS - 1) | (cut["label"] != "cnn_4_n500")])


def test_images_needed_at_the_ends_and_between():
    curves = pd.DataFrame([[0.2, 0.4, 0.6]] * 3, columns=[100, 1000, 10000])
    targets = pd.Series([0.1, 0.3, 0.7])
    assert measures.images_needed(curves, targets) == pytest.approx([100, 10**2.5, np.inf])


def size_rows(accuracies, kinds, sizes=(500, 5_000, 40_000), seeds=4):
    """`accuracies` {model: one a size} of `kinds`."""
    draw = noise(0.002)
    return pd.DataFrame(
        {"label": f"{kind}_n{images}", "model": kind, "seed": seed, "train_images": images,
         "test_accuracy_best": accuracy + draw()}
        for kind in kinds
        for images, accuracy in zip(sizes, accuracies[kind], strict=True)
        for seed in range(seeds)
    )  # fmt: skip


CURVES = {"dense": (0.25, 0.35, 0.45), "cnn": (0.30, 0.50, 0.70), "probe": (0.60, 0.80, 0.85)}


def test_pretrained_features_need_fewer_images():
    found = bias_findings.transfer_size(size_rows(CURVES, ("cnn", "probe")))
    assert found.verdict == "better"
    assert 1_400 < found.numbers["needed"] < 1_800, "half the way from 500 to 5,000 in the logarithm"
    assert found.numbers["mean"] == pytest.approx(0.15, abs=0.01)
    assert found.sentence.startswith("A probe of pretrained features needs about 1,")
    assert " images to match the CNN trained on 40,000, and reaches 8" in found.sentence


@pytest.mark.parametrize(
    ("probe", "kinds", "text"),
    [
        ((0.8, 0.82, 0.85), ("cnn", "probe"), "needs at most 500 images"),
        ((0.2, 0.3, 0.4), ("cnn", "probe"), "needs more than 40,000 images"),
        ((0.6, 0.8, 0.85), ("probe",), "From 40,000 images a linear probe of pretrained features reaches 8"),
    ],
)
def test_pretrained_features_at_the_ends_of_the_sizes(probe, kinds, text):
    assert text in bias_findings.transfer_size(size_rows({**CURVES, "probe": probe}, kinds)).sentence


def test_the_tables_of_sizes_name_the_models_that_they_compare():
    rows = size_rows(CURVES, CURVES)
    plain, transfer = bias_findings.sample_size_table(rows), bias_findings.sample_size_table(rows, "cnn", "probe")
    assert list(plain.columns[:3]) == ["Images", "Dense", "CNN"]
    assert list(transfer.columns[:3]) == ["Images", "CNN", "Pretrained features"]
    assert transfer["Lead, points"].str.startswith("+").all()


@pytest.mark.parametrize("seeds", [1, 2, SEEDS])
@pytest.mark.parametrize("effect", [0.0, 0.004, 0.2, -0.2])
def test_no_form_of_a_sentence_is_too_long(effect, seeds):
    """A Finding that says too much is a ValueError: here is every form of those that compare."""
    for dense in (0.46, 0.30, 0.465):
        bias_findings.permutation(permutation_rows(dense=dense, cnn=0.74 - effect, seeds=seeds))
    bias_findings.sample_size(sample_rows(np.array([0.26, 0.30, 0.36, 0.44]) + effect, seeds=seeds))
