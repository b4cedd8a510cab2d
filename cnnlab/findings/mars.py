"""What the tables of `mars_record` say: accuracy where classes, cameras and days shift under it.

Intervals are over groups of images taken together; n counts such groups. They speak of these
trained networks on other pictures of the same sols, not of networks trained anew.
"""

import pandas as pd
from scipy.stats import spearmanr

from cnnlab.findings.comparisons import against_each, compare
from cnnlab.findings.finding import BETTER, SELECTION, WORSE, Finding, undetectable
from cnnlab.measures import detectable_from
from cnnlab.wording import from_to, listing, p_value, percent, plural, points, readable, signed_points

# Recall below which a class counts as lost.
LOST = 0.1
# Classes that a sentence names before it only counts.
NAMED = 5
SCORE_NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}
# How the names of the constant baselines begin.
CONSTANT = "always "


def constant_answers(images):
    """What always answering with train's largest class scores on each split: the table `images`."""
    common = images["common"].iloc[0]
    shares = [
        f"{percent(row.common_share)} on {row.split} ({percent((row.common_share > 0) / row.classes)})"
        for row in images.itertuples()
    ]
    lacks = [f"{row.split} lacks {row.lacks}" for row in images.itertuples() if _present(row.lacks)]
    sentence = f"Always answering '{common}' has accuracy (and balanced accuracy) {listing(shares)}."
    if lacks:
        sentence += f" {'; '.join(lacks).capitalize()}."
    return Finding(sentence, None, dict(zip(images["split"], images["common_share"], strict=True)))


def score_table(table):
    """The three scores of every network and baseline, a row each, as texts with 95% intervals.

    `table`: scores of `mars_record.evaluate`. The last column is the interval of accuracy where
    whole sols are drawn instead of groups.
    """
    rows = {}
    for label, mine in table.groupby("label", sort=False):
        by_score = mine.set_index("score")
        row = {"Seeds": int(mine["seeds"].iloc[0]) or "none"}
        for score, name in SCORE_NAMES.items():
            value, low, high = by_score.loc[score, ["value", "low", "high"]]
            row[name[0].upper() + name[1:]] = f"{percent(value)} ({from_to(low, high, percent)})"
        row["Accuracy, by sol"] = from_to(*by_score.loc["accuracy", ["low_sol", "high_sol"]], percent)
        rows[readable(label)] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Answers").reset_index()


def contest_table(against):
    """What every network is above the baselines, a row each, as texts with 95% intervals over groups.

    `against`: that of `mars_record.evaluate`. Accuracy against constant answers, balanced
    accuracy, which makes these equal, against the others; in percentage points.
    """
    constant = against["baseline"].str.startswith(CONSTANT)
    shown = against[against["score"].eq("accuracy") & constant | against["score"].eq("balanced_accuracy") & ~constant]
    cells = shown.assign(
        column=[
            f"{SCORE_NAMES[row.score].capitalize()}, against {readable(row.baseline)}" for row in shown.itertuples()
        ],
        cell=[
            f"{signed_points(row.difference)} ({from_to(row.low, row.high, signed_points)})"
            for row in shown.itertuples()
        ],
    )
    table = cells.pivot(index="label", columns="column", values="cell").fillna("")
    table = table.loc[cells["label"].unique(), cells["column"].unique()]
    return table.rename(index=readable).rename_axis(index="Network", columns=None).reset_index()


def contests(against, label, score="balanced_accuracy", baseline=None):
    """The variant `label` against the baselines, and against the plain networks, group by group.

    `against`: that of `mars_record.evaluate`. In accuracy against all of them, in balanced
    accuracy against all but constant answers, which it makes equal. The verdict is that of
    `score` against `baseline` (default: its first, a constant's being left out).
    """
    mine = against[against["label"] == label]
    told = {
        name: mine[(mine["score"] == key) & ((key == "accuracy") | ~mine["baseline"].str.startswith(CONSTANT))]
        for key, name in list(SCORE_NAMES.items())[:2]
    }
    parts = [
        f"in {name}, {'it' if place else readable(label)} is {_ranks(rows)}"
        for place, (name, rows) in enumerate(told.items())
    ]
    groups = int(mine["groups"].iloc[0])
    how = f"differences in percentage points, 95% intervals over {groups:,} groups, each taken alone"
    sentence = f"{'; '.join(parts)} ({how})."
    judged = mine[mine["score"] == score].set_index("baseline")
    row = judged.loc[baseline] if baseline else judged[~judged.index.str.startswith(CONSTANT)].iloc[0]
    verdict = _verdict(row["low"], row["high"], groups)
    return Finding(sentence[0].upper() + sentence[1:], verdict, row.drop("label").to_dict())


