"""Example pictures for the page: small, upright, without what their files say beside, and not too many."""

import numpy as np
import packed
import pytest
from PIL import Image

from sagemaker_scripts import archive, example_pictures, package_model
from sagemaker_scripts.common import BadArgumentsError

CLASSES = [f"angle{i}" for i in range(4)]


@pytest.fixture
def folder(tmp_path):
    """A folder with a small picture and a photograph that was taken upright at a place."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "somewhere"
    (folder / "my horse (1).png").write_bytes(packed.picture(packed.tiny().images[0]))
    (folder / "photograph.JPG").write_bytes(packed.picture(np.zeros((600, 900, 3), "uint8"), "JPEG", exif=exif))
    (folder / ".hidden").write_bytes(b"")
    return folder


def test_they_travel_in_the_archive_small_and_upright(folder, tmp_path):
    tiny = packed.tiny()
    path = package_model.package(
        tiny.keras, tmp_path / "model.tar.gz", class_names=CLASSES, row=tiny.row, examples=[folder]
    )
    with archive.unpacked(path) as unpacked:
        assert archive.read_card(path)["examples"] == ["my_horse_1.png", "photograph.jpg"]
        small = unpacked / archive.EXAMPLES
        np.testing.assert_array_equal(np.asarray(Image.open(small / "my_horse_1.png")), tiny.images[0])
        with Image.open(small / "photograph.jpg") as photograph:
            assert photograph.size == (213, example_pictures.LARGEST)
            assert not photograph.getexif()
        assert (small / "photograph.jpg").stat().st_size < 20_000


def test_what_is_transparent_lies_on_white_and_equal_names_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(packed.picture(np.zeros((8, 8, 4), "uint8")))
    found = example_pictures.read([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"])
    assert list(found) == ["x.png", "x_1.png"]
    (tmp_path / "out.png").write_bytes(found["x.png"])
    assert (np.asarray(Image.open(tmp_path / "out.png")) == 255).all()


def test_what_is_no_picture_or_too_many_is_refused_in_one_line(folder, tmp_path):
    for paths, words in (
        ([__file__], "no example picture"),
        ([folder / "none.png"], "none.png"),
        ([folder] * 7, f"14 example pictures; give at most {example_pictures.MOST}"),
    ):
        with pytest.raises(BadArgumentsError, match=words) as caught:
            example_pictures.read(paths)
        assert "\n" not in str(caught.value)
