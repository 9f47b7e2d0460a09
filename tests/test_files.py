"""Files that users name: written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxcam.errors import OutputError
from onnxcam.files import naming_output, write_whole


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(b"earlier")

    def fails(made: Path) -> None:
        made.write_bytes(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_whole(path, fails)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("map.png", b"earlier")]


def test_a_file_that_was_there_is_replaced_and_what_lies_beside_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")

    def write(made: Path) -> None:
        made.write_bytes(b"model")
        made.with_name("model.onnx.data").write_bytes(b"data")

    write_whole(path, write)
    found = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert found == {"model.onnx": b"model", "model.onnx.data": b"data"}


@pytest.mark.parametrize("name", ["none/map.png", "nu\0ll.png", "x" * 300])
def test_the_error_names_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(OutputError, match="cannot be written: ") as caught, naming_output(path):
        write_whole(path, lambda made: made.touch())
    assert str(caught.value).startswith(str(path))
    assert list(tmp_path.iterdir()) == []
