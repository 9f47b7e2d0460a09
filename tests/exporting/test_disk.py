"""Exported files and the disk: self-contained, whole or not at all; and files that were tampered with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam import (
    Explainer,
    LayerError,
    ModelError,
    OutputError,
    PreprocessError,
    TargetError,
    UnsupportedOpError,
    UsageError,
    export,
)
from onnxcam.exporting import split
from onnxcam.runtime import MANIFEST
from onnxcam.vjp import STANDARD
from tests.exporting.test_export import FLOATS, PLAIN, X, gradient_rows, model
from tests.nets import net, normal, run


def external(folder: Path) -> Path:
    """The plain model with its weights in another file."""
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(model("any batch"), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").stat().st_size > 0
    return path


def test_external_data_comes_along(tmp_path: Path) -> None:
    path = export(external(tmp_path / "model"), tmp_path / "elsewhere" / "exported.onnx")
    (tmp_path / "model" / "weights.bin").unlink()
    assert [file.name for file in path.parent.iterdir()] == ["exported.onnx"]
    found = run(str(path), {"x": X, "class": np.array([2])})
    np.testing.assert_allclose(found["gradients"], gradient_rows(np.array([2, 2, 2])), rtol=1e-6)


def test_the_model_itself_is_not_overwritten(tmp_path: Path) -> None:
    path = external(tmp_path / "model")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="would be overwritten"):
        export(path, path)
    assert path.read_bytes() == before


def test_nor_by_way_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    onnx.save(model("any batch"), tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(UsageError, match="is the model itself and would be overwritten"):
        export(tmp_path / "model.onnx", tmp_path / "new" / ".." / "model.onnx")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"model.onnx": before}


@pytest.mark.parametrize("name", ["features.onnx", "head_vjp.onnx"])
def test_a_split_beside_the_model_replaces_no_file_of_it(tmp_path: Path, name: str) -> None:
    onnx.save(model("any batch"), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UsageError, match=f"{name} is the model itself and would be overwritten"):
        split(tmp_path / name, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {name: before}


@pytest.mark.parametrize("name", ["features.onnx", "head_vjp.onnx", "out.onnx", "out.onnx.data"])
def test_external_data_is_not_overwritten(tmp_path: Path, name: str) -> None:
    """`out.onnx.data` is where weights go that one file does not hold."""
    path = tmp_path / "model.onnx"
    onnx.save(model("any batch"), path, save_as_external_data=True, location=name, size_threshold=0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=f"{name} is the data of the model and would be overwritten"):
        export(path, tmp_path / "out.onnx") if name.startswith("out") else split(path, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_or_what_is_spelled_like_one_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "folder", f"{tmp_path / 'none'}{os.sep}"):
        with pytest.raises(UsageError, match=f"^{out} is a folder, not a file: name one in it, such as .*onnx$"):
            export(model("any batch"), out)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_in_the_way_of_a_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here", encoding="utf-8")
    out = tmp_path / "file" / "exported.onnx"
    with pytest.raises(OutputError, match=f"^{out} cannot be written: Not a directory$|File exists"):
        export(model("any batch"), out)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export(model("any batch"), tmp_path / "exported.onnx")
    before = path.read_bytes()

    def half(proto: onnx.ModelProto, name: Path, **options: object) -> None:
        Path(name).write_bytes(proto.SerializeToString()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", half)
    with pytest.raises(OutputError, match=r"exported\.onnx cannot be written: No space left on device$"):
        export(model("a batch of 1"), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["exported.onnx"]


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(STANDARD.rules, ("", "GridSample"))
    grid = PLAIN.replace("p = GlobalAveragePool(a)", "s = GridSample(a, grid) p = GlobalAveragePool(s)")
    blocked = net(grid, {**FLOATS, "grid": normal(1, 6, 7, 2)})
    out = tmp_path / "exported.onnx"
    with pytest.raises(UnsupportedOpError, match="no gradient for GridSample"):
        export(blocked, out, layer="a")
    with pytest.raises(LayerError, match="the model has no layer 'b'"):
        export(model("any batch"), out, layer="b")
    with pytest.raises(LayerError, match="the model has no value 'z' to explain"):
        export(model("any batch"), out, score="z")
    with pytest.raises(PreprocessError, match="no preprocessing called 'imagenett'"):
        export(model("any batch"), out, preprocess="imagenett")
    with pytest.raises(TargetError, match="1 labels for a model of 5 classes"):
        export(model("any batch"), out, labels=["one"])
    assert list(tmp_path.iterdir()) == []


# -- damaged ----------------------------------------------------------------------------------------


def test_a_manifest_that_promises_too_much(tmp_path: Path) -> None:
    proto = onnx.load(export(model("any batch"), tmp_path / "exported.onnx"))
    proto.graph.output.remove(next(value for value in proto.graph.output if value.name == "gradients"))
    onnx.save(proto, tmp_path / "less.onnx")
    with pytest.raises(
        ModelError, match=r"less\.onnx lacks what its onnxcam manifest promises \(gradients\): export it again"
    ):
        Explainer(tmp_path / "less.onnx")


@pytest.mark.parametrize("entry", ["scores", "activations", "gradients"])
@pytest.mark.parametrize("kind", ["string", "bool", "sequence", "an input"])
def test_a_manifest_that_points_at_no_numbers(tmp_path: Path, entry: str, kind: str) -> None:
    proto = onnx.load(export(model("any batch"), tmp_path / "exported.onnx"))
    types = {"string": onnx.TensorProto.STRING, "bool": onnx.TensorProto.BOOL}
    if kind in types:
        proto.graph.node.append(helper.make_node("Cast", [proto.graph.output[0].name], ["odd"], to=types[kind]))
        proto.graph.output.append(helper.make_tensor_value_info("odd", types[kind], None))
    elif kind == "sequence":
        proto.graph.node.append(helper.make_node("SequenceConstruct", [proto.graph.output[0].name], ["odd"]))
        proto.graph.output.append(helper.make_tensor_sequence_value_info("odd", onnx.TensorProto.FLOAT, None))
    name = "x" if kind == "an input" else "odd"
    (said,) = (entry for entry in proto.metadata_props if entry.key == MANIFEST)
    said.value = json.dumps(json.loads(said.value) | {entry: name})
    onnx.save(proto, tmp_path / "forged.onnx")
    with pytest.raises(ModelError, match=rf"forged\.onnx lacks what its .* promises \({name}\): export it again"):
        Explainer(tmp_path / "forged.onnx")


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"format": 1}', '{"format": 2}'])
def test_a_manifest_that_says_nothing(tmp_path: Path, text: str) -> None:
    proto = model("any batch")
    helper.set_model_props(proto, {MANIFEST: text})
    onnx.save(proto, tmp_path / "damaged.onnx")
    with pytest.raises(
        ModelError, match=r"damaged\.onnx (carries a damaged onnxcam manifest|was exported by another version)"
    ):
        Explainer(tmp_path / "damaged.onnx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"pipe cannot be written: it is no regular file$"):
        export(model("any batch"), tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "map.png").symlink_to(tmp_path / "pipe")
    e = Explainer(model("any batch"))(X[0])
    with pytest.raises(OutputError, match=r"map\.png cannot be written: it is no regular file$"):
        e.save(tmp_path / "map.png")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["map.png", "pipe"]


def test_half_a_character_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"the class name '\\ud800' holds half a character"):
        export(model("any batch"), tmp_path / "out.onnx", labels=["a", "b", "c", "d", "\ud800"])
