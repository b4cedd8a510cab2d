"""May an answer be trusted? Sets that promise the true class, maps of where an answer comes from, and worse images."""

from cnnlab.findings.finding import BETTER, CANNOT_TELL, SAME, WORSE, Finding, judge, judged_one
from cnnlab.measures import FGSM, FGSM_STEPS, UNCHANGED
from cnnlab.studies import RECIPES
from cnnlab.wording import capital, family, listing, percent, points, spelled

# From this mean rank correlation on, a map of shuffled weights is much the same map.
ALIKE = 0.5


def promise_kept(rows):
    """Whether sets hold the true class as often as promised: a Finding a label, of `measures.conformal_coverage`.

    Rows of several seeds are averaged, intervals too, for they are over images. The verdict: "same" as promised, within
    the margin, or more, or less.
    """
    return [_promise(label, mine) for label, mine in rows.groupby("label", sort=False)]


def _promise(label, rows):
    means = rows[rows["first_sol"].isna()].groupby("split").mean(numeric_only=True)
    test, promised = means.loc["test"], means.loc["test", "promised"]
    verdict = judge((test["low"] - promised, test["high"] - promised))
    numbers = {**test.to_dict(), "own": means.loc["validation", "coverage"], "seeds": rows["seed"].nunique()}
    if rows["first_sol"].notna().any():
        meaning = {WORSE: "days are not exchangeable", CANNOT_TELL: "cannot tell whether days are exchangeable"}
        found = f"{percent(numbers['own'])} of pictures of their own days, in {percent(test['coverage'])} of later ones"
        sentence = f"On Mars, sets hold the truth in {found}: {meaning.get(verdict, 'the promise carries over')}."
    else:
        meaning = {
            SAME: "as promised", WORSE: "less than promised", BETTER: "more than promised",
            CANNOT_TELL: "cannot tell whether that is as promised",
        }[verdict]  # fmt: skip
        sets = f"{capital(family(label))}'s sets, of {test['size']:.1f} classes on average"
        sentence = f"{sets}, hold the truth in {percent(test['coverage'])} of test images: {meaning}."
    return Finding(sentence, verdict, numbers)


def maps_trusted(rows):
    """Whether maps know what an answer rests on, and depend on what was learned: `measures.trust_in_maps`.

    Two Findings on the last label: of the map that gains most over a random order, and of the one that changes least
    where weights are shuffled. Rows of several seeds are averaged, intervals too, for they are over images; of these,
    older rows do not say how many have a flat map.
    """
    label = rows["label"].iloc[-1]
    kinds = rows[rows["label"] == label].assign(flat=rows.get("flat", 0)).groupby("map", sort=False)
    means = kinds.mean(numeric_only=True)
    best = means["gain"].idxmax()
    gain, verdict = means.loc[best], judge((means.loc[best, "low"], means.loc[best, "high"]), margin=0)
    meaning = {BETTER: "it shows what matters", WORSE: "it misleads", CANNOT_TELL: "which may be chance"}[verdict]
    more = f"{points(gain['gain'])} {'less' if gain['gain'] < 0 else 'more'} probability than in random order"
    falls = f"Covered in the order of {best}, images cost {family(label)} {more}: {meaning}."
    return [Finding(falls, verdict, gain.to_dict()), _randomised(means, *kinds[["flat", "images"]].sum().sum())]


def _randomised(means, flat, maps):
    """What shuffled weights leave of `maps`, of which `flat` have no order: `means` over seeds, a row a kind of map."""
    alike = (means["randomised"] / (1 - means["flat"] / means["images"])).abs()
    numbers = {**alike.to_dict(), "flat": flat}
    if flat > maps / 2:
        sentence = f"Shuffled weights leave {flat} of {maps} maps flat: too few are left to tell what maps show."
        return Finding(sentence, CANNOT_TELL, numbers)
    shows = "maps show the network" if alike.max() < ALIKE else f"{alike.idxmax()} shows the image, not the network"
    others = f"{flat} maps flat and the others" if flat else "maps"
    return Finding(f"Shuffled weights leave {others} a rank correlation of at most {alike.max():.2f}: {shows}.",
                   None, numbers)  # fmt: skip


def worse_images(rows):
    """What corruptions, and a step against the network, leave of each network's accuracy: rows of `corruptions`.

    Two Findings. The verdict of the first: the last label against the one before it on corrupted images, seed by seed;
    its `numbers`: costs, of each label, in accuracy. The second has none; its `numbers`: left, of each label.
    """
    seeds = rows.groupby("label", sort=False)["seed"]
    rows = rows.assign(pair=rows["seed"] - seeds.transform("min"))
    whole, moved = rows["kind"] == UNCHANGED, rows["kind"] == FGSM
    step = FGSM_STEPS[1]
    clean, corrupted, left = (
        part.pivot_table("accuracy", "pair", "label", sort=False).dropna()
        for part in (rows[whole], rows[~(whole | moved)], rows[moved & (rows["strength"] == step)])
    )
    names = {label: "the recipe" if label in RECIPES else family(label) for label in clean}
    costs, left, before = (clean - corrupted).mean(), left.mean(), clean.mean()
    *_, rival, last = names
    verdict, numbers = judged_one((corrupted[last] - corrupted[rival]).to_numpy())
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
    against = f"{capital(spelled(step))} grey levels against the network leave {parts}: {share}."
    return [worse, Finding(against, None, {"step": step, "left": left.to_dict()})]
