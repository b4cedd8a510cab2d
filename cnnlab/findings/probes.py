"""What the probes of trained networks say, in one or more sentences each, and whether to trust answers and maps."""

import math

from cnnlab import measures
from cnnlab.findings.finding import BETTER, CANNOT_TELL, SAME, WORSE, Finding, effect, judge, judge_contrasts
from cnnlab.studies import RECIPES
from cnnlab.wording import capital, family, listing, percent, points, share_spelled, spelled

# float32 rounding stays below this; a map that does not move with the image is at 0.1 or more.
EXACT = 1e-4
# From this mean rank correlation on, shuffling the weights leaves much the same map.
ALIKE = 0.5


def nearest_image(rows):
    """How often the nearest training image has the right class: rows of the probe `nearest`."""
    share = rows["accuracy"].mean()
    sentence = f"The nearest training image has the right class for {percent(share)} of test images: memory alone gets"
    return Finding(f"{sentence} that far.", None, {"accuracy": share, "seeds": rows["seed"].nunique()})


def columns_order(rows):
    """Does convolution along a table's columns notice their order? Rows of the probe `tabular`.

    The verdict is on the 1-D CNN with shuffled columns; `numbers` also has those against the rivals. All allow for the
    overlap of the splits, with Holm's correction for the three contrasts.
    """
    table = rows.pivot(index=["seed", "split"], columns=["label", "order"], values="accuracy")
    share = rows["test_rows"].iloc[0] / (rows["test_rows"] + rows["train_rows"]).iloc[0]
    rivals = [label for label in rows["label"].unique() if label != "conv1d"]
    ours = table["conv1d", "published"]
    contrasts = [table["conv1d", "shuffled"] - ours, *(ours - table[rival, "published"] for rival in rivals)]
    (verdict, order), *others = judge_contrasts(contrasts, spread=measures.overlap_spread(len(table), share))
    meaning = {SAME: ": their order does not matter to it", WORSE: ": their order matters to it"}.get(verdict, "")
    sentence = f"Shuffling a table's columns {effect(verdict, order, 'the 1-D CNN')}{meaning}."
    against = {rival: {"verdict": word, **numbers} for rival, (word, numbers) in zip(rivals, others, strict=True)}
    return Finding(sentence, verdict, {"accuracy": table.mean().to_dict(), "against": against, **order})


def shift_cost(rows):
    """What the largest shift of the test images costs through position alone: rows of the probe `shift`.

    It compares the shifted image with one that is held in place but has lost the same strip; the mean over directions
    gives one value per seed. The verdict is that of the last label (the CNN in the record).
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
        WORSE: " to position alone",
        SAME: f": {last} ignores position",
        BETTER: f": {last} does better on shifted images",
        CANNOT_TELL: ": cannot tell whether position alone matters",
    }[verdict]
    numbers = {"shift": furthest, "costs": {label: float(cost.mean()) for label, cost in costs.items()}, **test}
    return Finding(f"When images move {spelled(furthest)} pixels, {parts}{meaning}.", verdict, numbers)


def equivariant_layers(rows):
    """Which layers' maps move with the image, to within EXACT, and for which shifts: rows of the probe `equivariance`.

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
    layers = f"{share_spelled(every, len(followed))} layers follow{'s' * (every == 1)}"
    meaning = f", {spelled(some)} only some: pooling breaks equivariance" if some else ": equivariance holds"
    return Finding(f"{capital(layers)} every shift of the image exactly{meaning}.", None, numbers)


