"""The graph as everything else reads it: producers, consumers, constants, types and shapes by value name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph.branches import without_known_branches
from onnxcam.graph.integers import makes_integers, surface
from onnxcam.graph.load import Model, serialize
from onnxcam.graph.normalize import normalize
from onnxcam.graph.subgraphs import all_nodes, captures, described, local_names, reads, subgraphs
from onnxcam.graph.types import FLOATS, Shape, ValueType, inferred_types, made_up
from onnxcam.runtime import oracle

QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.UINT4: (0, 15), TensorProto.INT4: (-8, 7), TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535), TensorProto.INT16: (-32768, 32767),
}  # fmt: skip
INTEGERS = frozenset({*RANGES, TensorProto.INT32})
SMALL = 4096  # elements; a constant up to this size may be computed while the graph is read


class Graph:
    """A normalized main graph, indexed by value. Nothing here changes after construction.

    Attributes:
        model: where it came from.
        proto: the normalized ModelProto; large weights are references (see `load`).
        nodes: in topological order.

    Args:
        quantized: inputs of integers that stand for real numbers.
    """

    def __init__(self, model: Model, proto: onnx.ModelProto, quantized: Iterable[str] = ()) -> None:
        self.model, self.proto, self._given = model, proto, frozenset(quantized)
        self.nodes: list[onnx.NodeProto] = list(proto.graph.node)
        self.initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.inputs = [value.name for value in proto.graph.input]
        self.outputs = [value.name for value in proto.graph.output]
        self.opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self.producer: dict[str, int] = {}
        self.consumers: dict[str, list[int]] = {}
        given = {*self.inputs, *self.initializers}
        for i, node in enumerate(self.nodes):
            for name in node.output:
                if name:
                    if name in self.producer or name in given:
                        raise ModelError(f"{model.name} is broken: the value '{name}' is made twice")
                    self.producer[name] = i
            for name in dict.fromkeys(reads(node)):
                self.consumers.setdefault(name, []).append(i)

    @property
    def opset(self) -> int:
        """The version of the default domain: at least 16."""
        return int(self.opsets[""])

    @cached_property
    def names(self) -> set[str]:
        """Every name in use, those of subgraphs and nodes too: what a new name must avoid."""
        graph = self.proto.graph
        found = {*self.inputs, *self.outputs, *self.initializers}
        for node in all_nodes(graph):
            found |= {node.name, *node.input, *node.output}
            found = found.union(*map(local_names, subgraphs(node)))
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.producer or name in self.initializers or name in self.inputs

    # -- types -----------------------------------------------------------------------------------

    @cached_property
    def types(self) -> dict[str, ValueType]:
        """Type of every value: onnx's inference helped by constants, and ONNX Runtime's where that stops."""
        found = self._inferred(self.proto)
        settled = 0
        while self._open(found):  # sizes worked out in the graph settle shapes, and these settle further sizes
            constants = {n: v for n, v in self._constants(found).items() if n in self.producer}
            if len(constants) <= settled:
                break
            settled = len(constants)
            found = self._inferred(with_constants(self.proto, constants))
        unknown = [name for name in self.producer if name and (name not in found or found[name].shape is None)]
        if unknown:
            for name, (elem_type, shape) in oracle.value_types(*self._runnable(unknown)).items():
                known = found.get(name, ValueType(0, None))
                found[name] = ValueType(known.elem_type or elem_type, shape)
        return found

    def _inferred(self, proto: onnx.ModelProto) -> dict[str, ValueType]:
        found = inferred_types(proto)
        for tensor in proto.graph.initializer:
            found[tensor.name] = ValueType(tensor.data_type, tuple(tensor.dims))
        return found

    def _open(self, types: dict[str, ValueType]) -> bool:
        """Whether the shape of a computed value is not known, or holds a size that inference made up."""
        shapes = (types[name].shape if name in types else None for name in self.producer)
        return any(shape is None or any(made_up(dim) for dim in shape) for shape in shapes)

    def _runnable(self, outputs: Iterable[str]) -> tuple[bytes, str | None]:
        """This graph with other outputs, for the oracle: bytes and the folder of its external data."""
        probe = onnx.ModelProto()
        probe.CopyFrom(self.proto)
        del probe.graph.output[:]
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return self.model.portable(probe), str(self.model.folder) if self.model.folder else None

    def type(self, name: str) -> ValueType:
        """Type of a value; element type 0 and no shape where it is not known."""
        return self.types.get(name, ValueType(0, None))

    def shape(self, name: str) -> Shape | None:
        """Dimensions: an int, a symbol shared by equal dimensions, or None; None when not even the rank is known."""
        return self.type(name).shape

    def rank(self, name: str) -> int | None:
        """Number of axes; None when it is not known."""
        shape = self.shape(name)
        return None if shape is None else len(shape)

    def is_float(self, name: str) -> bool:
        """Whether a value is floating point, and so may have a gradient."""
        return self.type(name).elem_type in FLOATS

    def is_real(self, name: str) -> bool:
        """Whether a value stands for real numbers: a float, or the integers of a quantizer and what becomes of them."""
        return self.is_float(name) or name in self._quantized

    @cached_property
    def _quantized(self) -> set[str]:
        found = set(self._given)
        for node in self.nodes:
            if node.op_type in QUANTIZERS or makes_integers(node) or not found.isdisjoint(reads(node)):
                found |= {name for name in node.output if self.type(name).elem_type in INTEGERS}
        return found

    # -- constants -------------------------------------------------------------------------------

    @cached_property
    def small_constants(self) -> dict[str, npt.NDArray[Any]]:
        """Every small value that does not depend on the inputs, computed once by ONNX Runtime."""
        return self._constants(self.types)

    def _constants(self, types: dict[str, ValueType]) -> dict[str, npt.NDArray[Any]]:
        """The same as far as it follows from these types."""
        known = {n: t for n, t in self.initializers.items() if int(np.prod(t.dims, dtype=np.int64)) <= SMALL}
        found = {name: self.model.array(t) for name, t in known.items() if readable(t)}
        fixed, wanted = set(found), []
        nodes = []
        for node in self.nodes:
            if node.op_type in IMPURE or captures(node):
                continue
            if node.op_type == "Shape" and node.domain == "":
                shape = types[node.input[0]].shape if node.input[0] in types else None
                if shape is not None and all(isinstance(dim, int) for dim in shape):
                    found[node.output[0]] = sliced_shape(node, shape)
                    fixed.add(node.output[0])
            elif node.input and all(name in fixed or not name for name in node.input) and is_small(node, types):
                nodes.append(node)
                fixed |= set(node.output) - {""}
                wanted += [name for name in node.output if name]
        if wanted:
            found |= self._computed(nodes, wanted, found)
        return found

    def _computed(
        self, nodes: list[onnx.NodeProto], wanted: list[str], known: dict[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        made = {name for node in nodes for name in node.output}
        read = sorted({name for node in nodes for name in node.input if name} - made)
        graph = helper.make_graph(
            nodes, "constants", [], [onnx.ValueInfoProto(name=name) for name in wanted],
            [numpy_helper.from_array(known[name], name) for name in read],
        )  # fmt: skip
        proto = helper.make_model(graph, ir_version=self.proto.ir_version, opset_imports=list(self.proto.opset_import))
        values = oracle.evaluate(serialize(proto, self.model.name))
        return {name: value for name, value in zip(wanted, values, strict=True) if isinstance(value, np.ndarray)}

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value when it is the same for every input (and small, or an initializer); None otherwise."""
        if name in self.small_constants:
            return self.small_constants[name]
        tensor = self.initializers.get(name)
        return self.model.array(tensor) if tensor is not None and readable(tensor) else None

    @cached_property
    def fixed(self) -> set[str]:
        """Names of all values that do not depend on any input, of whatever size."""
        found = set(self.initializers) | set(self.small_constants)
        for node in self.nodes:
            if (
                node.op_type not in IMPURE
                and not captures(node)
                and all(name in found or not name for name in node.input)
            ):
                found |= set(node.output) - {""}
        return found

    # -- walks -----------------------------------------------------------------------------------

    def ancestors(self, names: Iterable[str], stop: Iterable[str] = ()) -> set[int]:
        """Indices of the nodes that `names` depend on, not looking behind the values in `stop`."""
        closed, found = set(stop), set[int]()
        waiting = [name for name in names if name not in closed]
        while waiting:
            i = self.producer.get(waiting.pop())
            if i is not None and i not in found:
                found.add(i)
                waiting += [name for name in (*self.nodes[i].input, *captures(self.nodes[i])) if name not in closed]
        return found

    @cached_property
    def in_training(self) -> str:
        """The first node left in training mode: statistics of the batch, elements dropped. Empty: none."""
        for i, node in enumerate(self.nodes):
            by_batch = node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0)
            switch = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
            if by_batch or (switch and (self.constant(switch) is None or np.any(self.constant(switch)))):
                return self.describe(i)
        return ""

    def describe(self, i: int) -> str:
        """Node i as messages call it."""
        return described(self.nodes[i])


