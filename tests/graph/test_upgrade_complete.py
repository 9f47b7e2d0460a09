"""No operator is forgotten: every change of an ONNX schema up to opset 16 has an adapter or a reason for none."""

from __future__ import annotations

from collections import defaultdict

import onnx

import onnxcam.graph.upgrade  # noqa: F401  (fills the table)
from onnxcam.graph.upgrade_patch import ADAPTERS, RETIRED, UNDOCUMENTED

LAST = 16

# operator-version where a node as written before means the same
STAYS = {
    "only more element types": """
        Abs-13 Add-13 Add-14 ArgMax-13 ArgMin-13 BatchNormalization-15 Cast-9 Cast-13 Ceil-13 Clip-12 Clip-13
        Concat-13 Constant-9 Constant-13 CumSum-14 DepthToSpace-13 Div-13 Div-14 Dropout-13 Equal-11 Equal-13 Erf-13
        Exp-13 Expand-13 Flatten-9 Flatten-13 Floor-13 Gather-13 GatherElements-13 GatherND-13 Gemm-9 Gemm-13
        Greater-9 Greater-13 GreaterOrEqual-16 Identity-13 Identity-14 Identity-16 If-13 If-16 IsNaN-13 LRN-13
        LeakyRelu-16 Less-9 Less-13 LessOrEqual-16 Log-13 Loop-13 Loop-16 MatMul-9 MatMul-13 Max-12 Max-13 MaxPool-12
        Mean-13 Min-12 Min-13 MeanVarianceNormalization-13 Mod-13 Mul-13 Mul-14 Neg-13 NegativeLogLikelihoodLoss-13
        NonZero-13 PRelu-9 PRelu-16 Pad-13 Pow-12 Pow-13 Pow-15 Reciprocal-13 ReduceL1-13 ReduceL2-13 ReduceLogSum-13
        ReduceLogSumExp-13 ReduceMax-12 ReduceMax-13 ReduceMean-13 ReduceMin-12 ReduceMin-13 ReduceProd-13
        ReduceSumSquare-13 Relu-13 Relu-14 Reshape-13 Scan-16 ScatterElements-13 ScatterND-13 Shape-13 Sigmoid-13
        Sign-13 Size-13 Slice-13 SoftmaxCrossEntropyLoss-13 SpaceToDepth-13 Sqrt-13 Sub-13 Sub-14 Sum-13 Tanh-13
        Tile-13 Transpose-13 Where-16
        """,
    "negative axes or indices became legal": """
        ArgMax-11 ArgMin-11 Compress-11 Concat-11 Flatten-11 Gather-11 Hardmax-11 LogSoftmax-11 ReduceL1-11
        ReduceL2-11 ReduceLogSum-11 ReduceLogSumExp-11 ReduceMax-11 ReduceMean-11 ReduceMin-11 ReduceProd-11
        ReduceSum-11 ReduceSumSquare-11 Scan-11 Slice-11 Softmax-11 Split-11 Squeeze-11 Unsqueeze-11
        """,
    "ONNX Runtime already took negative indices": "OneHot-11",
    "the text only: defaults of strides and dilations, padding, optional inputs are said as they were computed": """
        AveragePool-11 Conv-11 ConvTranspose-11 LpPool-11 MaxPool-11 MaxUnpool-11 NonMaxSuppression-11 Gemm-6
        """,
    "a new attribute, output or optional input whose default is the old behaviour": """
        ArgMax-12 ArgMin-12 AveragePool-7 AveragePool-10 Constant-11 Constant-12 DepthToSpace-11 GRU-3 GRU-14
        GatherND-12 Gemm-11 LSTM-14 MaxPool-8 MaxPool-10 RNN-14 Reshape-14 ScatterElements-16 ScatterND-16 Shape-15
        TopK-11
        """,
    "operands of equal shape, which broadcast to themselves": "Max-8 Mean-8 Min-8 Sum-8",
    "one scale for the whole tensor, to which the new axis does not apply": "DequantizeLinear-13 QuantizeLinear-13",
    "the mask is of another type, and an adapter drops it": "Dropout-10",
    "branches and bodies may differ more; those that did not still work": "If-11 Loop-11",
    "inputs that were empty tensors may be left out; ONNX Runtime takes both": "Resize-13",
}


def schema_changes() -> set[tuple[str, int]]:
    """Operator and version of every default-domain schema that replaces an older one, up to opset 16."""
    versions = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= LAST:
            versions[schema.name].add(schema.since_version)
    return {(name, version) for name, known in versions.items() for version in known - {min(known)}}


def stays() -> list[tuple[str, int]]:
    words = " ".join(STAYS.values()).split()
    return [(name, int(version)) for name, version in (word.split("-") for word in words)]


def rows() -> set[tuple[str, int]]:
    return {(name, below) for name, steps in ADAPTERS.items() for below, _ in steps}


def test_every_schema_change_has_an_adapter_or_a_reason() -> None:
    assert schema_changes() - rows() == set(stays())


def test_no_change_is_listed_twice() -> None:
    assert len(stays()) == len(set(stays()))


def test_adapters_end_at_a_schema_version_unless_the_operator_left_onnx() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    first = {("MeanVarianceNormalization", 9)}  # experimental before
    retired = {row for row in rows() if row[0] not in known}
    assert rows() - retired - first <= schema_changes()
    assert {name for name, _ in retired | first} == RETIRED


def test_steps_are_taken_oldest_first() -> None:
    assert all([below for below, _ in steps] == sorted(below for below, _ in steps) for steps in ADAPTERS.values())


def test_operators_onnx_does_not_document_need_no_adapter() -> None:
    assert not UNDOCUMENTED & ADAPTERS.keys()
