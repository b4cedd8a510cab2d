"""When is convolution appropriate, and what do its networks do? Two studies and the probes of trained networks say."""

import math

import numpy as np

from cnnlab.findings.finding import (
    BETTER,
    CANNOT_TELL,
    HEADLINE,
    MARGIN,
    SAME,
    WITHIN,
    WORSE,
    Finding,
    judge_contrasts,
    judged_one,
    overlap_spread,
)
from cnnlab.findings.trust import maps_trusted, promise_kept
from cnnlab.measures import effective_diameters, paired_differences
from cnnlab.wording import capital, family, from_to, listing, percent, points, signed_points, spelled

PERMUTED = "_permuted"
# Rounding of float32 stays below; a map that does not move with the image is at 0.1 and more.
EXACT = 1e-4


def permutation(rows, metric=HEADLINE):
    """What one permutation of all pixels does to the dense network and, the verdict, to the CNN: rows of that study."""
    dense, cnn = (_with_and_without(rows, kind) for kind in ("dense", "cnn"))
    unchanged, of_dense = judged_one(paired_differences(rows, *dense, metric))
    verdict, of_cnn = judged_one(paired_differences(rows, *cnn, metric))
    lead = paired_differences(rows, cnn[0], dense[0], metric)
    size, moved = points(of_cnn["mean"]), points(of_dense["mean"])
    effect = {
        WORSE: f"costs the CNN {size}",
        BETTER: f"gives the CNN {size}",
        SAME: f"costs the CNN less than {WITHIN}",
        CANNOT_TELL: f"moves the CNN by {size}, which may be noise",
    }[verdict]
    of_it = {SAME: f"the dense network less than {WITHIN}", CANNOT_TELL: "for the dense network, cannot tell"}
    beside = of_it.get(unchanged, f"the dense network, which it should not touch, {moved}")
    so_what = ": neighbourhoods are what convolution lives on" if (verdict, unchanged) == (WORSE, SAME) else ""
    low, high = (of_dense.get(end, math.nan) for end in ("low", "high"))
    numbers = {"dense": of_dense["mean"], "dense_low": low, "dense_high": high, "dense_verdict": unchanged}
    numbers |= {"margin": MARGIN, "cnn": of_cnn["mean"], "cnn_lead": float(lead.mean()), "n": len(lead)}
    return Finding(f"Permuting all pixels {effect}, {beside}{so_what}.", verdict, numbers)


def check_dense_unchanged(rows):
    """Raise AssertionError unless permuting the pixels leaves the dense network, blind to their order, the same.

    Else the laboratory has a fault, or there are too few seeds to show that it has none.
    """
    numbers = permutation(rows).numbers
    if numbers["dense_verdict"] != SAME:
        ends = from_to(numbers["dense_low"], numbers["dense_high"], signed_points) or "none"
        raise AssertionError(
            f"the dense network changes by {signed_points(numbers['dense'])} percentage points under a permutation of "
            f"the pixels (95% interval {ends}, n = {numbers['n']}), which is not shown to be within {WITHIN}"
        )


def sample_size(rows):
    """How many images each network needs: rows of the study `sample_size`, perhaps cut short.

    Each size speaks of the seeds that have it in both networks; how many images the CNN needs, of those that have all
    sizes (ValueError: there is none). The verdict is the CNN's lead at the largest size, with Holm's correction.
    """
    dense, cnn, judged = lead_by_size(rows)
    whole = cnn.dropna().index.intersection(dense.dropna().index)
    if whole.empty:
        raise ValueError("no seed of sample_size has all sizes; run `python -m cnnlab study sample_size`")
    needed = images_needed(cnn.loc[whole], dense.loc[whole].iloc[:, -1])
    mean = float(np.exp(np.mean(np.log(needed)))) if np.isfinite(needed).all() else math.inf
    # From the largest size down; one seed counts as it is.
    ahead = None
    for images, (verdict, numbers) in reversed(judged.items()):
        if not (verdict == BETTER or (numbers["n"] < 2 and numbers["mean"] > 0)):
            break
        ahead = images
    first, last = cnn.columns[0], cnn.columns[-1]
    leading = "at every size" if ahead == first else f"from {ahead:,} images on" if ahead else "at no size"
    about = f"about {mean:,.0f}" if np.isfinite(mean) else "more than all of them"
    sentence = f"The CNN leads {leading}; to match what the dense network learns from {last:,} images it needs {about}."
    (verdict, numbers), leads = judged[last], {images: each["mean"] for images, (_, each) in judged.items()}
    more = {"ahead_from": ahead, "gaps": leads, "grown": leads[last] - leads[first], "needed": mean}
    return Finding(sentence, verdict, {**numbers, **more})


def images_needed(curves, targets):
    """Training images at which each seed's accuracy first reaches its target: float64 (seeds,), infinite where never.

    `curves`: a row a seed, a column a number of images, rising; `targets`: an accuracy a seed. Linear in the logarithm
    of the images between two sizes; the smallest size where that is already enough.
    """
    sizes, found = np.log(curves.columns.to_numpy("float64")), []
    for seed, target in targets.items():
        accuracy = curves.loc[seed].to_numpy()
        after = int((accuracy >= target).argmax())
        step = slice(max(after - 1, 0), after + 1)
        found.append(np.exp(np.interp(target, accuracy[step], sizes[step])) if accuracy.max() >= target else np.inf)
    return np.array(found)


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
    (verdict, order), *others = judge_contrasts(contrasts, spread=overlap_spread(len(table), share))
    size, shuffling = points(order["mean"]), "Shuffling a table's columns"
    sentence = {
        SAME: f"{shuffling} changes the convolution by less than {WITHIN}: their order means nothing to it.",
        WORSE: f"{shuffling} costs the convolution {size}: their order means something to it.",
        BETTER: f"{shuffling} gives the convolution {size}: the published order is not the best.",
        CANNOT_TELL: "Cannot tell whether the order of a table's columns matters: shuffling moves the convolution by "
        f"{size}.",
    }[verdict]
    against = {rival: {"verdict": word, **numbers} for rival, (word, numbers) in zip(rivals, others, strict=True)}
    return Finding(sentence, verdict, {"accuracy": table.mean().to_dict(), "against": against, **order})


