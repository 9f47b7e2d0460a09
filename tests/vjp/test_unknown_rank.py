"""Behind a Reshape to a computed shape not even the rank is known: what needs it is refused, the rest is right."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import UnsupportedOpError
from onnxcam.vjp import differentiate
from tests.vjp.case import Case, case, held, ints, normal, values
from tests.vjp.cases import CASES
from tests.vjp.harness import Rewritten, build, draw, session

IMAGE, KERNEL = normal(2, 4, 6, 6), held(normal(4, 4, 3, 3))
KNOWN_ANYWAY = [  # what these need of the sizes, the running graph tells
    case("Conv", IMAGE, KERNEL),
    case("Conv", IMAGE, KERNEL, pads=[2, 1, 0, 1], strides=[2, 1]),
    case("Conv", IMAGE, KERNEL, auto_pad="SAME_LOWER", strides=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("LpPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], opset=18),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    case("ConvTranspose", IMAGE, KERNEL, output_shape=[13, 12], strides=[2, 2]),
    case("RoiAlign", IMAGE, held(values([[0, 1, 3, 4]])), ints(1)),
    *(case("MatMul", normal(*shape), normal(4, 5)) for shape in ([4], [3, 4], [2, 3, 4])),
]  # fmt: skip
REFUSED = [
    case("Slice", IMAGE, ints(0), ints(1)),
]
TOLD_BY_THE_OPERATOR = [row for row in CASES if row.op in ("LSTM", "GRU", "RNN", "DepthToSpace", "SpaceToDepth")]
FIRST = list({row.op: row for row in reversed(CASES) if row.args[0] and row.args[0].role == "wrt"}.values())


def hidden(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with x0 behind a Reshape to a shape that is an input."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for node in found.graph.node:
        node.input[:] = ["x" if name == "x0" else name for name in node.input]
    found.graph.node.insert(0, helper.make_node("Reshape", ["x0", "shape"], ["x"], name="reshape"))
    found.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, ["R"]))
    for output in found.graph.output:
        elem_type = output.type.tensor_type.elem_type or TensorProto.FLOAT
        output.CopyFrom(helper.make_tensor_value_info(output.name, elem_type, None))
    return found


def same_as_known(row: Case) -> None:
    feeds = draw(row, 0)
    model = build(row, feeds, symbolic=False)
    behind = Rewritten(hidden(model), f"y{row.of}", ["x0"])
    found = behind.run({**feeds, "shape": np.array(feeds["x0"].shape, np.int64)})
    expected = Rewritten(model, f"y{row.of}", ["x0"]).run(feeds)
    scale = np.abs(expected.gradients["x0"]).max(initial=1.0)
    np.testing.assert_allclose(found.gradients["x0"] / scale, expected.gradients["x0"] / scale, atol=1e-5)


@pytest.mark.parametrize("row", TOLD_BY_THE_OPERATOR, ids=str)
def test_told_by_the_only_rank_that_the_operator_takes(row: Case) -> None:
    same_as_known(row)


def test_behind_an_if_whose_branches_differ_in_rank() -> None:
    """What reads it takes one of the two alone; a further reader knows the rank then, too."""
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(f"""{head} g (float[5, 2, 3] x, bool c) => (float[T, D, N, H] y) {{
        s = If(c) <then_branch = t () => (float[] a) {{ a = Neg(x) }},
                   else_branch = e () => (float[] b) {{ z = Constant<value_ints = [0]>() b = Unsqueeze(x, z) }}>
        r, last = GRU<hidden_size = 2, clip = 50.0>(s, w, v)
        y = Mul(r, r)
    }}""")
    weights = {"w": normal(1, 6, 3), "v": normal(1, 6, 2)}
    rng = np.random.default_rng(0)
    drawn = {name: arg.draw(rng, arg.size(0)).astype(np.float32) for name, arg in weights.items()}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in drawn.items())
    found, x = differentiate(model, of="y", wrt="x"), rng.normal(size=(5, 2, 3)).astype(np.float32)
    c, seed, step = np.array(True), rng.normal(size=(5, 1, 2, 2)).astype(np.float32), rng.normal(size=x.shape) / 256
    slope = session(found.model).run(list(found.gradients.values()), {"x": x, "c": c, found.seed: seed})[0]
    plain = session(model)
    high, low = (plain.run(None, {"x": (x + sign * step).astype(np.float32), "c": c})[0] for sign in (1, -1))
    assert float((slope * step).sum()) == pytest.approx(float(((high - low) * seed).sum() / 2), rel=1e-3)


@pytest.mark.parametrize("row", KNOWN_ANYWAY, ids=str)
def test_told_by_the_running_graph(row: Case) -> None:
    same_as_known(row)


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_refused(row: Case) -> None:
    with pytest.raises(UnsupportedOpError):
        differentiate(hidden(build(row, draw(row, 0), symbolic=False)), of="y0", wrt="x0")


@pytest.mark.parametrize("row", FIRST, ids=str)
def test_every_operator_is_refused_or_right(row: Case) -> None:
    with contextlib.suppress(UnsupportedOpError):
        same_as_known(row)
