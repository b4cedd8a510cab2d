"""When is convolution appropriate? What permuted pixels, few images and a table's columns say."""

import numpy as np

from cnnlab.findings.finding import (
    EQUIVALENCE_MARGIN,
    HEADLINE,
    WORSE,
    Finding,
    differences_verdict,
    equivalent,
    estimate,
    gap,
    overlap_spread,
    runs,
)
from cnnlab.measures import paired_values
from cnnlab.wording import from_to, listing, percent, plural, points, readable, signed_points

PERMUTED = "_permuted"


def permutation(rows, margin=EQUIVALENCE_MARGIN, metric=HEADLINE):
    """What one permutation of all pixels does to the dense network and to the CNN.

    `rows`: of the study `permutation`. The dense network counts as unchanged where the 90%
    interval of its paired difference lies within +-`margin` (see `estimates.equivalent`).
    The verdict is that of the CNN with permuted pixels against the CNN.
    """
    dense, cnn = (_with_and_without(rows, kind, metric) for kind in ("dense", "cnn"))
    unchanged, interval = equivalent(_loss(dense), margin)
    ((verdict, test),) = differences_verdict([_loss(cnn)])
    left = paired_values(rows, cnn.columns[1], dense.columns[1], metric)
    lead = (left.iloc[:, 0] - left.iloc[:, 1]).to_numpy()
    ends = from_to(interval.low, interval.high, signed_points)
    shown = "shows that it stays" if unchanged else "does not show that it stays"
    extent = f"90% interval {ends}, {runs(len(dense))}" if ends else runs(len(dense))
    sentence = (
        f"With all pixels permuted, {readable(dense.columns[0])} changes by {signed_points(interval.mean)} percentage "
        f"points ({extent}), which {shown} within the margin of {points(margin)}; "
        f"{readable(cnn.columns[0])} {_moves(_loss(cnn))} ({verdict}), which leaves it "
        f"{'ahead of' if lead.mean() > 0 else 'behind'} the permuted dense network by {gap(lead)[0]} "
        f"({runs(len(left))})."
    )
    numbers = {
        "dense": interval.mean, "dense_low": interval.low, "dense_high": interval.high, "dense_unchanged": unchanged,
        "margin": margin, "cnn": test["mean"], "cnn_lead": float(lead.mean()), "n": len(left),
    }  # fmt: skip
    return Finding(sentence, verdict, numbers)


def check_dense_unchanged(rows, margin=EQUIVALENCE_MARGIN, metric=HEADLINE):
    """Raise AssertionError unless permuting the pixels leaves the dense network as it was.

    A dense layer is blind to the order of its inputs, so that a change beyond the noise of
    seeds would be a fault of the laboratory. For the full protocol; one seed shows nothing.
    """
    unchanged, interval = equivalent(_loss(_with_and_without(rows, "dense", metric)), margin)
    if not unchanged:
        ends = from_to(interval.low, interval.high, signed_points) or "none"
        raise AssertionError(
            f"the dense network changes by {signed_points(interval.mean)} percentage points under a permutation of the "
            f"pixels (90% interval {ends}, n = {interval.n}), which is not within {points(margin)}"
        )


