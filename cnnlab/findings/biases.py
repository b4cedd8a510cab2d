"""When is convolution appropriate? Permuted pixels, few images, shifted images and a table's columns say."""

import math

import numpy as np

from cnnlab.findings.finding import (
    BETTER,
    CANNOT_TELL,
    HEADLINE,
    MARGIN,
    SAME,
    WORSE,
    Finding,
    judge_contrasts,
    overlap_spread,
    verdicts_table,
)
from cnnlab.measures import effective_diameters, paired_differences, t_interval
from cnnlab.wording import capital, family, from_to, listing, percent, points, signed_points, spelled, whole_points

PERMUTED = "_permuted"
# Rounding of float32 stays below; a map that does not move with the image is at 0.1 and more.
EXACT = 1e-4


def permutation(rows, margin=MARGIN, metric=HEADLINE):
    """What one permutation of all pixels does to the dense network and to the CNN: rows of the study `permutation`.

    The verdict is that of the CNN with permuted pixels against the CNN; the dense network
    counts as unchanged where its verdict is "same", within `margin`.
    """
    dense, cnn = (_with_and_without(rows, kind) for kind in ("dense", "cnn"))
    (unchanged, of_dense), (verdict, of_cnn) = (
        judge_contrasts([paired_differences(rows, *pair, metric)], margin)[0] for pair in (dense, cnn)
    )
    lead = paired_differences(rows, cnn[0], dense[0], metric)
    within, size = f"less than {whole_points(margin)}", points(of_cnn["mean"])
    effect = {WORSE: f"costs the CNN {size}", BETTER: f"gives the CNN {size}", SAME: f"costs the CNN {within}"}.get(
        verdict, f"moves the CNN by {size}, which may be noise"
    )
    beside = {SAME: f"the dense network {within}", CANNOT_TELL: "for the dense network, cannot tell"}.get(
        unchanged, f"the dense network, which it should not touch, {points(of_dense['mean'])}"
    )
    so_what = ": neighbourhoods are what convolution lives on" if (verdict, unchanged) == (WORSE, SAME) else ""
    numbers = {
        "dense": of_dense["mean"], "dense_low": of_dense.get("low", math.nan),
        "dense_high": of_dense.get("high", math.nan), "dense_verdict": unchanged, "margin": margin,
        "cnn": of_cnn["mean"], "cnn_lead": float(lead.mean()), "n": len(lead),
    }  # fmt: skip
    return Finding(f"Permuting all pixels {effect}, {beside}{so_what}.", verdict, numbers)


def check_dense_unchanged(rows, margin=MARGIN, metric=HEADLINE):
    """Raise AssertionError unless permuting the pixels leaves the dense network the same, within `margin`.

    A dense layer is blind to the order of its inputs, so that a change beyond the noise of
    seeds would be a fault of the laboratory. For the full protocol; one seed shows nothing.
    """
    numbers = permutation(rows, margin, metric).numbers
    if numbers["dense_verdict"] != SAME:
        ends = from_to(numbers["dense_low"], numbers["dense_high"], signed_points) or "none"
        raise AssertionError(
            f"the dense network changes by {signed_points(numbers['dense'])} percentage points under a permutation of "
            f"the pixels (95% interval {ends}, n = {numbers['n']}), which is not shown to be within "
            f"{whole_points(margin)}"
        )


def sample_size(rows, metric=HEADLINE):
    """How many images each network needs: rows of the study `sample_size`, perhaps cut short.

    Each size speaks of the seeds that have it in both networks; how many images the CNN needs,
    of the seeds that have all sizes. Raises ValueError where none has. The verdict is that of the
    CNN against the dense network at the largest number of images, with Holm's correction.
    """
    dense, cnn, judged = _leads(rows, metric)
    leads = {images: numbers["mean"] for images, (_, numbers) in judged.items()}
    ahead = _ahead_from(judged)
    whole = cnn.dropna().index.intersection(dense.dropna().index)
    if whole.empty:
        raise ValueError("no seed of sample_size has all sizes; run `python -m cnnlab study sample_size`")
    needed = images_needed(cnn.loc[whole], dense.loc[whole].iloc[:, -1])
    mean = float(np.exp(np.mean(np.log(needed)))) if np.isfinite(needed).all() else math.inf
    first, last = cnn.columns[0], cnn.columns[-1]
    leading = "at every size" if ahead == first else f"from {ahead:,} images on" if ahead else "at no size"
    about = f"about {mean:,.0f}" if np.isfinite(mean) else "more than all of them"
    sentence = f"The CNN leads {leading}; to match what the dense network learns from {last:,} images it needs {about}."
    grown = leads[last] - leads[first]
    verdict, numbers = judged[last]
    return Finding(sentence, verdict, {**numbers, "ahead_from": ahead, "gaps": leads, "grown": grown, "needed": mean})


