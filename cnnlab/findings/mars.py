"""What the tables of `measures.evaluate_mars` say: accuracy where classes, cameras and days shift under it.

Intervals are over groups of images taken together; n counts such groups. They speak of these
trained networks on other pictures of the same sols, not of networks trained anew.
"""

import pandas as pd
from scipy.stats import spearmanr

from cnnlab.findings.comparisons import against_each, compare, contrast_sentence
from cnnlab.findings.finding import BETTER, CANNOT_TELL, MARGIN, SAME, SELECTION, WORSE, Finding, Metric, judge
from cnnlab.measures import ALPHA
from cnnlab.wording import capital, from_to, percent, points, readable, short, signed_points, whole_points

# Recall below which a class counts as lost.
LOST = 0.1
SCORE_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
# How the names of the constant baselines begin.
CONSTANT = "always "
# Of each table: its heading and column of what a row is; {heading: columns of a value and its 95% interval, writer}.
TABLES = {
    "recalls": ("Class", "class", {"Recall": ("value", "low", "high", percent)}),
    "cameras": ("Camera", "camera", {"Accuracy": ("accuracy", "low", "high", percent)}),
    "trend": (
        "Later half from sol", "middle_sol",
        {
            "Change, points": ("gap", "low", "high", signed_points),
            "Within a class": ("within", "within_low", "within_high", signed_points),
        },
    ),
    "frames": (
        "Counted", "counted",
        {
            "Accuracy": ("accuracy", "low", "high", percent),
            "Against sequences seen before": ("gap", "gap_low", "gap_high", signed_points),
        },
    ),
}  # fmt: skip


def mars_table(name, table, labels):
    """The rows of `labels` in the table `name` of `measures.read_mars`, one of TABLES, ready for Markdown."""
    heading, column, values = TABLES[name]
    mine = table[table["label"].isin(labels)]
    sizes = {size.capitalize(): mine[size] for size in ("images", "groups") if size in mine}
    cells = {
        title: [_with_interval(*row, write) for row in mine[[value, low, high]].itertuples(index=False)]
        for title, (value, low, high, write) in values.items()
    }
    return pd.DataFrame({"Network": mine["label"].map(readable), heading: mine[column], **sizes, **cells})


def score_table(table):
    """The three scores of every network and baseline, a row each, as texts with 95% intervals.

    `table`: scores of `measures.evaluate_mars`. The last column is the interval of accuracy where
    whole sols are drawn instead of groups.
    """
    rows = []
    for label, mine in table.groupby("label", sort=False):
        by_score = mine.set_index("score")
        scores = {
            capital(name): _with_interval(*by_score.loc[score, ["value", "low", "high"]], percent)
            for score, name in SCORE_NAMES.items()
        }
        by_sol = from_to(*by_score.loc["accuracy", ["low_sol", "high_sol"]], percent)
        seeds = int(mine["seeds"].iloc[0]) or "none"
        rows.append({"Answers": readable(label), "Seeds": seeds, **scores, "Accuracy, by sol": by_sol})
    return pd.DataFrame(rows)


def contest_table(against):
    """What every network is above the baselines, a row each, in percentage points with 95% intervals over groups.

    `against`: that of `measures.evaluate_mars`. Accuracy against constant answers, balanced
    accuracy, which makes these equal, against the others.
    """
    constant = against["baseline"].str.startswith(CONSTANT)
    shown = against[against["score"].eq("accuracy") & constant | against["score"].eq("balanced_accuracy") & ~constant]
    cells = shown.assign(
        column=shown["score"].map(SCORE_NAMES).map(capital) + ", against " + shown["baseline"].map(readable),
        cell=[
            _with_interval(*row, signed_points) for row in shown[["difference", "low", "high"]].itertuples(index=False)
        ],
    )
    table = cells.pivot(index="label", columns="column", values="cell").fillna("")
    table = table.loc[cells["label"].unique(), cells["column"].unique()]
    return table.rename(index=readable).rename_axis(index="Network", columns=None).reset_index()


