"""Packing: what is in the archive, that it is reproducible, and that nothing bad is ever written."""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import keras
import numpy as np
import packed
import pytest
import tensorflow as tf
import tiny_mars
from PIL import Image

from cnnlab.data import preprocessing_steps
from cnnlab.training import build, save_model
from sagemaker_scripts import package_model
from sagemaker_scripts.common import BadArgumentsError
from sagemaker_scripts.serving import archive, classifier, savedmodel, verify

SCRIPT = Path(package_model.__file__)


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


@pytest.fixture
def exported(monkeypatch):
    packed.export_no_more(monkeypatch)


def save(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def called(model, images):
    """What Keras answers, layer after layer: nothing has to be traced."""
    return model(np.asarray(images, "float32"), training=False).numpy()


def letters(count):
    return [chr(ord("a") + i) for i in range(count)]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_archive_is_laid_out_as_the_container_wants_it(tiny):
    with tarfile.open(tiny.archive) as tar:
        names = {member.name for member in tar}
    assert names == {
        "cnn/1/saved_model.pb",
        "cnn/1/variables/variables.index",
        "cnn/1/variables/variables.data-00000-of-00001",
        "code/inference.py",
        "code/model_card.json",
        *(f"code/reading/{path.name}" for path in SCRIPT.with_name("reading").glob("*.py")),
    }
    assert archive.check_layout(tiny.archive) == "cnn"


def test_the_card_says_what_the_model_is_and_how_it_came_about(tiny):
    card = json.loads((tiny.folder / "code" / "model_card.json").read_text(encoding="utf-8"))
    assert card["input_shape"] == [16, 16, 3]
    assert card["class_names"] == list(tiny.dataset.class_names)
    assert card["metrics"]["test_accuracy_best"] == tiny.row["test_accuracy_best"]
    assert card["data"]["version"] == tiny.dataset.fingerprint
    assert card["training"]["protocol"] == tiny.row["protocol"]
    weights = b"".join(weight.tobytes() for weight in tiny.model.get_weights())
    assert card["weights_sha256"] == hashlib.sha256(weights).hexdigest()


def test_class_names_and_letterbox_come_from_the_row_and_another_card_gives_other_bytes(tiny, tmp_path, exported):
    row = {**tiny.row, "dataset": "folder-mine-16", "class_names": letters(4)}
    path = package_model.package(tiny.keras, tmp_path / "mine.tar.gz", row=row)
    card = archive.read_card(path)
    assert card["class_names"] == letters(4)
    assert card["pictures"].endswith(package_model.RESIZING[True])
    assert sha256(path) != sha256(tiny.archive)


def test_a_model_file_brings_its_own_names_and_a_card_with_others_is_refused(tiny, tmp_path, exported):
    flowers = ["rose", "tulip", "daisy", "aster"]
    save_model(tiny.model, tmp_path / "kept.keras", {**tiny.row, "dataset": "flowers", "class_names": flowers})
    path = package_model.package(tmp_path / "kept.keras", tmp_path / "kept.tar.gz")
    card = archive.read_card(path)
    assert (card["class_names"], card["data"]["name"]) == (flowers, "flowers")
    for options in ({"class_names": flowers[::-1]}, {"row": tiny.row}):
        with pytest.raises(archive.ArchiveError, match="trained with, in their order: rose, tulip, daisy, aster"):
            package_model.package(tmp_path / "kept.keras", tmp_path / "new.tar.gz", **options)
    with pytest.raises(archive.ArchiveError, match="trained with, in their order: angle0"):
        package_model.package(tiny.keras, tmp_path / "new.tar.gz", class_names=letters(4), row=tiny.row)
    with pytest.raises(archive.ArchiveError, match="the card has the classes rose"):
        verify.verify(path, tiny.model, letters(4))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["kept.keras", "kept.tar.gz"]


def test_the_same_model_gives_the_same_bytes(tiny, tmp_path):
    again = package_model.package(
        save(tiny.model, tmp_path), tmp_path / "again.tar.gz", class_names=tiny.dataset.class_names, row=tiny.row
    )
    assert sha256(again) == sha256(tiny.archive)


@pytest.mark.long
def test_the_script_gives_the_same_bytes_as_the_function_and_names_the_next_command(tiny, tmp_path):
    """In a process of its own, where TensorFlow counts otherwise."""
    (tmp_path / "row.json").write_text(json.dumps(tiny.row), encoding="utf-8")
    (tmp_path / "classes.txt").write_text("\n".join(tiny.dataset.class_names), encoding="utf-8")
    output = tmp_path / "new" / "model.tar.gz"
    run = subprocess.run(
        [sys.executable, SCRIPT, tiny.keras, "--output", output, "--row", tmp_path / "row.json",
         "--classes", tmp_path / "classes.txt"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert sha256(output) == sha256(tiny.archive)
    assert sha256(output) in run.stdout
    assert f"next: python sagemaker_scripts/serve_local.py {output}" in run.stdout


@pytest.mark.parametrize(
    ("options", "dataset", "kept"),
    [
        ({"input_shape": (24, 24, 3), "num_classes": 24, "batch_norm": True, "head": "gap"}, "mars", True),
        ({"input_shape": (12, 20, 1), "num_classes": 2}, "mars-24-stretch", False),
        pytest.param({"input_shape": (24, 24, 3), "num_classes": 3}, "cifar10", False, marks=pytest.mark.long),
    ],
)
def test_size_channels_and_classes_come_from_the_model_and_resizing_from_its_data_set(tmp_path, options, dataset, kept):
    height, width, channels = options["input_shape"]
    model = build("cnn", filters=[4, 8], dense=8, **options)
    path = package_model.package(
        save(model, tmp_path), tmp_path / "model.tar.gz", "mars", letters(options["num_classes"]), {"dataset": dataset}
    )
    images = np.random.default_rng(1).integers(0, 256, (2, height, width, channels), "uint8")
    jpeg = tiny_mars.picture(4)  # 48 x 16
    photograph = tf.io.decode_image(jpeg, 3, expand_animations=False)
    resized = (savedmodel.boxed if kept else savedmodel.stretched)(
        photograph if channels == 3 else savedmodel.grey(photograph), height, width
    )
    bodies = {
        "application/x-npy": packed.npy(images),
        "image/png": packed.picture(images[0] if channels == 3 else images[0, ..., 0]),
        "image/jpeg": jpeg,
    }
    with archive.unpacked(path) as folder:
        handlers = archive.load_handlers(folder)
        reloaded = handlers.model_fn(folder)
        found = [handlers.predict_fn(handlers.input_fn(body, kind), reloaded) for kind, body in bodies.items()]
        card = handlers.card()
    expected = called(model, np.concatenate([images, images[:1], resized[None]]))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)
    assert ("aspect ratio kept" in card["pictures"]) == kept


@pytest.mark.parametrize("letterbox", [True, False])
def test_a_picture_becomes_the_input_as_in_training(letterbox):
    """Of the pixels themselves: Pillow's, as the training images were made, against the exported resizing."""
    for number in range(len(tiny_mars.SIZES)):
        steps = preprocessing_steps(tiny_mars.picture(number), 24, letterbox)
        found = (savedmodel.boxed if letterbox else savedmodel.stretched)(steps["rgb"], 24, 24).numpy()
        # One step of 256 for rounding; stretched pictures are bilinear here and bicubic there.
        assert np.abs(found - steps["input"]).max() <= (1 if letterbox else 40)
        assert found.min() >= 0
        assert found.max() <= 255


def test_the_signatures_are_those_promised(tiny):
    signatures = tf.saved_model.load(str(tiny.folder / "cnn" / "1")).signatures
    inputs = {name: next(iter(s.structured_input_signature[1].values())) for name, s in signatures.items()}
    assert inputs["serving_default"].shape.as_list() == [None, 16, 16, 3]
    assert inputs["serving_default"].dtype == tf.float32
    assert {name for name, spec in inputs.items() if spec.dtype == tf.string} == {
        "serve_uint8",
        "serve_image",
        "decode_image",
        "explain_image",
    }
    explained = signatures["explain"].structured_outputs
    assert {name: spec.shape.as_list() for name, spec in explained.items()} == {
        "probabilities": [None, 4],
        "grad_cam": [None, 8, 8],
    }
    assert signatures["decode_image"].structured_outputs["pixels"].shape.as_list() == [None, 16, 16, 3]


def test_a_row_beside_the_model_gives_the_class_names(tiny, tmp_path):
    model = save(build("dense", (8, 8, 3), units=[]), tmp_path)
    (tmp_path / "trials").mkdir()
    row = {"dataset": "cifar10", "key": "0123", "test_accuracy_best": 0.5}
    (tmp_path / "trials" / "0123.json").write_text(json.dumps(row), encoding="utf-8")
    path = package_model.package(model, tmp_path / "model.tar.gz")
    with archive.unpacked(path) as folder:
        card = archive.load_handlers(folder).card()
    assert card["class_names"][0] == "airplane"
    assert card["metrics"] == {"test_accuracy_best": 0.5}


def no_rescaling():
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])