def sample_size_table(rows, metric=HEADLINE):
    """The lead of the CNN at each number of images, ready for Markdown."""
    dense, cnn, judged = _leads(rows, metric)
    names = [{"Images": f"{n:,}", "Dense": percent(dense[n].mean()), "CNN": percent(cnn[n].mean())} for n in judged]
    return verdicts_table(names, judged.values(), "Lead, points")


def images_needed(curves, targets):
    """Training images at which each seed's accuracy first reaches its target.

    `curves`: DataFrame, a row a seed and a column a number of images, rising; `targets`: one
    accuracy a seed. Linear in the logarithm of the images between two sizes; the smallest size
    where that is already enough, infinite where none is. Returns float64 (seeds,).
    """
    sizes = curves.columns.to_numpy("float64")
    found = []
    for seed, target in targets.items():
        accuracy = curves.loc[seed].to_numpy()
        if not (reached := accuracy >= target).any():
            found.append(np.inf)
        elif (after := int(reached.argmax())) == 0:
            found.append(sizes[0])
        else:
            step = slice(after - 1, after + 1)
            found.append(np.exp(np.interp(target, accuracy[step], np.log(sizes[step]))))
    return np.array(found)


def columns_order(rows):
    """Does convolution along a table's columns notice their order? Rows of the probe `tabular`.

    The verdict is that of the 1-D CNN with shuffled columns against the published order; `numbers`
    has those against the rivals, too. All allow for the overlap of the splits (`overlap_spread`),
    with Holm's correction for the three contrasts.
    """
    table = rows.pivot(index=["seed", "split"], columns=["label", "order"], values="accuracy")
    share = rows["test_rows"].iloc[0] / (rows["test_rows"] + rows["train_rows"]).iloc[0]
    rivals = [label for label in rows["label"].unique() if label != "conv1d"]
    ours = table["conv1d", "published"]
    contrasts = [table["conv1d", "shuffled"] - ours, *(ours - table[rival, "published"] for rival in rivals)]
    (verdict, order), *others = judge_contrasts(contrasts, spread=overlap_spread(len(table), share))
    size = points(order["mean"])
    sentence = {
        SAME: f"Shuffling a table's columns changes the convolution by less than {whole_points(MARGIN)}: "
        "their order means nothing to it.",
        WORSE: f"Shuffling a table's columns costs the convolution {size}: their order means something to it.",
        BETTER: f"Shuffling a table's columns gives the convolution {size}: the published order is not the best.",
        CANNOT_TELL: f"Cannot tell whether the order of a table's columns matters: shuffling moves the convolution "
        f"by {size}.",
    }[verdict]
    against = {rival: {"verdict": word, **numbers} for rival, (word, numbers) in zip(rivals, others, strict=True)}
    return Finding(sentence, verdict, {"accuracy": table.mean().to_dict(), "against": against, **order})


def shift_cost(rows):
    """What a shift of the test images costs by position alone: rows of the probe `shift`.

    At the largest shift, the image shifted is held against the image held in place with the same
    strip lost, the mean of the directions being one value a seed. The verdict is that of the
    last label (the CNN in the record).
    """
    furthest = int(rows["shift"].max())
    by_seed = rows.pivot_table(index=["label", "seed", "shift"], columns="treatment", values="accuracy", sort=False)
    labels, costs, numbers = list(rows["label"].unique()), [], {"shift": furthest}
    for label in labels:
        after = by_seed.loc[label].xs(furthest, level="shift")
        costs.append((after["shifted"] - after["held"]).to_numpy())
        numbers[label] = {**after[["shifted", "held"]].mean().to_dict(), "position": -costs[-1].mean()}
    judged = judge_contrasts(costs)
    verdicts = [verdict for verdict, _ in judged]
    parts = [
        f"{family(label)} {'loses' if test['mean'] < 0 else 'gains'} {points(test['mean'])}"
        for label, (_, test) in zip(labels, judged, strict=True)
    ]
    last = family(labels[-1])
    meaning = {
        WORSE: "neither ignores position" if verdicts == [WORSE, WORSE] else f"{last} does not ignore position",
        SAME: f"{last} ignores position",
        BETTER: f"{last} does better out of place",
    }.get(verdicts[-1], "cannot tell whether position alone matters")
    sentence = f"Shifted by {furthest} pixels, {listing(reversed(parts))}: {meaning}."
    return Finding(sentence, verdicts[-1], {**numbers, **judged[-1][1]})