def constant_answers(images):
    """What always answering with train's largest class scores on each split: the table `images`."""
    shares = dict(zip(images["split"], images["common_share"], strict=True))
    common, train, test = images["common"].iloc[0], shares["train"], shares["test"]
    shifts = abs(train - test) > MARGIN
    meaning = "classes shift between the splits" if shifts else "a network has to beat that"
    sentence = f"Always answering '{common}' is right on {percent(train)} of train and {percent(test)} of test"
    return Finding(f"{sentence}: {meaning}.", None, shares)


def contests(against, label, score="balanced_accuracy", baseline=None):
    """The variant `label` against `baseline` (default: the first that is no constant answer), group by group.

    `against`: that of `measures.evaluate_mars`; balanced accuracy makes constant answers equal.
    """
    mine = against[(against["label"] == label) & (against["score"] == score)].set_index("baseline")
    row = mine.loc[baseline] if baseline else mine[~mine.index.str.startswith(CONSTANT)].iloc[0]
    verdict = judge((row["low"], row["high"]))
    numbers = {"mean": row["difference"], "n": int(row["groups"]), **row.drop("label").to_dict()}
    metric = Metric(SCORE_NAMES[score], is_share=True, higher_is_better=True, margin=MARGIN)
    return Finding(contrast_sentence(short(label), short(row.name), verdict, numbers, metric), verdict, numbers)


def lost_classes(table, label, lost=LOST):
    """How many classes the variant `label` hardly ever recognises, and whether their frequency in training tells."""
    mine = table[(table["label"] == label) & (table["images"] > 0)]
    gone = mine[mine["value"] < lost].sort_values("images", ascending=False, kind="stable")
    numbers = {"lost": list(gone["class"]), "present": len(mine)}
    meaning = ""
    if mine["value"].nunique() > 1 and mine["train_images"].nunique() > 1:
        rank = spearmanr(mine["train_images"], mine["value"])
        numbers |= {"rank_correlation": rank.statistic, "p_value": rank.pvalue}
        tells = "rare ones fare worse" if rank.statistic > 0 else "common ones fare worse"
        meaning = f"; {tells if rank.pvalue < ALPHA else 'how often it saw them does not tell which'}"
    sentence = f"{short(label)} hardly recognises {len(gone)} of {len(mine)} classes (under {lost:.0%}){meaning}."
    return Finding(capital(sentence), None, numbers)


def cameras(table, label):
    """The best and the worst camera of the variant `label`; the verdict says whether their intervals lie apart."""
    mine = table[table["label"] == label].set_index("camera")
    best, worst = mine["accuracy"].idxmax(), mine["accuracy"].idxmin()
    apart = mine.loc[best, "low"] > mine.loc[worst, "high"]
    sentence = (
        f"{short(label)} is right on {percent(mine.loc[best, 'accuracy'])} of {best}'s images and "
        f"{percent(mine.loc[worst, 'accuracy'])} of {worst}'s: "
        f"{'the camera matters' if apart else 'cannot tell whether the camera matters'}."
    )
    return Finding(capital(sentence), BETTER if apart else CANNOT_TELL, mine["accuracy"].to_dict())


def sol_trend(table, label):
    """Accuracy of the variant `label` on the later half of the test sols against the earlier half.

    And the same within the classes that both halves have. The verdict is that of all images.
    """
    row = table[table["label"] == label].iloc[0]
    verdict, within = judge((row["low"], row["high"])), judge((row["within_low"], row["within_high"]))
    change = {
        SAME: f"is as good on the later sols as on the earlier, within {whole_points(MARGIN)}",
        CANNOT_TELL: f"is {points(row['gap'])} off on the later sols, which may be noise",
    }.get(verdict, f"{'loses' if row['gap'] < 0 else 'gains'} {points(row['gap'])} on the later sols")
    inside = {SAME: "within a class, nothing changes", CANNOT_TELL: "within a class, cannot tell"}.get(
        within, f"within a class, {points(row['within'])}, too"
    )
    more = f"; {inside}" if row["classes"] else ""
    return Finding(f"{capital(short(label))} {change}{more}.", verdict, row.drop("label").to_dict())


