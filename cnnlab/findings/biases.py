"""When is convolution appropriate, and what do its networks do? Two studies and the probes of trained networks say."""

import math
from itertools import takewhile

import numpy as np

from cnnlab import measures
from cnnlab.findings.finding import (
    BETTER,
    CANNOT_TELL,
    HEADLINE,
    SAME,
    WORSE,
    Finding,
    effect,
    judge_contrasts,
    judged_one,
)
from cnnlab.findings.trust import maps_trusted, promise_kept, worse_images
from cnnlab.wording import about, capital, family, listing, percent, points, spelled

PERMUTED = "_permuted"
# Rounding of float32 stays below; a map that does not move with the image is at 0.1 and more.
EXACT = 1e-4


def permutation(rows):
    """What one permutation of all pixels does to the dense network and, the verdict, to the CNN: rows of that study.

    `numbers`: dense_verdict is "same" unless the laboratory has a fault, or too few seeds to show that it has none.
    """
    dense, cnn = (_with_and_without(rows, kind) for kind in ("dense", "cnn"))
    unchanged, of_dense = judged_one(measures.paired_differences(rows, *dense, HEADLINE))
    verdict, of_cnn = judged_one(measures.paired_differences(rows, *cnn, HEADLINE))
    lead = measures.paired_differences(rows, cnn[0], dense[0], HEADLINE)
    so_what = ": neighbourhoods are what convolution lives on" if (verdict, unchanged) == (WORSE, SAME) else ""
    effects = f"{effect(verdict, of_cnn, 'the CNN')}, and {effect(unchanged, of_dense, 'the dense network')}"
    numbers = {"dense": of_dense["mean"], "dense_verdict": unchanged, "cnn": of_cnn["mean"], "cnn_lead": lead.mean()}
    return Finding(f"Permuting all pixels {effects}{so_what}.", verdict, numbers)