def equivariant_layers(rows):
    """Which layers' maps move with the image, and for which shifts: rows of the probe `equivariance`.

    A layer is exact where the relative error is below EXACT. `numbers` has, for each (label, layer) with
    positions, the exact shifts and the mean error at the others.
    """
    moved = rows[(rows["shift"] > 0) & (rows["kind"] == "map") & (rows["positions"] > 0)]
    numbers, all_of_them = {}, sorted(moved["shift"].unique())
    for (label, layer), mine in moved.groupby(["label", "layer"], sort=False):
        worst = mine.groupby("shift")["relative_error"].max()
        broken = mine[mine["shift"].map(worst) >= EXACT]["relative_error"]
        exact = [int(pixels) for pixels in worst.index[worst < EXACT]]
        numbers[label, layer] = {"exact": exact, "error": broken.mean() if len(broken) else 0.0}
    every = sum(found["exact"] == all_of_them for found in numbers.values())
    partly = sum(0 < len(found["exact"]) < len(all_of_them) for found in numbers.values())
    if every == len(numbers):
        sentence = f"All {spelled(every)} layers with positions move exactly with the image: shift in, shift out."
    else:
        sentence = (
            f"Every shift of the image is followed exactly by {spelled(every)} of {spelled(len(numbers))} layers, only "
            f"some shifts by {spelled(partly)}: pooling breaks equivariance."
        )
    return Finding(capital(sentence), None, numbers)


def effective_fields(rows):
    """How much of what each convolution could see matters to it: rows of the probe `receptive_field`."""
    numbers = {
        layer: {
            "theoretical": int(mine["theoretical"].iloc[0]),
            "effective": t_interval(mine["effective"]).mean,
            "core": t_interval(mine["core"]).mean,
        }
        for layer, mine in effective_diameters(rows).groupby("layer", sort=False)
    }
    *_, last = numbers.values()
    even = last["theoretical"] / math.sqrt(2)
    meaning = "it looks at its centre" if last["core"] < 0.9 * even else "it looks everywhere alike"
    sentence = (
        f"The last convolution could see {last['theoretical']} pixels across, but half of its sensitivity lies within "
        f"{last['core']:.1f}: {meaning}."
    )
    return Finding(sentence, None, numbers)


def _with_and_without(rows, kind):
    """Labels of the network of `kind` on permuted pixels, and of the same one on ordinary pixels."""
    labels = rows.loc[rows["model"] == kind, "label"].unique() if len(rows) else []
    permuted = next((label for label in labels if label.endswith(PERMUTED)), None)
    if permuted is None:
        raise ValueError(f"the rows hold no permuted {kind} network; run `python -m cnnlab study permutation`")
    return permuted, permuted.removesuffix(PERMUTED)


def _leads(rows, metric):
    """(dense, cnn, {images: (verdict, numbers)}): accuracies (seeds, sizes), and the CNN's lead at each size."""
    dense, cnn = (_by_size(rows, kind, metric) for kind in ("dense", "cnn"))
    both = (cnn - dense).dropna(axis="columns", how="all")
    judged = judge_contrasts([both[images].dropna().to_numpy() for images in both])
    return dense, cnn, dict(zip(both, judged, strict=True))


def _by_size(rows, kind, metric):
    """Accuracies of the networks of `kind`: a row a seed, a column a number of training images, rising."""
    mine = rows[rows["model"] == kind] if len(rows) else rows
    if mine.empty:
        raise ValueError(f"the rows hold no {kind} network; run `python -m cnnlab study sample_size`")
    return mine.pivot(index="seed", columns="train_images", values=metric).rename(columns=int).sort_index(axis=1)


def _ahead_from(judged):
    """The size from which on the CNN is better at every size, or None; one seed counts as it is."""
    ahead = [verdict == BETTER or (numbers["n"] < 2 and numbers["mean"] > 0) for verdict, numbers in judged.values()]
    sizes = [images for place, images in enumerate(judged) if all(ahead[place:])]
    return sizes[0] if sizes else None
