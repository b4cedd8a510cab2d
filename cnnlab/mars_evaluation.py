"""What a model's answers on the Mars images are worth: by camera, by Martian day, by frame, against constants.

`predicted` are integer classes for the first n images of a split, in its order, or for all of
them: (n,), or (seeds, n), over which scores are averaged. Scores and intervals are those of `group_scores`, over
sol-and-sequence groups.
"""

import numpy as np
import pandas as pd

from cnnlab.mars import metadata_of
from cnnlab.statistics import group_scores


def scores_with_intervals(dataset, split, predicted):
    """Accuracy, balanced accuracy and macro-F1 of a split: `group_scores.group_bootstrap`."""
    table = _answered(dataset, split, predicted)
    return group_scores.group_bootstrap(table["label"], predicted, table["group"], len(dataset.class_names))


def recalls(dataset, split, predicted):
    """Recall of each class, with images, groups and interval: `group_scores.recall_by_class`."""
    table = _answered(dataset, split, predicted)
    return group_scores.recall_by_class(table["label"], predicted, table["group"], dataset.class_names)


def constant_baselines(dataset):
    """Always the same answer: a DataFrame of split, baseline, answer (class) and the three scores.

    Baselines: "train's majority", which a model could know, and "the split's own majority",
    which it could not.
    """
    labels = {name: metadata_of(dataset, name)["label"].to_numpy() for name in dataset.splits}
    majority = {name: np.bincount(values).argmax() for name, values in labels.items()}
    rows = []
    for split, values in labels.items():
        for baseline, answer in (
            ("train's majority", majority["train"]),
            ("the split's own majority", majority[split]),
        ):
            constant = group_scores.scores(values, np.full(len(values), answer), len(dataset.class_names))
            rows.append({"split": split, "baseline": baseline, "answer": dataset.class_names[answer], **constant})
    return pd.DataFrame(rows)


def against(dataset, split, predicted, baselines):
    """What the answers are right on more often than `baselines`, {name: integers (n,)}, by the same groups.

    Returns a DataFrame of baseline, difference (of accuracies), low, high, groups.
    """
    table = _answered(dataset, split, predicted)
    correct, rows = _correct(table, predicted), []
    for name, answers in baselines.items():
        difference, low, high = group_scores.mean_by_group(correct - _correct(table, answers), table["group"])
        rows.append({"baseline": name, "difference": difference, "low": low, "high": high})
    return pd.DataFrame(rows).assign(groups=table["group"].nunique())