def effective_fields(rows):
    """How much of its receptive field matters to each convolution, in pixels: rows of the probe `receptive_field`."""
    sizes = measures.effective_diameters(rows).groupby("layer", sort=False)
    numbers = {
        layer: {"theoretical": int(mine["theoretical"].iloc[0]), "effective": float(mine["effective"].mean())}
        for layer, mine in sizes
    }
    *_, last = numbers.values()
    seen, half = last["theoretical"], last["effective"]
    # If sensitivity is uniform, half of it lies in a square of half the area.
    meaning = "it looks mostly at the centre" if half < 0.9 * seen / math.sqrt(2) else "it looks everywhere equally"
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
        BETTER: "it helps, and changes no answer", WORSE: "it does harm", SAME: "it was not needed",
        CANNOT_TELL: "cannot tell whether it helps",
    }[verdict]  # fmt: skip
    change = f"{family(label)} from {percent(errors['before'])} to {percent(errors['after'])}"
    sentence = f"Temperature scaling takes the calibration error of {change}: {meaning}."
    return Finding(sentence, verdict, {**numbers, **test})


def zero_activations(rows):
    """The share of ReLU activations that are zero, averaged over layers; the sentence is about the last label."""
    shares = rows.groupby(["label", "seed"], sort=False)["zero_fraction"].mean().groupby("label", sort=False).mean()
    share, name = shares.iloc[-1], family(shares.index[-1])
    meaning = f"on average, most of it is {'inactive' if share > 0.5 else 'active'}"
    return Finding(f"{percent(share)} of {name}'s ReLU activations are zero: {meaning}.", None, shares.to_dict())


def first_filters(rows):
    """Whether a picture of the first layer's filters shows what was learned: rows of the probe `first_layer`.

    `numbers`: with_start and with_first, r as `measures.first_layer_correlations` has them, means over all there are.
    """
    found = measures.first_layer_correlations(rows)[["with_start", "with_first"]].mean()
    between = "" if math.isnan(found["with_first"]) else f", and at {found['with_first']:.2f} between CIFAR-10 and Mars"
    shows = "the initialisation" if found["with_start"] ** 2 > 0.5 else "what was learned"
    sentence = f"Trained first-layer filters correlate at {found['with_start']:.2f} with their random start{between}"
    return Finding(f"{sentence}: pictures of them show {shows}.", None, found.to_dict())


def promise_kept(rows):
    """Whether sets hold the true class as often as promised: one Finding per label of `measures.conformal_coverage`.

    Rows of several seeds are averaged, and so are their intervals, which are over images. The verdict: "same" as
    promised, within the margin, or "better" for more often, "worse" for less often.
    """
    return [_promise(label, mine) for label, mine in rows.groupby("label", sort=False)]


def _promise(label, rows):
    means = rows[rows["first_sol"].isna()].groupby("split").mean(numeric_only=True)
    test, promised = means.loc["test"], means.loc["test", "promised"]
    verdict = judge((test["low"] - promised, test["high"] - promised))
    numbers = {**test.to_dict(), "own": means.loc["validation", "coverage"], "seeds": rows["seed"].nunique()}
    if rows["first_sol"].notna().any():
        meaning = {WORSE: "days are not exchangeable", CANNOT_TELL: "cannot tell whether days are exchangeable"}
        found = f"{percent(numbers['own'])} of pictures from the fit's days, {percent(test['coverage'])} of later ones"
        sentence = f"On Mars, sets hold the true class for {found}: {meaning.get(verdict, 'the promise carries over')}."
    else:
        meaning = {
            SAME: "as promised", WORSE: "less than promised", BETTER: "more than promised",
            CANNOT_TELL: "cannot tell whether that is as promised",
        }[verdict]  # fmt: skip
        sets = f"{capital(family(label))}'s sets, {test['size']:.1f} classes on average"
        sentence = f"{sets}, hold the true class for {percent(test['coverage'])} of test images: {meaning}."
    return Finding(sentence, verdict, numbers)