def no_softmax():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
    )


def no_classifier():
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255)])


def any_size():
    return keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D(),
         keras.layers.Dense(2, "softmax")]
    )  # fmt: skip


def strided():
    return keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(2, 5),
         keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")]
    )  # fmt: skip


def one_output(activation):
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
         keras.layers.Dense(1, activation)]
    )  # fmt: skip


def test_a_sigmoid_becomes_two_classes_of_which_the_second_has_its_probability(tmp_path):
    keras.utils.set_random_seed(0)
    model = one_output("sigmoid")
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), "uint8")
    yes = called(model, images)[:, 0]
    found = classifier.answers(classifier.load(save(model, tmp_path)), images)
    np.testing.assert_allclose(found, np.stack([1 - yes, yes], axis=1), atol=1e-6)
    assert np.ptp(yes) > 0.01


def test_a_model_of_any_size_is_made_one_of_the_size_that_is_named(tmp_path):
    model = any_size()
    images = np.random.default_rng(1).integers(0, 256, (2, 12, 20, 3), "uint8")
    fixed = classifier.load(save(model, tmp_path), size=(12, 20))
    assert fixed.input_shape == (None, 12, 20, 3)
    expected = called(model, images)
    np.testing.assert_allclose(classifier.answers(fixed, images), expected, atol=1e-6)