def sample_size(rows):
    """How many images each network needs: rows of the study `sample_size`, perhaps cut short.

    Each size speaks of the seeds that have it in both networks; how many images the CNN needs, of those that have all
    sizes (ValueError: there is none). The verdict is the CNN's lead at the largest size, with Holm's correction.
    """
    dense, cnn, judged = lead_by_size(rows)
    whole = cnn.dropna().index.intersection(dense.dropna().index)
    if whole.empty:
        raise ValueError("no seed of sample_size has all sizes; run `python -m cnnlab study sample_size`")
    mean = float(np.exp(np.mean(np.log(measures.images_needed(cnn.loc[whole], dense.loc[whole].iloc[:, -1])))))
    # From the largest size down; one seed counts as it is.
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

    Over the seeds that have all sizes of both: from how many images a probe knows what the CNN learns from the most.
    The verdict is the probe's lead at the largest size that both have, with Holm's correction.
    """
    cnn, probe, judged = lead_by_size(rows, "cnn", "probe")
    most, top = probe.columns[-1], percent(probe.iloc[:, -1].mean())
    whole = probe.dropna().index.intersection(cnn.dropna().index)
    if whole.empty:
        sentence = f"From {most:,} images a linear probe of pretrained features reaches {top}: others' images teach."
        return Finding(sentence, None, {"accuracy": probe.mean().to_dict()})
    needed = measures.images_needed(probe.loc[whole], cnn.loc[whole].iloc[:, -1])
    mean = float(np.exp(np.mean(np.log(needed))))
    few = f"at most {mean:,.0f}" if (needed <= probe.columns[0]).all() else about(mean)
    needs = f"needs {few}" if np.isfinite(mean) else f"needs more than {most:,}"
    (verdict, numbers), last = judged[max(judged)], cnn.columns[-1]
    sentence = f"A probe of pretrained features {needs} images for what the CNN learns from {last:,}"
    numbers |= {"needed": mean, "accuracy": probe.mean().to_dict()}
    return Finding(f"{sentence}, and reaches {top} with all.", verdict, numbers)


def nearest_image(rows):
    """How often the nearest training image is of the right class: rows of the probe `nearest`."""
    share = rows["accuracy"].mean()
    sentence = f"The nearest training image has the right class for {percent(share)} of test images: so far goes memory"
    return Finding(f"{sentence} alone.", None, {"accuracy": share, "seeds": rows["seed"].nunique()})


def columns_order(rows):
    """Does convolution along a table's columns notice their order? Rows of the probe `tabular`.

    The verdict is on the 1-D CNN with shuffled columns; `numbers` has those against the rivals, too. All allow for the
    overlap of the splits, with Holm's correction for the three contrasts.
    """
    table = rows.pivot(index=["seed", "split"], columns=["label", "order"], values="accuracy")
    share = rows["test_rows"].iloc[0] / (rows["test_rows"] + rows["train_rows"]).iloc[0]
    rivals = [label for label in rows["label"].unique() if label != "conv1d"]
    ours = table["conv1d", "published"]
    contrasts = [table["conv1d", "shuffled"] - ours, *(ours - table[rival, "published"] for rival in rivals)]
    (verdict, order), *others = judge_contrasts(contrasts, spread=measures.overlap_spread(len(table), share))
    meaning = {SAME: ": their order means nothing to it", WORSE: ": their order means something to it"}.get(verdict, "")
    sentence = f"Shuffling a table's columns {effect(verdict, order, 'the convolution')}{meaning}."
    against = {rival: {"verdict": word, **numbers} for rival, (word, numbers) in zip(rivals, others, strict=True)}
    return Finding(sentence, verdict, {"accuracy": table.mean().to_dict(), "against": against, **order})


def shift_cost(rows):
    """What the largest shift of the test images costs by position alone: rows of the probe `shift`.

    The image shifted against the image held in place with the same strip lost, the mean of the directions being one
    value a seed. The verdict is that of the last label (the CNN in the record).
    """
    furthest = int(rows["shift"].max())
    by_seed = rows.pivot_table(index=["label", "seed", "shift"], columns="treatment", values="accuracy", sort=False)
    after = by_seed.xs(furthest, level="shift")
    costs = {label: (after["shifted"] - after["held"]).loc[label].to_numpy() for label in rows["label"].unique()}
    judged = dict(zip(map(family, costs), judge_contrasts(costs.values()), strict=True))
    parts = listing(
        f"{name} {'loses' if test['mean'] < 0 else 'gains'} {points(test['mean'])}"
        for name, (_, test) in reversed(judged.items())
    )
    last, (verdict, test) = list(judged.items())[-1]
    meaning = {
        WORSE: "position alone matters",
        SAME: f"{last} ignores position",
        BETTER: f"{last} does better out of place",
        CANNOT_TELL: "cannot tell whether position alone matters",
    }[verdict]
    numbers = {"shift": furthest, "costs": {label: float(cost.mean()) for label, cost in costs.items()}, **test}
    return Finding(f"{capital(spelled(furthest))} pixels out of place, {parts}: {meaning}.", verdict, numbers)


def equivariant_layers(rows):
    """Which layers' maps move with the image, up to EXACT, and for which shifts: rows of the probe `equivariance`.

    `numbers` has, for each (label, layer) with positions, the exact shifts and the mean error at the others.
    """
    moved = rows[(rows["shift"] > 0) & (rows["kind"] == "map") & (rows["positions"] > 0)]
    numbers, shifts = {}, moved["shift"].nunique()
    for key, mine in moved.groupby(["label", "layer"], sort=False):
        worst = mine.groupby("shift")["relative_error"].max()
        broken = mine[mine["shift"].map(worst) >= EXACT]["relative_error"]
        exact = [int(pixels) for pixels in worst.index[worst < EXACT]]
        numbers[key] = {"exact": exact, "error": broken.mean() if len(broken) else 0.0}
    followed = [len(found["exact"]) for found in numbers.values()]
    every, some = followed.count(shifts), sum(0 < each < shifts for each in followed)
    layers = f"{spelled(every)} of {spelled(len(followed))} layers follow{'s' * (every == 1)}"
    meaning = f", {spelled(some)} only some: pooling breaks equivariance" if some else ": shift in, shift out"
    return Finding(f"{capital(layers)} every shift of the image exactly{meaning}.", None, numbers)


def effective_fields(rows):
    """How much of what each convolution could see matters to it, in pixels: rows of the probe `receptive_field`."""
    sizes = measures.effective_diameters(rows).groupby("layer", sort=False)
    numbers = {
        layer: {"theoretical": int(mine["theoretical"].iloc[0]), "effective": float(mine["effective"].mean())}
        for layer, mine in sizes
    }
    *_, last = numbers.values()
    seen, half = last["theoretical"], last["effective"]
    # Half of what is seen alike everywhere lies in a square of half the area.
    meaning = "it looks at its centre" if half < 0.9 * seen / math.sqrt(2) else "it looks everywhere alike"
    could = f"The last convolution could see {seen} pixels across, but half of its sensitivity lies within {half:.1f}"
    return Finding(f"{could}: {meaning}.", None, numbers)


def calibration_over_seeds(rows):
    """What temperature scaling does to each network's expected calibration error on the test set.

    The verdict is that of the last label. Raises ValueError where scaling changed an accuracy, which it cannot.
    """
    whole, gains, numbers = rows.drop_duplicates(["label", "seed", "stage"]), [], {}
    for label, mine in whole.groupby("label", sort=False):
        before, after = (mine[mine["stage"] == stage].set_index("seed").sort_index() for stage in ("before", "after"))
        changed = (after["overall_accuracy"] - before["overall_accuracy"]).abs().max()
        if changed > 0:
            raise ValueError(f"temperature scaling changed the accuracy of {label} by {changed}; the rows are wrong")
        gains.append((before["ece"] - after["ece"]).to_numpy())
        errors = {"before": before["ece"].mean(), "after": after["ece"].mean()}
        numbers[label] = errors | {"temperature": after["temperature"].mean()}
    verdict, test = judge_contrasts(gains)[-1]
    meaning = {
        BETTER: "it helps, and changes no answer", WORSE: "it harms", SAME: "it needs none",
        CANNOT_TELL: "cannot tell whether it helps",
    }[verdict]  # fmt: skip
    change = f"{family(label)} from {percent(errors['before'])} to {percent(errors['after'])}"
    sentence = f"Temperature scaling takes the calibration error of {change}: {meaning}."
    return Finding(sentence, verdict, {**numbers, **test})


def silent_activations(rows):
    """What share of the ReLU activations is zero, the mean over a network's layers; the sentence on the last label."""
    shares = rows.groupby(["label", "seed"], sort=False)["zero_fraction"].mean().groupby("label", sort=False).mean()
    share, name = shares.iloc[-1], family(shares.index[-1])
    meaning = f"for any image most of it {'is silent' if share > 0.5 else 'answers'}"
    return Finding(f"{percent(share)} of {name}'s ReLU activations are zero: {meaning}.", None, shares.to_dict())


