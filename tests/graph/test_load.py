"""What a model weighs in memory, and what is refused before anything reads it."""

from __future__ import annotations

import os
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnxcam.errors import LayerError, ModelError, OnnxCamError
from onnxcam.graph import Model, candidates, find_score, head, image_input, load, named_layer, read_graph
from onnxcam.graph.external import is_external, place_of
from onnxcam.runtime import Session, wire
from tests.graph.building import channels_last, nodes_model, residual, vit
from tests.nets import net, normal, run

Array = npt.NDArray[Any]
FEEDS = {"x": normal(2, 4, 8, 8, seed=5)}


def heavy(shift: int = 0) -> onnx.ModelProto:
    """A net whose weights are all over 16 kB, at byte offsets that `shift` moves."""
    wide = 4160
    weights = {
        "kernel": normal(65, 4, 5, 5), "scale": normal(wide) ** 2 + 0.5, "shift": normal(wide, seed=1),
        "mean": normal(wide, seed=2), "var": normal(wide, seed=3) ** 2 + 0.5, "factor": normal(wide, seed=4),
        "term": normal(wide, seed=5), "matrix": normal(wide, 6, seed=6), "more": normal(6, 3000, seed=7),
        "table": normal(wide, 2, seed=8), "ids": np.array([3, 4159], np.int64),
    }  # fmt: skip
    model = net(
        """(float[N,4,8,8] x) => (float[N,3000] y, float[2,2] looked_up) {
  c = Conv<pads=[2,2,2,2]>(x, kernel)
  f = Flatten(c)
  n = BatchNormalization(f, scale, shift, mean, var)
  m = Mul(n, factor)
  a = Add(m, term)
  g = Gemm(a, matrix)
  y = MatMul(g, more)
  looked_up = Gather(table, ids)
}""",
        weights,
    )
    model.producer_name = "p" * shift
    return model


def large(model: Model) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.proto.graph.initializer if is_external(tensor)}


def packed(tensor: onnx.TensorProto) -> None:
    """The same floats in float_data."""
    values = numpy_helper.to_array(tensor).ravel()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values.tolist())


# -- weights stay where they are ----------------------------------------------------------------------


@pytest.mark.parametrize("shift", range(4))
def test_large_weights_are_references_into_the_file_and_run_bit_for_bit(tmp_path: Path, shift: int) -> None:
    path, proto = tmp_path / "heavy.onnx", heavy(shift)
    onnx.save(proto, path)
    model = load(path)
    found = large(model)
    assert set(found) == {tensor.name for tensor in proto.graph.initializer} - {"ids"}
    assert len(model.proto.SerializeToString()) < 2500 < 16384 < len(model.data)
    for tensor in proto.graph.initializer:
        if tensor.name in found:
            location, offset, length = place_of(found[tensor.name])
            assert location == "heavy.onnx"
            assert path.read_bytes()[offset : offset + (length or 0)] == tensor.raw_data
    expected, session = run(proto, FEEDS), Session(model.portable(model.proto), folder=model.folder)
    for name, value in session.run(FEEDS).items():
        np.testing.assert_array_equal(value, expected[name])


def test_the_four_shifts_cover_every_alignment(tmp_path: Path) -> None:
    residues = set()
    for shift in range(4):
        residues |= {place_of(tensor).offset % 4 for tensor in large(load(heavy(shift))).values()}
    assert residues == {0, 1, 2, 3}


def test_packed_float_data_is_referred_to_as_well() -> None:
    proto = heavy()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            packed(tensor)
    model = load(proto)
    assert len(large(model)) == len(proto.graph.initializer) - 1
    session = Session(model.portable(model.proto))
    np.testing.assert_array_equal(session.run(FEEDS)["y"], run(heavy(), FEEDS)["y"])


@pytest.mark.parametrize(
    ("kind", "field"),
    [(TensorProto.DOUBLE, "double_data"), (TensorProto.INT64, "int64_data"), (TensorProto.INT32, "int32_data"),
     (TensorProto.FLOAT16, "int32_data"), (TensorProto.COMPLEX64, "float_data")],
)  # fmt: skip
def test_other_spellings_of_elements_stay_inline(kind: int, field: str) -> None:
    proto = nodes_model([onnx.helper.make_node("Relu", ["x"], ["y"])])
    tensor = proto.graph.initializer.add(name="w", data_type=kind, dims=[20000 if field != "float_data" else 10000])
    getattr(tensor, field).extend([1] * 20000)
    (kept,) = load(proto).proto.graph.initializer
    assert kept == tensor