def is_small(node: onnx.NodeProto, types: dict[str, ValueType]) -> bool:
    """Whether what a node makes of constants is worth computing: it is small, or of unknown size and no floats."""
    for name in node.output:
        found = types.get(name, ValueType(0, None))
        sizes = [dim for dim in found.shape or () if isinstance(dim, int)]
        open_size = found.shape is None or len(sizes) < len(found.shape)
        if name and (math.prod(sizes) > SMALL or (open_size and found.elem_type in FLOATS)):
            return False
    return True


def with_constants(proto: onnx.ModelProto, constants: dict[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """A copy in which computed constants are initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    kept = [node for node in proto.graph.node if not all(name in constants or not name for name in node.output)]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    made = {name for node in kept for name in node.output}
    copy.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items() if n not in made)
    return copy


IMPURE = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def readable(tensor: onnx.TensorProto) -> bool:
    """Whether NumPy has the element type."""
    return tensor.data_type not in (TensorProto.STRING, TensorProto.UNDEFINED)


def sliced_shape(node: onnx.NodeProto, shape: Shape) -> npt.NDArray[np.int64]:
    """What Shape gives for a static shape, its start and end attributes heeded."""
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], np.int64)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values (strings decoded)."""
    return {a.name: decoded(helper.get_attribute_value(a)) for a in node.attribute}


def decoded(value: Any) -> Any:
    """An attribute's value, its bytes as text."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def read_graph(model: Model) -> Graph:
    """The normalized graph of a loaded model; an If whose condition is known is the branch that it takes."""
    graph = Graph(model, surface(normalize(model)))
    while any(node.op_type == "If" for node in graph.nodes):
        proto = without_known_branches(graph.proto, graph.constant, model.name)
        if proto is None:
            break
        graph = Graph(model, proto)
    return graph


def value_names(graph: Graph) -> Iterator[str]:
    """Inputs and computed values, in order."""
    yield from graph.inputs
    for node in graph.nodes:
        yield from (name for name in node.output if name)
