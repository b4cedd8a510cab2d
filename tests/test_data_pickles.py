"""A pickle gives its arrays and lists, as pickle itself reads them, and runs nothing."""

import io
import pickle

import numpy as np
import pytest
import tiny_cifar
from tiny_cifar import ARRAYS, COUNT

from cnnlab.data.files import BadDataError
from cnnlab.data.pickles import read_pickle, unpickled

PIXELS = ARRAYS["x_test"].reshape(COUNT, 3072)
LABELS = ARRAYS["y_test"].tolist()


def test_a_published_batch_is_read_as_pickle_reads_it():
    data = tiny_cifar.python2_pickle(PIXELS.tobytes(), LABELS)
    loaded, found = pickle.loads(data, encoding="bytes"), read_pickle(data)
    np.testing.assert_array_equal(found["data"], loaded[b"data"])
    assert found["labels"] == loaded[b"labels"]


ARRAY_KINDS = {
    "bytes": PIXELS,
    "in Fortran's order": np.asfortranarray(PIXELS),
    "numbers of eight bytes": np.array(LABELS),
    "big-endian": np.array(LABELS, ">i4"),
    "decimals": PIXELS / 255,
    "text": np.array(["cat", "dog"]),
    "a slice": PIXELS[::2, 5:7],
}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", ARRAY_KINDS)
def test_an_array_saved_by_python_3(kind, protocol):
    array = ARRAY_KINDS[kind]
    found = read_pickle(pickle.dumps({"content": [{"it": array}], b"labels": list(array.ravel()[:3])}, protocol))
    np.testing.assert_array_equal(found["content/0/it"], array)
    assert found["labels"] == array.ravel()[:3].tolist()


class Hostile:
    """Unpickled, it creates the file named."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_pickle_that_runs_code_does_not(tmp_path):
    proof = tmp_path / "proof"
    data = pickle.dumps({b"data": Hostile(proof), b"labels": []})
    pickle.loads(data)
    assert proof.exists()  # the trap is live
    proof.unlink()
    with pytest.raises(BadDataError, match="asks to run .*open.*refused"):
        read_pickle(data)
    assert not proof.exists()


BAD = {
    "is not a valid pickle": tiny_cifar.python2_pickle(PIXELS.tobytes(), LABELS)[:-900],
    "has an array of 3 bytes, which its shape": tiny_cifar.python2_pickle(b"abc", LABELS),
    "of Python objects, which may be anything|array of object": pickle.dumps({"data": np.array([{}])}),
    "numpy.fromfile.*refused": b"cnumpy\nfromfile\n(S'batch'\ntR.",
    "builtins.eval.*refused": b"\x80\x02cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
    "_codecs.decode.*refused": b"\x80\x02c_codecs\ndecode\n(X\x01\x00\x00\x001tR.",
    "unexpected codec 'zlib'": b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x001X\x04\x00\x00\x00zlibtR.",
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_pickles(reason):
    with pytest.raises(BadDataError, match=reason):
        read_pickle(BAD[reason])


def test_a_pickle_is_made_of_nothing_but_what_is_known():
    known = {("builtins", "complex"): lambda *parts: ("stands for", parts)}
    stream = io.BytesIO(pickle.dumps([1 + 2j]) + pickle.dumps("next"))
    assert unpickled(stream, known, "it") == [("stands for", (1.0, 2.0))]
    assert unpickled(stream, known, "it") == "next"
    with pytest.raises(BadDataError, match="not a valid pickle"):
        unpickled(stream, known, "it")
    with pytest.raises(BadDataError, match="asks to run builtins.complex, which it never does: refused"):
        unpickled(io.BytesIO(pickle.dumps(1 + 2j)), {}, "it")


def test_what_a_pickle_refers_to_is_asked_of_the_caller():
    content = b"(Pone\nPtwo\nl."
    assert unpickled(io.BytesIO(content), {}, "it", str.upper) == ["ONE", "TWO"]
    with pytest.raises(BadDataError, match="refers to something outside it, which it never does"):
        unpickled(io.BytesIO(content), {}, "it")
