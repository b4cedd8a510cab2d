"""Where the pictures of a folder are, which belong together, and who is held out."""

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_folder import CLASSES, photo, write

from cnnlab.data import folder_files
from cnnlab.data.folder_files import (
    assign_splits,
    check_classes,
    find_files,
    find_groups,
    innermost,
    leave_out_look_alikes,
    mark_copies,
)

GROUPS = {"cat": 12, "dog": 9, "owl": 6}


def files_in(*names):
    """A function that makes empty files of these names in a folder."""

    def make(root):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"")
        return root

    return make


def test_classes_are_folders_in_natural_order_with_all_that_is_in_them(tmp_path):
    files_in("c10/a.jpg", "c2/b.PNG", "c2/deep/er/c.webp", "c2/.DS_Store", ".git/x", "__MACOSX/c2/b.png", "loose.jpg",
             "README.md", "c2/Thumbs.db")(tmp_path)  # fmt: skip
    table, classes, outside = find_files(tmp_path)
    assert classes == ["c2", "c10"]
    assert sorted(table["file"]) == ["c10/a.jpg", "c2/b.PNG", "c2/deep/er/c.webp"]
    assert outside == [("loose.jpg", "lies in no class's folder")]


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "val", "TEST")])
def test_folders_of_splits_are_honoured(tmp_path, names):
    files_in(*(f"{name}/{kind}/1.jpg" for name in names for kind in CLASSES))(tmp_path)
    table, classes, _ = find_files(tmp_path)
    assert classes == list(CLASSES)
    expected = {"train": "train", "Training": "train", "val": "validation", "test": "test", "TEST": "test"}
    assert set(zip(table["home"].str.split("/").str[0], table["split"], strict=True)) == {
        (name, expected[name]) for name in names
    }


def test_a_class_may_be_called_as_a_split(tmp_path):
    table, classes, _ = find_files(files_in("train/1.jpg", "plane/2.jpg")(tmp_path))
    assert classes == ["plane", "train"]
    assert table["split"].isna().all()


def test_the_folder_that_an_archive_unpacks_into_is_meant(tmp_path):
    files_in("flowers/flowers/rose/1.jpg", "flowers/flowers/tulip/2.jpg", "__MACOSX/x")(tmp_path)
    assert innermost(tmp_path) == tmp_path / "flowers" / "flowers"
    files_in("train/rose/1.jpg")(tmp_path / "only")
    assert innermost(tmp_path / "only") == tmp_path / "only"


def test_what_is_no_file_or_may_not_be_read_is_listed(tmp_path, monkeypatch):
    files_in("cat/1.jpg", "dog/1.jpg", "dog/locked/2.jpg")(tmp_path)
    (tmp_path / "cat" / "gone.jpg").symlink_to("elsewhere.jpg")
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    locked(monkeypatch, tmp_path / "dog" / "locked")
    table, _, outside = find_files(tmp_path)
    assert sorted(table["file"]) == ["cat/1.jpg", "dog/1.jpg"]
    no_file = "is not a file, or is a broken link"
    assert dict(outside) == {"cat/gone.jpg": no_file, "cat/pipe.jpg": no_file, "dog/locked": "cannot be read"}
    locked(monkeypatch, tmp_path / "dog")
    with pytest.raises(ValueError, match=r"dog cannot be read \(Permission denied\)"):
        find_files(tmp_path)


def locked(monkeypatch, folder):
    """Have `folder` be one that nobody may read, root included."""
    listed = Path.iterdir

    def iterdir(path):
        if path == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)


