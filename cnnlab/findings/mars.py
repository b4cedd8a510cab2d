"""What the tables of `measures.evaluate_mars` say: accuracy where classes, cameras and days shift.

Intervals are over groups of images taken together; n counts such groups. They are about these
trained networks on other pictures of the same sols, not about networks trained anew.
"""

import pandas as pd
from scipy.stats import spearmanr

from cnnlab.findings.finding import BETTER, CANNOT_TELL, MARGIN, SAME, WITHIN, WORSE, Finding, contrast, judge
from cnnlab.findings.tables import with_interval
from cnnlab.measures import ALPHA, SCORE_NAMES
from cnnlab.wording import VOTE, capital, duration, from_to, listing, percent, points, readable, short, signed_points

# Published results on this test split: who and with what, accuracy, source.
PUBLISHED = (
    ("Deep Mars: AlexNet, fine-tuned", 0.667, "Wagstaff et al., IAAI 2018"),
    ("EfficientNet-B7, fine-tuned", 0.788, "a public repository"),
    ("MRSCAtt, its epoch picked by test accuracy", 0.815, "Chakravarthy et al., CVPR workshops 2021"),
)
# The aims of the ladder.
AIMS = {"accuracy": 0.83, "balanced_accuracy": 0.79}
# Recall below which a class counts as lost; how many of the classes with most errors are named.
LOST, HARDEST = 0.1, 3
# How the names of the constant baselines begin.
CONSTANT = "always "
_ACCURACY = ("accuracy", "low", "high", percent)
# For each table: heading and column that identify a row; {heading: columns of a value and its 95% interval, writer}.
TABLES = {
    "recalls": ("Class", "class", {"Recall": ("value", "low", "high", percent)}),
    "cameras": ("Camera", "camera", {"Accuracy": _ACCURACY}),
    "trend": (
        "Later half from sol", "middle_sol",
        {
            "Change, points": ("gap", "low", "high", signed_points),
            "Within a class": ("within", "within_low", "within_high", signed_points),
        },
    ),
    "frames": (
        "Counted", "counted",
        {"Accuracy": _ACCURACY, "Against sequences seen before": ("gap", "gap_low", "gap_high", signed_points)},
    ),
}  # fmt: skip


def mars_table(name, table, labels):
    """The rows of `labels` in the table `name` of `measures.read_mars`, one of TABLES, ready for Markdown."""
    heading, column, values = TABLES[name]
    mine = table[table["label"].isin(labels)]
    sizes = {size.capitalize(): mine[size] for size in ("images", "groups") if size in mine}
    cells = {title: _cells(mine, *columns) for title, columns in values.items()}
    return pd.DataFrame({"Network": mine["label"].map(readable), heading: mine[column], **sizes, **cells})