def maps_trusted(rows):
    """Whether maps show what an answer rests on, and depend on what was learned: `measures.trust_in_maps`.

    Two Findings on the last label: on the map that gains most over a random order, and on the one that changes least
    when weights are shuffled. Rows of several seeds are averaged, and so are their intervals, which are over images.
    Older rows do not say for how many images the map is flat.
    """
    label = rows["label"].iloc[-1]
    kinds = rows[rows["label"] == label].assign(flat=rows.get("flat", 0)).groupby("map", sort=False)
    means = kinds.mean(numeric_only=True)
    best = means["gain"].idxmax()
    gain, verdict = means.loc[best], judge((means.loc[best, "low"], means.loc[best, "high"]), margin=0)
    meaning = {BETTER: "the map shows what matters", WORSE: "the map misleads", CANNOT_TELL: "this may be chance"}
    more = f"{points(gain['gain'])} {'less' if gain['gain'] < 0 else 'more'} probability than a random order"
    falls = f"Covering images in the order of {best} costs {family(label)} {more}: {meaning[verdict]}."
    return [Finding(falls, verdict, gain.to_dict()), _randomised(means, *kinds[["flat", "images"]].sum().sum())]


def _randomised(means, flat, maps):
    """What shuffled weights leave of `maps`, of which `flat` have no order: `means` over seeds, one row per kind."""
    alike = (means["randomised"] / (1 - means["flat"] / means["images"])).abs()
    numbers = {**alike.to_dict(), "flat": flat}
    if flat > maps / 2:
        sentence = f"Shuffling the weights leaves {flat} of {maps} maps flat: too few remain to tell what maps show."
        return Finding(sentence, CANNOT_TELL, numbers)
    shows = (
        "maps depend on the weights" if alike.max() < ALIKE else f"{alike.idxmax()} shows the image, not the network"
    )
    others = f"{flat} maps flat and the others with" if flat else "maps with"
    return Finding(f"Shuffling the weights leaves {others} a rank correlation of at most {alike.max():.2f}: {shows}.",
                   None, numbers)  # fmt: skip


def worse_images(rows):
    """What corruptions, and an attack on the network, leave of each network's accuracy: rows of `corruptions`.

    Two Findings. The verdict of the first compares the last label with the one before it on corrupted images, paired by
    seed; its `numbers`: costs, each label's loss of accuracy. The second has no verdict; its `numbers`: left, by label.
    """
    means, step = measures.mean_over_strengths(rows).set_index(["kind", "seed"]), measures.FGSM_STEPS[1]
    names = {label: "the recipe" if label in RECIPES else family(label) for label in means}
    before, left = (means.loc[kind].mean() for kind in (measures.UNCHANGED, f"{measures.FGSM} by {step} of 255"))
    corrupted = means[means.index.isin(measures.KINDS, level="kind")].groupby("seed").mean()
    costs = before - corrupted.mean()
    *_, rival, last = names
    verdict, numbers = judge_contrasts([(corrupted[last] - corrupted[rival]).to_numpy()])[0]
    lead = {
        BETTER: f"{names[last]} still leads",
        SAME: f"{names[last]} no longer leads {names[rival]}",
        WORSE: f"{names[last]} falls behind {names[rival]}",
        CANNOT_TELL: f"cannot tell whether {names[last]} still leads",
    }[verdict]
    parts = listing(f"{names[label]} {points(cost)}" for label, cost in costs.items())
    worse = Finding(f"Corruptions cost {parts}; {lead}.", verdict, {**numbers, "costs": costs.to_dict()})
    halved = [names[label] for label in left.index[left < before / 2]]
    count = len(halved)
    who = "all" if count == len(names) else halved[0] if count == 1 else spelled(count) if count else "none"
    share = f"{who} {'lose' if count > 1 else 'loses'} {'more than half' if halved else 'half'}"
    parts = listing(f"{names[label]} {percent(kept)}" for label, kept in left.items())
    against = f"An attack of {spelled(step)} grey levels leaves {parts}: {share}."
    return [worse, Finding(against, None, {"step": step, "left": left.to_dict()})]


# For each probe of `measures.PROBES`, the function that says what its rows show.
OF_PROBES = {
    "shift": shift_cost,
    "equivariance": equivariant_layers,
    "receptive_field": effective_fields,
    "tabular": columns_order,
    "activations": zero_activations,
    "calibration": calibration_over_seeds,
    "conformal": promise_kept,
    "attribution": maps_trusted,
    "corruptions": worse_images,
    "first_layer": first_filters,
    "nearest": nearest_image,
}
