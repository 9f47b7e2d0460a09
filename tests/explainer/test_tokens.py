"""Vision transformers: the grid is found again among tokens, whatever else stands before or behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, differentiate, export, list_layers
from tests.nets import Array, net, normal, run, tapped
from tests.quantizing import dynamically

ROWS, COLUMNS, C = 3, 4, 6
WEIGHTS: dict[str, Array] = {
    "patch": normal(C, 3, 4, 4) / 4,
    "shape": np.array([0, C, -1]),
    "token": normal(1, 1, C),
    "position": normal(1, ROWS * COLUMNS + 1, C, seed=1),
    "places": normal(1, ROWS * COLUMNS, C, seed=2),
    **{name: normal(C, C, seed=seed) for seed, name in enumerate(("q1", "k1", "v1", "q2", "k2", "v2"), 3)},
    "w": normal(5, C),
    "b": normal(5),
    "first": np.array(0),
    "one": np.array([1]),
    "end": np.array([99]),
}
PATCHES = """p = Conv<strides = [4, 4], kernel_shape = [4, 4]>(x, patch) r = Reshape(p, shape)
    e = Transpose<perm = [0, 2, 1]>(r) """


def attention(before: str, after: str, i: int) -> str:
    """One head, with its shortcut."""
    return f"""q{i}_ = MatMul({before}, q{i}) k{i}_ = MatMul({before}, k{i}) v{i}_ = MatMul({before}, v{i})
        t{i} = Transpose<perm = [0, 2, 1]>(k{i}_) l{i} = MatMul(q{i}_, t{i}) s{i} = Softmax<axis = -1>(l{i})
        o{i} = MatMul(s{i}, v{i}_) {after} = Add({before}, o{i}) """


def attention_in_front(before: str, after: str, i: int) -> str:
    """The same over [positions, images, channels]."""
    return f"""q{i}_ = MatMul({before}, q{i}) k{i}_ = MatMul({before}, k{i}) v{i}_ = MatMul({before}, v{i})
        a{i} = Transpose<perm = [1, 0, 2]>(q{i}_) t{i} = Transpose<perm = [1, 2, 0]>(k{i}_) l{i} = MatMul(a{i}, t{i})
        s{i} = Softmax<axis = -1>(l{i}) c{i} = Transpose<perm = [1, 0, 2]>(v{i}_) m{i} = MatMul(s{i}, c{i})
        o{i} = Transpose<perm = [1, 0, 2]>(m{i}) {after} = Add({before}, o{i}) """


TOKEN = PATCHES + "n = Identity(token) h = Concat<axis = 1>(n, e) z0 = Add(h, position) "
BODIES = {
    "a class token": TOKEN + attention("z0", "z1", 1) + attention("z1", "z2", 2)
    + "f = Gather<axis = 1>(z2, first) y = Gemm<transB = 1>(f, w, b)",
    "sequences in front": TOKEN + "f0 = Transpose<perm = [1, 0, 2]>(z0) " + attention_in_front("f0", "z1", 1)
    + attention_in_front("z1", "z2", 2) + "u = Transpose<perm = [1, 0, 2]>(z2) f = Gather<axis = 1>(u, first) "
    "y = Gemm<transB = 1>(f, w, b)",
    "the mean of all": PATCHES + "z0 = Add(e, places) " + attention("z0", "z1", 1) + attention("z1", "z2", 2)
    + "f = ReduceMean<axes = [1], keepdims = 0>(z2) y = Gemm<transB = 1>(f, w, b)",
    "the mean without the class token": TOKEN + attention("z0", "z1", 1) + attention("z1", "z2", 2)
    + "g = Slice(z2, one, end, one) f = ReduceMean<axes = [1], keepdims = 0>(g) y = Gemm<transB = 1>(f, w, b)",
}  # fmt: skip
LAYERS = {
    "a class token": "z1",
    "sequences in front": "z1_images_first",
    "the mean of all": "z2",
    "the mean without the class token": "g",
}
X = normal(2, 3, 4 * ROWS, 4 * COLUMNS)


def model(body: str) -> onnx.ModelProto:
    return net(f"(float[1, 3, {4 * ROWS}, {4 * COLUMNS}] x) => (float[1, 5] y) {{ {BODIES[body]} }}", WEIGHTS)


def test_measuring_a_scale_mixes_no_positions() -> None:
    """All tokens are behind the last attention's input, but only through the range that is measured over them."""
    quantized, plain = (
        Explainer(proto)(X[0]) for proto in (dynamically(model("a class token")), model("a class token"))
    )
    assert (quantized.layer, quantized.status) == (plain.layer, "ok")
    assert np.corrcoef(quantized.map.ravel(), plain.map.ravel())[0, 1] > 0.9


def by_hand(body: str, x: Array, which: int) -> dict[str, Array]:
    """Maps of the layer's patches: its tokens, less the one for the class where it is still there, as a grid."""
    layer, in_front = LAYERS[body].removesuffix("_images_first"), body == "sequences in front"
    result = differentiate(model(body), of="y", wrt=layer)
    seed = np.eye(5, dtype=np.float32)[[which]]
    g = run(result.model, {"x": x[None], result.seed: seed})[result.gradients[layer]]
    a = run(tapped(model(body), layer), {"x": x[None]})[layer]
    patches = slice(1 if in_front or body == "a class token" else 0, None)
    a, g = (value.reshape(1, -1, C)[0, patches].T.reshape(C, ROWS, COLUMNS) for value in (a, g))
    return {
        "gradcam": (g.mean(axis=(1, 2))[:, None, None] * a).sum(axis=0),
        "hirescam": (g * a).sum(axis=0),
        "layercam": (np.maximum(g, 0) * a).sum(axis=0),
    }


