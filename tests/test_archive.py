"""Archives that somebody else made: what would do harm, or could not serve, ends in one line before it is unpacked."""

import gzip
import io
import json
import shutil
import tarfile

import packed
import pytest

from sagemaker_scripts import common, serve_local
from sagemaker_scripts.serving import archive


@pytest.fixture(scope="module")
def tiny():
    return packed.tiny()


def packed_from(folder, path, *members):
    """The tar.gz file `path` of `folder` and further members, each (name, options of TarInfo, content)."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, ".")
        for name, options, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in options.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return path


def lines_of_start(path, capsys):
    """(exit code, standard error) of serve_local.py with the archive `path`."""
    capsys.readouterr()
    code = common.run(serve_local.main, [str(path), "--port", "0"])
    return code, capsys.readouterr().err


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../../x", {}, b"out"), "leaves the folder"),
        (("code/../../x", {}, b"out"), "leaves the folder"),
        (("/tmp/x", {}, b"out"), "leaves the folder"),
        (("passwords", LINK, b""), "a link"),
        (("hard", {"type": tarfile.LNKTYPE, "linkname": "code/inference.py"}, b""), "a link"),
        (("pipe", {"type": tarfile.FIFOTYPE}, b""), "not a plain file"),
        (("device", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b""), "not a plain file"),
    ],
)
def test_what_would_leave_the_folder_is_never_unpacked(tiny, tmp_path, monkeypatch, capsys, member, words):
    path = packed_from(tiny.folder, tmp_path / "model.tar.gz", member)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    code, error = lines_of_start(path, capsys)
    assert code == common.EXIT_FAILED
    assert words in error and error.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.tar.gz", "temporary"]
    assert not list((tmp_path / "temporary").iterdir())


def test_an_archive_that_bursts_is_given_up_early(tiny, tmp_path, capsys):
    """A large file, and a header that would be read as a whole."""
    size = 16 * 1024**2
    zeros = gzip.compress(bytes(size), 9)
    member = tarfile.TarInfo("code/zeros")
    member.size = 6 * size
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(member.tobuf()) + zeros * 6)
    assert member.size > archive.SLACK_BYTES + archive.MOST_EXPANSION * bomb.stat().st_size
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, size
    header = tmp_path / "header.tar.gz"
    header.write_bytes(gzip.compress(pax.tobuf()) + zeros)
    for path, words in ((bomb, "unpacks to more than"), (header, "bytes of names")):
        code, error = lines_of_start(path, capsys)
        assert code == common.EXIT_FAILED
        assert words in error and error.count("\n") == 1


def spoiled(tiny, tmp_path, change):
    """An archive of a copy of the model, in which `change` was made."""
    folder = tmp_path / "folder"
    shutil.copytree(tiny.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    change(folder)
    return packed_from(folder, tmp_path / "model.tar.gz")


def card_with(**entries):
    def change(folder):
        card = json.loads((folder / archive.CARD).read_text())
        (folder / archive.CARD).write_text(json.dumps({**card, **entries}))

    return change


def without_images(folder):
    """The SavedModel as older versions packed it."""
    without_signatures(folder, "decode_image")


def without_signatures(folder, *names):
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "cnn" / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    (place,) = (child.node_id for child in nodes[0].children if child.local_name == "signatures")
    kept = [child for child in nodes[place].children if child.local_name not in names]
    assert len(kept) == len(nodes[place].children) - len(names)
    del nodes[place].children[:]
    nodes[place].children.extend(kept)
    path.write_bytes(saved.SerializeToString())


def without_explanation(folder):
    """A SavedModel that does not hold what its card says."""
    without_signatures(folder, "explain", "explain_image")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / archive.CARD).write_text("{"), "broken code/model_card.json"),
        (lambda folder: (folder / archive.CARD).write_text("[" * 100_000), "broken code/model_card.json"),
        (lambda folder: (folder / archive.CARD).write_bytes(b"\xff\xfe\x00"), "broken code/model_card.json"),
        (lambda folder: (folder / archive.CARD).write_text("[]"), "no valid input_shape, class_names"),
        (card_with(class_names=["one"]), "no valid class_names"),
        (card_with(class_names=["a", "b", "c", "c"]), "no valid class_names"),
        (card_with(class_names=["a", "b", "c"]), "4 outputs and its card 3 class names"),
        (card_with(input_shape=[16, "16", 3]), "no valid input_shape"),
        (card_with(input_shape=[8, 8, 3]), "does not start"),
        (lambda folder: (folder / "cnn" / "1" / "saved_model.pb").write_bytes(b"broken"), "does not start"),
        (lambda folder: (folder / "cnn" / "1" / "saved_model.pb").write_bytes(b""), "does not start"),
        (lambda folder: shutil.rmtree(folder / "cnn" / "1" / "variables"), "does not start"),
        (lambda folder: (folder / archive.HANDLERS).write_text("def handler(:"), "SyntaxError"),
        (lambda folder: (folder / archive.HANDLERS).write_text("import sys; sys.exit('no')"), "SystemExit: no"),
        (lambda folder: (folder / archive.HANDLERS).write_text("import no_such_module"), "no_such_module"),
        (lambda folder: (folder / archive.HANDLERS).write_text("def handler(data, context): ..."), "does not start"),
        (lambda folder: shutil.rmtree(folder / archive.READING), "does not start"),
        (without_images, "decode_image"),
        (card_with(examples=["../../x.png"]), "no valid examples"),
        (without_explanation, "explain"),
    ],
)
def test_what_cannot_serve_ends_at_start_in_one_line(tiny, tmp_path, capsys, change, words):
    code, error = lines_of_start(spoiled(tiny, tmp_path, change), capsys)
    assert code == common.EXIT_FAILED
    assert words in error, error
    assert error.count("\n") == 1
    assert len(error) < 600


def test_the_card_is_read_without_unpacking(tiny, tmp_path):
    assert archive.read_card(tiny.archive)["class_names"] == list(tiny.dataset.class_names)
    (tmp_path / "text").write_text("text")
    for path in (tmp_path / "text", tmp_path / "none"):
        with pytest.raises(common.BadArgumentsError, match="holds no"):
            archive.read_card(path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"cnn/saved_model.pb", archive.HANDLERS, archive.CARD}, "saved_model.pb 0 times"),
        ({"cnn/one/saved_model.pb", archive.HANDLERS, archive.CARD}, "saved_model.pb 0 times"),
        ({"export/cnn/1/saved_model.pb", archive.HANDLERS, archive.CARD}, "saved_model.pb 0 times"),
        ({"a/1/saved_model.pb", "b/1/saved_model.pb", archive.HANDLERS, archive.CARD}, "saved_model.pb 2 times"),
        ({"cnn/1/saved_model.pb", "inference.py"}, "lacks code/inference.py, code/model_card.json"),
    ],
)
def test_a_layout_that_the_container_refuses_is_found(tmp_path, files, words):
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in files:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(archive.ArchiveError) as caught:
        archive.check_layout(path)
    assert words in str(caught.value)


def test_a_cut_archive_is_no_archive(tiny, tmp_path):
    path = tmp_path / "model.tar.gz"
    for content in (b"", b"text", tiny.archive.read_bytes()[:-1000]):
        path.write_bytes(content)
        with pytest.raises(archive.ArchiveError, match="not a whole tar.gz"):
            archive.check_layout(path)
