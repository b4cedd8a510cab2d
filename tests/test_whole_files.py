"""Files that appear whole under their name, or not at all."""

import pytest

from cnnlab.machine import atomic_file as whole_file


def test_the_name_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "rows.csv"
    with whole_file(path) as partial:
        partial.write_text("new", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_former_file_and_no_other(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), whole_file(path, suffix=".csv") as partial:
        partial.write_text("ne", encoding="utf-8")
        assert partial.suffix == ".csv"
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
