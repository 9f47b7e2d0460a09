"""The graph as everything else reads it: producers, consumers, constants, types and shapes by value name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from onnxcam.errors import ModelError
from onnxcam.graph.batches import told_by_batches
from onnxcam.graph.inference import IMPURE, Inference, has_numpy_type, is_pure
from onnxcam.graph.integers import MOVING, QUANTIZERS, makes_integers
from onnxcam.graph.load import Model
from onnxcam.graph.nodes import all_nodes, attributes, described, local_names, optional, reads, subgraphs
from onnxcam.graph.sizing import Question
from onnxcam.graph.types import FLOATS, INTEGERS, Shape, Sizes, Types, ValueType

Found = TypeVar("Found")
PIXELS = frozenset({TensorProto.UINT8, TensorProto.INT8})
ARRANGING = MOVING | {"Gather", "Cast", "Split", "Concat", "Pad"}  # what brings pixels into another order, or type


class Graph:
    """A normalized main graph, indexed by value. Nothing here changes after construction.

    Attributes:
        model: where it came from.
        proto: the normalized ModelProto; large weights are references (see `load`).
        nodes: in topological order.

    Args:
        quantized: inputs of integers that stand for real numbers.
        told: types that batches told before, see `simpler`.
        whole: the graph that this one was cut out of, which makes the values that are inputs here.
    """

    def __init__(
        self,
        model: Model,
        proto: onnx.ModelProto,
        quantized: Iterable[str] = (),
        told: Types | None = None,
        whole: Graph | None = None,
    ) -> None:
        self.model, self.proto, self._given, self._told = model, proto, frozenset(quantized), told or {}
        self.whole = self if whole is None else whole
        self.nodes: list[onnx.NodeProto] = list(proto.graph.node)
        self.initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.inputs = [value.name for value in proto.graph.input]
        self.outputs = [value.name for value in proto.graph.output]
        self.opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self._worked_out: dict[Callable[[Graph], Any], Any] = {}
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

    def once(self, work_out: Callable[[Graph], Found]) -> Found:
        """What a function finds of this graph; worked out when first asked for."""
        if work_out not in self._worked_out:
            self._worked_out[work_out] = work_out(self)
        found: Found = self._worked_out[work_out]
        return found

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
            found.update(*map(local_names, subgraphs(node)))
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.producer or name in self.initializers or name in self.inputs

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value; None of an input or a weight."""
        return self.nodes[self.producer[name]] if name in self.producer else None

    def sized(self, sizes: Mapping[str, Sequence[int | None]], others: int | None = None) -> Graph:
        """The graph with sizes for what its inputs leave free (None: it stays so); itself where that is nothing.

        `others`: for inputs that are not named.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        changed = False
        for value in proto.graph.input:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, sizes.get(value.name, [others] * len(dims)), strict=True):
                if not dim.HasField("dim_value") and size is not None:
                    dim.dim_value, changed = size, True
        return Graph(self.model, proto, self._given) if changed else self

    def simpler(self, proto: onnx.ModelProto) -> Graph:
        """The graph in another spelling, whose values are the same: no batch is tried twice for what it told."""
        found: Inference | None = self.__dict__.get("_inference")  # where it has been asked for
        return Graph(self.model, proto, told=self._told if found is None else found.told)

    # -- types -----------------------------------------------------------------------------------

    @cached_property
    def _untold(self) -> Inference:
        return Inference(self.model, self.proto)

    @cached_property
    def _inference(self) -> Inference:
        return told_by_batches(self._untold, self._told)

    @property
    def types(self) -> dict[str, ValueType]:
        """Type of every value: onnx's inference helped by constants, and ONNX Runtime's where that stops."""
        return self._inference.types

    @property
    def misjudged(self) -> dict[int, tuple[Question, Sizes]]:
        """Nodes of which onnx infers other sizes than ONNX Runtime computes, by their place: see `Sizing`."""
        return self._untold.misjudged | self._inference.misjudged

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

    def is_single(self, name: str) -> bool:
        """Whether a value is known to hold one number, of whatever rank."""
        shape = self.shape(name)
        return shape is not None and all(size == 1 for size in shape)

    def is_float(self, name: str) -> bool:
        """Whether a value is floating point, and so may have a gradient."""
        return self.type(name).elem_type in FLOATS

    def is_real(self, name: str) -> bool:
        """Whether a value stands for real numbers: a float, or the integers of a quantizer and what becomes of them.

        So do those of an image, as far as they are moved about.
        """
        return self.is_float(name) or name in self._quantized

    @cached_property
    def _quantized(self) -> set[str]:
        found, pixels = set(self._given), {name for name in self.inputs if self.type(name).elem_type in PIXELS}
        for node in self.nodes:
            of_pixels = node.op_type in ARRANGING and node.input[0] in pixels
            if of_pixels or node.op_type in QUANTIZERS or makes_integers(node) or not found.isdisjoint(reads(node)):
                found |= {name for name in node.output if self.type(name).elem_type in INTEGERS}
        return found

    # -- constants -------------------------------------------------------------------------------

    @property
    def small_constants(self) -> dict[str, npt.NDArray[Any]]:
        """Every small value that does not depend on the inputs, computed once by ONNX Runtime."""
        return self._inference.constants

    @property
    def early_constants(self) -> dict[str, npt.NDArray[Any]]:
        """Of the small constants the ones that are known at little cost."""
        return self._untold.settled_constants

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value when it is the same for every input (and small, or an initializer); None otherwise."""
        if name in self.small_constants:
            return self.small_constants[name]
        tensor = self.initializers.get(name)
        return self.model.array(tensor) if tensor is not None and has_numpy_type(tensor) else None

    def number(self, name: str) -> Any:
        """The single number that a constant is; None where it is none, or not known."""
        value = self.constant(name)
        return value.item() if value is not None and value.size == 1 else None

    @cached_property
    def fixed(self) -> set[str]:
        """Names of all values that do not depend on any input, of whatever size."""
        found = set(self.initializers) | set(self.small_constants)
        for node in self.nodes:
            if is_pure(node) and found.issuperset(reads(node)):
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
                waiting += [name for name in reads(self.nodes[i]) if name not in closed]
        return found

    @cached_property
    def unsteady(self) -> str:
        """What makes the outputs depend on more than the image: the first such node, and why. Empty: nothing does.

        Training mode (statistics of the batch, elements dropped) and random numbers.
        """
        for i in sorted(self.ancestors(self.outputs)):
            node = self.nodes[i]
            if node.op_type in IMPURE:
                return f"{self.describe(i)} draws at random, scores and maps differ from run to run"
            by_batch = node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0)
            if by_batch or self.drops_out(node):
                return (
                    f"{self.describe(i)} is in training mode, scores and maps depend on what shares the batch, or on "
                    "chance: export the model in eval mode"
                )
        return ""

    def drops_out(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a Dropout that is not known to be in inference mode."""
        mode = optional(node, 2) if node.op_type == "Dropout" else ""
        if not mode:
            return False
        training = self.constant(mode)
        return training is None or bool(np.any(training))

    def describe(self, i: int) -> str:
        """Node i as messages call it."""
        return described(self.nodes[i])
