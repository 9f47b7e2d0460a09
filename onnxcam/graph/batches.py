"""What batches of some sizes tell of the sizes that inference leaves open."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from onnxcam.errors import ModelError
from onnxcam.graph.inference import Inference
from onnxcam.graph.parts import Wired, open_nodes, part_of
from onnxcam.graph.types import Dim, Shape, Sizes, Types, ValueType, is_multiple, made_up, shape_in, times

MORE_BATCHES = ((38, 4093), (38, 101), (6, 29), (2, 3))  # an even and an odd one, large, are rounded differently
LONGEST = 2**20  # numbers of a vector that are worth it: onnx's inference writes out each, whatever they are


def told_by_batches(first: Inference, told: Types) -> Inference:
    """An inference that knows which sizes, of those that inference made up, do not depend on the batch, or are it.

    Some batches tell: behind a Reshape by sizes that a running model works out, a symbol alone says nothing. What is
    tried tries no more: a body with n free sizes would be inferred 3^n times. Itself where nothing is open, or told.

    Args:
        told: types that batches have told before, of a graph with the same values.
    """
    known = first.told_more({name: one for name, one in told.items() if name in first.made})
    shapes = [value.type.tensor_type.shape.dim for value in first.proto.graph.input]
    symbols = {dim.dim_param for dims in shapes for dim in dims}
    batch = next((dims[0].dim_param for dims in shapes if dims and dims[0].dim_param), "")
    nodes = [known.nodes[i] for i in open_nodes(known.nodes, known.types, known.computed)] if batch else []
    if not nodes:
        return known
    try:
        alone = of_batch(known, nodes, {batch: 1}).types  # may be broadcast
        sizes = more_batches(known.types, alone)
        seen = {1: alone} | {size: of_batch(known, nodes, {batch: size}).types for size in sizes}
    except ModelError:  # the model takes no such batch
        return known
    new = {}
    for name in set(known.made).intersection(*seen.values()):
        before = known.types.get(name, ValueType(alone[name].elem_type, None))
        shape = told_shape(before.shape, {size: found[name].shape for size, found in seen.items()}, batch, symbols)
        if shape != before.shape:
            new[name] = ValueType(before.elem_type, shape)
    return known.told_more(new)


def more_batches(known: Types, alone: Types) -> Sizes:
    """The sizes of the batches to try beside one alone: the largest whose vectors are not too long.

    Args:
        known: types for any batch: a vector whose length is known there does not grow.
        alone: the types of that one.
    """
    vectors = [(name, value.shape[0]) for name, value in alone.items() if value.shape and len(value.shape) == 1]
    growing = [size for name, size in vectors if not isinstance((shape_in(known, name) or (None,))[0], int)]
    longest = max((size for size in growing if isinstance(size, int)), default=0)
    return next((sizes for sizes in MORE_BATCHES if longest * sizes[-1] <= LONGEST), MORE_BATCHES[-1])


def of_batch(first: Inference, nodes: Sequence[Wired], sizes: Mapping[str, int]) -> Inference:
    """Some nodes of a model for batches of one size, and what ONNX Runtime told of them.

    Args:
        sizes: number by symbol.
    """
    names = {name for node, read in nodes for name in (*read, *node.output)}
    types, told = (
        {name: of_sizes(one, sizes) for name, one in found.items() if name in names}
        for found in (first.types, first.told)
    )
    return Inference(first.model, part_of(first.proto, nodes, types, first.weight), told=told)


def of_sizes(value: ValueType, sizes: Mapping[str, int]) -> ValueType:
    """A type with numbers for symbols."""
    return replace(
        value, shape=value.shape and tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in value.shape)
    )


def told_shape(
    shape: Shape | None, seen: Mapping[int, Shape | None], batch: str, symbols: Container[str]
) -> Shape | None:
    """A shape with what batches of some sizes tell of the sizes that inference made up in it.

    `symbols`: of the inputs. What they call a multiple of the batch need not be one.
    """
    known = {count: other for count, other in seen.items() if other is not None}
    ranks = {len(other) for other in (*known.values(), *([] if shape is None else [shape]))}
    if len(known) < len(seen) or len(ranks) != 1:
        return shape
    dims = (None,) * ranks.pop() if shape is None else shape
    told = (told_size(dim, {count: other[i] for count, other in known.items()}, batch) for i, dim in enumerate(dims))
    return tuple(dim if is_multiple(new) and new in symbols else new for dim, new in zip(dims, told, strict=True))


def told_size(dim: Dim, sizes: Mapping[int, Dim], batch: str) -> Dim:
    """A size: a number that all batches give, the batch or a multiple, where it was not known; else what it was.

    No elements at all tell nothing: what takes the rows from 1 to 3 takes none of one, and none of many from the end.

    Args:
        sizes: what it is, by the batch.
    """
    if dim is not None and not made_up(dim):
        return dim
    one = sizes[1]
    if not isinstance(one, int) or not one:
        return dim
    if all(size == one * count for count, size in sizes.items()):
        return times(one, batch)
    return one if len(set(sizes.values())) == 1 else dim
