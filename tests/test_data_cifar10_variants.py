"""CIFAR-10.1 and CIFAR-10-C from the user's disk: whatever is no such thing gets one line that says what."""

import io

import numpy as np
import pytest

from cnnlab.data import BadDataError, load_variants

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")
LABELS = np.arange(20) % 10


def test_a_file_of_images_with_its_labels_as_cifar10_1_has_them(tmp_path):
    np.save(tmp_path / "cifar10.1_v6_data.npy", IMAGES)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", LABELS.astype("int32"))
    for path in (tmp_path, tmp_path / "cifar10.1_v6_data.npy", f"'{tmp_path}/cifar10.1_v6_data.npy' "):
        ((kind, strength, images, labels),) = load_variants(path, 100)
        assert (kind, strength) == ("cifar10.1_v6", 0)
        assert np.array_equal(images, IMAGES)
        assert np.array_equal(labels, LABELS)


def test_a_folder_of_corruptions_in_five_strengths(tmp_path):
    for number, name in enumerate(("fog", "snow")):
        np.save(
            tmp_path / f"{name}.npy", np.concatenate([IMAGES[:10] // (strength + number) for strength in range(1, 6)])
        )
    np.save(tmp_path / "labels.npy", np.tile(LABELS[:10], 5))
    found = load_variants(tmp_path, 100)
    assert [(kind, strength) for kind, strength, *_ in found] == [(k, s) for k in ("fog", "snow") for s in range(1, 6)]
    for (_, strength, images, labels), number in zip(found, [0] * 5 + [1] * 5, strict=True):
        assert np.array_equal(images, IMAGES[:10] // (strength + number))
        assert np.array_equal(labels, LABELS[:10])


def test_a_limit_takes_evenly_from_what_may_be_sorted(tmp_path):
    np.save(tmp_path / "own.npy", IMAGES)
    np.save(tmp_path / "labels.npy", np.sort(LABELS))
    ((_, _, images, labels),) = load_variants(tmp_path / "own.npy", 10)
    assert len(images) == 10
    assert len(set(labels)) > 8


def test_one_class_alone_is_no_five_strengths(tmp_path):
    np.save(tmp_path / "cats.npy", IMAGES)
    np.save(tmp_path / "labels.npy", np.full(20, 3))
    assert [strength for _, strength, *_ in load_variants(tmp_path, 100)] == [0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no .npy of images; expected uint8"),
        ({"labels": LABELS}, "has no .npy of images"),
        ({"fog": IMAGES}, "fog.npy has no labels beside it; expected fog_labels.npy or labels.npy"),
        ({"fog_data": IMAGES}, "expected fog_labels.npy or labels.npy"),
        ({"fog": IMAGES / 255, "labels": LABELS}, r"is float64 \(20, 32, 32, 3\); expected uint8 \(n, 32, 32, 3\)"),
        ({"fog": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"is uint8 \(20, 3, 32, 32\); expected"),
        ({"fog": IMAGES[:0], "labels": LABELS[:0]}, r"is uint8 \(0, 32, 32, 3\); expected"),
        ({"fog": IMAGES, "labels": LABELS[:19]}, r"labels.npy is int64 \(19,\); expected whole numbers \(20,\)"),
        ({"fog": IMAGES, "labels": LABELS / 1}, r"labels.npy is float64 \(20,\); expected whole numbers"),
        ({"fog": IMAGES, "labels": np.eye(20)[LABELS]}, r"is float64 \(20, 20\); expected whole numbers"),
        ({"fog": IMAGES, "labels": LABELS + 1}, "has labels from 1 to 10; expected 0 to 9"),
        ({"fog": IMAGES, "labels": LABELS - 1}, "has labels from -1 to 8; expected 0 to 9"),
        ({"fog": np.array([None, {}], dtype=object), "labels": LABELS}, "fog.npy is no whole .npy of numbers"),
    ],
)  # fmt: skip
def test_bad_files_get_one_line(files, message, tmp_path):
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(BadDataError, match=message) as error:
        load_variants(tmp_path, 100)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.npy" for name in files)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:200], lambda data: b"", lambda data: data[:-1], lambda data: b"x"]
)
def test_a_damaged_file_gets_one_line(damage, tmp_path):
    np.save(file := io.BytesIO(), IMAGES)
    (tmp_path / "fog.npy").write_bytes(damage(file.getvalue()))
    with pytest.raises(BadDataError, match=r"fog.npy is no whole .npy of numbers \(") as error:
        load_variants(tmp_path, 100)
    assert "\n" not in str(error.value)


def test_several_arrays_and_no_path_get_one_line(tmp_path):
    np.savez(tmp_path / "both.npz", IMAGES, LABELS)
    with pytest.raises(BadDataError, match="both.npz holds several arrays; expected a .npy"):
        load_variants(tmp_path / "both.npz", 100)
    with pytest.raises(BadDataError, match="nowhere: there is no such file or folder"):
        load_variants(tmp_path / "nowhere", 100)