def rungs(table, labels):
    """The table `scores` in the order of the ladder: baselines, then `labels`, each with the vote of its seeds."""
    known = list(dict.fromkeys(table["label"]))
    climbed = [name for label in labels for name in (label, label + VOTE) if name in known]
    order = [*(name for name in known if name not in climbed and not name.startswith("mars_")), *climbed]
    kept = table[table["label"].isin(order)]
    return kept.sort_values("label", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def score_table(table, seconds=None):
    """The three scores of every network and baseline, one row each, with 95% intervals over groups: the table `scores`.

    Then the intervals of accuracy over seeds and over whole sols in place of groups, and processor time (`seconds`:
    {label: of one training}; None: without it).
    """
    rows = []
    for label, mine in table.groupby("label", sort=False):
        by_score = mine.set_index("score").loc[list(SCORE_NAMES)]
        cells = _cells(by_score, "value", "low", "high", percent)
        scores = dict(zip(map(capital, SCORE_NAMES.values()), cells, strict=True))
        accuracy = by_score.loc["accuracy"]
        took = None if seconds is None else duration(seconds[label]) if label in seconds else ""
        rows.append({
            "Answers": readable(label), "Seeds": int(mine["seeds"].iloc[0]) or "none", **scores,
            "Accuracy, by seed": from_to(*accuracy[["seed_low", "seed_high"]].astype("float64").clip(0, 1), percent),
            "Accuracy, by sol": from_to(*accuracy[["low_sol", "high_sol"]], percent),
            **({} if took is None else {"Processor time": took}),
        })  # fmt: skip
    return pd.DataFrame(rows)


def published_table():
    """What others report on the same test split, with the sources."""
    rows = [(name, percent(accuracy), source) for name, accuracy, source in PUBLISHED]
    return pd.DataFrame(rows, columns=["Published", "Test accuracy", "Source"])


def chosen_network(validation):
    """The variant with the best balanced accuracy on the validation images: the table `validation`."""
    means = validation[validation["score"] == "balanced_accuracy"].set_index("label")["value"]
    chosen, others = means.idxmax(), means.drop(means.idxmax())
    reached, close, more = percent(means[chosen]), "", ""
    if len(others):
        second, less = short(others.idxmax()), percent(others.max())
        close, more = (" by a hair", f", like {second}") if less == reached else ("", f" against {less} for {second}")
    sentence = f"Validation chooses {short(chosen)}{close}: {reached} balanced accuracy{more}."
    return Finding(sentence, None, {"chosen": chosen, **means.to_dict()})


def aims(scores, label):
    """Whether the variant `label` reaches AIMS: the table `scores`."""
    found = scores[scores["label"] == label].set_index("score")["value"][list(AIMS)]
    missed = [name for name, aim in AIMS.items() if found[name] < aim]
    values = [f"{percent(found[name])} {SCORE_NAMES[name]}" for name in AIMS]
    ends = f"below the aim of {AIMS[missed[0]]:.0%} {SCORE_NAMES[missed[0]]}" if missed else "both aims are met"
    sentence = f"{capital(short(label))} reaches {listing(values)}: {ends}."
    return Finding(sentence, WORSE if missed else BETTER, found.to_dict())


def against_published(scores, label):
    """The variant `label` beside the best of PUBLISHED, whose answers are not available: an interval, not a test."""
    row = scores[(scores["label"] == label) & (scores["score"] == "accuracy")].iloc[0]
    name, best, _ = max(PUBLISHED, key=lambda one: one[1])
    inside = row["low"] <= best <= row["high"]
    tells = "too few groups of pictures to tell them apart" if inside else "beyond the interval over groups of pictures"
    sentence = f"{capital(short(label))} is right on {percent(row['value'])}, {name.split(':')[0].split(',')[0]} on "
    numbers = {"accuracy": row["value"], "low": row["low"], "high": row["high"], "published": best}
    return Finding(f"{sentence}{percent(best)}: {tells}.", CANNOT_TELL if inside else None, numbers)


def two_intervals(scores, label):
    """The one sentence that reconciles the interval over seeds of `label` with the one over groups of images."""
    row = scores[(scores["label"] == label) & (scores["score"] == "accuracy")].iloc[0]
    seeds, groups = ((row[high] - row[low]) / 2 for low, high in (("seed_low", "seed_high"), ("low", "high")))
    sentence = (
        f"New seeds move {short(label)} by {points(seeds)}, new groups of pictures by {points(groups)}: each interval "
        "answers its own question."
    )
    return Finding(sentence, None, {"seeds": seeds, "groups": groups})


def contest_table(against):
    """The lead of every network over the baselines, one row per network, in percentage points: the table `against`.

    Accuracy against constant answers; balanced accuracy, in which these are all equal, against the others.
    """
    constant = against["baseline"].str.startswith(CONSTANT)
    shown = against[against["score"].eq("accuracy") & constant | against["score"].eq("balanced_accuracy") & ~constant]
    columns = shown["score"].map(SCORE_NAMES).map(capital) + ", against " + shown["baseline"].map(readable)
    cells = shown.assign(column=columns, cell=_cells(shown, "difference", "low", "high", signed_points))
    table = cells.pivot(index="label", columns="column", values="cell").fillna("")
    table = table.loc[cells["label"].unique(), cells["column"].unique()]
    return table.rename(index=readable).rename_axis(index="Network", columns=None).reset_index()


def constant_answers(images):
    """How often always answering train's commonest class is right on each split: the table `images`."""
    shares = dict(zip(images["split"], images["common_share"], strict=True))
    common, train, test = images["common"].iloc[0], shares["train"], shares["test"]
    meaning = "classes shift between the splits" if abs(train - test) > MARGIN else "a network has to beat that"
    sentence = f"Always answering '{common}' is right on {percent(train)} of train and {percent(test)} of test"
    return Finding(f"{sentence}: {meaning}.", None, shares)


def contests(against, label, score="balanced_accuracy", baseline=None):
    """The variant `label` against `baseline` (default: the first that is not a constant answer), group by group."""
    mine = against[(against["label"] == label) & (against["score"] == score)].set_index("baseline")
    row = mine.loc[baseline] if baseline else mine[~mine.index.str.startswith(CONSTANT)].iloc[0]
    verdict = judge((row["low"], row["high"]))
    numbers = {"mean": row["difference"], "n": int(row["groups"]), **row.drop("label").to_dict()}
    return contrast(short(label), short(row.name), verdict, numbers, SCORE_NAMES[score])


def lost_classes(table, label):
    """How many classes the variant `label` hardly ever recognises, and whether frequency in training explains which."""
    mine = table[(table["label"] == label) & (table["images"] > 0)]
    gone = mine[mine["value"] < LOST].sort_values("images", ascending=False, kind="stable")
    numbers, meaning = {"lost": list(gone["class"]), "present": len(mine)}, ""
    if mine["value"].nunique() > 1 and mine["train_images"].nunique() > 1:
        rank = spearmanr(mine["train_images"], mine["value"])
        numbers |= {"rank_correlation": rank.statistic, "p_value": rank.pvalue}
        tells = f"{'rare' if rank.statistic > 0 else 'common'} ones fare worse"
        meaning = f"; {tells if rank.pvalue < ALPHA else 'how often it saw them does not explain which'}"
    sentence = f"{short(label)} hardly recognises {len(gone)} of {len(mine)} classes (under {LOST:.0%}){meaning}."
    return Finding(capital(sentence), None, numbers)


def hardest_classes(table, label):
    """The HARDEST classes with most errors of the variant `label`, and their share of all errors: `recalls`."""
    mine = table[(table["label"] == label) & (table["images"] > 0)].set_index("class")
    missed = (mine["images"] * (1 - mine["value"])).sort_values(ascending=False, kind="stable")
    if not missed.sum():
        return Finding(f"{capital(short(label))} answers every test image correctly.", None, {"missed": {}})
    hardest = missed[missed > 0].head(HARDEST)
    share = hardest.sum() / missed.sum()
    sentence = f"{capital(listing(hardest.index))} account for {percent(share)} of the errors of {short(label)}."
    return Finding(sentence, None, {"share": share, "missed": missed.to_dict()})


def cameras(table, label):
    """The best and the worst camera of the variant `label`; the verdict says whether their intervals lie apart."""
    mine = table[table["label"] == label].set_index("camera")
    accuracy = mine["accuracy"]
    best, worst = accuracy.idxmax(), accuracy.idxmin()
    apart = mine.loc[best, "low"] > mine.loc[worst, "high"]
    scores = f"{percent(accuracy[best])} of {best}'s images and {percent(accuracy[worst])} of {worst}'s"
    why = "they show different classes, which may be why" if apart else "cannot tell whether the camera matters"
    sentence = f"{capital(short(label))} is right on {scores}: {why}."
    return Finding(sentence, BETTER if apart else CANNOT_TELL, accuracy.to_dict())


def sol_trend(table, label):
    """Accuracy of `label` on the later half of the test sols against the earlier, overall and within classes."""
    row = table[table["label"] == label].iloc[0]
    verdict, within = judge((row["low"], row["high"])), judge((row["within_low"], row["within_high"]))
    gap, direction = points(row["gap"]), "loses" if row["gap"] < 0 else "gains"
    change = {
        SAME: f"is as good on the later sols, within {WITHIN}",
        CANNOT_TELL: f"{direction} {gap} on the later sols, which may be noise",
    }.get(verdict, f"{direction} {gap} on the later sols")
    inside = {SAME: "nothing changes", CANNOT_TELL: "cannot tell"}.get(
        within, f"it {'loses' if row['within'] < 0 else 'gains'} {points(row['within'])}"
    )
    more = f"; within a class, {inside}" if row["classes"] else ""
    return Finding(f"{capital(short(label))} {change}{more}.", verdict, row.drop("label").to_dict())


def first_seen(table, label):
    """Accuracy of the variant `label` on camera sequences that no earlier split has, and on known ones."""
    mine = table[table["label"] == label].set_index("counted")
    known, new = mine.loc["sequences seen before"], mine.loc["sequences first seen here"]
    numbers = {**mine["accuracy"].to_dict(), "gap": new["gap"], "low": new["gap_low"], "high": new["gap_high"]}
    if pd.isna(new["gap"]):
        return Finding("The test images all come from new camera sequences, or all from known ones.", None, numbers)
    verdict = judge((new["gap_low"], new["gap_high"]))
    harder = {WORSE: "new sequences or classes are harder", CANNOT_TELL: "cannot tell whether that matters"}
    meaning = harder.get(verdict, "new sequences are no harder")
    scores = f"{percent(known['accuracy'])} on camera sequences seen before, {percent(new['accuracy'])} on new ones"
    return Finding(f"{capital(short(label))} scores {scores}: {meaning}.", verdict, numbers)


def _cells(table, value, low, high, write):
    """A text for each row of `table`, from the columns of a value and the ends of its interval."""
    return [with_interval(*row, write) for row in table[[value, low, high]].itertuples(index=False)]