def test_a_class_may_be_a_link_to_a_folder(tmp_path):
    files_in("elsewhere/1.jpg", "pets/dog/2.jpg")(tmp_path)
    (tmp_path / "pets" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert sorted(find_files(tmp_path / "pets")[0]["file"]) == ["cat/1.jpg", "dog/2.jpg"]


def test_a_link_that_leads_back_is_not_followed(tmp_path):
    files_in("a/1.jpg", "b/2.jpg")(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(find_files(tmp_path)[0]["file"]) == ["a/1.jpg", "b/2.jpg"]


NO_CLASSES = {
    "holds no folders": files_in("1.jpg", "2.jpg"),
    "holds one folder, cat; expected .* two or more": files_in("cat/1.jpg"),
    "test lies beside train/ and holds no folders of classes": files_in("train/a/1.jpg", "test/1.jpg"),
    "extra lies beside": files_in("train/a/1.jpg", "test/a/1.jpg", "extra/1.jpg"),
    "has test, val; expected train/": files_in("test/a/1.jpg", "val/a/1.jpg"),
    "has val, valid; expected|has train, val, valid": files_in("train/a/1", "val/a/1", "valid/a/1"),
}


@pytest.mark.parametrize("reason", NO_CLASSES)
def test_a_folder_without_classes_is_refused(tmp_path, reason):
    with pytest.raises(ValueError, match=reason):
        find_files(NO_CLASSES[reason](tmp_path))


def table_of(classes, splits=None):
    """A table of good files, named after their number."""
    names = [f"{kind}/{row}.png" for row, kind in enumerate(classes)]
    table = pd.DataFrame({"file": names, "home": classes, "class": classes, "split": splits or [None] * len(classes)})
    return table.assign(reason="", group=names)


def thumbnails_of(numbers):
    return np.stack([np.asarray(photo(number, (16, 16))) for number in numbers])


def test_copies_are_left_out_and_so_are_files_of_two_classes():
    table = table_of(["cat", "cat", "dog", "dog", "dog"])
    mark_copies(table, np.array([[1] * 32, [1] * 32, [2] * 32, [3] * 32, [2] * 32], "uint8"))
    assert list(table["reason"]) == ["", "is the same file as cat/0.png", "", "", "is the same file as dog/2.png"]
    table = table_of(["cat", "dog"])
    mark_copies(table, np.ones((2, 32), "uint8"))
    assert set(table["reason"]) == {"is in several classes: cat and dog"}


def test_of_copies_in_two_splits_that_for_test_stays():
    table = table_of(["cat"] * 3, ["train", "test", "validation"])
    mark_copies(table, np.ones((3, 32), "uint8"))
    assert list(table["reason"] == "") == [False, True, False]


def test_classes_with_too_few_pictures_are_named_with_their_numbers(tmp_path):
    table = table_of(["cat"] * 6 + ["dog"] * 5)
    check_classes(table, ["cat", "dog"], tmp_path)
    table.loc[8, "reason"] = "is empty"
    with pytest.raises(ValueError, match=r"too few .* of dog \(4\), owl \(0\); expected 5 or more of each class"):
        check_classes(table, ["cat", "dog", "owl"], tmp_path)
    given = table_of(["cat"] * 6 + ["dog"] * 5, ["test"] + ["train"] * 10)
    with pytest.raises(ValueError, match=r"the test split of .*too few .* of dog \(0\); expected 1 or more"):
        check_classes(given, ["cat", "dog"], tmp_path)


def named(*stems):
    files = [f"{kind}/{stem}.jpg" for kind in ("cat", "dog") for stem in stems]
    kinds = [name.split("/")[0] for name in files]
    return pd.DataFrame({"file": files, "home": kinds, "class": kinds, "split": None, "reason": ""})


def test_names_that_differ_in_a_last_number_make_groups(tmp_path):
    table = named(*(f"scene{scene}{suffix}" for scene in "abcde" for suffix in ("", "_2", " (3)", "-04")))
    source, groups = find_groups(tmp_path, table)
    assert "names" in source
    assert groups.nunique() == 5


@pytest.mark.parametrize(
    "stems",
    [
        [f"IMG_{number:04d}" for number in range(20)],
        [f"{number}" for number in range(20)],
        [f"cat.{number}" for number in range(19)] + ["dog.1"],
        [f"{letter}" for letter in "abcdefgh"],
    ],
)
def test_mere_counters_make_none(tmp_path, stems):
    table = named(*stems)
    assert find_groups(tmp_path, table)[1].tolist() == table["file"].tolist()


def test_folders_within_a_class_make_groups(tmp_path):
    table = named("1", "2").assign(file=["cat/tom/1.jpg", "cat/tom/2.jpg", "dog/1.jpg", "dog/2.jpg"])
    assert find_groups(tmp_path, table)[1].tolist() == ["cat/tom", "cat/tom", "dog/1.jpg", "dog/2.jpg"]


@pytest.mark.parametrize("text", ["file,group\ncat/1.jpg,x\n2.jpg,x\n", "\ufeffFile; Group\ncat/1.jpg; x\n2.jpg; x\n"])
def test_a_csv_says_what_belongs_together(tmp_path, text):
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    source, groups = find_groups(tmp_path, named("1", "2"))
    assert source == "groups.csv"
    assert groups.tolist() == ["group x", "group x", "dog/1.jpg", "group x"]
    assert find_groups(tmp_path / "elsewhere", named("1", "2"), tmp_path / "groups.csv")[1].tolist() == groups.tolist()
    (tmp_path / "groups.csv").write_text(text + text.splitlines()[1].replace("1.jpg", "7.jpg") + "\n", encoding="utf-8")
    source, again = find_groups(tmp_path, named("1", "2"))
    assert source == "groups.csv (lines that name no picture: 1)"
    assert again.tolist() == groups.tolist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,scene\n1,2\n", "has the columns name, scene"),
        ("file,group\nx.jpg,1\n", "names none of"),
        ("", "not a CSV"),
        ("file,group\ncat/1.jpg,a\ncat/1.jpg,b\n", "has cat/1.jpg in several groups"),
    ],
)
def test_a_csv_that_says_nothing_is_refused(tmp_path, text, reason):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        find_groups(tmp_path, named("1", "2"), tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="there is no file"):
        find_groups(tmp_path, named("1", "2"), tmp_path / "none.csv")


