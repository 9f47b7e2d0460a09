"""What the adapters of `upgrade` work with: their table, facts about the old model, the patch that replaces a node."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph.nodes import all_graphs, called, copied

DEFAULT_DOMAIN = frozenset({"", "ai.onnx"})
WRITABLE_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
SMALL = 1024  # elements; inference reads the values of shapes and scales, never those of weights

# Operators that ONNX Runtime runs in the default domain although no ONNX of that age has them.
# The first output of these has the type and shape of their first input.
UNDOCUMENTED = frozenset({"LayerNormalization", "SimplifiedLayerNormalization", "ThresholdedRelu"})
RETIRED_SAME_SHAPE = frozenset(
    {"Affine", "ImageScaler", "MeanVarianceNormalization", "ParametricSoftplus", "Scale", "ScaledTanh"}
)
RETIRED = RETIRED_SAME_SHAPE | {"Crop", "DynamicSlice"}  # left ONNX; ONNX Runtime runs them below opset 10

Type = tuple[int, tuple[int | None, ...] | None]  # TensorProto.DataType; dimensions, None where not fixed


class Facts:
    """The model before anything is changed: names in use, values that are read, types, constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.names: set[str] = set()
        self.read: set[str] = set()
        for graph in all_graphs(model.graph):
            self.names |= {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
            self.names |= {tensor.name for tensor in graph.initializer}
            self.names |= {tensor.values.name for tensor in graph.sparse_initializer}
            self.read |= {value.name for value in graph.output}
            for node in graph.node:
                self.names |= {*node.input, *node.output}
                self.read |= set(node.input) - {""}

    def fresh(self, wish: str) -> str:
        """A value name that nothing in the model bears, subgraphs included."""
        name, count = wish, 1
        while name in self.names:
            count += 1
            name = f"{wish}_{count}"
        self.names.add(name)
        return name

    @cached_property
    def types(self) -> dict[str, Type]:
        """Types that onnx's inference can prove; left out: names that sibling subgraphs give different types."""
        try:
            inferred = onnx.shape_inference.infer_shapes(lean_copy(self.model), data_prop=True)
        except Exception:  # noqa: BLE001  (onnx raises its own and C++'s types here, none of them documented)
            return {}  # nothing is proved, and every adapter has a form that needs no proof
        found: dict[str, Type] = {}
        clashing = set()
        for name, kind in declared_types(inferred.graph):
            if found.setdefault(name, kind) != kind:
                clashing.add(name)
        return {name: kind for name, kind in found.items() if name not in clashing}

    @cached_property
    def constants(self) -> dict[str, onnx.TensorProto]:
        """Inline tensors of the main graph that no caller can feed."""
        graph = self.model.graph
        fed = {value.name for value in graph.input}
        found = {t.name: t for t in graph.initializer if t.name not in fed and t.data_location != TensorProto.EXTERNAL}
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in DEFAULT_DOMAIN:
                found |= {name: a.t for name in node.output for a in node.attribute if a.name == "value"}
        return found


class Patch:
    """The replacement of one node: `before` is emitted, then `node`, which keeps its name and its outputs.

    Adapters change `node` (a copy) in place; what they compute with `op` goes before it.
    """

    def __init__(self, node: onnx.NodeProto, opset: int, facts: Facts) -> None:
        self.node = copied(node)
        self.node.domain = ""
        self.before: list[onnx.NodeProto] = []
        self.opset, self.facts, self.old_op = opset, facts, node.op_type

    # -- attributes and inputs of the node ---------------------------------------------------------

    def take(self, name: str, default: Any = None) -> Any:
        """Removes an attribute and returns its value (strings decoded)."""
        for i, attribute in enumerate(self.node.attribute):
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                del self.node.attribute[i]
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default

    def put(self, name: str, value: Any) -> None:
        """Adds an attribute."""
        self.node.attribute.append(helper.make_attribute(name, value))

    def become(self, op_type: str, *inputs: str, **attributes: Any) -> None:
        """Turns the node into another one with the same outputs."""
        self.node.op_type = op_type
        del self.node.input[:], self.node.attribute[:]
        self.node.input.extend(inputs)
        for name, value in attributes.items():
            self.put(name, value)

    def drop_outputs(self, keep: int) -> None:
        """Cuts the outputs behind the first `keep`; ModelError if one of them is read."""
        for name in self.node.output[keep:]:
            if name in self.facts.read:
                raise self.refusal(f"its output '{name}' is read, and opset 16 has no such output: remove that use")
        del self.node.output[keep:]

    # -- nodes before it ---------------------------------------------------------------------------

    def op(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds a node with one output before the node; returns the output's name, a new one unless `output` says it."""
        name = output or self.facts.fresh(f"{next(iter(self.node.output), '')}_{op_type}")
        self.before.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def tensor(self, elem_type: int, values: Sequence[float] | float) -> str:
        """A constant: a vector, or a scalar."""
        dims, elements = ([len(values)], values) if isinstance(values, Sequence) else ([], [values])
        return self.op("Constant", value=helper.make_tensor("", elem_type, dims, elements))

    def int64(self, values: Sequence[int] | int) -> str:
        """A constant of indices: a vector, or a scalar."""
        return self.tensor(TensorProto.INT64, values)

    def typed(self, values: Sequence[float] | float, like: str) -> str:
        """A constant of the element type of `like`: a vector, or a scalar."""
        elem_type, _ = self.facts.types.get(like, (0, None))
        if elem_type in WRITABLE_FLOATS:
            with np.errstate(over="ignore"):  # the largest float32 is infinite in float16, which bounds as little
                return self.tensor(elem_type, values)
        return self.op("CastLike", self.tensor(TensorProto.FLOAT, values), like)

    # -- facts about values ------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """The dimensions, None for one that is not fixed; None when the rank is not known."""
        return self.facts.types.get(name, (0, None))[1]

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value, where it is an inline constant of floats."""
        tensor = self.facts.constants.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return None
        try:
            return numpy_helper.to_array(tensor)
        except ValueError:  # its data is broken, which ONNX Runtime will say
            return None

    def refusal(self, why: str) -> ModelError:
        """The error to raise; `why` says what is wrong and what to do instead."""
        return refusal(self.node, self.old_op, self.opset, why)


Adapter = Callable[[Patch], None]
# Operator: its steps, oldest first, each with the first opset that does not need it.
ADAPTERS: dict[str, list[tuple[int, Adapter]]] = {}


def adapts(*operators: str, below: int) -> Callable[[Adapter], Adapter]:
    """Files an adapter for operators at opsets below a version."""

    def file(adapter: Adapter) -> Adapter:
        for op_type in operators:
            insort(ADAPTERS.setdefault(op_type, []), (below, adapter), key=itemgetter(0))
        return adapter

    return file


def refusal(node: onnx.NodeProto, op_type: str, opset: int, why: str) -> ModelError:
    """The error for an operator that cannot be adapted."""
    return ModelError(f"{op_type} (opset {opset}) at node '{called(node)}' cannot be brought to opset 16: {why}")


def lean_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model for shape inference: no weights, no claims but those about its inputs (stale ones would win)."""
    lean = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    lean.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        small = math.prod(tensor.dims) <= SMALL
        bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        lean.graph.initializer.append(tensor if small else bare)
    lean.graph.node.extend(model.graph.node)
    for graph in all_graphs(lean.graph):
        del graph.value_info[:]
        for value in (*graph.input, *graph.output):
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        for node in graph.node:
            if node.domain in DEFAULT_DOMAIN and node.op_type in UNDOCUMENTED | RETIRED_SAME_SHAPE:
                node.op_type = "Identity"
                del node.input[1:], node.output[1:], node.attribute[:]
    lean.graph.input.extend(model.graph.input)
    return lean


def declared_types(graph: onnx.GraphProto) -> Iterator[tuple[str, Type]]:
    """Name and type of every tensor that a graph and its subgraphs declare."""
    for part in all_graphs(graph):
        for tensor in part.initializer:
            yield tensor.name, (tensor.data_type, tuple(tensor.dims))
        initializers = {tensor.name for tensor in part.initializer}
        for value in (*part.input, *part.value_info, *part.output):
            if value.type.HasField("tensor_type") and value.name not in initializers:
                kind = value.type.tensor_type
                dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
                yield value.name, (kind.elem_type, dims if kind.HasField("shape") else None)