def first_seen(table, label):
    """Accuracy of the variant `label` on camera sequences that an earlier split has, and on those that none has.

    `numbers` has the accuracy of every way of counting frames. The verdict is that of the new sequences.
    """
    mine = table[table["label"] == label].set_index("counted")
    known, new = mine.loc["sequences seen before"], mine.loc["sequences first seen here"]
    numbers = {**mine["accuracy"].to_dict(), "gap": new["gap"], "low": new["gap_low"], "high": new["gap_high"]}
    if pd.isna(new["gap"]):
        return Finding("The test images are all of one kind: of new camera sequences, or of known ones.", None, numbers)
    verdict = judge((new["gap_low"], new["gap_high"]))
    meaning = {WORSE: "new sequences are harder", CANNOT_TELL: "cannot tell whether that matters"}.get(
        verdict, "new sequences are no harder"
    )
    sentence = (
        f"{short(label)} is right on {percent(known['accuracy'])} where training had the camera sequence, else on "
        f"{percent(new['accuracy'])}: {meaning}."
    )
    return Finding(capital(sentence), verdict, numbers)


def stopping(frame):
    """What ended the trainings of `frame`, rows of a study: the limit of epochs, or early stopping."""
    limit = int((frame["epochs"] == frame["epochs_trained"]).sum())
    last = int((frame["best_epoch"] == frame["epochs_trained"]).sum())
    more = "more epochs might change the order" if last else "more epochs would change little"
    sentence = (
        f"The limit of epochs ended {limit} of {len(frame)} trainings; in {last} the best epoch is the last: {more}."
    )
    return Finding(sentence, None, {"limited": limit, "best_is_last": last})


def in_use(running, measured, images):
    """Whether the network in use answers the training images as it did while it was trained.

    `running`: accuracy over the best epoch, with dropout and each batch normalised by itself;
    `measured`: that of the finished network, a share of the first `images` training images.
    """
    fits = abs(running - measured) <= MARGIN or measured > running
    meaning = "its moving averages fit" if fits else "its moving averages do not fit them"
    sentence = f"In training it was right on {percent(running)} of the training images, in use on {percent(measured)}"
    return Finding(f"{sentence}: {meaning}.", None, {"running": running, "measured": measured, "images": images})


def likeness(table, label, threshold):
    """Accuracy of the variant `label` on test images with and without a near twin among those of training."""
    mine = table[(table["label"] == label) & (table["threshold"] == threshold)].set_index("looks_like_training")
    alike, unlike = mine.loc[True, "accuracy"], mine.loc[False, "accuracy"]
    sentence = (
        f"{short(label)} is right on {percent(alike)} of test images like one of training (correlation {threshold:g}), "
        f"on {percent(unlike)} of the others."
    )
    return Finding(capital(sentence), None, {"alike": alike, "unlike": unlike})


def help_chosen(frame):
    """The step of the study `mars_help` with the best mean validation accuracy, and each step against none.

    `frame`: the study's rows, its first label the network as it is. A list of Findings: the
    choice, what it is worth (one contrast, fixed before the test images were looked at), and the
    steps that were not chosen.
    """
    means = frame.groupby("label", sort=False)[SELECTION].mean()
    chosen, plain = means.idxmax(), means.index[0]
    if chosen == plain:
        sentence = (
            f"No step raises the validation accuracy of {short(plain)}, {percent(means[plain])}: it stays as it is."
        )
        return [Finding(sentence, None, {"chosen": chosen}), *against_each(frame, plain)]
    sentence = (
        f"Validation chooses {short(chosen)}: {percent(means[chosen])} against {percent(means[plain])} as it was."
    )
    others = frame[frame["label"] != chosen]
    found = [Finding(sentence, None, {"chosen": chosen}), compare(frame, chosen, plain)]
    return found + (against_each(others, plain) if others["label"].nunique() > 1 else [])


def _with_interval(value, low, high, write):
    """'35.4% (29.1% to 42.4%)', without its interval where there is none, and '' where there is nothing."""
    ends = from_to(low, high, write)
    return "" if pd.isna(value) else f"{write(value)} ({ends})" if ends else write(value)
