"""Models to disk: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.graph import load, save, write
from tests.graph.building import nodes_model, residual
from tests.nets import normal, run


def wide(seed: int = 0) -> onnx.ModelProto:
    return nodes_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 500, seed=seed)})


@pytest.mark.parametrize("name", ["model.onnx", "no_suffix", "model.json", "größe 1.onnx", "n" * 200])
def test_what_is_saved_is_the_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / "folder" / name
    save(residual(), path)
    assert onnx.ModelProto.FromString(path.read_bytes()) == residual()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
def test_the_mask_of_the_user_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "LARGEST", 1000)
    before = os.umask(0o027)
    try:
        save(wide(), tmp_path / "model.onnx")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o640}


def test_an_earlier_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    save(wide(), path)
    assert load(path).proto.graph.node[0].op_type == "MatMul"


def test_weights_over_two_gigabytes_go_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "LARGEST", 1000)
    path, x = tmp_path / "model.onnx", {"x": normal(2, 4)}
    for seed in (0, 1):  # the second replaces the first, data too
        model = wide(seed)
        before = model.SerializeToString()
        save(model, path)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
        assert (tmp_path / "model.onnx.data").stat().st_size == 8000
        assert model.SerializeToString() == before
        np.testing.assert_array_equal(run(str(path), x)["y"], run(model, x)["y"])
        (weight,) = load(path).proto.graph.initializer
        np.testing.assert_array_equal(load(path).array(weight), normal(4, 500, seed=seed))


def test_the_model_comes_after_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "LARGEST", 1000)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    (tmp_path / "model.onnx.data").mkdir()  # no file can take its place
    with pytest.raises(OSError, match=r"model\.onnx\.data"):
        save(wide(), path)
    assert path.read_bytes() == b"earlier"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "model.onnx", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"file|folder"):
            save(wide(), path)
