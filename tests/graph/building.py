"""Networks that the tests of `graph` and `runtime` share, each a few kilobytes of one architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph import Graph, Head, Layer, candidates, find_score, image_input, load, read_graph
from onnxcam.runtime import Session
from tests.nets import net, normal

Array = npt.NDArray[Any]


def graph_of(model: onnx.ModelProto | Path) -> Graph:
    return read_graph(load(model))


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    graph = graph_of(model)
    return candidates(graph, image_input(graph), find_score(graph))


def automatic(model: onnx.ModelProto) -> str | None:
    """The layer that is taken when nobody names one."""
    return next((layer.name for layer in layers_of(model) if layer.automatic), None)


def reason_of(model: onnx.ModelProto, name: str) -> str:
    return next(layer.reason for layer in layers_of(model) if layer.name == name)


def image_for(model: onnx.ModelProto, rows: int = 2) -> Array:
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return normal(rows, *dims, seed=5)


def exactly(proto: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """A run in which nothing is fused: fusions depend on where a graph begins and ends."""
    return Session(proto.SerializeToString(), optimize=False).run(feeds)


def recomputed(part: Head, values: dict[str, Array]) -> Array:
    return exactly(part.graph.proto, {name: values[name] for name in part.graph.inputs})[part.score]


def nodes_model(
    nodes: list[onnx.NodeProto], weights: dict[str, Array] | None = None, *, shape: tuple[Any, ...] = ("N", 4),
    outputs: tuple[str, ...] = ("y",), opset: int = 17, functions: tuple[onnx.FunctionProto, ...] = (),
) -> onnx.ModelProto:  # fmt: skip
    """A model of float input x, for what the text format cannot say."""
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )  # fmt: skip
    imports = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(domain, 1) for domain in sorted(domains(functions))),
    ]
    return helper.make_model(graph, ir_version=10, opset_imports=imports, functions=functions)


def domains(functions: tuple[onnx.FunctionProto, ...]) -> set[str]:
    return {function.domain for function in functions} - {"", "ai.onnx"}


# -- convolutional networks -------------------------------------------------------------------------

CONVS = {f"w{i}": normal(4, 4, 3, 3, seed=i) * 0.2 for i in range(1, 7)} | {
    "w0": normal(4, 3, 3, 3) * 0.2, "p1": normal(2, 4, 1, 1), "p2": normal(2, 4, 1, 1, seed=1),
    "fc": normal(4, 5, seed=2), "bias": normal(5, seed=3), "flat": normal(64, 5, seed=4) * 0.1,
}  # fmt: skip
TAIL = """
  pool = GlobalAveragePool(last)
  features = Flatten(pool)
  logits = Gemm(features, fc, bias)
  y = Softmax(logits)
}"""


def plain(tail: str = TAIL, batch: str = "N") -> onnx.ModelProto:
    """Conv Relu Conv Relu, then `tail`, which reads `last` and the weights fc [4, 5], bias, flat [64, 5]."""
    return net(
        f"""(float[{batch},3,4,4] x) => (float[{batch},5] y) {{
  c0 = Conv<pads=[1,1,1,1]>(x, w0)
  a0 = Relu(c0)
  c1 = Conv<pads=[1,1,1,1]>(a0, w1)
  last = Relu(c1)
{tail}""",
        CONVS,
    )


def residual() -> onnx.ModelProto:
    return net(
        f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  stem = Conv<pads=[1,1,1,1]>(x, w0)
  a = Relu(stem)
  b1 = Conv<pads=[1,1,1,1]>(a, w1)
  b2 = Relu(b1)
  b3 = Conv<pads=[1,1,1,1]>(b2, w2)
  sum = Add(b3, a)
  last = Relu(sum)
{TAIL}""",
        CONVS,
    )


def inception() -> onnx.ModelProto:
    """Branches of different depth, joined along the channels."""
    return net(
        f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  stem = Conv<pads=[1,1,1,1]>(x, w0)
  a = Relu(stem)
  l = Conv(a, p1)
  l1 = Relu(l)
  r = Conv<pads=[1,1,1,1]>(a, w1)
  r1 = Relu(r)
  r2 = Conv(r1, p2)
  r3 = Relu(r2)
  last = Concat<axis=1>(l1, r3)
{TAIL}""",
        CONVS,
    )


def squeeze_excite() -> onnx.ModelProto:
    """Channels weighted by what they hold on average: one more path around the grid."""
    return net(
        f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  stem = Conv<pads=[1,1,1,1]>(x, w0)
  a = Relu(stem)
  mean = GlobalAveragePool(a)
  squeezed = Conv(mean, p1)
  s = Relu(squeezed)
  excited = Conv(s, p3)
  gate = Sigmoid(excited)
  last = Mul(a, gate)
{TAIL}""",
        CONVS | {"p3": normal(4, 2, 1, 1)},
    )


def channels_last() -> onnx.ModelProto:
    """As tf2onnx writes it: NHWC outside, a Transpose on either side of the convolutions, padding apart."""
    weights = CONVS | {
        "pads": np.array([0, 1, 1, 0, 0, 1, 1, 0], np.int64), "scale": np.full(1, 1 / 255, np.float32),
    }  # fmt: skip
    return net(
        """(float[unk__31,8,8,3] x) => (float[unk__32,5] y) {
  scaled = Mul(x, scale)
  padded = Pad(scaled, pads)
  nchw = Transpose<perm=[0,3,1,2]>(padded)
  c0 = Conv(nchw, w0)
  a0 = Relu(c0)
  nhwc = Transpose<perm=[0,2,3,1]>(a0)
  biased = Add(nhwc, offset)
  last = Relu(biased)
  pooled = ReduceMean<axes=[1,2],keepdims=0>(last)
  logits = MatMul(pooled, fc)
  y = Softmax<axis=-1>(logits)
}""",
        weights | {"offset": normal(4, seed=9)},
    )


def class_maps(tail: str) -> onnx.ModelProto:
    """A net whose classifier is a convolution (SqueezeNet): class maps, then their mean."""
    text = f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  c = Conv<pads=[1,1,1,1]>(x, w0)
  a = Relu(c)
  pooled = MaxPool<kernel_shape=[2,2],strides=[2,2]>(a)
  maps = Conv(pooled, classes)
  active = Relu(maps)
  mean = GlobalAveragePool(active)
  {tail}
}}"""
    return net(text, CONVS | {"classes": normal(5, 4, 1, 1, seed=6), "to": np.array([0, -1])})


# -- transformers ------------------------------------------------------------------------------------

WIDTH = 8
VIT = {
    "patch": normal(WIDTH, 3, 4, 4) * 0.2, "cls": normal(1, 1, WIDTH, seed=1), "head": normal(WIDTH, 5, seed=3),
    "flatten": np.array([0, WIDTH, -1], np.int64), "g": np.ones(WIDTH, np.float32), "b": np.zeros(WIDTH, np.float32),
    "first": np.array(0, np.int64), "one": np.array([1], np.int64), "width": np.array([WIDTH], np.int64),
    **{f"{part}{block}": normal(WIDTH, WIDTH, seed=10 * i + block) * 0.2
       for i, part in enumerate(("q", "k", "v", "o", "up", "down"), start=4) for block in (1, 2)},
}  # fmt: skip


def block(i: int, name: str, out: str) -> str:
    """One head of attention and a perceptron, each beside a skip connection."""
    return f"""
  n{i} = LayerNormalization<axis=-1>({name}, g, b)
  q_{i} = MatMul(n{i}, q{i})
  k_{i} = MatMul(n{i}, k{i})
  v_{i} = MatMul(n{i}, v{i})
  t_{i} = Transpose<perm=[0,2,1]>(k_{i})
  dots{i} = MatMul(q_{i}, t_{i})
  weights{i} = Softmax<axis=-1>(dots{i})
  mixed{i} = MatMul(weights{i}, v_{i})
  o_{i} = MatMul(mixed{i}, o{i})
  attended{i} = Add({name}, o_{i})
  m{i} = LayerNormalization<axis=-1>(attended{i}, g, b)
  up_{i} = MatMul(m{i}, up{i})
  relu{i} = Relu(up_{i})
  down_{i} = MatMul(relu{i}, down{i})
  {out} = Add(attended{i}, down_{i})"""


def vit(pooling: str) -> onnx.ModelProto:
    """A vision transformer of two blocks on 4 x 4 patches; "token" reads a class token, "mean" the patches' mean."""
    text = """
  conv = Conv<strides=[4,4]>(x, patch)
  joined = Reshape(conv, flatten)
  tokens = Transpose<perm=[0,2,1]>(joined)"""
    if pooling == "token":
        text += """
  batch = Shape<start=0,end=1>(x)
  shape = Concat<axis=0>(batch, one, width)
  class_token = Expand(cls, shape)
  start = Concat<axis=1>(class_token, tokens)"""
        picked = "  picked = Gather<axis=1>(normed, first)"
    else:
        text += "\n  start = Identity(tokens)"
        picked = "  picked = ReduceMean<axes=[1],keepdims=0>(normed)"
    return net(
        f"""(float[N,3,16,16] x) => (float[N,5] logits) {{{text}
  embedded = Add(start, position)
{block(1, "embedded", "between")}
{block(2, "between", "final")}
  normed = LayerNormalization<axis=-1>(final, g, b)
{picked}
  logits = MatMul(picked, head)
}}""",
        VIT | {"position": normal(1, 17 if pooling == "token" else 16, WIDTH, seed=2)},
    )


def saved_by_runtime(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The same as ONNX Runtime saves it at its highest level: in blocks of channels, where the CPU has any."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)
