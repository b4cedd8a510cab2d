"""What the Mars files say: names, classes, splits; and a copy that says something else is refused with its reasons."""

import pytest
import tiny_mars
from tiny_mars import FILES, SPEC

from cnnlab.data import DataUnavailableError
from cnnlab.data.mars import mars_arrays
from cnnlab.data.mars_files import parse_names

TRAIN, TEST, SYNSET = "train-calibrated-shuffled.txt", "test-calibrated-shuffled.txt", "msl_synset_words-indexed.txt"
FIRST, SECOND = (f"calibrated/{name}" for name, _ in tiny_mars.SPLITS["train"][:2])


pytestmark = pytest.mark.usefixtures("no_variables")


def load(path, cache):
    return mars_arrays(path, cache, 16, progress=False, spec=SPEC)


def test_names_say_when_by_which_camera_and_which_frame():
    table = parse_names(["0830MR0036510000500684E01_DRCL.JPG", "0830MR0036510000500684I01_DRCL.JPG", "holiday.jpg"])
    first = table.iloc[0]
    assert (first["sol"], first["camera"], first["sequence"]) == (830, "Mastcam right", "003651")
    assert (first["frame"], first["product"], first["group"]) == ("0830MR0036510000500684", "E", "0830MR003651")
    assert table["frame"][0] == table["frame"][1]
    assert table.loc[2].isna()[["camera", "frame", "group"]].all()


def changed(changes):
    """The tiny set with other content for some files (None: without them)."""
    return {name: content for name, content in {**FILES, **changes}.items() if content is not None}


def with_line(file, line):
    return {file: FILES[file] + line.encode()}


def replaced(file, old, new):
    assert old in FILES[file].decode()
    return {file: FILES[file].decode().replace(old, new, 1).encode()}


def crossing(name, source):
    """An image listed in train with the name that `source` gives it."""
    return {**with_line(TRAIN, f"calibrated/{name} 0\n"), f"calibrated/{name}": FILES[source]}


LINES = FILES[TRAIN].decode().splitlines(keepends=True)
BAD = {
    "missing image": ({FIRST: None}, r"listed images that are missing \(1\): 0003ML0000010000000001E01"),
    "truncated image": ({FIRST: FILES[FIRST][:400]}, "cannot be read .*0001E01_DRCL.JPG is not a valid JPEG"),
    "no image": ({FIRST: b"<html>"}, "0001E01_DRCL.JPG is not a JPEG picture"),
    "huge file": ({FIRST: bytes(2 << 20)}, "0001E01_DRCL.JPG has 2,097,152 bytes, more than any file"),
    "altered picture": ({FIRST: tiny_mars.picture(9)}, "not all pictures are: they were changed"),
    "pictures swapped": ({FIRST: FILES[SECOND], SECOND: FILES[FIRST]}, "changed or swapped"),
    "unknown class": (replaced(TEST, "E01_DRCL.JPG 3", "E01_DRCL.JPG 7"), "does not have .* 7 of 0020MH"),
    "another class": (replaced(TEST, "E01_DRCL.JPG 3", "E01_DRCL.JPG 0"), "text files differ from"),
    "another order": ({TRAIN: "".join(reversed(LINES)).encode()}, "text files differ from"),
    "no line": (with_line(TRAIN, "calibrated/a picture.JPG\n"), "not 'calibrated/NAME.JPG class' .*line 11"),
    "climbing line": (with_line(TRAIN, "calibrated/../../secret 0\n"), "not 'calibrated/NAME.JPG class'"),
    "other scheme": (crossing("IMG_0001.JPG", FIRST), "names without sol, camera and frame .*IMG_0001.JPG"),
    "two classes": (with_line(TRAIN, f"{FIRST} 3\n"), r"images of two classes .*E01_DRCL.JPG \(0, 3\)"),
    "in two splits": (with_line(TEST, f"{FIRST} 0\n"), r"images in two splits .*E01_DRCL.JPG \(train, test\)"),
    "frame in two splits": (
        crossing("0020ML0000050000000010I01_DRCL.JPG", FIRST),
        r"frames in two splits.*0020ML0000050000000010 \(train, test\)",
    ),
    "sol in two splits": (crossing("0023MH0000010000000099E01_DRCL.JPG", FIRST), r"sols in two splits.*23 \(train"),
    "line lost": ({TRAIN: "".join(LINES[1:]).encode()}, r"another size than published .*train has 9, expected 10"),
    "no split file": ({TEST: None}, "missing or unreadable .*test-calibrated-shuffled.txt is missing"),
    "class twice": (with_line(SYNSET, "3 sky\n"), "a repeated class"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_copy_is_named_and_leaves_no_trace(tmp_path, cache, name):
    changes, said = BAD[name]
    write = tiny_mars.write_folder if len(name) % 2 else tiny_mars.write_zip
    with pytest.raises(DataUnavailableError, match=said) as caught:
        load(write(tmp_path / "copy", changed(changes)), cache)
    assert "the path that you named" in str(caught.value)
    assert "10.5281/zenodo.1049137" in str(caught.value)
    assert [entry.name for entry in cache.iterdir()] == ["mars-16-letterbox.lock"]


def test_all_that_is_wrong_is_said_at_once(tmp_path, cache):
    content = changed({FIRST: None, **with_line(TEST, f"{SECOND} 0\n")})
    with pytest.raises(DataUnavailableError, match=r"(?s)in two splits.*are missing.*another size"):
        load(tiny_mars.write_folder(tmp_path, content), cache)


def test_what_does_no_harm_is_only_said(tmp_path, cache):
    twice = {TRAIN: (FILES[TRAIN] + LINES[0].encode()).replace(b"\n", b"\r\n")}
    with pytest.warns(UserWarning, match=r"repeated lines, counted once \(1\): 0003ML0000010000000001E01"):
        arrays = load(tiny_mars.write_zip(tmp_path, changed(twice)), cache)
    assert len(arrays["images"]) == 20
