"""Weights in other files: found where they may lie, refused anywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from onnxcam.errors import ModelError
from onnxcam.graph import load, read_graph
from onnxcam.graph.load import IN_MEMORY
from onnxcam.runtime import Session
from tests.graph.building import nodes_model

Array = npt.NDArray[Any]


def external(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    """A model y = x + w in `folder`, whose weight [4] lies in w.bin, and says so with `entries`."""
    proto = nodes_model([onnx.helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.arange(4, dtype=np.float32)})
    (tensor,) = proto.graph.initializer
    (folder / "w.bin").write_bytes(b"pad." + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location, "offset": "4", "length": "16"} | entries).items():
        if value:
            tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def added(path: Path) -> Array:
    """What the model makes of zeros."""
    model = load(path)
    session = Session(model.portable(model.proto), folder=model.folder)
    value: Array = session.run({"x": np.zeros((1, 4), np.float32)})["y"][0]
    np.testing.assert_array_equal(read_graph(model).constant("w"), value)
    return value


def test_external_data_is_read_relative_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    external(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    np.testing.assert_array_equal(added(Path(tmp_path.name) / "model.onnx"), np.arange(4))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(added(Path("model.onnx")), np.arange(4))


def test_external_data_without_a_length_reaches_to_the_end(tmp_path: Path) -> None:
    np.testing.assert_array_equal(added(external(tmp_path, length="")), np.arange(4))


def test_external_data_in_a_folder_below(tmp_path: Path) -> None:
    path = external(tmp_path, "weights/w.bin")
    (tmp_path / "weights").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "weights" / "w.bin")
    np.testing.assert_array_equal(added(path), np.arange(4))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "gone.bin"}, "is missing beside the model"),
        ({"location": "../secret.bin"}, "outside the model's folder"),
        ({"location": "sub/../../secret.bin"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "link.bin"}, "outside the model's folder"),
        ({"location": "round.bin"}, "cannot be opened"),
        ({"location": "a\0b"}, "cannot be opened"),
        ({"location": "n" * 5000}, "cannot be opened"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "."}, "is missing"),
        ({"location": IN_MEMORY}, "is missing"),
        ({"offset": "-4"}, "beyond the end"),
        ({"offset": "99"}, "beyond the end"),
        ({"length": "-1"}, "beyond the end"),
        ({"length": "9" * 30}, "beyond the end"),
        ({"offset": "four"}, "no number"),
        ({"length": "1e3"}, "no number"),
        ({"offset": "9" * 5000}, "no number"),
        ({"location": "model.onnx", "offset": "99999"}, "beyond the end"),
        ({"location": "model.onnx", "offset": "-50"}, "beyond the end"),
        ({"location": "model.onnx", "length": "-1"}, "beyond the end"),
    ],
)
def test_external_data_that_is_refused(tmp_path: Path, entries: dict[str, str], says: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"s" * 100)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "round.bin").symlink_to(folder / "round.bin")
    path = external(folder, **entries)
    with pytest.raises(ModelError, match=says) as caught:
        load(path)
    assert "'w'" in str(caught.value)


@pytest.mark.parametrize("offset", ["0", "-1", "99999", "x"])
def test_bytes_that_call_themselves_in_memory_read_nothing_else(tmp_path: Path, offset: str) -> None:
    data = external(tmp_path, IN_MEMORY, offset=offset).read_bytes()
    if offset == "0":  # sixteen bytes of the model itself: nonsense, but its own
        assert load(data).array(load(data).proto.graph.initializer[0]).tobytes() == data[:16]
    else:
        with pytest.raises(ModelError):
            load(data)


def test_external_data_of_bytes_is_refused_when_it_is_needed(tmp_path: Path) -> None:
    model = load(external(tmp_path).read_bytes())
    for use in (lambda: read_graph(model).small_constants, lambda: model.portable(model.proto)):
        with pytest.raises(ModelError, match="give the model's path, not its bytes"):
            use()


def test_an_attacker_cannot_point_at_another_file_with_sparse_or_nested_tensors(tmp_path: Path) -> None:
    path = external(tmp_path, "../secret.bin")
    proto = onnx.load(path, load_external_data=False)
    stolen = proto.graph.initializer.pop()
    body = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["t"])], "then", [], [], [stolen])
    proto.graph.node.append(onnx.helper.make_node("If", ["c"], ["w"], then_branch=body, else_branch=body))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(path)


def test_elements_that_do_not_fill_their_shape(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'w' of .* is damaged"):
        read_graph(load(external(tmp_path, length="12"))).constant("w")


# -- links ------------------------------------------------------------------------------------------------


def test_the_layout_of_hugging_face_caches(tmp_path: Path) -> None:
    """snapshots/x/model.onnx and its data are links to files without those names in blobs/."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "x"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    external(snapshot)
    for name, blob in (("model.onnx", "abc"), ("w.bin", "def")):
        (snapshot / name).rename(blobs / blob)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    np.testing.assert_array_equal(added(snapshot / "model.onnx"), np.arange(4))


def test_data_that_lies_beside_the_link_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    path = external(tmp_path)
    path.rename(tmp_path / "store" / "real.onnx")
    path.symlink_to(tmp_path / "store" / "real.onnx")
    np.testing.assert_array_equal(added(path), np.arange(4))


def test_data_beside_the_file_but_not_beside_the_link_is_missing(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "model.onnx").symlink_to(external(tmp_path))
    with pytest.raises(ModelError, match="missing beside the model"):
        load(tmp_path / "links" / "model.onnx")