def lost_classes(table, label, lost=LOST):
    """How many classes the variant `label` hardly ever recognises, which it knows best, and whether frequency tells."""
    mine = table[(table["label"] == label) & (table["images"] > 0)]
    gone = mine[mine["value"] < lost].sort_values("images", ascending=False, kind="stable")
    best = mine.sort_values("value", ascending=False, kind="stable").iloc[0]
    names = [f"{row['class']} ({plural(row['images'], 'image')})" for _, row in gone.head(NAMED).iterrows()]
    if len(gone) > NAMED:
        names.append(f"{len(gone) - NAMED} more")
    extent = from_to(best["low"], best["high"], percent)
    sentence = (
        f"Of the {len(mine)} classes in the test split, {readable(label)} recognises {len(gone)} in fewer than "
        f"{percent(lost)} of their images{f': {listing(names)}' if names else ''}. The highest recall is that of "
        f"{best['class']}: {percent(best['value'])}{f' ({extent})' if extent else ''}, from "
        f"{plural(best['images'], 'image')} in {plural(best['groups'], 'group')}."
    )
    numbers = {"lost": list(gone["class"]), "present": len(mine)}
    if mine["value"].nunique() > 1 and mine["train_images"].nunique() > 1:
        rank = spearmanr(mine["train_images"], mine["value"])
        sentence += (
            f" Over these classes, recall and the number of training images have a rank correlation of "
            f"{rank.statistic:+.2f} ({p_value(rank.pvalue)})."
        )
        numbers |= {"rank_correlation": rank.statistic, "p": rank.pvalue}
    return Finding(sentence, None, numbers)


def cameras(table, label):
    """Accuracy of the variant `label` by camera, with intervals over groups."""
    mine = table[table["label"] == label]
    parts = [
        f"{_share(row.accuracy, row.low, row.high)} on {row.camera} ({row.images:,} images)"
        for row in mine.itertuples()
    ]
    return Finding(
        f"By camera, {readable(label)} is right on {listing(parts)}.",
        None,
        dict(zip(mine["camera"], mine["accuracy"], strict=True)),
    )


def sol_trend(table, label):
    """Accuracy of the variant `label` on the later half of the test sols against the earlier half.

    And the same within the classes that both halves have. The verdict is that of all images.
    """
    row = table[table["label"] == label].iloc[0]
    groups = int(row["groups"])
    verdict = _verdict(row["low"], row["high"], groups)
    sentence = (
        f"On test images from sol {row['middle_sol']} on, against those taken before, the accuracy of "
        f"{readable(label)} is {_contest(row['gap'], row['low'], row['high'], groups)}."
    )
    if row["classes"]:
        within = _contest(row["within"], row["within_low"], row["within_high"], groups)
        sentence += f" Within a class, in the mean of the {row['classes']} that both halves have, recall is {within}."
    return Finding(sentence, verdict, row.drop("label").to_dict())


def first_seen(table, label):
    """Accuracy of the variant `label` when frames count once, and on camera sequences that no earlier split has."""
    mine = table[table["label"] == label].set_index("counted")
    every, once, new_frames = mine.loc["every image"], mine.loc["each frame once"], mine.loc["frames first seen here"]
    known, new = mine.loc["sequences seen before"], mine.loc["sequences first seen here"]
    sentence = (
        f"The accuracy of {readable(label)} on all {every['images']:,} test images is {_share_of(every)}, and "
        f"{_share_of(once)} if each of the {plural(once['frames'], 'frame')} counts once. "
    )
    sentence += (
        "All frames are first seen here."
        if new_frames["frames"] == every["frames"]
        else f"On the {plural(new_frames['frames'], 'frame')} first seen here it is {_share_of(new_frames)}."
    )
    if not pd.isna(new["gap"]):
        gap = _contest(new["gap"], new["gap_low"], new["gap_high"], int(every["groups"]))
        sentence += (
            f" On camera sequences that an earlier split has ({known['images']:,} images) it is {_share_of(known)}, on "
            f"the others {_share_of(new)}: {gap}."
        )
    return Finding(sentence, None, mine["accuracy"].to_dict())


