"""What the tables of `mars_record` say: accuracy where classes, cameras and days shift under it.

Intervals are over groups of images taken together; n counts such groups. They speak of other
pictures by the same networks, not of networks trained anew.
"""

import pandas as pd
from scipy.stats import norm

from cnnlab.evaluation import ALPHA, POWER
from cnnlab.sentences.comparisons import against_each
from cnnlab.sentences.verdicts import BETTER, WORSE, Finding, undetectable
from cnnlab.sentences.wording import listing, percent, plural, points, readable, signed_points, span
from cnnlab.statistics.metrics import SELECTION

# The smallest difference that four of five such studies find, in half-widths of its 95% interval.
REACH = 1 + norm.ppf(POWER) / norm.ppf(1 - ALPHA / 2)
# Recall below which a class counts as lost.
LOST = 0.1
# Classes that a sentence names before it only counts.
NAMED = 5


def constant_answers(images):
    """What always answering with train's largest class scores on each split: the table `images`."""
    common = images["common"].iloc[0]
    shares = [f"{percent(row.common_share)} on {row.split}" for row in images.itertuples()]
    lacks = [f"{row.split} lacks {row.lacks}" for row in images.itertuples() if _present(row.lacks)]
    sentence = f"Always answering '{common}' scores {listing(shares)}."
    if lacks:
        sentence += f" {'; '.join(lacks).capitalize()}."
    return Finding(sentence, None, dict(zip(images["split"], images["common_share"], strict=True)))


def scores(table, label, baseline, against):
    """The three scores of the variant `label`, and its accuracy against `baseline`, group by group.

    `table` and `against`: those of `mars_record.evaluate`.
    """
    mine = table[table["label"] == label].set_index("score")
    named = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
    parts = [
        f"{name} {percent(mine.loc[score, 'value'])} ({span(*mine.loc[score, ['low', 'high']], percent)})"
        for score, name in named.items()
    ]
    seeds, groups = int(mine["seeds"].iloc[0]), int(mine["groups"].iloc[0])
    row = against[(against["label"] == label) & (against["baseline"] == baseline)].iloc[0]
    verdict, contest = _contest(row["difference"], row["low"], row["high"], groups)
    sentence = (
        f"{readable(label)} has {listing(parts)} on the test images (mean of {plural(seeds, 'seed')}; 95% intervals "
        f"over {groups:,} groups). Its accuracy against that of '{baseline}': {contest}."
    )
    return Finding(sentence, verdict, {**row.drop(["label", "baseline"]).to_dict(), "seeds": seeds})


def recalls(table, label, lost=LOST):
    """How many classes the variant `label` hardly ever recognises, and which it knows best."""
    mine = table[(table["label"] == label) & (table["images"] > 0)]
    gone = mine[mine["value"] < lost].sort_values("images", ascending=False, kind="stable")
    best = mine.sort_values("value", ascending=False, kind="stable").iloc[0]
    names = [f"{row['class']} ({plural(row['images'], 'image')})" for _, row in gone.head(NAMED).iterrows()]
    if len(gone) > NAMED:
        names.append(f"{len(gone) - NAMED} more")
    sentence = (
        f"Of the {len(mine)} classes in the test split, {readable(label)} recognises {len(gone)} in fewer than "
        f"{percent(lost)} of their images{f': {listing(names)}' if names else ''}. The best known is {best['class']} "
        f"({percent(best['value'])})."
    )
    return Finding(sentence, None, {"lost": list(gone["class"]), "present": len(mine)})


def cameras(table, label):
    """Accuracy of the variant `label` by camera."""
    mine = table[table["label"] == label]
    parts = [f"{percent(row.accuracy)} on {row.camera} ({row.images:,} images)" for row in mine.itertuples()]
    return Finding(
        f"By camera, {readable(label)} is right on {listing(parts)}.",
        None,
        dict(zip(mine["camera"], mine["accuracy"], strict=True)),
    )


def sol_trend(table, label):
    """Accuracy of the variant `label` on the later half of the test sols against the earlier half."""
    row = table[table["label"] == label].iloc[0]
    verdict, contest = _contest(row["gap"], row["low"], row["high"], int(row["groups"]))
    sentence = (
        f"On test images from sol {row['middle_sol']} on, against those taken before, the accuracy of "
        f"{readable(label)} is {contest}."
    )
    return Finding(sentence, verdict, row.drop("label").to_dict())


def first_seen(table, label):
    """Accuracy of the variant `label` on frames, and on camera sequences, that no earlier split has."""
    mine = table[table["label"] == label].set_index("counted")
    parts = [f"{name} {percent(row['accuracy'])} ({row['images']:,} images)" for name, row in mine.iterrows()]
    return Finding(
        f"Accuracy of {readable(label)}, counted in four ways: {'; '.join(parts)}.", None, mine["accuracy"].to_dict()
    )


def likeness(table, label, threshold):
    """Accuracy of the variant `label` on test images with and without a near twin among those of training."""
    mine = table[(table["label"] == label) & (table["threshold"] == threshold)].set_index("looks_like_training")
    alike, unlike = mine.loc[True], mine.loc[False]
    sentence = (
        f"{readable(label)} is right on {percent(alike['accuracy'])} of the {alike['images']:,} test images that "
        f"correlate with a training image by {threshold:g} or more, and on {percent(unlike['accuracy'])} of the "
        f"{unlike['images']:,} others."
    )
    return Finding(sentence, None, {"alike": alike["accuracy"], "unlike": unlike["accuracy"]})


def help_chosen(frame):
    """The step of `mars_help` with the best mean validation accuracy, and each step against none.

    `frame`: the study's rows, its first label the network as it is. A list of Findings.
    """
    means = frame.groupby("label", sort=False)[SELECTION].mean()
    chosen, plain = means.idxmax(), means.index[0]
    sentence = (
        f"Validation accuracy is highest with {readable(chosen)} ({percent(means[chosen])}, against "
        f"{percent(means[plain])} for {readable(plain)}), which is therefore the choice."
    )
    return [Finding(sentence, None, {"chosen": chosen}), *against_each(frame, plain)]


def _contest(difference, low, high, groups):
    """(verdict, clause) of a difference with its bootstrap interval over groups."""
    size = f"{points(difference)} {'higher' if difference > 0 else 'lower'}"
    extent = f"95% interval {span(low, high, signed_points)}, n = {groups:,} groups"
    if low <= 0 <= high:
        detectable = (high - low) / 2 * REACH
        clause = f"not detectably different: {size} ({extent}); the smallest that could have been seen is about"
        return undetectable(groups), f"{clause} {points(detectable)}"
    return BETTER if low > 0 else WORSE, f"{size} ({extent})"


def _present(text):
    return isinstance(text, str) and not pd.isna(text) and text != ""
