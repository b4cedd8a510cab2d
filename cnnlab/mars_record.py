"""The evaluation of the recorded Mars trainings, kept as tables in results/mars/.

The scores need each test image's class, camera and group, which are the data set's; the tables
state them where the images are not at hand, so that the README can be rebuilt anywhere.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab import mars, mars_evaluation
from cnnlab.exploration import class_counts
from cnnlab.mars_studies import CNN, DENSE
from cnnlab.sentences.wording import listing

FOLDER = Path("results") / "mars"
NEAREST = "the nearest training image's class"
SPLIT = "test"
# The networks that others are held against, each also against those before it.
PLAIN = (DENSE.label, CNN.label)


def evaluate(dataset, answers):
    """{table name: DataFrame} of what the record says of Mars.

    `dataset`: of `data.load_mars`; `answers`: {label: integers (seeds, n), or (n,)} for its first
    n test images (see `studies.predictions`). Tables: images (a row a split), scores (with the
    constant and nearest-neighbour baselines), against (these and the plain networks, by the same
    groups), recalls, cameras, sols, trend, frames and likeness.
    """
    answers = {label: np.atleast_2d(found) for label, found in answers.items()}
    images = next(iter(answers.values())).shape[1]
    likeness = mars.nearest(dataset, SPLIT).head(images)
    baselines = {**_constants(dataset, images), NEAREST: likeness["nearest_label"].to_numpy()[None]}

    def of_each(function, *arguments):
        return _stacked({label: function(dataset, SPLIT, found, *arguments) for label, found in answers.items()})

    recalls = of_each(mars_evaluation.recalls)
    scores = {
        label: mars_evaluation.scores_with_intervals(dataset, SPLIT, found).assign(seeds=len(found))
        for label, found in (answers | baselines).items()
    }
    scores = _stacked({label: table.rename_axis("score") for label, table in scores.items()})
    return {
        "images": describe_splits(dataset),
        "scores": scores.assign(seeds=scores["seeds"].where(~scores["label"].isin(baselines), 0)),
        "against": _stacked(
            {
                label: mars_evaluation.against(dataset, SPLIT, found, {**baselines, **_plainer(label, answers)})
                for label, found in answers.items()
            }
        ),
        "recalls": recalls.assign(train_images=recalls["class"].map(class_counts(dataset)["train"])),
        "cameras": of_each(mars_evaluation.by_camera),
        "sols": of_each(mars_evaluation.accuracy_by_sol),
        "trend": of_each(mars_evaluation.sol_trend),
        "frames": of_each(mars_evaluation.by_frame),
        "likeness": of_each(mars_evaluation.by_likeness, likeness["correlation"]),
    }


def describe_splits(dataset):
    """A row a split: how much it holds, what it lacks, its sols, its largest class and the share of train's largest."""
    frames, counts = mars.recurring_frames(dataset), class_counts(dataset)
    common = counts["train"].idxmax()
    rows = []
    for split in dataset.splits:
        table = mars.metadata_of(dataset, split)
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


def write(tables, folder=FOLDER):
    """Write `evaluate`'s tables as <folder>/<name>.csv; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.csv" for name in tables}
    for name, path in paths.items():
        tables[name].to_csv(path, index=False, float_format="%.6g")
    return list(paths.values())


def read(folder=FOLDER):
    """{table name: DataFrame} of what `write` left in `folder`; empty where there is nothing."""
    return {path.stem: pd.read_csv(path) for path in sorted(Path(folder).glob("*.csv"))}


def _constants(dataset, images):
    """{"always <class>": answers (1, images)} for train's majority and the test split's own."""
    counts = class_counts(dataset)
    majorities = dict.fromkeys(int(counts[split].to_numpy().argmax()) for split in ("train", SPLIT))
    return {f"always {dataset.class_names[label]}": np.full((1, images), label) for label in majorities}


def _plainer(label, answers):
    """The networks of `answers` that the one called `label` is held against: those of PLAIN before it."""
    before = PLAIN[: PLAIN.index(label)] if label in PLAIN else PLAIN
    return {name: answers[name] for name in before if name in answers}


def _stacked(tables):
    """Frames {label: frame} under one another, with the label and the index as columns."""
    frames = [
        (table if isinstance(table.index, pd.RangeIndex) else table.reset_index()).assign(label=label)
        for label, table in tables.items()
    ]
    stacked = pd.concat(frames, ignore_index=True)
    return stacked[["label", *stacked.columns.drop("label")]]