def stopping(frame):
    """What ended the trainings of `frame`, rows of a study: the limit of epochs, or early stopping."""
    limit = frame["epochs"] == frame["epochs_trained"]
    last = frame["best_epoch"] == frame["epochs_trained"]
    ended = f"The limit of {plural(int(frame['epochs'].max()), 'epoch')} ended {limit.sum()} of {len(frame)} trainings"
    ended += ", early stopping the others" if not limit.all() else " and early stopping none"
    sentence = f"{ended}; in {last.sum()} the best epoch is the last" if last.any() else ended
    if last.any():
        sentence += ", so that more epochs may change the order"
    return Finding(f"{sentence}.", None, {"limited": int(limit.sum()), "best_is_last": int(last.sum())})


def in_use(running, measured, images):
    """Whether the network in use answers the training images as it did while it was trained.

    `running`: accuracy over the best epoch, with dropout and each batch normalised by itself;
    `measured`: that of the finished network, a share of the first `images` training images.
    """
    sentence = (
        f"Over its best epoch the network was right on {percent(running)} of the training images, with dropout, and "
        f"each batch normalised by its own statistics. In use, with their moving averages and without dropout, it is "
        f"right on {percent(measured)} of the first {images:,} of them."
    )
    return Finding(sentence, None, {"running": running, "measured": measured})


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

    `frame`: the study's rows, its first label the network as it is. A list of Findings: the
    choice, what it is worth (one contrast, fixed before the test images were looked at), and the
    steps that were not chosen.
    """
    means = frame.groupby("label", sort=False)[SELECTION].mean()
    chosen, plain = means.idxmax(), means.index[0]
    seeds = plural(frame["seed"].nunique(), "seed")
    if chosen == plain:
        sentence = (
            f"No step has a higher validation accuracy than {readable(plain)} ({percent(means[plain])}, mean of "
            f"{seeds}), which therefore stays as it is."
        )
        return [Finding(sentence, None, {"chosen": chosen}), *against_each(frame, plain)]
    sentence = (
        f"Validation accuracy is highest with {readable(chosen)} ({percent(means[chosen])}, against "
        f"{percent(means[plain])} for {readable(plain)}; means of {seeds}), which is therefore the choice."
    )
    others = frame[frame["label"] != chosen]
    found = [Finding(sentence, None, {"chosen": chosen}), compare(frame, chosen, plain)]
    return found + (against_each(others, plain) if others["label"].nunique() > 1 else [])


def _ranks(rows):
    """'higher than a (+1.00, +0.50 to +1.50), and not detectably different from b (...)' of rows of `against`."""
    higher, lower = rows["low"] > 0, rows["high"] < 0
    sides = {"higher than": higher, "not detectably different from": ~(higher | lower), "lower than": lower}
    parts = []
    for words, chosen in sides.items():
        named = [
            f"{readable(row.baseline)} ({signed_points(row.difference)}, {from_to(row.low, row.high, signed_points)})"
            for row in rows[chosen].itertuples()
        ]
        parts += [f"{words} {listing(named)}"] if named else []
    return ", ".join(parts)


def _verdict(low, high, groups):
    """That of a difference with its interval over groups."""
    if low <= 0 <= high:
        return undetectable(groups)
    return BETTER if low > 0 else WORSE


def _contest(difference, low, high, groups):
    """A clause on a difference with its bootstrap interval over groups."""
    evidence = f"95% interval {from_to(low, high, signed_points)}, n = {groups:,} groups"
    if low <= 0 <= high:
        return (
            f"not detectably different ({signed_points(difference)} percentage points, {evidence}; the smallest that "
            f"could have been seen is about {points(detectable_from(low, high))})"
        )
    return f"{points(difference)} {'higher' if difference > 0 else 'lower'} ({evidence})"


def _share_of(row):
    return _share(row["accuracy"], row["low"], row["high"])


def _share(value, low, high):
    """'35.4% (29.1% to 42.4%)', or without its interval where there is none."""
    extent = from_to(low, high, percent)
    return f"{percent(value)} ({extent})" if extent else percent(value)


def _present(text):
    return isinstance(text, str) and not pd.isna(text) and text != ""
