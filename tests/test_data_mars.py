"""The Mars images from whatever copy is at hand: verified, decoded, cached; or one message that says what to do."""

import dataclasses
import functools
import http.server
import io
import os
import shutil
import threading
import zipfile

import numpy as np
import pytest
import tiny_mars
from PIL import Image
from tiny_mars import FILES, SPEC

from cnnlab import data
from cnnlab.data import DataUnavailableError, mars, preprocessing_steps
from cnnlab.data import dataset as data_sets
from cnnlab.data.archives import BadDataError
from cnnlab.data.mars import mars_arrays

pytestmark = pytest.mark.usefixtures("no_variables")


def load(path=None, cache=None, size=16, letterbox=True, spec=SPEC):
    return mars_arrays(path, cache, size, letterbox, progress=False, spec=spec)


def decode(data, size, letterbox=True):
    return preprocessing_steps(data, size, letterbox)["input"]


def listed():
    return [name for rows in tiny_mars.SPLITS.values() for name, _ in rows]


def holder_of_zip(parent):
    return tiny_mars.write_zip(parent / "downloads").parent


def holder_of_folder(parent):
    return tiny_mars.write_folder(parent).parent


def lower_case(parent):
    """As some programs unpack it: .jpg, and the lists of the same mind."""
    content = {
        name.replace(".JPG", ".jpg"): data.replace(b".JPG", b".jpg") if name.endswith(".txt") else data
        for name, data in FILES.items()
    }
    return tiny_mars.write_folder(parent, content)


def lower_case_pictures(parent):
    return tiny_mars.write_zip(parent, {name.replace(".JPG", ".jpg"): data for name, data in FILES.items()})


def zip_in_zip(parent):
    inner = tiny_mars.write_zip(parent / "inner")
    with zipfile.ZipFile(parent / "outer.zip", "w") as outer:
        outer.write(inner, "1049137/msl-images.zip")
    return parent / "outer.zip"


SHAPES = [
    tiny_mars.write_folder, tiny_mars.write_zip, holder_of_folder, holder_of_zip, lower_case, lower_case_pictures,
    zip_in_zip,
]  # fmt: skip


@pytest.mark.parametrize("write", SHAPES)
def test_every_shape_of_copy_fills_the_cache_which_then_suffices(tmp_path, cache, write):
    path = write(tmp_path / "copy")
    arrays = load(path, cache)
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(DataUnavailableError, match="no such file or folder"):
        load(path, cache)
    again = load(None, cache)
    for images in (arrays["images"], again["images"]):
        assert isinstance(images, np.memmap)
        assert images.dtype == np.uint8
        for image, name in zip(images, listed(), strict=True):
            np.testing.assert_array_equal(image, decode(FILES[f"calibrated/{name}"], 16))


OTHER_SETS = {
    "msl-labeled-data-set-v2.1/train-set-v2.1.txt": r"this is version 2.1 of the data set; version 1 is needed",
    "msl-labeled-data-set-v3/class_map.csv": "this is version 3 of the data set",
    "hirise-map-proj-v3_2/labels-map-proj-v3_2.txt": "these are the HiRISE images",
    "holiday/beach.JPG": "holds no msl_synset_words-indexed.txt",
}


@pytest.mark.parametrize("name", OTHER_SETS)
@pytest.mark.parametrize("write", [tiny_mars.write_zip, tiny_mars.write_folder])
def test_another_set_of_mars_images_is_named(tmp_path, cache, write, name):
    path = tiny_mars.write_zip(tmp_path, {name: b"x"})
    if write is tiny_mars.write_folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "unpacked")
        path = tmp_path / "unpacked"
    with pytest.raises(DataUnavailableError, match=OTHER_SETS[name]):
        load(path, cache)


def test_a_full_cache_does_not_stand_in_for_other_pictures_that_are_named(tmp_path, cache):
    load(tiny_mars.write_zip(tmp_path), cache)
    first = f"calibrated/{listed()[0]}"
    folder = tiny_mars.write_folder(tmp_path / "other", {**FILES, first: tiny_mars.picture(9)})
    with pytest.raises(DataUnavailableError, match="they were changed or swapped"):
        load(folder, cache)
    (folder / first).write_bytes(FILES[first])
    assert load(folder, cache)["images"].shape == (20, 16, 16, 3)


def test_sizes_and_modes_are_cached_apart(tmp_path, cache):
    path = tiny_mars.write_zip(tmp_path)
    assert load(path, cache, 16)["images"].shape == (20, 16, 16, 3)
    assert load(path, cache, 24)["images"].shape == (20, 24, 24, 3)
    assert not np.array_equal(load(path, cache)["images"], load(path, cache, letterbox=False)["images"])