@pytest.mark.parametrize(("pixels", "scaled"), [("unit", lambda x: x / 255), ("signed", lambda x: x / 127.5 - 1)])
def test_what_was_scaled_outside_of_the_model_is_scaled_inside_of_it(pixels, scaled, tmp_path):
    keras.utils.set_random_seed(0)
    model = no_rescaling()
    images = np.random.default_rng(1).integers(0, 256, (3, *model.input_shape[1:]), "uint8").astype("float32")
    found = classifier.answers(classifier.load(save(model, tmp_path), pixels=pixels), images)
    np.testing.assert_allclose(found, called(model, scaled(images)), atol=1e-6)


def test_a_model_of_all_that_is_packed_by_the_commands_options(tmp_path, capsys):
    """Of any size, a sigmoid at its end, trained on pixels that were scaled before."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1, "sigmoid")]
    )
    output = tmp_path / "model.tar.gz"
    arguments = [str(save(model, tmp_path)), "--output", str(output), "--classes", "no,yes"]
    assert package_model.main([*arguments, "--size", "12x20", "--pixels", "signed"]) is None
    printed = capsys.readouterr().out
    assert sha256(output) in printed
    assert f"next: python sagemaker_scripts/serve_local.py {output}" in printed
    brightness = np.array([60, 120, 240])[:, None, None, None]
    images = np.random.default_rng(1).uniform(0, brightness, (3, 12, 20, 3)).astype("float32")
    with archive.unpacked(output) as folder:
        handlers = archive.load_handlers(folder)
        assert handlers.card()["input_shape"] == [12, 20, 3]
        found = handlers.predict_pixels(images, handlers.model_fn(folder))
    yes = called(model, images / 127.5 - 1)[:, 0]
    np.testing.assert_allclose(found, np.stack([1 - yes, yes], axis=1), atol=1e-6)
    assert np.ptp(yes) > 0.05


@pytest.mark.parametrize("size", ["0", "-3", "1x", "24x0", "big", ""])
def test_a_size_that_is_none_is_refused_with_what_was_expected(size, capsys):
    with pytest.raises(SystemExit):
        package_model.main(["model.keras", f"--size={size}"])
    assert f"{size!r} is not a size in pixels; expected one like 32, or 24x32" in capsys.readouterr().err


def broken_file(tmp_path):
    path = tmp_path / "cut.keras"
    path.write_bytes(b"PK\x03\x04 not a model")
    return path


def good(tmp_path):
    return save(build("cnn", filters=[2], dense=0, input_shape=(8, 8, 3), num_classes=2), tmp_path)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda folder: folder / "none.keras", {}, "not an existing .keras file"),
        (lambda folder: Path(__file__), {}, "not an existing .keras file"),
        (broken_file, {}, "cannot be loaded"),
        (lambda folder: save(no_rescaling(), folder), {}, "Rescaling"),
        (good, {"pixels": "unit"}, "leave --pixels out"),
        (lambda folder: save(no_softmax(), folder), {}, "softmax"),
        (lambda folder: save(no_classifier(), folder), {}, "to class probabilities"),
        (lambda folder: save(any_size(), folder), {}, "--size"),
        (lambda folder: save(strided(), folder), {"size": (2, 2)}, "cannot take images of (2, 2)"),
        (lambda folder: save(one_output("linear"), folder), {}, "without a sigmoid"),
        (good, {"size": (9, 9)}, "leave --size out"),
        (good, {"class_names": ["a"]}, "expected 2, each once"),
        (good, {"class_names": ["a", "a"]}, "expected 2, each once"),
        (good, {"class_names": None}, "--classes"),
        (good, {"name": "1"}, "name is '1'"),
        (good, {"name": "code"}, "not 'code'"),
        (good, {"name": "../up"}, "expected a letter"),
        (good, {"row": {"permute_pixels": 0}}, "permuted pixels"),
        (good, {"row": "no-such-row.json"}, "not a row of a trial"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line_and_nothing_is_written(tmp_path, make, options, words):
    (tmp_path / "in").mkdir()
    path = make(tmp_path / "in")
    with pytest.raises(BadArgumentsError) as caught:
        package_model.package(path, tmp_path / "out" / "model.tar.gz", **{"class_names": letters(2), **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import numpy\n", "No module named 'numpy'"),
        ("def model_fn(model_dir): ...\n", "no handler"),
        ("def handler(:\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "exit code 3"),
    ],
)
def test_handlers_that_would_not_start_are_never_written(tiny, tmp_path, monkeypatch, exported, source, words):
    (tmp_path / "handlers" / "reading").mkdir(parents=True)
    (tmp_path / "handlers" / "inference.py").write_text(source, encoding="utf-8")
    output = tmp_path / "model.tar.gz"
    output.write_bytes(b"the former one")
    monkeypatch.setattr(package_model, "HERE", tmp_path / "handlers")
    with pytest.raises(archive.ArchiveError, match="does not start") as caught:
        package_model.package(tiny.keras, output, class_names=letters(4))
    assert words in str(caught.value)
    assert output.read_bytes() == b"the former one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["handlers", "model.tar.gz"]


def test_a_packed_model_that_answers_differently_is_never_written(tiny, tmp_path, exported):
    other = keras.models.clone_model(tiny.model)
    other.set_weights([weight + 0.01 for weight in tiny.model.get_weights()])
    with pytest.raises(archive.ArchiveError, match="serving_default differs"):
        package_model.package(save(other, tmp_path), tmp_path / "model.tar.gz", class_names=letters(4))
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.fixture
def pictures(tmp_path):
    """A folder with a small picture and a photograph that was taken upright at a place."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "somewhere"
    (folder / "my horse (1).png").write_bytes(packed.picture(packed.tiny().images[0]))
    (folder / "photograph.JPG").write_bytes(packed.picture(np.zeros((600, 900, 3), "uint8"), "JPEG", exif=exif))
    (folder / ".hidden").write_bytes(b"")
    return folder


