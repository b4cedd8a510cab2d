"""What is said of the Mars images: on a tiny set with every quirk, and on the real one where it is at hand."""

import hashlib
import zipfile
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import synthetic
import tiny_mars

from cnnlab import data, measures
from cnnlab.data.mars_files import MSL
from cnnlab.measures import exploration
from cnnlab.measures import mars as mars_evaluation


@pytest.fixture(scope="session")
def real(mars_path, request):
    # Reading 6,691 pictures takes as long as all else here: what pytest keeps of its last run serves again.
    return data.load_mars(mars_path, request.config.cache.mkdir("mars"), 32, progress=False)


def wrong_on(dataset, split, *positions):
    """Answers that are right but for the images at `positions` of the split, which get the next class."""
    answers = dataset.split(split)[1].astype("int64")
    answers[list(positions)] = (answers[list(positions)] + 1) % len(dataset.class_names)
    return answers


def test_missing_classes_and_cameras(mars_tiny):
    gaps = exploration.missing_classes(mars_tiny)
    assert gaps["missing_from"].to_dict() == {"hole": "test"}
    assert gaps.loc["hole", ["train", "validation", "test"]].tolist() == [2, 1, 0]
    shares = exploration.camera_shares(mars_tiny)
    assert shares.loc["MAHLI"].to_dict() == {"train": 0.4, "validation": 0.75, "test": pytest.approx(1 / 3)}
    assert shares.loc["Mastcam right", "validation"] == 0
    np.testing.assert_allclose(shares.sum(), 1)


def test_recurring_frames(mars_tiny):
    table = exploration.recurring_frames(mars_tiny)
    assert table.loc["train"].to_dict() == pytest.approx(
        {"images": 10, "frames": 7, "groups": 4, "most_images": 2, "repeated_share": 0.3, "two_classes": 1}
    )
    assert table.loc["test", ["images", "frames", "groups"]].tolist() == [6, 5, 5]


def test_samples_show_no_frame_twice(mars_tiny):
    chosen = exploration.mars_samples(mars_tiny, "train", 3)
    counts = chosen["class"].value_counts()
    assert counts["rock"] == 3
    assert counts["hole"] == 1  # two images of one frame
    assert not chosen["file"].str[:22].duplicated().any()
    for row in chosen.itertuples():
        assert mars_tiny.class_names[mars_tiny.splits["train"].labels[row.row]] == row[1]
    pd.testing.assert_frame_equal(chosen, exploration.mars_samples(mars_tiny, "train", 3))
    assert "hole" not in set(exploration.mars_samples(mars_tiny, "test", 3)["class"])


def test_the_pipeline_ends_at_what_the_network_sees(mars_tiny, mars_copy):
    steps = exploration.mars_pipeline(mars_tiny.metadata["file"][5], 16, path=mars_copy)
    assert list(steps) == ["original", "rgb", "resized", "input", "scaled"]
    assert steps["original"].ndim == 2  # product D is greyscale
    np.testing.assert_array_equal(steps["input"], mars_tiny.splits["train"].images[5])
    assert steps["scaled"].dtype == np.float32
    np.testing.assert_allclose(steps["scaled"] * 255, steps["input"], atol=1e-4)


def test_nearest_is_the_highest_correlation(bars_dataset):
    large = synthetic.dataset(side=32)
    table = exploration.nearest_training_image(large, "test")
    images = large.splits["test"].images
    small = images.reshape(len(images), 16, 2, 16, 2, 3).mean(axis=(2, 4, 5)).reshape(len(images), -1)
    seen = large.splits["train"].indices
    for row, nearest_row, correlation, label in table.iloc[:5].itertuples(index=False):
        found = [np.corrcoef(small[row], small[other])[0, 1] for other in seen]
        assert nearest_row == seen[np.argmax(found)]
        assert correlation == pytest.approx(max(found), abs=1e-5)
        assert label == large.splits["train"].labels[nearest_row]
    itself = exploration.nearest_training_image(bars_dataset, "train")
    assert (itself["row"] == itself["nearest_row"]).all()
    np.testing.assert_allclose(itself["correlation"], 1, atol=1e-5)


def test_metadata_is_needed(bars_dataset):
    with pytest.raises(ValueError, match="bars has no metadata"):
        exploration.camera_shares(bars_dataset)


def test_constant_baselines(mars_tiny):
    table = mars_evaluation.constant_baselines(mars_tiny).set_index(["split", "baseline"])
    known = table.loc[("validation", "train's majority")]
    assert (known["answer"], known["accuracy"]) == ("rock", 0.25)
    assert known["balanced_accuracy"] == pytest.approx(1 / 3)
    own = table.loc[("validation", "the split's own majority")]
    assert (own["answer"], own["accuracy"]) == ("big wheel", 0.5)


