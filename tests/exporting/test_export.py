"""The file that carries its explanation: valid, the same outputs, the same maps, and no need for onnx to use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxcam import (
    Explainer,
    LayerError,
    ModelError,
    OnnxCamError,
    UsageError,
    export,
)
from onnxcam.errors import TargetError
from onnxcam.exporting import split
from onnxcam.runtime import LABELS, MANIFEST, PREPROCESS, read_manifest
from onnxcam.targets import DifferenceTarget, Spec
from tests.nets import Array, net, normal, run, session

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
W, B = normal(5, 4), normal(5)
FLOATS: dict[str, Array] = {
    "stem": normal(4, 3, 3, 3),
    "w": W,
    "b": B,
    "first": np.array([0]),
    "most": np.array(255, np.float32),
}
HALVES = {name: array.astype(np.float16) for name, array in FLOATS.items() if array.dtype == np.float32}
STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) p = GlobalAveragePool(a) "
HEAD = STEM + "f = Flatten(p) y = Gemm<transB = 1>(f, w, b) q = Softmax(y)"
PLAIN = f"(float[N, 3, 6, 7] x) => (float[N, 5] q) {{ {HEAD} }}"
BARE = PLAIN.replace("[N, 3, 6, 7] x", "[3, 6, 7] z").replace("{ ", "{ x = Unsqueeze(z, first) ")
LAST = PLAIN.replace("[N, 3, 6, 7] x", "[N, 6, 7, 3] z").replace("{ ", "{ x = Transpose<perm = [0, 3, 1, 2]>(z) ")
KERNEL = f"(float[N, 3, 6, 7] x) => (float[N, 5, 1, 1] y) {{ {STEM} y = Conv(p, kernel, b) }}"
TAKEN = PLAIN.replace("y", "class").replace("a =", "gradients =").replace("(a)", "(gradients)")
X = normal(3, 3, 6, 7)
LAYER_METHODS = ["gradcam", "counterfactual", "hirescam", "gradcam++", "layercam"]

MODELS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "any batch": (PLAIN, lambda x: x),
    "any size": (PLAIN.replace("6, 7", "H, W"), lambda x: x),
    "a batch of 1": (PLAIN.replace("N,", "1,"), lambda x: x),
    "a batch of 2": (PLAIN.replace("N,", "2,"), lambda x: x),
    "no batch axis": (BARE, lambda x: x),
    "no batch axis, scores [K]": (
        BARE.replace("[N, 5]", "[5]").replace("q = Softmax(y)", "s = Squeeze(y, first) q = Softmax(s)"),
        lambda x: x,
    ),
    "scores [N, K, 1, 1]": (KERNEL, lambda x: x),
    "channels last": (LAST, lambda x: np.moveaxis(x, 1, -1)),
    "float16": (PLAIN.replace("float[", "float16["), lambda x: x),
    "its own name is class": (TAKEN, lambda x: x),
    "an old opset": (PLAIN, lambda x: x),
}


def model(name: str) -> onnx.ModelProto:
    weights = {**FLOATS, "kernel": W.reshape(5, 4, 1, 1)} | (HALVES if name == "float16" else {})
    return net(MODELS[name][0], weights, opset=11 if name == "an old opset" else 17)


@pytest.mark.parametrize("name", MODELS)
def test_the_file_is_valid_and_keeps_its_outputs(name: str, tmp_path: Path) -> None:
    original = model(name)
    path = export(original, tmp_path / "exported.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    opened, before = session(str(path)), session(original)
    assert [port.name for port in opened.get_outputs()][: len(before.get_outputs())] == [
        port.name for port in before.get_outputs()
    ]
    assert [(port.name, port.type, port.shape) for port in opened.get_inputs()] == [
        (port.name, port.type, port.shape) for port in before.get_inputs()
    ]
    x = fed(before, MODELS[name][1](X))
    expected = before.run(None, x)
    for value, same in zip(opened.run(None, x), expected, strict=False):
        np.testing.assert_array_equal(value, same)


def fed(opened: object, rows: Array) -> dict[str, Array]:
    """As many rows as the model takes."""
    (port,) = opened.get_inputs()  # type: ignore[attr-defined]
    first = port.shape[0] if len(port.shape) == 4 else 0
    x = rows if isinstance(first, str) else rows[:first] if first else rows[0]
    return {port.name: x.astype(np.float16 if "float16" in port.type else np.float32)}


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_it_explains_as_the_model_does(name: str, method: str, tmp_path: Path) -> None:
    exported = Explainer(export(model(name), tmp_path / "exported.onnx"))
    images = list(MODELS[name][1](X))
    asked: list[Spec] = ["top:2", 3]
    for row, expected in zip(
        exported(images, target=asked, method=method),
        Explainer(model(name))(images, target=asked, method=method),
        strict=True,
    ):
        for e, one in zip(row, expected, strict=True):
            bound = (5e-3 if name == "float16" else 1e-6) * float(np.abs(one.map).max())
            np.testing.assert_allclose(e.map, one.map, rtol=0, atol=bound)
            assert (e.target, e.layer, e.status, e.score_name) == (one.target, one.layer, one.status, one.score_name)
            assert e.score == pytest.approx(one.score, abs=1e-2 if name == "float16" else 1e-5)


# -- in plain ONNX Runtime ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(model("any batch"), tmp_path_factory.mktemp("exported") / "plain.onnx")


def gradient_rows(classes: Array) -> Array:
    """By hand: the row of the weights over the positions."""
    return np.broadcast_to((W[classes] / 42)[:, :, None, None], (len(classes), 4, 6, 7))


def test_without_a_class_the_highest_score_is_explained(plain: Path) -> None:
    found = run(str(plain), {"x": X})
    assert list(found) == ["q", "gradients", "a", "y"]
    np.testing.assert_allclose(found["gradients"], gradient_rows(found["y"].argmax(axis=1)), rtol=1e-6)


@pytest.mark.parametrize("classes", [[2], [-1], [0, 4, 2], [-1, 3, -1]])
def test_the_class_is_given_for_all_rows_or_for_each(plain: Path, classes: list[int]) -> None:
    found = run(str(plain), {"x": X, "class": np.array(classes)})
    best = found["y"].argmax(axis=1)
    expected = [best[i] if which < 0 else which for i, which in enumerate(classes * (3 // len(classes)))]
    np.testing.assert_allclose(found["gradients"], gradient_rows(np.array(expected)), rtol=1e-6)


def test_activations_gradients_and_scores_make_the_map(plain: Path) -> None:
    """What docs/export.md tells a user of another language to do."""
    found = run(str(plain), {"x": X, "class": np.array([1])})
    maps = (found["gradients"].mean(axis=(2, 3), keepdims=True) * found["a"]).sum(axis=1)
    for raw, e in zip(maps, Explainer(model("any batch"))(X, target=1), strict=True):
        np.testing.assert_allclose(raw, e.map, rtol=0, atol=1e-6)


def test_only_standard_operators_are_added(plain: Path) -> None:
    proto = onnx.load(plain)
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    assert proto.ir_version == 8
    assert not proto.functions


# -- what the file says of itself --------------------------------------------------------------------


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def test_the_manifest(plain: Path) -> None:
    held = metadata(plain)
    assert set(held) == {MANIFEST}
    found = read_manifest(held, "x")
    assert found is not None
    assert (found.layer, found.activations, found.gradients, found.scores) == ("a", "a", "gradients", "y")
    assert (found.class_input, found.layout.axes, found.model) == ("class", "NCHW", "model")
    assert (found.image.name, found.image.layout, found.image.size, found.image.batch) == ("x", "NCHW", (7, 6), None)
    assert (found.score.kind, found.score.squash, found.score.output) == ("logit", "softmax", "q")


def test_names_that_are_taken_give_way(tmp_path: Path) -> None:
    path = export(model("its own name is class"), tmp_path / "exported.onnx")
    found = read_manifest(metadata(path), "x")
    assert found is not None
    assert (found.scores, found.activations) == ("class", "gradients")
    assert (found.class_input, found.gradients) == ("onnxcam_class", "onnxcam_gradients")


def test_preprocessing_and_labels_are_stored_when_given_and_never_guessed(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne\n", encoding="utf-8")
    path = export(model("any batch"), tmp_path / "exported.onnx", preprocess="unit", labels=labels)
    held = metadata(path)
    assert set(held) == {MANIFEST, PREPROCESS, LABELS}
    assert held[LABELS].split("\n") == ["a", "b", "c", "d", "e"]
    assert json.loads(held[PREPROCESS])["scale"] == pytest.approx(1 / 255)
    e = Explainer(path)(SAMPLES / "blobs.png", target="d")
    assert (e.target.index, e.preprocess) == (3, "from the model")
    original = Explainer(model("any batch"), preprocess="unit")(SAMPLES / "blobs.png", target=3)
    np.testing.assert_allclose(e.map, original.map, rtol=0, atol=1e-6)


def test_an_exported_file_is_fed_as_the_model_that_normalizes_its_input(tmp_path: Path) -> None:
    scaled = model("any batch")
    scaled.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1 / 255), "byte"))
    for node in scaled.graph.node:
        node.input[:] = ["scaled" if name == "x" else name for name in node.input]
    scaled.graph.node.insert(0, onnx.helper.make_node("Mul", ["x", "byte"], ["scaled"]))
    path = export(scaled, tmp_path / "exported.onnx")
    for chosen in (Explainer(scaled).preprocess, Explainer(path).preprocess):
        assert (chosen.recipe.name, chosen.guess) == ("raw", True)


def test_a_last_class_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="the last class has no name"):
        export(model("any batch"), tmp_path / "exported.onnx", labels=["a", "b", "c", "d", ""])
    assert not list(tmp_path.iterdir())


def test_labels_of_a_score_without_an_axis_of_images(tmp_path: Path) -> None:
    text = """(float[1, 3, 8, 8] x) => (float[5] y) {
      c = Conv(x, stem) a = Relu(c) p = ReduceMean<axes = [0, 2, 3], keepdims = 0>(a) y = MatMul(p, fc) }"""
    one = net(text, {"stem": normal(4, 3, 3, 3), "fc": normal(4, 5)})
    path = export(one, tmp_path / "exported.onnx", labels=list("abcde"))
    assert metadata(path)[LABELS].split("\n") == list("abcde")
    with pytest.raises(TargetError, match="4 labels for a model of 5 classes"):
        export(one, tmp_path / "exported.onnx", labels=list("abcd"))


def test_feeds_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="feeds should be arrays by name, or None, not 5"):
        export(model("any batch"), tmp_path / "exported.onnx", feeds=5)  # type: ignore[arg-type]


def test_what_the_model_carries_stays(tmp_path: Path) -> None:
    path = export(SAMPLES / "tiny_cnn.onnx", tmp_path / "exported.onnx")
    assert {MANIFEST, PREPROCESS, LABELS} <= set(metadata(path))
    assert read_manifest(metadata(path), "x").model == "tiny_cnn.onnx"  # type: ignore[union-attr]
    again = export(SAMPLES / "tiny_cnn.onnx", tmp_path / "again.onnx", labels=["rot", "a\nb", "blau"])
    assert Explainer(again)(SAMPLES / "blobs.png", target="a b").target.index == 1


def test_no_word_of_the_author(tmp_path: Path) -> None:
    """Exporters leave stack traces, with their paths, wherever the format has room for them."""
    secret = "/home/author/secret/train.py"
    proto = model("any batch")
    for node in proto.graph.node:
        node.doc_string = secret
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=secret)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.doc_string = secret
    proto.graph.doc_string = secret
    proto.graph.value_info.add(name="a", doc_string=secret)
    path = export(proto, tmp_path / "exported.onnx")
    assert b"secret" not in path.read_bytes()
    assert str(tmp_path).encode() not in path.read_bytes()
    assert b"secret" in proto.SerializeToString()  # the model given is not changed


# -- without onnx -----------------------------------------------------------------------------------

WITHOUT_ONNX = """
import sys
from onnxcam import Explainer
explainer = Explainer(sys.argv[1])
for method in ("gradcam", "layercam"):
    found = explainer(sys.argv[2], target=["blue", "top:1"], method=method)
