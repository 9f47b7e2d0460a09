"""How a case is checked: built, differentiated, run by ONNX Runtime, held against float64 differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxcam.vjp import Differentiated, differentiate
from tests.vjp.case import Array, Case, ir_version

Feeds = dict[str, Array]
Function = Callable[[Feeds], Array]

KINDS = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
TOLERANCE = {np.float16: 5e-3, np.float32: 2e-5, np.float64: 1e-6}
STEP = 1e-5


def build(case: Case, feeds: Feeds, kind: type = np.float32, *, symbolic: bool = True) -> onnx.ModelProto:
    """A model of one node; `feeds` holds the values of all inputs, x0, x1, ...; floats become `kind`."""
    inputs, initializers = [], []
    for i, arg in enumerate(case.args):
        if arg is None:
            continue
        array = typed(feeds[f"x{i}"], kind)
        if arg.role == "held":
            initializers.append(numpy_helper.from_array(array, f"x{i}"))
        else:
            elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(f"x{i}", elem_type, arg.shape if symbolic else array.shape))
    names = ["" if arg is None else f"x{i}" for i, arg in enumerate(case.args)]
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, names, outputs, name="node", domain=case.domain, **case.attrs)
    graph = helper.make_graph(
        [node], "case", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], initializers
    )
    opsets = [helper.make_opsetid("", case.opset), *([helper.make_opsetid(case.domain, 1)] if case.domain else [])]
    return declared(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version(case.opset)))


def declared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the inferred types of its outputs."""
    found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    for output, inferred in zip(model.graph.output, found, strict=True):
        output.CopyFrom(inferred)
    return model


def complete(model: onnx.ModelProto) -> bool:
    """Whether the checker has nothing to say."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def typed(array: Array, kind: type) -> Array:
    return array.astype(kind) if array.dtype == np.float64 else array


def draw(case: Case, run: int, kind: type = np.float32) -> Feeds:
    """Values of all inputs in float64, exact in `kind`; the same for every kind but for rounding."""
    drawn = {}
    for i, arg in enumerate(case.args):
        if arg:
            rng = np.random.default_rng([i, 0 if arg.role == "held" else run, *case.op.encode()])
            array = arg.draw(rng, arg.size(run))
            drawn[f"x{i}"] = array.astype(kind).astype(np.float64) if array.dtype == np.float64 else array
    return drawn


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Result:
    """One run of a differentiated model: everything in float64 but `dtypes`."""

    feeds: Feeds
    seed: Array
    primal: Array
    gradients: Feeds
    dtypes: dict[str, Any]


class Rewritten:
    """A model, differentiated, checked and loaded."""

    def __init__(self, model: onnx.ModelProto, of: str, wrt: list[str], **options: Any) -> None:
        self.model, self.of, self.wrt = model, of, wrt
        self.differentiated: Differentiated = differentiate(model, of=of, wrt=wrt, **options)
        if complete(model):
            onnx.checker.check_model(self.differentiated.model)
        self.plain, self.both = session(model), session(self.differentiated.model)

    def run(self, feeds: Feeds, seed: Array | None = None) -> Result:
        """Run both models; the original outputs must be the same. `seed`: random unless given."""
        given = {port.name: typed(feeds[port.name], self.kind) for port in self.plain.get_inputs()}
        names = [output.name for output in self.model.graph.output]
        before = dict(zip(names, self.plain.run(names, given), strict=True))
        primal = before[self.of]
        if seed is None:
            seed = np.random.default_rng(5).normal(size=primal.shape)
        seed = np.asarray(seed).astype(primal.dtype)
        gradients = [self.differentiated.gradients[name] for name in self.wrt]
        after = self.both.run([*names, *gradients], {**given, self.differentiated.seed: seed})
        for name, value in zip(names, after, strict=False):
            np.testing.assert_allclose(value, before[name], rtol=1e-6, atol=1e-6, err_msg=f"output {name} changed")
        found = dict(zip(self.wrt, after[len(names) :], strict=True))
        return Result(
            feeds, seed.astype(np.float64), primal.astype(np.float64),
            {name: np.asarray(value, np.float64) for name, value in found.items()},
            {name: value.dtype.type for name, value in found.items()},
        )  # fmt: skip

    @property
    def kind(self) -> type:
        """The floating-point type of the model."""
        types = {port.type for port in self.plain.get_inputs()}
        return np.float16 if "tensor(float16)" in types else np.float64 if "tensor(double)" in types else np.float32


def truth(case: Case, feeds: Feeds) -> Function:
    """The output as a float64 function of the inputs."""
    if case.truth is not None:
        exact = case.truth
        return lambda at: np.asarray(
            exact(*(at[f"x{i}"] if arg else None for i, arg in enumerate(case.args))), np.float64
        )
    evaluator = ReferenceEvaluator(build(case, feeds, np.float64))
    fed = [f"x{i}" for i, arg in enumerate(case.args) if arg and arg.role != "held"]
    return lambda at: np.asarray(evaluator.run([f"y{case.of}"], {name: at[name] for name in fed})[0], np.float64)


def check(result: Result, function: Function, kind: type, *, slack: float = 1.0) -> None:
    """Hold forward and gradients against a float64 function: <gradient, v> = d <seed, f(x + t v)> / dt.

    Random directions v see any error; the claimed gradient itself, as a direction, sees a wrong length. `slack` loosens
    the tolerance where errors add up over many nodes.
    """
    forward = function(result.feeds)
    assert forward.shape == result.primal.shape, "the truth has another shape than ONNX Runtime's output"
    scale = np.max(np.abs(forward), initial=1.0)
    np.testing.assert_allclose(
        result.primal / scale, forward / scale, atol=slack * TOLERANCE[kind], err_msg="the truth is another function"
    )
    rng = np.random.default_rng(3)
    for name, gradient in result.gradients.items():
        x = result.feeds[name]
        assert gradient.shape == x.shape, f"the gradient of {name} has shape {gradient.shape}, not {x.shape}"
        assert result.dtypes[name] is (np.float64 if kind is np.float64 else np.float32)
        assert np.all(np.isfinite(gradient)), f"the gradient of {name} is not finite"
        length = float(np.linalg.norm(gradient))
        tries = [rng.normal(size=x.shape) for _ in range(2)] + ([gradient / length] if length else [])
        for v in tries:
            ahead, behind = (function({**result.feeds, name: x + sign * STEP * v}) for sign in (1, -1))
            expected = float(np.sum(result.seed * (ahead - behind))) / (2 * STEP)
            claimed = float(np.sum(gradient * v))
            bound = slack * TOLERANCE[kind] * max(length, abs(expected), 1.0)
            assert abs(claimed - expected) <= bound, f"d/d{name}: {claimed:.8g} claimed, {expected:.8g} expected"
