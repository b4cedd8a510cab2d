"""What a model's answers on the Mars images are worth: by camera, by Martian day, by frame, against constants.

`predicted` are integer classes for the first n images of a split, in its order, or for all of
them: (n,), or (seeds, n), over which scores are averaged. Scores and intervals are those of `group_scores`, over
sol-and-sequence groups.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab.measures.exploration import class_counts
from cnnlab.measures.groups import (
    difference_bootstrap,
    gap_by_group,
    gap_within_classes,
    group_bootstrap,
    group_scores,
    mean_by_group,
    recall_by_class,
)
from cnnlab.measures.mars import metadata_of, nearest_training_image, recurring_frames
from cnnlab.studies import MARS_CNN, MARS_DENSE, find_budget
from cnnlab.wording import listing

# A row of `by_frame`.
NEW_SEQUENCES = "sequences first seen here"


def scores_with_intervals(dataset, split, predicted):
    """Accuracy, balanced accuracy and macro-F1 of a split: `group_scores.group_bootstrap`.

    And, as low_sol, high_sol and sols, the same with whole sols drawn: what was taken on one
    Martian day is alike too, even in several sequences.
    """
    table = _answered(dataset, split, predicted)
    by_group, by_sol = (
        group_bootstrap(table["label"], predicted, table[unit], len(dataset.class_names)) for unit in ("group", "sol")
    )
    return by_group.assign(low_sol=by_sol["low"], high_sol=by_sol["high"], sols=by_sol["groups"])


def mars_recalls(dataset, split, predicted):
    """Recall of each class, with images, groups and interval: `group_scores.recall_by_class`."""
    table = _answered(dataset, split, predicted)
    return recall_by_class(table["label"], predicted, table["group"], dataset.class_names)


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
            constant = group_scores(values, np.full(len(values), answer), len(dataset.class_names))
            rows.append({"split": split, "baseline": baseline, "answer": dataset.class_names[answer], **constant})
    return pd.DataFrame(rows)


def scores_against(dataset, split, predicted, baselines):
    """The three scores of the answers less those of each of `baselines`, {name: integers (n,) or (seeds, n)}.

    Returns a DataFrame of baseline, score, difference, low, high (over the same groups for both), groups.
    """
    table = _answered(dataset, split, predicted)
    found = {
        name: difference_bootstrap(table["label"], predicted, answers, table["group"], len(dataset.class_names))
        for name, answers in baselines.items()
    }
    stacked = pd.concat(found, names=["baseline", "score"]).reset_index()
    return stacked.rename(columns={"value": "difference"})


def sol_gap(dataset, split, predicted):
    """Accuracy on the later half of a split's Martian days, less that on the earlier half: a DataFrame of one row.

    Half of the sols that have images, whatever their number of images. Columns: first_sol,
    middle_sol (the first of the later half), last_sol, gap, low, high (over groups), groups;
    within, within_low, within_high, classes: the mean gap of the classes that both halves have
    (`group_scores.gap_within_classes`), which other classes on later days do not make.
    """
    table = _answered(dataset, split, predicted)
    sols = np.unique(table["sol"])
    middle = sols[len(sols) // 2]
    later = table["sol"].to_numpy() >= middle
    correct = _correct(table, predicted)
    ends = {"first_sol": sols[0], "middle_sol": middle, "last_sol": sols[-1], "groups": table["group"].nunique()}
    gap = gap_by_group(correct, table["group"], later)
    within = gap_within_classes(correct, table["label"], table["group"], later)
    names = ("gap", "low", "high", "within", "within_low", "within_high", "classes")
    return pd.DataFrame([{**ends, **dict(zip(names, (*gap, *within), strict=True))}])


def by_camera(dataset, split, predicted):
    """The three scores of each camera's images, over the classes that it took: a DataFrame by camera.

    And low and high of accuracy, over groups (NaN for one group).
    """
    table, predicted = _answered(dataset, split, predicted), np.atleast_2d(predicted)
    rows = {}
    for camera, places in table.reset_index(drop=True).groupby("camera").indices.items():
        part = table.iloc[places]
        parts = [group_scores(part["label"], found[places], len(dataset.class_names)) for found in predicted]
        _, low, high = _mean_over_groups(_correct(part, predicted[:, places]), part["group"])
        size = {"images": len(part), "groups": part["group"].nunique()}
        rows[camera] = {**size, **pd.DataFrame(parts).mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("camera")


def by_frame(dataset, split, predicted):
    """Accuracy when what recurs counts once, or not at all: a DataFrame by way of counting.

    Rows: "every image"; "each frame once", its images sharing one vote; "frames first seen here",
    images of a frame that no earlier split has; "sequences seen before", of a camera's sequence
    number that an earlier split has, which stands for the same commanded pictures on another
    sol; "sequences first seen here", the others. Earlier splits are those before `split` in the order of
    `dataset.splits`. Columns: images, frames, groups, accuracy, low, high (over groups; NaN for
    fewer than two); for the last row gap, gap_low and gap_high, against the row before it.
    """
    table = _answered(dataset, split, predicted)
    table = table.assign(correct=_correct(table, predicted))
    order = list(dataset.splits)
    earlier = [metadata_of(dataset, name) for name in order[: order.index(split)]]
    before = pd.concat([table.iloc[:0], *earlier])
    sequence, sequence_before = (part["camera"] + part["sequence"] for part in (table, before))
    seen = sequence.isin(sequence_before)
    once = table.groupby("frame").agg(correct=("correct", "mean"), group=("group", "first"))
    ways = {
        "every image": (table, table),
        "each frame once": (table, once),
        "frames first seen here": (table[~table["frame"].isin(before["frame"])],) * 2,
        "sequences seen before": (table[seen],) * 2,
        NEW_SEQUENCES: (table[~seen],) * 2,
    }
    rows = {}
    for name, (part, votes) in ways.items():
        size = {"images": len(part), "frames": part["frame"].nunique(), "groups": part["group"].nunique()}
        mean = _mean_over_groups(votes["correct"], votes["group"])
        rows[name] = {**size, **dict(zip(("accuracy", "low", "high"), mean, strict=True))}
    if seen.any() and not seen.all():
        gap = gap_by_group(table["correct"], table["group"], ~seen)
        rows[NEW_SEQUENCES] |= dict(zip(("gap", "gap_low", "gap_high"), gap, strict=True))
    columns = [*size, "accuracy", "low", "high", "gap", "gap_low", "gap_high"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns).rename_axis("counted")


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
        mean, low, high = _mean_over_groups(part["correct"], part["group"])
        ends = {"first_sol": part["sol"].min(), "last_sol": part["sol"].max()}
        rows.append({**ends, **size, "accuracy": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def _mean_over_groups(values, groups):
    """`group_scores.mean_by_group`, whose ends are NaN where resampling groups cannot show a spread."""
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    if len(set(groups)) < 2:
        return np.mean(values), np.nan, np.nan
    mean, low, high = mean_by_group(values, groups)
    return (mean, low, high) if low < high else (mean, np.nan, np.nan)


def _answered(dataset, split, predicted):
    """`mars.metadata_of` the images that `predicted` answers."""
    return metadata_of(dataset, split).iloc[: np.shape(predicted)[-1]]


def _correct(table, predicted):
    """Share of the seeds that answer each image of `table` correctly: float64 (n,)."""
    return (np.atleast_2d(predicted) == table["label"].to_numpy()).mean(axis=0)


MARS_FOLDER = Path("results") / "mars"
NEAREST = "the nearest training image's class"
SPLIT = "test"
# The networks that others are held against, each also against those before it.
PLAIN_NETWORKS = (MARS_DENSE.label, MARS_CNN.label)


def evaluate_mars(dataset, answers):
    """{table name: DataFrame} of what the record says of Mars.

    `dataset`: of `data.load_mars`; `answers`: {label: integers (seeds, n), or (n,)} for its first
    n test images (see `studies.predictions`). Tables: images (a row a split), scores (with the
    constant and nearest-neighbour baselines), against (these and the plain networks, by the same
    groups), recalls, cameras, sols, trend, frames and likeness.
    """
    answers = {label: np.atleast_2d(found) for label, found in answers.items()}
    images = next(iter(answers.values())).shape[1]
    likeness = nearest_training_image(dataset, SPLIT).head(images)
    baselines = {**_constants(dataset, images), NEAREST: likeness["nearest_label"].to_numpy()[None]}

    def of_each(function, *arguments):
        return _stacked({label: function(dataset, SPLIT, found, *arguments) for label, found in answers.items()})

    recalls = of_each(mars_recalls)
    scores = {
        label: scores_with_intervals(dataset, SPLIT, found).assign(seeds=len(found))
        for label, found in (answers | baselines).items()
    }
    scores = _stacked({label: table.rename_axis("score") for label, table in scores.items()})
    return {
        "images": describe_splits(dataset),
        "scores": scores.assign(seeds=scores["seeds"].where(~scores["label"].isin(baselines), 0)),
        "against": _stacked(
            {
                label: scores_against(dataset, SPLIT, found, {**baselines, **_plainer(label, answers)})
                for label, found in answers.items()
            }
        ),
        "recalls": recalls.assign(train_images=recalls["class"].map(class_counts(dataset)["train"])),
        "cameras": of_each(by_camera),
        "sols": of_each(accuracy_by_sol),
        "trend": of_each(sol_gap),
        "frames": of_each(by_frame),
        "likeness": of_each(by_likeness, likeness["correlation"]),
    }


def describe_splits(dataset):
    """A row a split: how much it holds, what it lacks, its sols, its largest class and the share of train's largest."""
    frames, counts = recurring_frames(dataset), class_counts(dataset)
    common = counts["train"].idxmax()
    rows = []
    for split in dataset.splits:
        table = metadata_of(dataset, split)
        rows.append(
            {
                "split": split,
                **frames.loc[split, ["images", "frames", "groups"]].astype("int64"),
                "classes": int((counts[split] > 0).sum()),
                "lacks": listing(counts.index[counts[split] == 0]) if (counts[split] == 0).any() else "",
                "first_sol": table["sol"].min(),
                "last_sol": table["sol"].max(),
                "largest": counts[split].idxmax(),
                "largest_share": counts[split].max() / len(table),
                "common": common,
                "common_share": counts.loc[common, split] / len(table),
            }
        )
    return pd.DataFrame(rows)