def sample_size(rows, metric=HEADLINE):
    """How many images each network needs: `rows` of the study `sample_size`, perhaps cut short.

    Each size speaks of the seeds that have it in both networks; how many images the CNN needs,
    of the seeds that have all sizes. Raises ValueError where none has.
    The verdict is that of the CNN against the dense network at the largest number of images;
    Holm's correction is for the number of sizes.
    """
    dense, cnn = (_by_size(rows, kind, metric) for kind in ("dense", "cnn"))
    both = (cnn - dense).dropna(axis="columns", how="all")
    differences = [both[images].dropna().to_numpy() for images in both]
    verdicts = differences_verdict(differences)
    gaps = [
        f"{images:,}: {signed_points(values.mean())}{_ends(values)}"
        for images, values in zip(both, differences, strict=True)
    ]
    worse = [images for images, (verdict, _) in zip(both, verdicts, strict=True) if verdict == WORSE]
    ahead = _ahead_from(list(both), [values.mean() > 0 for values in differences])
    whole = cnn.dropna().index.intersection(dense.dropna().index)
    if whole.empty:
        raise ValueError("no seed of sample_size has all sizes; run python -m cnnlab study sample_size")
    whole_lead = cnn.loc[whole] - dense.loc[whole]
    needed = images_needed(cnn.loc[whole], dense.loc[whole].iloc[:, -1])
    passes = (
        f"The CNN is ahead of the dense network from {ahead:,} training images on"
        if ahead
        else "The CNN is not ahead of the dense network at the largest number of training images"
    )
    ends = [whole_lead.iloc[:, place].to_numpy() for place in (-1, 0)]
    grown = ends[0] - ends[1]
    change = f"{'grows' if grown.mean() > 0 else 'shrinks'} by {gap(grown if grown.mean() > 0 else -grown)[0]}"
    below = f", and detectably behind at {listing(f'{n:,}' for n in worse)}" if worse else ""
    sentence = (
        f"{passes}{below} (its lead in percentage points, with the 95% interval of each size taken alone, at "
        f"{'; '.join(gaps)}; {runs(min(map(len, differences)))}). From {dense.columns[0]:,} to {dense.columns[-1]:,} "
        f"images it {change}. To reach what the dense network has with "
        f"{dense.columns[-1]:,}, the CNN needs {_needed_words(needed, cnn.columns)}, by interpolation."
    )
    numbers = {
        "ahead_from": ahead, "grown": float(grown.mean()),
        "gaps": {images: float(v.mean()) for images, v in zip(both, differences, strict=True)},
        "needed": float(np.exp(np.mean(np.log(needed)))) if np.isfinite(needed).all() else np.inf, **verdicts[-1][1],
    }  # fmt: skip
    return Finding(sentence, verdicts[-1][0], numbers)


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
    """Does convolution along a table's columns notice their order, and does it pay: `tabular.tabular` rows.

    The verdict is that of the 1-D CNN with shuffled columns against the published order. All
    tests allow for the overlap of the splits (`estimates.overlap_spread`), with Holm's
    correction for the three contrasts.
    """
    if rows.empty:
        raise ValueError("there are no rows of tabular; run `python -m cnnlab probe tabular`")
    table = rows.pivot(index=["seed", "split"], columns=["label", "order"], values="accuracy")
    n, share = len(table), rows["test_rows"].iloc[0] / (rows["test_rows"] + rows["train_rows"]).iloc[0]
    rivals = [label for label in rows["label"].unique() if label != "conv1d"]
    ours = table["conv1d", "published"]
    contrasts = [table["conv1d", "shuffled"] - ours, *(ours - table[rival, "published"] for rival in rivals)]
    (verdict, order), *others = differences_verdict(contrasts, overlap_spread(n, share))
    means = listing(f"{_model(label)} {percent(table[label, 'published'].mean())}" for label in ["conv1d", *rivals])
    against = listing(
        f"with {_model(rival)} {signed_points(test['mean'])} percentage points ({word})"
        for rival, (word, test) in zip(rivals, others, strict=True)
    )
    seen = f"; the smallest that could have been seen is {points(order['detectable'])}" if "detectable" in order else ""
    size = rows["train_rows"].iloc[0] + rows["test_rows"].iloc[0]
    sentence = (
        f"On scikit-learn's breast cancer table of {size:,} rows, test accuracy is: {means} "
        f"(n = {n} splits). Shuffling its columns changes the 1-D CNN by {signed_points(order['mean'])} percentage "
        f"points ({verdict}{seen}); in the published order the difference is {against}."
    )
    return Finding(sentence, verdict, {"accuracy": table.mean().to_dict(), **order})


def _with_and_without(rows, kind, metric):
    """Paired values of the network of `kind` and of the same one on permuted pixels."""
    labels = rows.loc[rows["model"] == kind, "label"].unique() if len(rows) else []
    permuted = next((label for label in labels if label.endswith(PERMUTED)), None)
    if permuted is None:
        raise ValueError(f"the rows hold no permuted {kind} network; run `python -m cnnlab study permutation`")
    return paired_values(rows, permuted.removesuffix(PERMUTED), permuted, metric)


def _loss(pairs):
    """Permuted minus not, a value a seed."""
    return (pairs.iloc[:, 1] - pairs.iloc[:, 0]).to_numpy()


def _moves(differences):
    falls = differences.mean() < 0
    return f"{'falls' if falls else 'rises'} by {gap(-differences if falls else differences)[0]}"


def _by_size(rows, kind, metric):
    """Accuracies of the networks of `kind`: a row a seed, a column a number of training images, rising."""
    mine = rows[rows["model"] == kind] if len(rows) else rows
    if mine.empty:
        raise ValueError(f"the rows hold no {kind} network; run `python -m cnnlab study sample_size`")
    return mine.pivot(index="seed", columns="train_images", values=metric).rename(columns=int).sort_index(axis=1)


def _ahead_from(sizes, leads):
    """The size from which on the CNN leads at every size, or None."""
    behind = [place for place, lead in enumerate(leads) if not lead]
    first = behind[-1] + 1 if behind else 0
    return sizes[first] if first < len(sizes) else None


def _ends(values):
    _, interval = estimate(values)
    ends = from_to(interval.low, interval.high, signed_points)
    return f" ({ends})" if ends else ""


def _needed_words(needed, sizes):
    if not np.isfinite(needed).all():
        return f"more than {max(sizes):,} in {np.isinf(needed).sum()} of {plural(len(needed), 'run')}"
    about = f"about {np.exp(np.log(needed).mean()):,.0f}"
    if len(needed) > 1:
        about += f" ({min(needed):,.0f} to {max(needed):,.0f} over seeds)"
    return f"at most {about}" if min(needed) == min(sizes) else about


def _model(label):
    return "the dense network" if label == "dense" else readable(label).replace("_", " ")
