"""A folder of one's own pictures as a Dataset, whatever lies in it; cached, and read again when it changes."""

import os

import numpy as np
import pytest
from PIL import Image
from tiny_folder import CLASSES, encoded, photo, write

from cnnlab import data
from cnnlab.data import folder


def load(path, cache, **options):
    return data.load_folder(path, 32, cache=cache, progress=False, **options)


@pytest.fixture
def pictures(tmp_path):
    return write(tmp_path / "pets")


def test_every_picture_comes_with_its_class_in_one_split(pictures, cache):
    loaded = load(pictures, cache)
    assert (loaded.name, loaded.class_names, loaded.input_shape) == ("folder-pets-32", CLASSES, (32, 32, 3))
    assert {name: len(split) for name, split in loaded.splits.items()} == {"train": 14, "validation": 5, "test": 5}
    seen = []
    for name in loaded.splits:
        images, labels = loaded.split(name)
        files = loaded.metadata["file"].iloc[loaded.splits[name].indices]
        for image, label, file in zip(images, labels, files, strict=True):
            number = int(file.split("/")[1].removesuffix(".png"))
            seen.append(number)
            assert (CLASSES[label], label) == (file.split("/")[0], number % 3)
            resized = np.asarray(photo(number).resize((32, 24), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(image[4:28], resized)
            assert not image[:4].any()
    assert sorted(seen) == list(range(24))
    assert data.is_letterboxed(loaded.name)


def test_the_rows_of_a_split_are_in_no_order_of_class_and_the_seed_decides(pictures, cache):
    first, again, other = (load(pictures, cache, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    labels = first.split("train")[1]
    assert (np.diff(labels.astype(int)) != 0).sum() > 2


def test_bad_files_are_listed_with_their_reasons_and_left_out(pictures, cache, capsys):
    (pictures / "cat" / "empty.jpg").touch()
    (pictures / "cat" / "notes.txt").write_text("x")
    (pictures / "dog" / "half.png").write_bytes(encoded(photo(4))[:-300])
    (pictures / "dog" / "copy.png").write_bytes((pictures / "dog" / "4.png").read_bytes())
    (pictures / "stray.png").write_bytes(encoded(photo(99)))
    loaded = data.load_folder(pictures, 32, cache=cache)
    left_out = dict(loaded.metadata.attrs["left_out"])
    assert set(left_out) == {"cat/empty.jpg", "cat/notes.txt", "dog/half.png", "dog/copy.png", "stray.png"}
    assert left_out["dog/copy.png"] == "is the same file as dog/4.png"
    assert sum(map(len, loaded.splits.values())) == 24
    shown = capsys.readouterr().out
    assert f"5 files in {pictures} are left out:" in shown
    assert all(f"  {file} {reason}\n" in shown for file, reason in left_out.items())
    assert "14 train, 5 validation, 5 test pictures in 24 groups" in shown
    assert "sizes" not in shown


def test_sizes_that_differ_are_said_in_one_line(pictures, cache, capsys):
    (pictures / "cat" / "large.png").write_bytes(encoded(photo(90, (300, 200))))
    (pictures / "dog" / "small.png").write_bytes(encoded(photo(91, (20, 10))))
    data.load_folder(pictures, 32, cache=cache)
    said = "3 sizes, 20x10 to 300x200 pixels, resized to 32x32, padded with black; 1 smaller, enlarged\n"
    assert said in capsys.readouterr().out


def test_by_its_name_the_folder_is_loaded_again_and_divided_by_another_seed(pictures, cache, capsys):
    first = load(pictures, cache)
    assert data.load(first.name).fingerprint == first.fingerprint
    assert data.load(first.name, 1).fingerprint == load(pictures, cache, seed=1).fingerprint
    assert data.load(first.name, 1) is data.load(first.name, 1)
    assert not capsys.readouterr().out


def test_the_fingerprint_is_also_of_the_pixels(pictures, tmp_path, cache):
    first = load(pictures, cache)
    path = pictures / "cat" / "0.png"
    path.write_bytes(encoded(photo(300)))
    assert load(pictures, cache).fingerprint != first.fingerprint
    path.write_bytes(encoded(photo(0)))
    assert load(pictures, cache).fingerprint == first.fingerprint
    assert load(write(tmp_path / "other" / "pets", start=8), cache).fingerprint != first.fingerprint


def test_given_splits_stand(tmp_path, cache):
    write(write(tmp_path / "train", 8) and tmp_path / "test", 3, start=8)
    loaded = load(tmp_path, cache)
    assert len(loaded.splits["test"]) == 9
    files = loaded.metadata["file"].iloc[loaded.splits["test"].indices]
    assert files.str.startswith("test/").all()
    assert len(loaded.splits["train"]) + len(loaded.splits["validation"]) == 24


def test_pictures_that_look_like_one_for_test_are_left_out_and_may_leave_too_few(tmp_path, cache, capsys):
    pets = tmp_path / "pets"
    write(write(pets / "train", 6) and pets / "test", 3, start=6)
    again = pets / "train" / "owl" / "again.jpg"
    again.write_bytes(encoded(photo(20), "JPEG", quality=80))
    left_out = data.load_folder(pets, 32, cache=cache).metadata.attrs["left_out"]
    assert left_out == [("train/owl/again.jpg", "looks like test/owl/20.png")]
    assert f"1 file in {pets} is left out:" in capsys.readouterr().out
    for number in (2, 5):
        (pets / "train" / "owl" / f"{number}.png").write_bytes(encoded(photo(23), "JPEG", quality=50 + number))
    with pytest.raises(ValueError, match=r"the train split of .*: too few usable pictures of owl \(4\)"):
        data.load_folder(pets, 32, cache=cache)
    assert "train/owl/5.png looks like test/owl/23.png" in capsys.readouterr().out


def test_the_cache_is_used_until_the_folder_changes(pictures, cache, monkeypatch):
    first = load(pictures, cache)
    monkeypatch.setattr(folder, "decode_picture", None)
    again = load(pictures, cache)
    np.testing.assert_array_equal(first.split("test")[0], again.split("test")[0])
    monkeypatch.undo()
    path = pictures / "cat" / "0.png"
    path.write_bytes(encoded(photo(300)))
    os.utime(path, ns=(1, 1))
    changed = load(pictures, cache)
    row = changed.metadata.index[changed.metadata["file"] == "cat/0.png"][0]
    expected = np.asarray(photo(300).resize((32, 24), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(changed.splits["train"].images[row][4:28], expected)
    assert len([entry for entry in cache.glob("folder-*") if entry.is_dir()]) == 1, "what the folder was, is gone"
    (pictures / "cat" / "3.png").unlink()
    assert sum(map(len, load(pictures, cache).splits.values())) == 23


def test_two_folders_of_one_name_do_not_share_a_cache(tmp_path, cache):
    one = load(write(tmp_path / "a" / "pets"), cache)
    other = load(write(tmp_path / "b" / "pets", start=8), cache)
    assert (one.split("test")[0] != other.split("test")[0]).any()
    assert len([entry for entry in cache.glob("folder-*") if entry.is_dir()]) == 2


def test_a_damaged_cache_is_built_again(pictures, cache):
    whole = load(pictures, cache).split("test")[0]
    (made,) = (entry for entry in cache.glob("folder-*") if entry.is_dir())
    os.truncate(made / "images.npy", 1_000)
    with pytest.warns(UserWarning, match="is unusable and is being rebuilt"):
        np.testing.assert_array_equal(load(pictures, cache).split("test")[0], whole)


def test_a_folder_that_cannot_be_used_gets_one_line(tmp_path, cache):
    (tmp_path / "pets.zip").write_bytes(b"PK")
    for path, said in (
        (tmp_path / "none", "no such file or folder: .* has no 'none'; expected a folder"),
        ("https://example.org/pets.zip", "an address on the web"),
        (tmp_path / "pets.zip", "is a file .*unpacked"),
    ):
        with pytest.raises(ValueError, match=said):
            load(path, cache)
    few = write(tmp_path / "few", 6)
    for number in (0, 3):
        (few / "cat" / f"{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"too few usable pictures of cat \(4\); expected 5 or more"):
        load(few, cache)
    for size in (7, 1_025, 31.5, True):
        with pytest.raises(ValueError, match="expected 8 to 1,024 whole pixels"):
            data.load_folder(few, size, cache=cache)


def test_an_unwritable_cache_is_said(pictures, cache):
    cache.write_text("a file")
    with pytest.raises(data.DataUnavailableError, match="cannot be written"):
        load(pictures, cache)


def test_the_folder_itself_is_left_as_it_was(pictures, cache):
    before = sorted((path, path.stat().st_mtime_ns) for path in pictures.rglob("*"))
    load(pictures, cache)
    assert sorted((path, path.stat().st_mtime_ns) for path in pictures.rglob("*")) == before