def test_scores_recalls_and_cameras(mars_tiny):
    answers = wrong_on(mars_tiny, "test", 0, 1)
    table = mars_evaluation.scores_with_intervals(mars_tiny, "test", answers)
    assert table.loc["accuracy", "value"] == pytest.approx(4 / 6)
    assert table.loc["accuracy", ["groups", "sols"]].tolist() == [5, 4]
    assert table.loc["accuracy", "low_sol"] <= 4 / 6 <= table.loc["accuracy", "high_sol"]
    recalls = mars_evaluation.mars_recalls(mars_tiny, "test", answers)
    assert recalls.loc["big wheel", ["images", "groups", "value"]].tolist() == pytest.approx([3, 2, 1 / 3])
    cameras = mars_evaluation.by_camera(mars_tiny, "test", answers)
    assert cameras["accuracy"].to_dict() == {"MAHLI": 0, "Mastcam left": 1, "Mastcam right": 1}
    assert cameras["images"].sum() == 6


def test_what_recurs_counts_once_or_not_at_all(mars_tiny):
    table = mars_evaluation.by_frame(mars_tiny, "test", wrong_on(mars_tiny, "test", 0, 1))
    assert table["images"].to_dict() == {
        "every image": 6, "each frame once": 6, "frames first seen here": 6, "sequences seen before": 2,
        "sequences first seen here": 4,
    }  # fmt: skip
    assert table["accuracy"].tolist() == pytest.approx([4 / 6, 4 / 5, 4 / 6, 0, 1])
    assert table.loc["sequences first seen here", "gap"] == 1
    assert table.loc["every image", "low"] < 4 / 6 < table.loc["every image", "high"]
    assert table.loc["sequences seen before", ["low", "high"]].isna().all(), "two images of one group"


def test_the_surest_wrong_answers_show_each_group_once(mars_tiny):
    answers = wrong_on(mars_tiny, "test", 0, 1, 3)
    table = mars_evaluation.most_confident_wrong(mars_tiny, "test", answers, [0.8, 0.9, 1.0, 0.7, 1.0, 1.0])
    assert table["confidence"].tolist() == [0.9, 0.7]
    assert table["file"].tolist() == [tiny_mars.SPLITS["test"][1][0], tiny_mars.SPLITS["test"][3][0]]
    assert table["true"].tolist() == ["big wheel", "rock"]
    assert table["answer"].tolist() == ["rock", "hole"]


def test_scores_are_means_over_seeds_and_may_cover_the_first_images_only(mars_tiny):
    seeds = np.stack([wrong_on(mars_tiny, "test", 0, 1), wrong_on(mars_tiny, "test")])
    cameras = mars_evaluation.by_camera(mars_tiny, "test", seeds)
    assert cameras.loc["MAHLI", ["accuracy", "balanced_accuracy"]].tolist() == [0.5, 0.5]
    frames = mars_evaluation.by_frame(mars_tiny, "test", seeds[:, :2])
    assert frames.loc["every image", ["images", "frames", "accuracy"]].tolist() == [2, 1, 0.5]


def test_against_baselines_counts_image_by_image(mars_tiny):
    truth = wrong_on(mars_tiny, "test")
    table = mars_evaluation.scores_against(
        mars_tiny, "test", truth, {"none": (truth + 1) % 3, "half": wrong_on(mars_tiny, "test", 0, 1, 2)}
    )
    table = table.set_index(["baseline", "score"])
    accuracy = table.xs("accuracy", level="score")
    assert accuracy["difference"].tolist() == [1, 0.5]
    assert accuracy.loc["none", ["low", "high"]].tolist() == [1, 1]
    # Of three and three images, two and one are wrong.
    assert table.loc[("half", "balanced_accuracy"), "difference"] == pytest.approx(0.5)
    assert (table["groups"] == 5).all()


def test_the_trend_is_the_later_half_of_the_sols_less_the_earlier(mars_tiny):
    row = mars_evaluation.sol_gap(mars_tiny, "test", wrong_on(mars_tiny, "test", 0, 1)).iloc[0]
    assert row[["first_sol", "middle_sol", "last_sol"]].tolist() == [20, 22, 23]
    assert row["gap"] == 0.5
    assert row["low"] <= 0.5 <= row["high"]
    # The later half has one big wheel and one rock, right; of the earlier, no wheel and every rock.
    assert row["within"] == 0.5
    assert row["classes"] == 2


def test_accuracy_by_sol(mars_tiny):
    table = mars_evaluation.accuracy_by_sol(mars_tiny, "test", wrong_on(mars_tiny, "test", 0, 1), span=2)
    assert table[["first_sol", "last_sol", "images", "groups"]].to_numpy().tolist() == [[20, 21, 4, 3], [22, 23, 2, 2]]
    assert table["accuracy"].tolist() == [0.5, 1]
    assert table.loc[0, "low"] < 0.5 < table.loc[0, "high"]
    by_three = mars_evaluation.accuracy_by_sol(mars_tiny, "test", wrong_on(mars_tiny, "test", 0), span=3)
    assert by_three[["first_sol", "last_sol", "images"]].to_numpy().tolist() == [[18, 20, 3], [21, 23, 3]]
    with pytest.raises(ValueError, match="span is 0; expected a whole number of sols"):
        mars_evaluation.accuracy_by_sol(mars_tiny, "test", wrong_on(mars_tiny, "test", 0), span=0)