def first_filters(rows):
    """Whether a picture of the first layer's filters shows what was learned: rows of the probe `first_layer`.

    `numbers`: with_start and with_first, r as `measures.first_layer_correlations` has them, means over all there are.
    """
    found = measures.first_layer_correlations(rows)[["with_start", "with_first"]].mean()
    between = "" if math.isnan(found["with_first"]) else f", and by {found['with_first']:.2f} between CIFAR-10 and Mars"
    shows = "the initialisation" if found["with_start"] ** 2 > 0.5 else "what was learned"
    sentence = f"Trained first-layer filters correlate by {found['with_start']:.2f} with their random start{between}"
    return Finding(f"{sentence}: their picture shows {shows}.", None, found.to_dict())


# What the rows of each probe of `measures.PROBES` say.
OF_PROBES = {
    "shift": shift_cost,
    "equivariance": equivariant_layers,
    "receptive_field": effective_fields,
    "tabular": columns_order,
    "activations": silent_activations,
    "calibration": calibration_over_seeds,
    "conformal": promise_kept,
    "attribution": maps_trusted,
    "corruptions": worse_images,
    "first_layer": first_filters,
    "nearest": nearest_image,
}


def _with_and_without(rows, kind):
    """Labels of the network of `kind` on permuted pixels, and of the same one on ordinary pixels."""
    labels = rows.loc[rows["model"] == kind, "label"].unique() if len(rows) else []
    permuted = next((label for label in labels if label.endswith(PERMUTED)), None)
    if permuted is None:
        raise ValueError(f"the rows hold no permuted {kind} network; run `python -m cnnlab study permutation`")
    return permuted, permuted.removesuffix(PERMUTED)


def lead_by_size(rows, behind="dense", ahead="cnn"):
    """(`behind`, `ahead`, {images: (verdict, numbers)}) of two models: accuracies (seeds, sizes), the latter's lead.

    The lead at each size that both have, for one seed at least.
    """
    behind, ahead = (
        rows[rows["model"] == kind].pivot(index="seed", columns="train_images", values=HEADLINE).rename(columns=int)
        for kind in (behind, ahead)
    )
    both = (ahead - behind).dropna(axis="columns", how="all")
    judged = judge_contrasts([both[images].dropna().to_numpy() for images in both])
    return behind, ahead, dict(zip(both, judged, strict=True))