def test_elements_given_twice_or_unpacked_stay_inline() -> None:
    """Of two raw_data the last counts; unpacked floats lie apart."""
    one, other = normal(5000).tobytes(), normal(5000, seed=1).tobytes()
    unpacked = b"".join(b"\x25" + one[i : i + 4] for i in range(0, len(one), 4))
    begin = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[5000]).SerializeToString()
    for elements, expected in (
        (wire.encode_bytes(9, one) + wire.encode_bytes(9, other), other),
        (wire.encode_bytes(4, one[:8000]) + wire.encode_bytes(4, one[8000:]), one),
        (unpacked, one),
    ):
        graph = nodes_model([onnx.helper.make_node("Relu", ["x"], ["y"])]).graph.SerializeToString()
        graph += wire.encode_bytes(5, begin + elements)
        proto = onnx.ModelProto(ir_version=8, opset_import=[onnx.helper.make_opsetid("", 17)])
        model = load(proto.SerializeToString() + wire.encode_bytes(7, graph))
        (tensor,) = model.proto.graph.initializer
        assert not is_external(tensor)
        assert model.array(tensor).tobytes() == expected


def test_a_small_weight_with_a_long_name_stays_inline() -> None:
    proto = nodes_model([onnx.helper.make_node("Relu", ["x"], ["y"])], {"n" * 20000: np.ones(3, np.float32)})
    assert not large(load(proto))


def test_raw_data_of_any_type_is_referred_to() -> None:
    weights: dict[str, Array] = {
        "half": np.ones(9000, np.float16),
        "double": np.ones(3000),
        "bytes": np.ones(17000, np.int8),
    }
    model = load(nodes_model([onnx.helper.make_node("Relu", ["x"], ["y"])], weights))
    for name, tensor in large(model).items():
        np.testing.assert_array_equal(model.array(tensor), weights.pop(name))
    assert not weights


def test_path_bytes_and_proto_give_the_same_and_stay_unchanged(tmp_path: Path) -> None:
    path, proto = tmp_path / "heavy.onnx", heavy()
    onnx.save(proto, path)
    before = proto.SerializeToString()
    graphs = [read_graph(load(source)) for source in (path, str(path), before, proto)]
    first = graphs[0]
    for graph in graphs:
        assert graph.types == first.types
        assert [node.SerializeToString() for node in graph.nodes] == [n.SerializeToString() for n in first.nodes]
        np.testing.assert_array_equal(graph.constant("kernel"), first.constant("kernel"))
        options = {"folder": graph.model.folder}
        outputs = Session(graph.model.portable(graph.proto), **options).run(FEEDS)  # type: ignore[arg-type]
        np.testing.assert_array_equal(outputs["y"], run(proto, FEEDS)["y"])
    assert proto.SerializeToString() == before == path.read_bytes()


def test_embed_brings_the_weights_home(tmp_path: Path) -> None:
    path = tmp_path / "heavy.onnx"
    onnx.save(heavy(), path)
    model = load(path)
    assert model.embed(model.proto).graph == heavy().graph


def test_reading_a_file_holds_no_weight_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(nodes_model([onnx.helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones((4_000_000, 4), "f")}), path)
    tracemalloc.start()
    model = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 60_000_000
    assert peak < 1_000_000
    assert len(model.proto.SerializeToString()) < 1000


def test_a_link_to_a_model_with_large_weights_of_its_own(tmp_path: Path) -> None:
    real, link = tmp_path / "store" / "real", tmp_path / "link.onnx"
    real.parent.mkdir()
    onnx.save(heavy(), real)
    link.symlink_to(real)
    model = load(link)
    assert {place_of(tensor).location for tensor in large(model).values()} == {"real"}
    session = Session(model.portable(model.proto), folder=model.folder)
    np.testing.assert_array_equal(session.run(FEEDS)["y"], run(heavy(), FEEDS)["y"])


