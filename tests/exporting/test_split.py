"""The model in two files: run one behind the other, they give the gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, LayerError, OutputError, differentiate
from onnxcam.exporting import split
from tests.nets import Array, net, normal, run, session

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
WEIGHTS: dict[str, Array] = {
    "stem": normal(4, 3, 3, 3),
    "deep": normal(4, 4, 3, 3),
    "gate": normal(4, 4, 1, 1),
    "w": normal(5, 4),
    "b": normal(5),
    "zero": np.array(0),
    "first": np.array([0]),
    "rest": np.array([-1]),
}
STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
TAIL = "p = GlobalAveragePool(d) f = Flatten(p) y = Gemm<transB = 1>(f, w, b) q = Softmax(y)"
BODIES = {
    "one path": STEM + "e = Conv<pads = [1, 1, 1, 1]>(a, deep) d = Relu(e) " + TAIL,
    # the gate is made before the layer and read behind it: a second value that the head takes
    "a gate": (
        STEM + "m = GlobalAveragePool(a) k = Conv(m, gate) s = Sigmoid(k) "
        "e = Conv<pads = [1, 1, 1, 1]>(a, deep) h = Relu(e) d = Mul(h, s) " + TAIL
    ),
    "the batch size read off the input": (
        "n = Shape(x) z = Gather(n, zero) u = Unsqueeze(z, first) t = Concat<axis = 0>(u, rest) "
        + STEM
        + "d = Identity(a) "
        + TAIL.replace("Flatten(p)", "Reshape(p, t)")
    ),
}
LAYERS = {"one path": ["a", "d", "c"], "a gate": ["h", "d", "a"], "the batch size read off the input": ["a"]}
CASES = [(body, layer) for body in BODIES for layer in LAYERS[body]]
X = normal(3, 3, 6, 6)


def model(body: str) -> onnx.ModelProto:
    return net(f"(float[N, 3, 6, 6] x) => (float[N, 5] q) {{ {BODIES[body]} }}", WEIGHTS)


def gradients(features: Path, head: Path, x: Array, classes: Array) -> Array:
    """What docs/export.md tells to do."""
    made = run(str(features), {"x": x})
    takes = [port.name for port in session(str(head)).get_inputs()]
    found = run(str(head), {name: classes if name == "onnxcam/class" else made[name] for name in takes})
    return found["onnxcam/gradient"]


@pytest.mark.parametrize(("body", "layer"), CASES)
def test_the_two_files_give_the_gradient(body: str, layer: str, tmp_path: Path) -> None:
    paths = split(model(body), tmp_path / "out", layer=layer)
    assert [path.name for path in paths] == ["features.onnx", "head_vjp.onnx"]
    for path in paths:
        onnx.checker.check_model(str(path), full_check=True)
    classes = np.array([4, 0, 2])
    whole = differentiate(model(body), of="y", wrt=layer)
    expected = run(whole.model, {"x": X, whole.seed: np.eye(5, dtype=np.float32)[classes]})[whole.gradients[layer]]
    found = gradients(*paths, X, classes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * float(np.abs(expected).max()))


@pytest.mark.parametrize("body", BODIES)
def test_the_features_keep_the_original_outputs(body: str, tmp_path: Path) -> None:
    features, _ = split(model(body), tmp_path)
    found = run(str(features), {"x": X})
    np.testing.assert_array_equal(found["q"], run(model(body), {"x": X})["q"])
    assert "y" in found


def test_an_image_may_have_several_targets(tmp_path: Path) -> None:
    """One run of the features, a row of the head for each class."""
    features, head = split(model("one path"), tmp_path)
    made = run(str(features), {"x": X[:1]})
    rows = {"d": np.repeat(made["d"], 5, axis=0), "onnxcam/class": np.arange(5)}
    found = run(str(head), rows)["onnxcam/gradient"]
    maps = (found.mean(axis=(2, 3), keepdims=True) * made["d"]).sum(axis=1)
    for raw, e in zip(maps, Explainer(model("one path"))(X[0], target=range(5)), strict=True):
        np.testing.assert_allclose(raw, e.map, rtol=0, atol=1e-6)


def test_a_trained_network(tmp_path: Path) -> None:
    """Together they are the model and the classifier's weights again; the head alone is a third of it."""
    source = SAMPLES / "squeezenet11.onnx"
    features, head = split(source, tmp_path)
    assert features.stat().st_size == pytest.approx(source.stat().st_size, rel=0.01)
    assert head.stat().st_size < 0.5 * source.stat().st_size
    e = Explainer(source)(SAMPLES / "chelsea.png")
    made = run(str(features), {"data": e.item.row[None]})
    found = run(str(head), {"fire9/concat": made["fire9/concat"], "onnxcam/class": np.array([285])})["onnxcam/gradient"]
    raw = (found.mean(axis=(2, 3), keepdims=True) * made["fire9/concat"]).sum(axis=1)[0]
    np.testing.assert_allclose(raw, e.map, rtol=0, atol=1e-4 * float(np.abs(e.map).max()))


def test_external_data_comes_along_and_the_author_does_not(tmp_path: Path) -> None:
    proto = model("one path")
    for node in proto.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/author/secret.py")
    (tmp_path / "model").mkdir()
    source = tmp_path / "model" / "model.onnx"
    onnx.save(proto, source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    paths = split(source, tmp_path / "out")
    (tmp_path / "model" / "weights.bin").unlink()
    assert all(b"secret" not in path.read_bytes() for path in paths)
    assert gradients(*paths, X, np.array([1, 1, 1])).any()


def test_what_cannot_be_split_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="the model has no layer 'nope'"):
        split(model("one path"), tmp_path / "out", layer="nope")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("here", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        split(model("one path"), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
