"""Every rule against float64 differences of the operator itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.vjp.registry import STANDARD, since_version
from tests.vjp.case import NEWEST_OPSET, OLDEST_OPSET, Case
from tests.vjp.cases import CASES
from tests.vjp.harness import Rewritten, build, check, draw, truth

# ONNX Runtime 1.31 has no kernel of these types on the CPU.
NO_DOUBLE: set[str | tuple[str, int]] = {
    ("GridSample", 16), ("Attention", 24),
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "Celu", "Col2Im", "Conv", "ConvTranspose",
    "Cosh", "Det", "Elu", "Erf", "Gelu", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "HardSigmoid",
    "HardSwish", "InstanceNormalization", "LRN", "LpPool", "MaxRoiPool", "MaxUnpool", "Mean",
    "MeanVarianceNormalization", "OneHot", "Resize", "RotaryEmbedding", "Selu", "Sinh", "Softplus", "Softsign", "Tan",
    "ThresholdedRelu", "GRU", "LSTM", "RNN",
}  # fmt: skip
NO_KERNEL = {("GlobalLpPool", 22), ("MaxRoiPool", 22), ("RoiAlign", 22)}
NO_HALF = {"Celu", "GRU", "LSTM", "RNN", "Range", "Resize"}
STANDARD_CASES = [case for case in CASES if not case.domain]  # com.microsoft's kernels take float32


def differentiated(case: Case, kind: type = np.float32, *, runs: Sequence[int] = (0,), symbolic: bool = True) -> None:
    """One model, checked at one or more sizes."""
    wrt = [f"x{i}" for i, arg in enumerate(case.args) if arg and arg.role == "wrt"]
    model = build(case, draw(case, runs[0], kind), kind, symbolic=symbolic)
    rewritten = Rewritten(model, f"y{case.of}", wrt)
    for run in runs:
        feeds = draw(case, run, kind)
        check(rewritten.run(feeds), truth(case, feeds), kind)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_static_shapes(case: Case) -> None:
    differentiated(case, symbolic=False)


@pytest.mark.parametrize("case", [case for case in CASES if case.symbolic], ids=str)
def test_symbolic_shapes(case: Case) -> None:
    differentiated(case, runs=(0, 1))


def has_double(case: Case) -> bool:
    return not {case.op, (case.op, since_version(case.op, case.opset))} & NO_DOUBLE


@pytest.mark.parametrize("case", [case for case in STANDARD_CASES if has_double(case)], ids=str)
def test_float64(case: Case) -> None:
    differentiated(case, np.float64)


@pytest.mark.parametrize(
    "case", [case for case in STANDARD_CASES if case.op not in NO_HALF and "reduction" not in case.attrs], ids=str
)
def test_float16(case: Case) -> None:
    differentiated(case, np.float16)


def in_every_version() -> list[Case]:
    """The first row of each operator that is valid there, at the oldest opset of every version that the rule covers."""
    found = []
    for op in dict.fromkeys(case.op for case in STANDARD_CASES):
        opsets = {since_version(op, opset): opset for opset in range(NEWEST_OPSET, OLDEST_OPSET - 1, -1)}
        for version in sorted(STANDARD.rules["", op].versions & opsets.keys()):
            if (op, version) in NO_KERNEL:
                continue
            rows = [case for case in STANDARD_CASES if case.op == op and case.valid(opsets[version])]
            assert rows, f"no row for {op}-{version}"
            found.append(rows[0].at(opsets[version]))
    return found


@pytest.mark.parametrize("case", in_every_version(), ids=str)
def test_every_version(case: Case) -> None:
    differentiated(case)


def test_an_infinite_cotangent_stays_where_it_is() -> None:
    """A depthwise convolution with steps sets cotangents apart by zeros: these are zeros, also beside infinity."""
    kernel = np.ones((2, 1, 2, 2), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2, 2])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 2, 2])],
        [numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    seed = np.zeros((1, 2, 2, 2))
    seed[0, 0, 0, 0] = np.inf
    found = Rewritten(model, "y", ["x"]).run({"x": np.ones((1, 2, 4, 4))}, seed).gradients["x"]
    assert np.isinf(found).sum() == 4
    assert not np.isnan(found).any()