def sol_trend(dataset, split, predicted):
    """Accuracy on the later half of a split's Martian days, less that on the earlier half: a DataFrame of one row.

    Half of the sols that have images, whatever their number of images. Columns: first_sol,
    middle_sol (the first of the later half), last_sol, gap, low, high (over groups), groups.
    """
    table = _answered(dataset, split, predicted)
    sols = np.unique(table["sol"])
    middle = sols[len(sols) // 2]
    later = table["sol"].to_numpy() >= middle
    gap, low, high = group_scores.gap_by_group(_correct(table, predicted), table["group"], later)
    ends = {"first_sol": sols[0], "middle_sol": middle, "last_sol": sols[-1]}
    return pd.DataFrame([{**ends, "gap": gap, "low": low, "high": high, "groups": table["group"].nunique()}])


def by_camera(dataset, split, predicted):
    """The three scores of each camera's images, over the classes that it took: a DataFrame by camera."""
    table, predicted = _answered(dataset, split, predicted), np.atleast_2d(predicted)
    rows = {}
    for camera, places in table.reset_index(drop=True).groupby("camera").indices.items():
        part = table.iloc[places]
        parts = [group_scores.scores(part["label"], found[places], len(dataset.class_names)) for found in predicted]
        rows[camera] = {"images": len(part), "groups": part["group"].nunique(), **pd.DataFrame(parts).mean()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("camera")


def by_frame(dataset, split, predicted):
    """Accuracy when what recurs counts once, or not at all: a DataFrame by way of counting.

    Rows: "every image"; "each frame once", its images sharing one vote; "frames first seen here",
    images of a frame that no earlier split has; "sequences first seen here", of a camera's
    sequence number that no earlier split has, which is stricter, since a number stands for the
    same commanded pictures on another sol. Earlier splits are those before `split` in the order
    of `dataset.splits`. Columns: images, frames, accuracy.
    """
    table = _answered(dataset, split, predicted)
    table = table.assign(correct=_correct(table, predicted))
    order = list(dataset.splits)
    earlier = [metadata_of(dataset, name) for name in order[: order.index(split)]]
    before = pd.concat([table.iloc[:0], *earlier])
    sequence, sequence_before = (part["camera"] + part["sequence"] for part in (table, before))
    ways = {
        "every image": (table, table["correct"].mean()),
        "each frame once": (table, table.groupby("frame")["correct"].mean().mean()),
    }
    for name, seen in (
        ("frames first seen here", table["frame"].isin(before["frame"])),
        ("sequences first seen here", sequence.isin(sequence_before)),
    ):
        ways[name] = (table[~seen], table.loc[~seen, "correct"].mean())
    rows = {
        name: {"images": len(part), "frames": part["frame"].nunique(), "accuracy": accuracy}
        for name, (part, accuracy) in ways.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("counted")


def by_likeness(dataset, split, predicted, likeness, thresholds=(0.9, 0.95, 0.98)):
    """Accuracy apart for images that look like one seen in training, and for those that do not.

    `likeness`: the correlation (n,) of `mars.nearest`. Returns a DataFrame, two rows a threshold:
    threshold, looks_like_training, images, groups, accuracy (NaN where there is no image).
    """
    table = _answered(dataset, split, predicted)
    correct = _correct(table, predicted)
    rows = []
    for threshold in thresholds:
        for alike in (True, False):
            part = (np.asarray(likeness) >= threshold) == alike
            rows.append(
                {
                    "threshold": threshold,
                    "looks_like_training": alike,
                    "images": int(part.sum()),
                    "groups": table.loc[part, "group"].nunique(),
                    "accuracy": correct[part].mean() if part.any() else np.nan,
                }
            )
    return pd.DataFrame(rows)


def most_confident_wrong(dataset, split, predicted, confidence, count=12):
    """The wrong answers of highest `confidence` (n,), one a group of images: a DataFrame, surest first.

    Columns: row (of the arrays), file, true, answer, confidence, sol, camera.
    """
    table = _answered(dataset, split, predicted)
    names = np.asarray(dataset.class_names)
    table = table.assign(
        row=table.index,
        true=names[table["label"]],
        answer=names[np.asarray(predicted)],
        confidence=np.asarray(confidence, "float64"),
    )
    wrong = table[table["true"] != table["answer"]].sort_values("confidence", ascending=False, kind="stable")
    columns = ["row", "file", "true", "answer", "confidence", "sol", "camera"]
    return wrong.drop_duplicates("group").head(count)[columns].reset_index(drop=True)


def accuracy_by_sol(dataset, split, predicted, bins=8):
    """Accuracy against the Martian day: spans of sols with about the same number of groups each.

    Returns a DataFrame, one row a span: first_sol, last_sol, images, groups, accuracy, low, high
    (by groups). Raises ValueError for more spans than there are sols in two groups each.
    """
    table = _answered(dataset, split, predicted)
    table = table.assign(correct=_correct(table, predicted))
    groups = table.drop_duplicates("group").sort_values("sol", kind="stable")
    if not 1 <= bins <= len(groups) // 2:
        raise ValueError(f"bins is {bins}; expected 1 to {len(groups) // 2}, two groups in each at least")
    # All groups of one sol fall into one span.
    rank = groups["sol"].rank(method="min").sub(1)
    span = dict(zip(groups["group"], (rank * bins // len(groups)).astype("int64"), strict=True))
    rows = []
    for _, part in table.groupby(table["group"].map(span)):
        size = {"images": len(part), "groups": part["group"].nunique()}
        mean, low, high = part["correct"].mean(), np.nan, np.nan
        if size["groups"] > 1:
            mean, low, high = group_scores.mean_by_group(part["correct"], part["group"])
        ends = {"first_sol": part["sol"].min(), "last_sol": part["sol"].max()}
        rows.append({**ends, **size, "accuracy": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def _answered(dataset, split, predicted):
    """`mars.metadata_of` the images that `predicted` answers."""
    return metadata_of(dataset, split).iloc[: np.shape(predicted)[-1]]


def _correct(table, predicted):
    """Share of the seeds that answer each image of `table` correctly: float64 (n,)."""
    return (np.atleast_2d(predicted) == table["label"].to_numpy()).mean(axis=0)