def test_a_fifth_of_each_class_is_held_out_twice_by_whole_groups():
    classes = [kind for kind, count in GROUPS.items() for _ in range(5 * count)]
    table = table_of(classes)
    table["group"] = [f"{kind}{row // 3}" for row, kind in enumerate(classes)]
    before = table["group"].to_numpy()
    assign_splits(table, thumbnails_of(range(len(table))))
    counts = pd.crosstab(table["class"], table["split"], normalize="index")
    np.testing.assert_allclose(counts[["test", "train", "validation"]], [[0.2, 0.6, 0.2]] * 3, atol=0.06)
    assert pd.Series(table["split"].to_numpy()).groupby(before).nunique().max() == 1
    again = table_of(classes).assign(group=before)
    assign_splits(again, thumbnails_of(range(len(table))), seed=1)
    assert (again["split"] != table["split"]).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_set_has_every_class_in_every_split(seed):
    table = table_of([kind for kind in CLASSES for _ in range(5)])
    assign_splits(table, thumbnails_of(range(15)), seed)
    assert (pd.crosstab(table["class"], table["split"]) > 0).all(axis=None)


def test_near_duplicates_stay_on_one_side():
    table = table_of([kind for kind in CLASSES for _ in range(10)])
    numbers = np.arange(30) // 2
    assign_splits(table, thumbnails_of(numbers))
    assert table.groupby(numbers)["split"].nunique().max() == 1
    assert table["group"].nunique() == 15


def test_what_cannot_be_used_is_in_no_split():
    table = table_of([kind for kind in CLASSES for _ in range(6)])
    table.loc[[0, 7], "reason"] = "is empty"
    assign_splits(table, thumbnails_of(range(18)))
    assert table.loc[[0, 7], "split"].isna().all()
    assert (table.loc[[0, 7], "group"] == -1).all()
    assert table["split"].notna().sum() == 16


@pytest.mark.parametrize("given", [("train", "test"), ("train", "validation"), ("train", "validation", "test")])
def test_given_splits_stand_and_the_others_come_from_train(given):
    classes = [kind for _ in given for kind in CLASSES for _ in range(6)]
    table = table_of(classes, [split for split in given for _ in range(18)])
    before = table["split"].to_numpy(copy=True)
    assign_splits(table, thumbnails_of(range(len(table))))
    assert set(table["split"]) == {"train", "validation", "test"}
    assert (table["split"] == before)[before != "train"].all()
    assert (pd.crosstab(table["class"], table["split"]) > 0).all(axis=None)


def test_near_duplicates_across_given_splits_are_left_out_of_what_is_learned_from():
    classes = [kind for _ in range(3) for kind in CLASSES for _ in range(6)]
    table = table_of(classes, [split for split in ("train", "test", "validation") for _ in range(18)])
    numbers = np.arange(54)
    numbers[[0, 1, 40]] = 20, 41, 21  # of test, of validation, of test
    leave_out_look_alikes(table, thumbnails_of(numbers))
    reasons = table.loc[table["reason"] != "", "reason"].to_dict()
    assert reasons == {left: f"looks like {table['file'][other]}" for left, other in ((0, 20), (1, 41), (40, 21))}


def test_a_group_on_both_sides_of_given_splits_is_refused_and_a_guess_is_said(tmp_path):
    stems = [f"scene{scene}_{number}" for scene in "abcdef" for number in (1, 2)]
    places = itertools.product(("train", "test"), CLASSES, stems)
    rows = [(f"{split}/{kind}/{stem}.jpg", kind, split) for split, kind, stem in places]
    table = pd.DataFrame(rows, columns=["file", "class", "split"]).assign(reason="")
    table["home"] = table["split"] + "/" + table["class"]
    source, table["group"] = find_groups(tmp_path, table)
    assert source == "names that differ only in a final number, 6 of which lie in several of the given splits"
    assign_splits(table, thumbnails_of(range(len(table))))
    assert (table["split"] == "test").sum() == 36
    again = pd.DataFrame(rows, columns=["file", "class", "split"]).assign(reason="", home=table["home"])
    (tmp_path / "groups.csv").write_text("file,group\ntrain/cat/scenea_1.jpg,tom\ntest/cat/sceneb_1.jpg,tom\n")
    again["group"] = find_groups(tmp_path, again)[1]
    with pytest.raises(ValueError, match=r"^group tom lies in several .*train/cat/scenea_1.jpg, test/cat/sceneb_1.jpg"):
        assign_splits(again, thumbnails_of(range(len(again))))
    again.loc[again["file"] == "train/cat/scenea_1.jpg", "reason"] = "is empty"
    assign_splits(again, thumbnails_of(range(len(again))))


def test_a_class_of_one_scene_is_refused():
    table = table_of([kind for kind in CLASSES for _ in range(6)])
    numbers = np.arange(18)
    numbers[:6] = 0
    with pytest.raises(ValueError, match="pictures of cat belong together or look alike.*expected 5 or more"):
        assign_splits(table, thumbnails_of(numbers))


def test_a_name_that_is_no_text_can_be_printed(tmp_path):
    assert folder_files.printable("caf\udce9").isprintable()
    write(tmp_path, 1)
    assert find_files(tmp_path)[1] == list(CLASSES)
