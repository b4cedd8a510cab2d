"""When is convolution appropriate? What the studies of permuted pixels and of few images say, in words and tables."""

from itertools import takewhile

import numpy as np
from scipy.stats import gmean

from cnnlab import measures
from cnnlab.findings.finding import BETTER, HEADLINE, SAME, WORSE, Finding, effect, judge_contrasts, judge_pair
from cnnlab.findings.tables import verdicts_table
from cnnlab.wording import about, percent

# What a table calls the models that it compares.
MODELS = {"dense": "Dense", "cnn": "CNN", "probe": "Pretrained features"}
PERMUTED = "_permuted"


def permutation(rows):
    """What one permutation of all pixels does to the dense network and, the verdict, to the CNN: rows of that study.

    `numbers`: dense_verdict is "same" unless the lab has a bug, or too few seeds to rule one out.
    """
    dense, cnn = (_with_and_without(rows, kind) for kind in ("dense", "cnn"))
    (unchanged, of_dense), (verdict, of_cnn) = judge_pair(rows, *dense), judge_pair(rows, *cnn)
    lead = measures.paired_differences(rows, cnn[0], dense[0], HEADLINE)
    so_what = ": convolution lives on neighbourhoods" if (verdict, unchanged) == (WORSE, SAME) else ""
    effects = f"{effect(verdict, of_cnn, 'the CNN')}, and {effect(unchanged, of_dense, 'the dense network')}"
    numbers = {"dense": of_dense["mean"], "dense_verdict": unchanged, "cnn": of_cnn["mean"], "cnn_lead": lead.mean()}
    return Finding(f"Permuting all pixels {effects}{so_what}.", verdict, numbers)


def sample_size(rows):
    """How many images each network needs: rows of the study `sample_size`, perhaps cut short.

    Each size counts the seeds that have it in both networks; the number of images needed, those that have all sizes
    (ValueError where there are none). The verdict is on the CNN's lead at the largest size, with Holm's correction.
    """
    dense, cnn, judged = lead_by_size(rows)
    whole = cnn.dropna().index.intersection(dense.dropna().index)
    if whole.empty:
        raise ValueError("no seed of sample_size has all sizes; run `python -m cnnlab study sample_size`")
    mean = float(gmean(measures.images_needed(cnn.loc[whole], dense.loc[whole].iloc[:, -1])))
    # From the largest size down; the lead of a single seed counts untested.
    leads = takewhile(
        lambda images: judged[images][0] == BETTER or (judged[images][1]["n"] < 2 and judged[images][1]["mean"] > 0),
        reversed(judged),
    )
    ahead = min(leads, default=None)
    first, last = cnn.columns[0], cnn.columns[-1]
    leading = "at every size" if ahead == first else f"from {ahead:,} images on" if ahead else "at no size"
    needs = about(mean) if np.isfinite(mean) else "more than all of them"
    sentence = f"The CNN leads {leading}; to match what the dense network learns from {last:,} images it needs {needs}."
    (verdict, numbers), gaps = judged[last], {images: each["mean"] for images, (_, each) in judged.items()}
    return Finding(sentence, verdict, {**numbers, "ahead_from": ahead, "gaps": gaps, "needed": mean})


def transfer_size(rows):
    """What pretrained features are worth: rows of the study `transfer_size`, and of `sample_size` where there are any.

    Over the seeds that have all sizes of both: how many images a probe needs to match the CNN trained on the most.
    The verdict is on the probe's lead at the largest size that both have, with Holm's correction.
    """
    cnn, probe, judged = lead_by_size(rows, "cnn", "probe")
    most, top = probe.columns[-1], percent(probe.iloc[:, -1].mean())
    whole = probe.dropna().index.intersection(cnn.dropna().index)
    if whole.empty:
        sentence = f"From {most:,} images a linear probe of pretrained features reaches {top}: features carry over."
        return Finding(sentence, None, {"accuracy": probe.mean().to_dict()})
    needed = measures.images_needed(probe.loc[whole], cnn.loc[whole].iloc[:, -1])
    mean = float(gmean(needed))
    few = f"at most {mean:,.0f}" if (needed <= probe.columns[0]).all() else about(mean)
    needs = f"needs {few}" if np.isfinite(mean) else f"needs more than {most:,}"
    (verdict, numbers), last = judged[max(judged)], cnn.columns[-1]
    sentence = f"A probe of pretrained features {needs} images to match the CNN trained on {last:,}"
    numbers |= {"needed": mean, "accuracy": probe.mean().to_dict()}
    return Finding(f"{sentence}, and reaches {top} with all.", verdict, numbers)


def sample_size_table(rows, behind="dense", ahead="cnn"):
    """The lead of `ahead` over `behind` at each number of images: rows of `sample_size`, or `transfer_size` too."""
    slower, faster, judged = lead_by_size(rows, behind, ahead)
    columns = {MODELS[behind]: slower, MODELS[ahead]: faster}
    means = [{name: percent(table[n].mean()) for name, table in columns.items()} for n in judged]
    names = [{"Images": f"{n:,}", **cells} for n, cells in zip(judged, means, strict=True)]
    return verdicts_table(names, judged.values(), "Lead, points")


def _with_and_without(rows, kind):
    """Labels of the network of this `kind` on permuted pixels, and of the same network on ordinary pixels."""
    labels = rows.loc[rows["model"] == kind, "label"].unique() if len(rows) else []
    permuted = next((label for label in labels if label.endswith(PERMUTED)), None)
    if permuted is None:
        raise ValueError(f"the rows hold no permuted {kind} network; run `python -m cnnlab study permutation`")
    return permuted, permuted.removesuffix(PERMUTED)


def lead_by_size(rows, behind="dense", ahead="cnn"):
    """(accuracies of `behind`, those of `ahead`, {images: (verdict, numbers)} of the lead of `ahead`).

    Accuracies are (seeds, sizes); the lead is at each size that both have for at least one seed.
    """
    behind, ahead = (
        rows[rows["model"] == kind].pivot(index="seed", columns="train_images", values=HEADLINE).rename(columns=int)
        for kind in (behind, ahead)
    )
    both = (ahead - behind).dropna(axis="columns", how="all")
    judged = judge_contrasts([both[images].dropna().to_numpy() for images in both])
    return behind, ahead, dict(zip(both, judged, strict=True))