@pytest.mark.parametrize("body", BODIES)
def test_the_maps_are_those_of_the_patches(body: str) -> None:
    """Where a class token is picked out, the layer lies before the last attention: behind it patches count no more."""
    explainer = Explainer(model(body))
    for x in X:
        for which in (0, 3):
            for method, expected in by_hand(body, x, which).items():
                e = explainer(x, target=which, method=method)
                assert (e.layer, e.status) == (LAYERS[body], "ok" if expected.max() > 0 else "blank")
                np.testing.assert_allclose(e.map, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
                assert e.heatmap.shape == (4 * ROWS, 4 * COLUMNS)


@pytest.mark.parametrize("body", BODIES)
def test_differences_agree(body: str) -> None:
    explainer = Explainer(model(body))
    for one, e in zip(*(explainer(X[0], target=range(5), gradient=g) for g in ("symbolic", "numeric")), strict=True):
        assert np.abs(one.map - e.map).max() < 0.01 * np.abs(one.map).max()


def test_cam_takes_the_mean_of_the_tokens() -> None:
    e = Explainer(model("the mean of all"))(X[0], target=2, method="cam")
    a = run(tapped(model("the mean of all"), "z2"), {"x": X[:1]})["z2"][0]
    np.testing.assert_allclose(e.map, (a @ WEIGHTS["w"][2]).reshape(ROWS, COLUMNS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("body", BODIES)
def test_an_exported_transformer(body: str, tmp_path: Path) -> None:
    exported = Explainer(export(model(body), tmp_path / "exported.onnx"))
    for e, one in zip(exported(X[0], target=range(5)), Explainer(model(body))(X[0], target=range(5)), strict=True):
        np.testing.assert_allclose(e.map, one.map, rtol=0, atol=1e-5 * float(np.abs(one.map).max()))


def test_a_layer_with_sequences_in_front_goes_by_its_own_name_too() -> None:
    explainer = Explainer(model("sequences in front"))
    one, other = (explainer(X[0], target=1, layer=name) for name in ("z1", "z1_images_first"))
    assert one.layer == other.layer == "z1_images_first"
    np.testing.assert_array_equal(one.map, other.map)
    shown = {layer.name: layer for layer in list_layers(model("sequences in front"))}
    assert shown["z1_images_first"].automatic
    assert (shown["z1_images_first"].op, shown["z1_images_first"].grid) == ("Add", (ROWS, COLUMNS))


def test_what_shows_sequences_otherwise_does_not_run_unread() -> None:
    text = f"(float[N, 3, {4 * ROWS}, {4 * COLUMNS}] x) => (float[N, 5] y) {{ {BODIES['sequences in front']} }}"
    result = differentiate(net(text, WEIGHTS), of="y", wrt="x")
    assert not any("images_first" in name for node in result.model.graph.node for name in node.output)


FREE = PATCHES + attention("e", "z1", 1) + attention("z1", "z2", 2)


def test_the_grid_of_a_model_of_free_size_is_that_of_the_image_at_hand() -> None:
    """Tokens of no known number have no grid before the model runs; two sizes have two."""
    text = f"(float[N, 3, H, W] x) => (float[N, 5] y) {{ {FREE} f = ReduceMean<axes = [1], keepdims = 0>(z2) "
    free = Explainer(net(text + "y = Gemm<transB = 1>(f, w, b) }", WEIGHTS))
    for rows, columns in ((3, 4), (2, 5), (3, 4)):
        x = normal(3, 4 * rows, 4 * columns, seed=rows)
        static = text.replace("H, W", f"{4 * rows}, {4 * columns}").replace("N", "1")
        one, other = free(x, 2), Explainer(net(static + "y = Gemm<transB = 1>(f, w, b) }", WEIGHTS))(x, 2)
        assert (one.layer, one.map.shape) == (other.layer, other.map.shape) == ("z2", (rows, columns))
        np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-6)


def test_a_model_that_takes_lines_of_one_height_alone_shows_its_layers() -> None:
    """At 224 x 224, where free sizes are first told, it does not fit."""
    text = """(float[N, 3, H, W] x) => (float[N, S, 5] y) {
        c = Conv<strides = [4, 4], kernel_shape = [4, 4]>(x, patch) r = Relu(c)
        p = MaxPool<kernel_shape = [12, 1], strides = [12, 1]>(r) s = Squeeze(p, axis2)
        t = Transpose<perm = [0, 2, 1]>(s) m = MatMul(t, v) y = Softmax<axis = -1>(m) }"""
    model = net(text, {**WEIGHTS, "axis2": np.array([2]), "v": normal(C, 5)})
    e = Explainer(model)(normal(3, 48, 40), target="y[3,1]")
    assert (e.layer, e.map.shape) == ("r", (12, 10))
