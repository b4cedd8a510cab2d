"""How good a model's answers on the Mars images are: by camera, by Martian day, by frame, against constants.

`predicted` are integer classes for the first n images of a split, or for all of them, in its order: (n,), or (seeds,
n), over which scores are averaged. Scores and intervals are those of `groups`, over sol-and-sequence groups.
The record holds all of it for every network and baseline, as tables on disk.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab.measures import groups
from cnnlab.measures.exploration import class_counts, describe_splits, metadata_of, nearest_training_image
from cnnlab.measures.stats import t_interval, vote
from cnnlab.studies import MARS_CNN, MARS_DENSE, MARS_VOTES, find_budget
from cnnlab.wording import VOTE

MARS_FOLDER = Path("results") / "mars"
NEAREST = "the nearest training image's class"
# The networks that others are compared with, each also with those before it.
PLAIN_NETWORKS = (MARS_DENSE.label, MARS_CNN.label)
# A row of `by_frame`.
NEW_SEQUENCES = "sequences first seen here"
# Sols in a span of `accuracy_by_sol`.
SPAN = 50


def scores_with_intervals(dataset, split, predicted):
    """Accuracy, balanced accuracy and macro-F1 of a split: `groups.group_bootstrap`.

    Also, as low_sol, high_sol and sols, the same with whole sols drawn: images taken on one Martian day are alike too,
    even in several sequences.
    """
    table = _answered(dataset, split, predicted)
    by_group, by_sol = (
        groups.group_bootstrap(table["label"], predicted, table[unit], len(dataset.class_names))
        for unit in ("group", "sol")
    )
    return by_group.assign(low_sol=by_sol["low"], high_sol=by_sol["high"], sols=by_sol["groups"])


def mars_recalls(dataset, split, predicted):
    """Recall of each class, with images, groups and interval: `groups.recall_by_class`."""
    table = _answered(dataset, split, predicted)
    return groups.recall_by_class(table["label"], predicted, table["group"], dataset.class_names)


def constant_baselines(dataset):
    """Scores of always giving the same answer: a DataFrame of split, baseline, answer (class) and the three scores.

    Baselines: "train's majority", which a model could know, and "the split's own majority", which it could not.
    """
    majority, rows = majorities(dataset), []
    for split in dataset.splits:
        labels = metadata_of(dataset, split)["label"]
        answers = {"train's majority": majority["train"], "the split's own majority": majority[split]}
        for baseline, answer in answers.items():
            constant = groups.group_scores(labels, np.full(len(labels), answer), len(dataset.class_names))
            rows.append({"split": split, "baseline": baseline, "answer": dataset.class_names[answer], **constant})
    return pd.DataFrame(rows)


def scores_against(dataset, split, predicted, baselines):
    """The three scores of the answers minus those of each of `baselines`, {name: integers (n,) or (seeds, n)}.

    Returns a DataFrame of baseline, score, difference, low, high (over the same groups for both), groups.
    """
    table = _answered(dataset, split, predicted)
    found = {
        name: groups.difference_bootstrap(table["label"], predicted, answers, table["group"], len(dataset.class_names))
        for name, answers in baselines.items()
    }
    stacked = pd.concat(found, names=["baseline", "score"]).reset_index()
    return stacked.rename(columns={"value": "difference"})


def sol_gap(dataset, split, predicted):
    """Accuracy on the later half of a split's Martian days, minus that on the earlier half: a DataFrame of one row.

    Half of the sols that have images, however many images each has. Columns: first_sol, middle_sol (the first of the
    later half), last_sol, groups, gap, low, high (over groups); within, within_low, within_high, classes: the mean gap
    in the classes that both halves have (`groups.gap_within_classes`), which is not due to other classes on later days.
    """
    table = _answered(dataset, split, predicted)
    sols = np.unique(table["sol"])
    middle = sols[len(sols) // 2]
    later = table["sol"] >= middle
    ends = {"first_sol": sols[0], "middle_sol": middle, "last_sol": sols[-1], "groups": table["group"].nunique()}
    gap = groups.gap_by_group(table["correct"], table["group"], later)
    within = groups.gap_within_classes(table["correct"], table["label"], table["group"], later)
    names = ("gap", "low", "high", "within", "within_low", "within_high", "classes")
    return pd.DataFrame([{**ends, **dict(zip(names, (*gap, *within), strict=True))}])


def by_camera(dataset, split, predicted):
    """The three scores on each camera's images, over the classes among them: a DataFrame by camera.

    Columns low and high are the interval of accuracy, over groups (NaN for one group).
    """
    table, predicted = _answered(dataset, split, predicted), np.atleast_2d(predicted)
    rows = {}
    for camera, places in table.reset_index(drop=True).groupby("camera").indices.items():
        part = table.iloc[places]
        scores = [groups.group_scores(part["label"], found[places], len(dataset.class_names)) for found in predicted]
        interval = _accuracy(part)
        rows[camera] = {**_size(part), **pd.DataFrame(scores).mean(), "low": interval["low"], "high": interval["high"]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("camera")


def by_frame(dataset, split, predicted):
    """Accuracy when what recurs counts once, or not at all: a DataFrame by way of counting.

    Rows: "every image"; "each frame once", its images sharing one vote; "frames first seen here", images of a frame
    that no earlier split has; "sequences seen before", images whose camera and sequence number an earlier split has:
    the same commanded pictures on another sol; "sequences first seen here", the others. Earlier splits are those before
    `split` in the order of `dataset.splits`. Columns: images, frames, groups, accuracy, low, high (over groups; NaN for
    fewer than two); in the last row also gap, gap_low and gap_high, its difference from the row before.
    """
    table = _answered(dataset, split, predicted)
    order = list(dataset.splits)
    before = pd.concat([table.iloc[:0], *(metadata_of(dataset, name) for name in order[: order.index(split)])])
    sequence, sequence_before = (part["camera"] + part["sequence"] for part in (table, before))
    seen = sequence.isin(sequence_before)
    rows = {
        "every image": table,
        "each frame once": table,
        "frames first seen here": table[~table["frame"].isin(before["frame"])],
        "sequences seen before": table[seen],
        NEW_SEQUENCES: table[~seen],
    }
    once = table.groupby("frame").agg(correct=("correct", "mean"), group=("group", "first"))
    for name, part in rows.items():
        votes = once if name == "each frame once" else part
        size = {"images": len(part), "frames": part["frame"].nunique(), "groups": part["group"].nunique()}
        rows[name] = {**size, **_accuracy(votes)}
    gap = (
        groups.gap_by_group(table["correct"], table["group"], ~seen) if seen.any() and not seen.all() else [np.nan] * 3
    )
    rows[NEW_SEQUENCES] |= dict(zip(("gap", "gap_low", "gap_high"), gap, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("counted")


def most_confident_wrong(dataset, split, predicted, confidence):
    """The dozen most confident wrong answers, one per group of images: a DataFrame, most confident first.

    `confidence`: (n,). Columns: row (of the arrays), file, true, answer, confidence, sol, camera.
    """
    table, names = _answered(dataset, split, predicted), np.asarray(dataset.class_names)
    said = {"true": names[table["label"]], "answer": names[np.asarray(predicted)]}
    table = table.assign(row=table.index, **said, confidence=np.asarray(confidence, "float64"))
    wrong = table[table["correct"] == 0].sort_values("confidence", ascending=False, kind="stable")
    columns = ["row", "file", "true", "answer", "confidence", "sol", "camera"]
    return wrong.drop_duplicates("group").head(12)[columns].reset_index(drop=True)


def accuracy_by_sol(dataset, split, predicted, span=SPAN):
    """Accuracy by Martian day, in spans of `span` sols, a whole number from 1.

    Returns a DataFrame, one row per span with images: first_sol, last_sol (of the span), images, groups, accuracy, low,
    high (over groups; NaN where resampling cannot show a spread).
    """
    if int(span) != span or span < 1:
        raise ValueError(f"span is {span}; expected a whole number of sols, at least 1")
    table = _answered(dataset, split, predicted)
    return pd.DataFrame(
        {"first_sol": number * span, "last_sol": (number + 1) * span - 1, **_size(part), **_accuracy(part)}
        for number, part in table.groupby(table["sol"] // span)
    )


def evaluate_mars(dataset, answers, confidence=None, unseen=None):
    """All Mars tables of the record: {table name: DataFrame}.

    `dataset`: from `data.load_mars`; `answers`: {label: integers (seeds, n), or (n,)} for its first n test images (see
    `studies.predictions`); `confidence`: likewise, the confidence in them, by which the variants of MARS_VOTES vote;
    `unseen`: answers to its first validation images by the variants to choose from. Tables: images (one row per split),
    scores (with the constant and nearest-neighbour baselines, and intervals over seeds), validation, against (the
    baselines and the plain networks, over the same groups), recalls, cameras, sols, trend and frames.
    """
    answers = {label: np.atleast_2d(found) for label, found in answers.items()}
    seeds = {label: len(found) for label, found in answers.items()}
    for name in MARS_VOTES:
        if name in (confidence or {}) and seeds[name] > 1:
            answers[name + VOTE] = vote(answers[name], confidence[name])[None]
            seeds[name + VOTE] = seeds[name]
    images = next(iter(answers.values())).shape[1]
    constant = dict.fromkeys(majorities(dataset)[split] for split in ("train", "test"))
    baselines = {f"always {dataset.class_names[label]}": np.full((1, images), label) for label in constant}
    baselines[NEAREST] = nearest_training_image(dataset, "test")["nearest_label"].head(images).to_numpy()[None]

    def of_each(function, asked=answers, split="test"):
        return _stacked({label: function(dataset, split, found) for label, found in asked.items()})

    scores, recalls = of_each(_with_seeds, answers | baselines), of_each(mars_recalls)
    tables = {
        "images": describe_splits(dataset),
        "scores": scores.assign(seeds=scores["label"].map(seeds).fillna(0).astype("int64")),
    }
    if unseen:
        chosen_among = of_each(_with_seeds, unseen, "validation")
        runs = {label: len(np.atleast_2d(found)) for label, found in unseen.items()}
        tables["validation"] = chosen_among.assign(seeds=chosen_among["label"].map(runs))
    against = {
        label: scores_against(dataset, "test", found, {**baselines, **_plainer(label, answers)})
        for label, found in answers.items()
    }
    return tables | {
        "against": _stacked(against),
        "recalls": recalls.assign(train_images=recalls["class"].map(class_counts(dataset)["train"])),
        "cameras": of_each(by_camera),
        "sols": of_each(accuracy_by_sol),
        "trend": of_each(sol_gap),
        "frames": of_each(by_frame),
    }


def write_mars(tables, folder=None):
    """Write `evaluate_mars`'s tables as <folder>/<name>.csv (None: the record's); returns the paths."""
    folder = Path(folder or find_budget("full").folder / MARS_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.csv" for name in tables]
    for path in paths:
        tables[path.stem].to_csv(path, index=False, float_format="%.6g")
    return paths


def read_mars(folder=None):
    """{table name: DataFrame} that `write_mars` left in `folder`; empty where there are none."""
    folder = Path(folder or find_budget("full").folder / MARS_FOLDER)
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def majorities(dataset):
    """{split: its commonest class, an integer}."""
    return {split: int(counts.to_numpy().argmax()) for split, counts in class_counts(dataset).items()}


def _with_seeds(dataset, split, predicted):
    """`scores_with_intervals` with seed_low and seed_high, each score's interval over seeds (NaN for one)."""
    table = scores_with_intervals(dataset, split, predicted).rename_axis("score")
    labels = metadata_of(dataset, split)["label"].iloc[: np.shape(predicted)[-1]]
    one_each = pd.DataFrame(
        groups.group_scores(labels, answers, len(dataset.class_names)) for answers in np.atleast_2d(predicted)
    )
    over_seeds = [t_interval(one_each[score]) for score in table.index]
    return table.assign(seed_low=[each.low for each in over_seeds], seed_high=[each.high for each in over_seeds])


