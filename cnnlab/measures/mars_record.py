"""What the record says of Mars: every measure of `mars` for every network and baseline, as tables on disk."""

from pathlib import Path

import numpy as np
import pandas as pd

from cnnlab.measures.exploration import class_counts, describe_splits, metadata_of, nearest_training_image
from cnnlab.measures.groups import group_scores
from cnnlab.measures.mars import (
    accuracy_by_sol,
    by_camera,
    by_frame,
    majorities,
    mars_recalls,
    scores_against,
    scores_with_intervals,
    sol_gap,
)
from cnnlab.measures.stats import t_interval, vote
from cnnlab.studies import MARS_CNN, MARS_DENSE, MARS_VOTES, find_budget

MARS_FOLDER = Path("results") / "mars"
NEAREST = "the nearest training image's class"
SPLIT = "test"
# The networks that others are held against, each also against those before it.
PLAIN_NETWORKS = (MARS_DENSE.label, MARS_CNN.label)


def evaluate_mars(dataset, answers, confidence=None, unseen=None):
    """{table name: DataFrame} of what the record says of Mars.

    `dataset`: of `data.load_mars`; `answers`: {label: integers (seeds, n), or (n,)} for its first n test images (see
    `studies.predictions`), `confidence` in them likewise, with which the variants of MARS_VOTES vote; `unseen`: answers
    to its first validation images, of the variants among which is chosen. Tables: images (a row a split), scores (with
    the constant and nearest-neighbour baselines, and intervals over seeds), validation, against (the baselines and the
    plain networks, by the same groups), recalls, cameras, sols, trend and frames.
    """
    answers = {label: np.atleast_2d(found) for label, found in answers.items()}
    voters = [name for name in MARS_VOTES if name in (confidence or {}) and len(answers[name]) > 1]
    votes = {f"{name}_vote": vote(answers[name], confidence[name])[None] for name in voters}
    seeds = {label: len(answers[label.removesuffix("_vote")]) for label in (*answers, *votes)}
    answers |= votes
    images = next(iter(answers.values())).shape[1]
    constant = dict.fromkeys(majorities(dataset)[split] for split in ("train", SPLIT))
    baselines = {f"always {dataset.class_names[label]}": np.full((1, images), label) for label in constant}
    baselines[NEAREST] = nearest_training_image(dataset, SPLIT)["nearest_label"].head(images).to_numpy()[None]

    def of_each(function):
        return _stacked({label: function(dataset, SPLIT, found) for label, found in answers.items()})

    scores = {
        label: _with_seeds(dataset, SPLIT, found).assign(seeds=seeds.get(label, 0))
        for label, found in (answers | baselines).items()
    }
    chosen_among = {
        label: _with_seeds(dataset, "validation", found).assign(seeds=len(np.atleast_2d(found)))
        for label, found in (unseen or {}).items()
    }
    against = {
        label: scores_against(dataset, SPLIT, found, {**baselines, **_plainer(label, answers)})
        for label, found in answers.items()
    }
    recalls = of_each(mars_recalls)
    return {
        "images": describe_splits(dataset),
        "scores": _stacked(scores),
        **({"validation": _stacked(chosen_among)} if chosen_among else {}),
        "against": _stacked(against),
        "recalls": recalls.assign(train_images=recalls["class"].map(class_counts(dataset)["train"])),
        "cameras": of_each(by_camera),
        "sols": of_each(accuracy_by_sol),
        "trend": of_each(sol_gap),
        "frames": of_each(by_frame),
    }


def _with_seeds(dataset, split, predicted):
    """`scores_with_intervals` with seed_low and seed_high, of each score's mean over seeds (NaN for one)."""
    table = scores_with_intervals(dataset, split, predicted).rename_axis("score")
    labels = metadata_of(dataset, split)["label"].iloc[: np.shape(predicted)[-1]]
    one_each = [group_scores(labels, answers, len(dataset.class_names)) for answers in np.atleast_2d(predicted)]
    over_seeds = {score: t_interval(values) for score, values in pd.DataFrame(one_each).items()}
    return table.assign(
        seed_low=[over_seeds[score].low for score in table.index],
        seed_high=[over_seeds[score].high for score in table.index],
    )


def _plainer(label, answers):
    """The networks of `answers` that the one called `label` is held against: those of PLAIN_NETWORKS before it."""
    before = PLAIN_NETWORKS[: PLAIN_NETWORKS.index(label)] if label in PLAIN_NETWORKS else PLAIN_NETWORKS
    return {name: answers[name] for name in before if name in answers}


def _stacked(tables):
    """Frames {label: frame} under one another, with the label and the index as columns."""
    named = [table if isinstance(table.index, pd.RangeIndex) else table.reset_index() for table in tables.values()]
    stacked = pd.concat(named, keys=tables, names=["label", None]).reset_index("label")
    return stacked.reset_index(drop=True)


def write_mars(tables, folder=None):
    """Write `evaluate_mars`'s tables as <folder>/<name>.csv (None: the record's); returns the paths."""
    folder = Path(folder or find_budget("full").folder / MARS_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.csv" for name in tables}
    for name, path in paths.items():
        tables[name].to_csv(path, index=False, float_format="%.6g")
    return list(paths.values())


def read_mars(folder=None):
    """{table name: DataFrame} of what `write_mars` left in `folder`; empty where there is nothing."""
    folder = Path(folder or find_budget("full").folder / MARS_FOLDER)
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