def write_mars(tables, folder=None):
    """Write `evaluate`'s tables as <folder>/<name>.csv; returns the paths."""
    folder = Path(folder or find_budget("full").folder / MARS_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.csv" for name in tables}
    for name, path in paths.items():
        tables[name].to_csv(path, index=False, float_format="%.6g")
    return list(paths.values())


def read_mars(folder=None):
    """{table name: DataFrame} of what `write` left in `folder`; empty where there is nothing."""
    folder = Path(folder or find_budget("full").folder / MARS_FOLDER)
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def _constants(dataset, images):
    """{"always <class>": answers (1, images)} for train's majority and the test split's own."""
    counts = class_counts(dataset)
    majorities = dict.fromkeys(int(counts[split].to_numpy().argmax()) for split in ("train", SPLIT))
    return {f"always {dataset.class_names[label]}": np.full((1, images), label) for label in majorities}


def _plainer(label, answers):
    """The networks of `answers` that the one called `label` is held against: those of PLAIN before it."""
    before = PLAIN_NETWORKS[: PLAIN_NETWORKS.index(label)] if label in PLAIN_NETWORKS else PLAIN_NETWORKS
    return {name: answers[name] for name in before if name in answers}


def _stacked(tables):
    """Frames {label: frame} under one another, with the label and the index as columns."""
    frames = [
        (table if isinstance(table.index, pd.RangeIndex) else table.reset_index()).assign(label=label)
        for label, table in tables.items()
    ]
    stacked = pd.concat(frames, ignore_index=True)
    return stacked[["label", *stacked.columns.drop("label")]]
