"""A graph under construction: nodes in order, weights by name, and the file at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FloatArray = npt.NDArray[np.float32]
IR_VERSION = 8  # what every runtime of the last years loads; helper.make_model's own default is newer than they are


class GraphBuilder:
    """Collects nodes and initializers; each node is named after its one output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def op(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Appends one node and returns the name of its output."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, array: npt.NDArray[Any]) -> str:
        """Stores `array` as a float32 initializer and returns its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def save(
        self,
        path: Path,
        *,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, Sequence[int | str]],
        opset: int,
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Writes the checked model to `path`, byte for byte the same for the same content.

        inputs, outputs: float32 values by name, with their shapes (a string is a symbolic dimension).
        """
        graph = helper.make_graph(self.nodes, path.stem, _values(inputs), _values(outputs), self.initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSION,
            producer_name="graph_builder",
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path


def _values(shapes: Mapping[str, Sequence[int | str]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