def shift_cost(rows):
    """What the largest shift of the test images costs by position alone: rows of the probe `shift`.

    The image shifted against the image held in place with the same strip lost, the mean of the directions being one
    value a seed. The verdict is that of the last label (the CNN in the record).
    """
    furthest = int(rows["shift"].max())
    by_seed = rows.pivot_table(index=["label", "seed", "shift"], columns="treatment", values="accuracy", sort=False)
    costs, numbers = {}, {"shift": furthest}
    for label in rows["label"].unique():
        after = by_seed.loc[label].xs(furthest, level="shift")
        costs[label] = (after["shifted"] - after["held"]).to_numpy()
        numbers[label] = {**after[["shifted", "held"]].mean().to_dict(), "position": -costs[label].mean()}
    judged = dict(zip(map(family, costs), judge_contrasts(costs.values()), strict=True))
    *others, verdict = (verdict for verdict, _ in judged.values())
    parts = [
        f"{name} {'loses' if test['mean'] < 0 else 'gains'} {points(test['mean'])}"
        for name, (_, test) in judged.items()
    ]
    last = list(judged)[-1]
    meaning = {
        WORSE: "neither ignores position" if others == [WORSE] else f"{last} does not ignore position",
        SAME: f"{last} ignores position",
        BETTER: f"{last} does better out of place",
        CANNOT_TELL: "cannot tell whether position alone matters",
    }[verdict]
    sentence = f"Shifted by {furthest} pixels, {listing(reversed(parts))}: {meaning}."
    return Finding(sentence, verdict, {**numbers, **judged[last][1]})


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
    every, layers = followed.count(shifts), spelled(len(followed))
    partly = spelled(sum(0 < shifts_followed < shifts for shifts_followed in followed))
    sentence = f"All {layers} layers with positions move exactly with the image: shift in, shift out."
    if every < len(followed):
        sentence = (
            f"Every shift of the image is followed exactly by {spelled(every)} of {layers} layers, only some shifts by "
            f"{partly}: pooling breaks equivariance."
        )
    return Finding(capital(sentence), None, numbers)


def effective_fields(rows):
    """How much of what each convolution could see matters to it, in pixels: rows of the probe `receptive_field`."""
    sizes = effective_diameters(rows).groupby("layer", sort=False)
    numbers = {
        layer: {"theoretical": int(mine["theoretical"].iloc[0]), "effective": float(mine["effective"].mean())}
        for layer, mine in sizes
    }
    *_, last = numbers.values()
    seen, half = last["theoretical"], last["effective"]
    # Half of what is seen alike everywhere lies in a square of half the area.
    meaning = "it looks at its centre" if half < 0.9 * seen / math.sqrt(2) else "it looks everywhere alike"
    sentence = (
        f"The last convolution could see {seen} pixels across, but half of its sensitivity lies within {half:.1f}"
    )
    return Finding(f"{sentence}: {meaning}.", None, numbers)


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
    error = f"the calibration error of {family(label)}"
    change = f"{error} from {percent(errors['before'])} to {percent(errors['after'])}"
    sentence = {
        BETTER: f"Temperature scaling cuts {change} and changes no answer.",
        WORSE: f"Temperature scaling raises {change}: it harms.",
        SAME: f"Temperature scaling changes {error} by less than {WITHIN}: it needs none.",
        CANNOT_TELL: f"Cannot tell whether temperature scaling helps: it takes {change}.",
    }[verdict]
    return Finding(sentence, verdict, {**numbers, **test})


def silent_activations(rows):
    """What share of the ReLU activations is zero, the mean over a network's layers; the sentence on the last label."""
    shares = rows.groupby(["label", "seed"], sort=False)["zero_fraction"].mean().groupby("label", sort=False).mean()
    share, name = shares.iloc[-1], family(shares.index[-1])
    meaning = f"for any image most of it {'is silent' if share > 0.5 else 'answers'}"
    return Finding(f"{percent(share)} of {name}'s ReLU activations are zero: {meaning}.", None, shares.to_dict())


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
}


def _with_and_without(rows, kind):
    """Labels of the network of `kind` on permuted pixels, and of the same one on ordinary pixels."""
    labels = rows.loc[rows["model"] == kind, "label"].unique() if len(rows) else []
    permuted = next((label for label in labels if label.endswith(PERMUTED)), None)
    if permuted is None:
        raise ValueError(f"the rows hold no permuted {kind} network; run `python -m cnnlab study permutation`")
    return permuted, permuted.removesuffix(PERMUTED)


def lead_by_size(rows):
    """(dense, cnn, {images: (verdict, numbers)}): accuracies (seeds, sizes), and the CNN's lead at each size."""
    dense, cnn = (
        rows[rows["model"] == kind].pivot(index="seed", columns="train_images", values=HEADLINE).rename(columns=int)
        for kind in ("dense", "cnn")
    )
    both = (cnn - dense).dropna(axis="columns", how="all")
    judged = judge_contrasts([both[images].dropna().to_numpy() for images in both])
    return dense, cnn, dict(zip(both, judged, strict=True))