print(*[round(float(value), 6) for value in found[0].map.ravel()])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"onnx", "google", "onnxruntime", "click"}))
"""


def test_it_runs_without_importing_onnx(tmp_path: Path) -> None:
    path = export(SAMPLES / "tiny_cnn.onnx", tmp_path / "exported.onnx")
    command = [sys.executable, "-c", WITHOUT_ONNX, str(path), str(SAMPLES / "blobs.png")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers, modules = ran.stdout.splitlines()
    assert modules.split() == ["onnxruntime"]
    expected = Explainer(SAMPLES / "tiny_cnn.onnx")(SAMPLES / "blobs.png", target="blue", method="layercam").map
    np.testing.assert_allclose(np.array(numbers.split(), float), expected.ravel(), atol=1e-6)


def test_a_trained_network(tmp_path: Path) -> None:
    path = export(SAMPLES / "squeezenet11.onnx", tmp_path / "exported.onnx")
    assert path.stat().st_size < 1.02 * (SAMPLES / "squeezenet11.onnx").stat().st_size
    photo = SAMPLES / "chelsea.png"
    for e, one in zip(
        Explainer(path)(photo, target="top:3"),
        Explainer(SAMPLES / "squeezenet11.onnx")(photo, target="top:3"),
        strict=True,
    ):
        np.testing.assert_allclose(e.map, one.map, rtol=0, atol=1e-4 * float(np.abs(one.map).max()))
        assert (e.target, e.label) == (one.target, one.label)


REFUSED: dict[str, tuple[Callable[[Explainer], object], type[OnnxCamError], str]] = {
    "another layer": (lambda e: e(X[0], layer="c"), LayerError, "^an exported file explains one layer, here 'a'"),
    "cam": (lambda e: e(X[0], method="cam"), UsageError, "^cam reads the weights of the head"),
    "saliency": (lambda e: e(X[0], method="saliency"), UsageError, "^input-level methods need the whole graph"),
    "guidedgradcam": (lambda e: e(X[0], method="guidedgradcam"), UsageError, "^input-level methods need the whole"),
    "numeric": (lambda e: e(X[0], gradient="numeric"), UsageError, "^an exported file holds its gradient: for a numer"),
    "a difference": (lambda e: e(X[0], target=DifferenceTarget(0, 1)), UsageError, "^an exported file explains"),
    "infinite": (lambda e: e(np.full((3, 6, 7), np.inf)), ModelError, "^the score 'y' is not finite on this input"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_said_in_one_line(plain: Path, name: str) -> None:
    ask, kind, says = REFUSED[name]
    with pytest.raises(kind, match=says) as caught:
        ask(Explainer(plain))
    assert "\n" not in str(caught.value)


def test_advice_names_the_model_it_was_made_from(tmp_path: Path) -> None:
    onnx.save(model("any batch"), tmp_path / "net.onnx")
    explainer = Explainer(export(tmp_path / "net.onnx", tmp_path / "ready.onnx"))
    asked = [{"method": "cam"}, {"method": "saliency"}, {"layer": "c"}, {"gradient": "numeric"}, {"target": "q[0]"}]
    for options in asked:
        with pytest.raises(OnnxCamError, match=r"use the model that \S*ready\.onnx was made from \(net\.onnx\)$"):
            explainer(X[0], **options)


def test_another_score_needs_the_original(plain: Path) -> None:
    assert Explainer(plain, score="y")(X[0]).score_name == "y"
    with pytest.raises(
        UsageError,
        match=r"plain\.onnx was exported for the score 'y': for another use the model it was made",
    ):
        Explainer(plain, score="q")


def test_an_exported_file_may_be_exported_again_for_another_layer(plain: Path, tmp_path: Path) -> None:
    again = export(plain, tmp_path / "again.onnx", layer="c", score="y")
    onnx.checker.check_model(str(again), full_check=True)
    e, one = Explainer(again)(X[0], target=2), Explainer(model("any batch"))(X[0], target=2, layer="c")
    assert e.layer == "c"
    np.testing.assert_allclose(e.map, one.map, rtol=0, atol=1e-6)


def test_a_score_whose_classes_axis_only_a_run_tells(tmp_path: Path) -> None:
    text = """(float[N, 3, H, W] x) => (float[n, p, k] y) {
  c = Conv(x, stem) a = Relu(c) p = GlobalAveragePool(a) f = Flatten(p) g = Gemm<transB = 1>(f, w, b)
  s = Shape(a) n = Slice(s, i0, i1) h = Slice(s, i2, i3) one = Div(h, h) to = Concat<axis = 0>(n, one, all)
  y = Reshape(g, to)
}"""
    late = net(text, {**FLOATS, "all": np.array([-1])} | {f"i{i}": np.array([i]) for i in range(4)})
    for write in (lambda: export(late, tmp_path / "one.onnx", score="y"), lambda: split(late, tmp_path, score="y")):
        with pytest.raises(ModelError, match=r"^which axis of the score 'y' holds the classes cannot be told before"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_rows_as_many_as_are_found_are_no_images(tmp_path: Path) -> None:
    text = """(float[1, 3, 6, 8] x) => (float[n, 5] y) {
  c = Conv(x, stem) a = Relu(c) t = Transpose<perm = [0, 2, 3, 1]>(a) r = Reshape(t, places)
  m = ReduceMax<axes = [1], keepdims = 0>(r) h = Greater(m, least) f = NonZero(h) i = Reshape(f, all)
  g = Gather(r, i) y = Gemm<transB = 1>(g, w, b)
}"""
    width = FLOATS["w"].shape[1]
    found = net(text, {**FLOATS, "places": np.array([-1, width]), "least": np.float32(0.5), "all": np.array([-1])})
    with pytest.raises(ModelError, match=r"^which axis of the score 'y' holds the classes cannot be told before"):
        export(found, tmp_path / "one.onnx")


def test_one_number_for_each_image_is_exported_for_any_number_of_images(tmp_path: Path) -> None:
    """A score [N] has no axis of classes: its axis is the images'."""
    text = """(float[N, 3, 6, 8] x) => (float[N] y) { c = Conv<pads = [1, 1, 1, 1]>(x, k) a = Relu(c)
        p = GlobalAveragePool(a) f = Flatten(p) t = Tanh(f) m = MatMul(t, w) y = Squeeze(m, one) }"""
    model = net(text, {"k": normal(4, 3, 3, 3), "w": normal(4, 1), "one": np.array([1])})
    path, x = export(model, tmp_path / "exported.onnx"), normal(3, 3, 6, 8)
    alone = np.concatenate([run(str(path), {"x": row[None]})["gradients"] for row in x])
    assert np.abs(alone).max(axis=(1, 2, 3)).min() > 0
    np.testing.assert_allclose(run(str(path), {"x": x})["gradients"], alone, rtol=1e-5)
    np.testing.assert_allclose(run(str(path), {"x": x, "class": np.zeros(1, np.int64)})["gradients"], alone, rtol=1e-5)
    assert np.isnan(run(str(path), {"x": x, "class": np.array([1])})["gradients"]).all()
    for one, other in zip(Explainer(path)(x), Explainer(model)(x), strict=True):
        np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-7)
    with pytest.raises(ModelError, match="export without --split"):
        split(model, tmp_path / "parts")