def test_example_pictures_travel_in_the_archive_small_and_upright(pictures, tmp_path, exported):
    tiny = packed.tiny()
    path = package_model.package(
        tiny.keras, tmp_path / "model.tar.gz", class_names=tiny.dataset.class_names, row=tiny.row, examples=[pictures]
    )
    with archive.unpacked(path) as unpacked:
        assert archive.read_card(path)["examples"] == ["my_horse_1.png", "photograph.jpg"]
        small = unpacked / archive.EXAMPLES
        np.testing.assert_array_equal(np.asarray(Image.open(small / "my_horse_1.png")), tiny.images[0])
        with Image.open(small / "photograph.jpg") as photograph:
            assert photograph.size == (213, package_model.LARGEST)
            assert not photograph.getexif()
        assert (small / "photograph.jpg").stat().st_size < 20_000


def test_what_is_transparent_lies_on_white_and_equal_names_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(packed.picture(np.zeros((8, 8, 4), "uint8")))
    found = package_model.read_examples([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"])
    assert list(found) == ["x.png", "x_1.png"]
    (tmp_path / "out.png").write_bytes(found["x.png"])
    assert (np.asarray(Image.open(tmp_path / "out.png")) == 255).all()


def test_what_is_no_example_picture_or_too_many_is_refused_in_one_line(pictures, tmp_path):
    for paths, words in (
        ([__file__], "as an example picture"),
        ([pictures / "none.png"], "none.png"),
        ([pictures] * 7, f"14 example pictures; give at most {package_model.MOST_EXAMPLES}"),
    ):
        with pytest.raises(BadArgumentsError, match=words) as caught:
            package_model.read_examples(paths)
        assert "\n" not in str(caught.value)