def test_a_vote_goes_to_the_class_of_most_confidence():
    predicted = np.array([[0, 2, 1], [1, 2, 1], [1, 0, 0]])
    confidence = np.array([[0.9, 0.6, 0.5], [0.4, 0.6, 0.5], [0.4, 0.9, 1.0]], "float16")
    # One that is sure outvotes two that are not; a tie goes to the first class.
    assert measures.vote(predicted, confidence).tolist() == [0, 2, 0]


def counts_from_the_text_files(path):
    """{(split, class name): images}, read from the zip without cnnlab."""
    with zipfile.ZipFile(path) as archive:
        lines = {
            name: archive.read(f"msl-images/{name}").decode().splitlines()
            for name in ("msl_synset_words-indexed.txt", *tiny_mars.SPLIT_FILES.values())
        }
    names = dict(line.split(maxsplit=1) for line in lines["msl_synset_words-indexed.txt"])
    return Counter(
        (split, names[line.split()[1]]) for split, name in tiny_mars.SPLIT_FILES.items() for line in lines[name]
    )


def test_the_real_splits_and_classes(real, mars_path):
    assert {name: len(split) for name, split in real.splits.items()} == MSL.images
    assert len(real.class_names) == data.SHAPES["mars"][1] == 24
    assert "sun" not in real.class_names
    counts = exploration.class_counts(real)
    published = counts_from_the_text_files(mars_path)
    assert {(split, name): number for split in counts for name, number in counts[split].items() if number} == published
    assert (counts > 0).sum().to_dict() == {"train": 24, "validation": 20, "test": 22}
    shares = counts / counts.sum()
    assert shares["train"].idxmax() == "ground"
    np.testing.assert_allclose(shares.loc["ground"], [0.625, 0.053, 0.195], atol=5e-4)
    np.testing.assert_allclose(shares.loc["wheel", ["validation", "test"]], [0.384, 0.230], atol=5e-4)
    np.testing.assert_allclose(shares.loc["drill holes", ["validation", "test"]], [0.287, 0], atol=5e-4)
    drt = counts.loc[["drt front", "drt side"]].sum()
    assert drt["train"] == 12
    assert drt["test"] / 1_305 == pytest.approx(0.161, abs=5e-4)
    assert set(exploration.missing_classes(real).query("test == 0").index) == {"drill holes", "turret"}


def test_the_real_labels_keep_both_ids(real):
    pairs = real.metadata[["class_id", "label"]].drop_duplicates().sort_values("label").to_numpy().tolist()
    assert pairs == [[label if label < 22 else label + 1, label] for label in range(24)]


def test_the_real_groups_and_frames(real):
    table = exploration.recurring_frames(real)
    assert table["groups"].tolist() == [493, 359, 326]
    assert table["frames"].tolist() == [2_389, 949, 820]
    sols = real.metadata.groupby("split")["sol"].agg(["min", "max"])
    assert sols.loc[["train", "validation", "test"]].to_numpy().tolist() == [[3, 180], [182, 564], [565, 1060]]
    for unit in ("file", "frame", "group", "sol"):
        assert (real.metadata.groupby(unit)["split"].nunique() == 1).all()
    np.testing.assert_allclose(exploration.camera_shares(real).loc["MAHLI"], [0.085, 0.827, 0.559], atol=5e-4)


def test_the_real_baselines(real):
    table = mars_evaluation.constant_baselines(real).set_index(["baseline", "split"])["accuracy"]
    assert table["train's majority", "validation"] == pytest.approx(0.053, abs=5e-4)
    assert table["train's majority", "test"] == pytest.approx(0.195, abs=5e-4)
    assert table["the split's own majority", "test"] == pytest.approx(0.230, abs=5e-4)


def test_the_real_set_has_look_alikes_across_splits(real):
    # No file and no frame is in two splits, but pictures of a sequence that was taken again are
    # alike: a bare memory of the training images answers far better than any constant.
    table = exploration.nearest_training_image(real, "test")
    right = table["nearest_label"].to_numpy() == exploration.metadata_of(real, "test")["label"].to_numpy()
    alike = table["correlation"].to_numpy() > 0.9
    assert right.mean() > 0.4
    assert right[alike].mean() > right[~alike].mean() + 0.2


def test_the_real_pixels(real):
    images = real.splits["train"].images
    assert images.dtype == np.uint8
    assert images.shape == (6_691, 32, 32, 3)
    assert isinstance(images, np.memmap)
    grey = (real.metadata["product"] == "D").to_numpy()
    assert grey.sum() == 172  # 184 with those in no split
    grey_images = images[grey]
    assert (grey_images == grey_images[..., :1]).all()
    digests = {hashlib.sha256(image).digest() for image in images}
    assert len(digests) > 6_600