def _plainer(label, answers):
    """The networks of `answers` that the one called `label` is compared with: those of PLAIN_NETWORKS before it."""
    before = PLAIN_NETWORKS[: PLAIN_NETWORKS.index(label)] if label in PLAIN_NETWORKS else PLAIN_NETWORKS
    return {name: answers[name] for name in before if name in answers}


def _stacked(tables):
    """Frames {label: frame} stacked, with the label, and the index where it has a name, as columns."""
    return pd.concat(tables, names=["label"]).reset_index().drop(columns="level_1", errors="ignore")


def _answered(dataset, split, predicted):
    """`metadata_of` the images that `predicted` answers, and correct: the share of seeds that answer correctly."""
    table = metadata_of(dataset, split).iloc[: np.shape(predicted)[-1]]
    return table.assign(correct=(np.atleast_2d(predicted) == table["label"].to_numpy()).mean(axis=0))


def _size(table):
    return {"images": len(table), "groups": table["group"].nunique()}


def _accuracy(votes):
    """accuracy, low and high of `votes`, a frame of correct and group; NaN where resampling cannot show a spread."""
    mean = low = high = np.nan
    if votes["group"].nunique() > 1:
        mean, low, high = groups.mean_by_group(votes["correct"], votes["group"])
    elif len(votes):
        mean = np.mean(votes["correct"])
    return {"accuracy": mean, **({"low": low, "high": high} if low < high else {"low": np.nan, "high": np.nan})}