# -- what is no model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\x18\x00\x00\x00ORTM" + bytes(50), "give the original .onnx"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n<HTML>", "web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX model"),
        (b"PK\x03\x04" + bytes(100), "not an ONNX model"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no ONNX graph"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(ModelError, match=says) as caught:
            load(source)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"file\.onnx"):
        load(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it would wait for ever
    for path, says in (
        (tmp_path / "gone.onnx", "no model at"),
        (tmp_path, "folder"),
        (pipe, "no ordinary file"),
        ("a\0b", "cannot read"),
        ("n" * 5000, "cannot read"),
    ):
        with pytest.raises(ModelError, match=says):
            load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(residual(), path)
    path.chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        load(path)


@pytest.mark.parametrize("word", [b"Relu", b"last", b"logits", b"w0", b"node0", b"net", b"pads"])
def test_names_that_are_not_utf8(word: bytes) -> None:
    data = residual().SerializeToString()
    assert word in data
    with pytest.raises(ModelError, match="not UTF-8"):
        load(data.replace(word, b"\xff" * len(word)))


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are text there")
@pytest.mark.parametrize("name", [b"m\xff.onnx", b"folder\xff/model.onnx"])
def test_a_path_that_is_not_utf8(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(heavy().SerializeToString())
    model = load(path)
    found = Session(model.portable(model.proto), folder=model.folder).run(FEEDS)
    for output, expected in run(heavy(), FEEDS).items():
        np.testing.assert_array_equal(found[output], expected)
    with pytest.raises(ModelError, match="the path is not UTF-8, rename it"):
        Session(path)


# -- hostile bytes ----------------------------------------------------------------------------------------


def read_all(source: bytes) -> None:
    """Everything that `graph` does with a model nobody vouches for."""
    graph = read_graph(load(source))
    score = find_score(graph)
    for layer in candidates(graph, image_input(graph), score):
        _ = head(graph, layer.name, score.name).graph.types
    for name in list(graph.producer)[:3]:
        with suppress(LayerError):
            named_layer(graph, name)


def survives(source: bytes) -> None:
    with suppress(OnnxCamError):
        read_all(source)


def test_a_model_cut_off_anywhere() -> None:
    data = heavy().SerializeToString()
    for end in range(1, len(data), 9700):
        survives(data[:end])
    data = vit("token").SerializeToString()
    for end in range(1, len(data), 97):
        survives(data[:end])


def flipped(data: bytes, seed: int) -> bytes:
    """Some bytes changed, moved or lost."""
    rng = np.random.default_rng(seed)
    found = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(found)))
        if seed % 3 == 0:
            found[at] ^= 1 << int(rng.integers(8))
        elif seed % 3 == 1:
            found[at] = int(rng.integers(256))
        else:
            start = int(rng.integers(len(found)))
            found[at : at + 1] = found[start : start + int(rng.integers(30))]
    return bytes(found)


@pytest.mark.parametrize("build", [residual, channels_last, lambda: vit("token")])
def test_random_damage(build: Any) -> None:
    data = build().SerializeToString()
    for seed in range(300):
        survives(flipped(data, seed))


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a graph of 2^63 bytes
        b"\x3a\xff\xff\xff\xff\x0f" + bytes(100),  # one of 4 GB
        b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",  # a length that does not end
        b"\x3b" * 1000,  # groups in groups
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"\x3a\x05\x2a\xff\xff\xff\x7f",  # an initializer longer than its graph
        b"\x3a\x80\x80\x01" + b"\x2a\xfc\xff\x00" + b"\x4a\xff\xff\xff\xff\x0f" + bytes(32768),
    ],
)
def test_lengths_that_lie_take_no_memory(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ModelError):
        load(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("elements", [20, 20_000])  # inline, and as a reference
def test_a_shape_that_lies_takes_no_memory(elements: int) -> None:
    model = net("(float[N,3] x) => (float[N,3] y) { y = Add(x, bias) }", {"bias": np.zeros(elements, np.float32)})
    model.graph.initializer[0].dims[:] = [2**40]
    with pytest.raises(ModelError, match="the weight 'bias' of the model is damaged"):
        load(model)


def test_graphs_nested_too_deep() -> None:
    body = b""
    for _ in range(2000):  # GraphProto.node.attribute.g
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            body = tag + onnx_varint(len(body)) + body
    with pytest.raises(ModelError):
        load(b"\x3a" + onnx_varint(len(body)) + body)


def onnx_varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@pytest.mark.fuzz
@pytest.mark.parametrize("build", [residual, channels_last, lambda: vit("token")])
def test_much_random_damage(build: Any) -> None:
    data = build().SerializeToString()
    for seed in range(300, 5000):
        survives(flipped(data, seed))