def test_the_dataset_keeps_split_ids_and_names(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(data_sets, "mars_arrays", functools.partial(mars_arrays, spec=SPEC))
    monkeypatch.setenv("CNNLAB_MARS", str(tiny_mars.write_zip(tmp_path)))
    dataset = data.load_mars(None, cache, 16, progress=False)
    assert dataset.class_names == tiny_mars.CLASS_NAMES
    assert dataset.name == "mars-16"
    assert data.load_mars(None, cache, 16, letterbox=False, progress=False).fingerprint != dataset.fingerprint
    position = {0: 0, 1: 1, 3: 2}
    for split, rows in tiny_mars.SPLITS.items():
        images, labels = dataset.split(split)
        table = dataset.metadata.iloc[dataset.splits[split].indices]
        assert table["file"].tolist() == [name for name, _ in rows]
        assert table["class_id"].tolist() == [number for _, number in rows]
        assert labels.tolist() == table["label"].tolist() == [position[number] for _, number in rows]
        np.testing.assert_array_equal(images[0], decode(FILES[f"calibrated/{rows[0][0]}"], 16))


@pytest.mark.parametrize("size", [0, 4, 1_000, 31.5, True])
def test_a_size_that_makes_no_images_is_refused(size):
    with pytest.raises(ValueError, match="size is .*expected 8 to 512 whole pixels"):
        data.load_mars(size=size)


def test_letterbox_keeps_the_shape_and_stretch_fills(tmp_path):
    wide = tiny_mars.picture(4)  # 48 x 16
    boxed, stretched = decode(wide, 24), decode(wide, 24, letterbox=False)
    assert boxed.shape == stretched.shape == (24, 24, 3)
    assert not boxed[:8].any()
    assert not boxed[16:].any()
    assert (boxed[8:16, 16:, 0] > 150).all()
    assert (stretched[:, 16:, 0] > 150).all()
    tall = decode(tiny_mars.picture(2), 30)  # 20 x 30
    assert not tall[:, :5].any()
    assert not tall[:, 25:].any()


def test_pixels_are_those_of_pillow_step_by_step():
    data_ = tiny_mars.picture(3, grey=True)
    steps = preprocessing_steps(data_, 31)
    with Image.open(io.BytesIO(data_)) as image:
        grey = np.asarray(image)
    assert list(steps) == ["original", "rgb", "resized", "input"]
    np.testing.assert_array_equal(steps["original"], grey)
    np.testing.assert_array_equal(steps["input"], np.repeat(grey[..., None], 3, axis=2))


def test_a_hostile_zip_is_refused(tmp_path, cache):
    path = tiny_mars.write_zip(tmp_path / "copy", extra=[("../climbed.JPG", b"")])
    with pytest.raises(DataUnavailableError, match="outside its folder"):
        load(path, cache)
    assert not list(tmp_path.rglob("climbed*"))


def test_a_lying_or_damaged_zip_is_refused(tmp_path, cache):
    path = tiny_mars.write_zip(tmp_path)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)  # within the first picture
    path.write_bytes(content)
    with pytest.raises(DataUnavailableError, match="a damaged zip archive|is not a JPEG|not a valid JPEG"):
        load(path, cache)
    os.truncate(path, len(content) // 2)
    with pytest.raises(DataUnavailableError, match="a zip archive that is cut short"):
        load(path, cache)


@pytest.mark.parametrize("side, said", [(4_000, "4000 x 4000 pixels, far more"), (65_520, "decompression bomb")])
def test_a_picture_far_larger_than_its_file_is_not_decoded(side, said):
    header = bytearray(tiny_mars.picture(0))
    start = header.index(b"\xff\xc0") + 5
    header[start : start + 4] = side.to_bytes(2, "big") * 2
    with pytest.raises(BadDataError, match=said):
        decode(bytes(header), 16)


def test_a_damaged_cache_is_built_again(tmp_path, cache):
    path = tiny_mars.write_zip(tmp_path)
    whole = np.array(load(path, cache)["images"])
    for damage in (
        lambda folder: os.truncate(folder / "images.npy", 1_000),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"images": 3}'),
    ):
        damage(cache / "mars-16-letterbox")
        with pytest.warns(UserWarning, match="is unusable and is being rebuilt"):
            np.testing.assert_array_equal(load(path, cache)["images"], whole)


def test_pixels_made_by_other_code_are_made_again(tmp_path, cache, monkeypatch):
    path = tiny_mars.write_zip(tmp_path)
    load(path, cache)
    monkeypatch.setattr(mars, "DECODING", mars.DECODING + 1)
    with pytest.warns(UserWarning, match="another version of the code"):
        load(path, cache)


def test_without_a_copy_one_message_says_how_to_get_it(cache):
    with pytest.raises(DataUnavailableError) as caught:
        load(None, cache)
    message = str(caught.value)
    for part in ("Tried, in this order", tiny_mars.NOWHERE, "download msl-images.zip", SPEC.doi, "CNNLAB_MARS"):
        assert part in message
    with pytest.raises(DataUnavailableError, match="No original of x.JPG at .*no such file"):
        data.mars_original("x.JPG", cache=cache)


def test_a_download_is_kept_for_other_sizes_and_for_originals(tmp_path, cache):
    tiny_mars.write_zip(tmp_path / "server")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "server")
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spec = dataclasses.replace(SPEC, url=f"http://127.0.0.1:{server.server_port}/msl-images.zip")
        load(None, cache, 16, spec=spec)
        server.shutdown()
    assert load(None, cache, 24)["images"].shape == (20, 24, 24, 3)
    assert data.mars_original(listed()[0], cache=cache) == FILES[f"calibrated/{listed()[0]}"]
