"""Operators that pick, repeat or overwrite elements by index."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxcam.graph import stretches
from onnxcam.vjp.emitter import Array, Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.reduction import product_of_others

Sizes = list[int | tuple[int, int]]  # a number, or (axis, times) of input 0


def scatter_along(g: Emitter, n: Node, ct: str, index: str, axis: int) -> str:
    """The adjoint of y = take(x, index, axis): ct[..., i, ...] is added to x[..., index[i], ...].

    `index` is a vector of int64.
    """
    rank = n.rank()
    shape = g.op("Shape", ct)
    size = g.dims(n.input[0], (axis, 1))
    parts = [g.op("Slice", shape, g.ints(0), g.ints(axis))] if axis else []
    parts += [size] + ([g.op("Slice", shape, g.ints(axis + 1), g.ints(rank))] if axis + 1 < rank else [])
    zeros = g.op("Expand", n.array(0), g.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0])
    column = g.op("Reshape", index, g.ints(-1, *[1] * (rank - axis - 1)))
    return g.op("ScatterElements", zeros, g.op("Expand", column, shape), ct, axis=axis, reduction="add")


def as_int64(g: Emitter, index: str) -> str:
    """Indices in the type that every indexing operator takes (a Cast to the same type costs nothing)."""
    return g.cast(index, TensorProto.INT64)


def positions(g: Emitter, n: Node, axis: int) -> str:
    """0, 1, 2, ... along an axis of input 0, as a vector."""
    size = n.size(axis)
    if size is not None:
        return g.const(np.arange(size), np.int64)
    return g.arange(g.op("Squeeze", g.dims(n.input[0], (axis, 1)), g.ints(0)))


def numbered(g: Emitter, n: Node) -> str:
    """Input 0's elements numbered: what moves these as the node moves its elements says where each came from."""
    return g.reshape_to(g.arange(g.op("Size", n.input[0])), n.input[0])


def put_back(g: Emitter, n: Node, ct: str, origin: str) -> str:
    """Every element of ct added to the element of input 0 that `origin` numbers.

    By ScatterElements: ScatterND(reduction="add") loses updates when ONNX Runtime runs it on several threads.
    """
    flat = g.ints(-1)
    zeros = g.op("Expand", n.array(0), g.count(n.input[0]))
    parts = g.op("Reshape", origin, flat), g.op("Reshape", ct, flat)
    return g.reshape_to(g.op("ScatterElements", zeros, *parts, axis=0, reduction="add"), n.input[0])


@rule("Slice", versions=(13,))
def slice_(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct where it came from, zeros elsewhere."""
    axes = sliced_axes(n)
    if axes is None:
        return [put_back(g, n, ct, g.op("Slice", numbered(g, n), *n.input[1:]))]
    taken = elements_taken(g, n)
    if taken is not None:
        return [among_zeros(g, n, ct, taken)]
    dx = ct
    for i, axis in enumerate(axes):
        start, end, step = (
            as_int64(g, g.op("Gather", n.input[j], g.ints(i))) if n.has(j) else g.ints(1) for j in (1, 2, 4)
        )
        dx = scatter_along(g, n, dx, g.op("Slice", positions(g, n, axis), start, end, g.ints(0), step), axis)
    return [dx]


def sliced_axes(n: Node) -> list[int] | None:
    """The axes a Slice cuts, counted from the front: those it names, or the first ones; None: known when it runs."""
    if n.has(3):
        axes = n.const(3)
        return None if axes is None else [int(axis) % n.rank() for axis in axes.ravel()]
    count = n.size(0, 1)
    return None if count is None else list(range(count))


def elements_taken(g: Emitter, n: Node) -> dict[int, range] | None:
    """Which elements a Slice takes along each of its axes; None: known when it runs."""
    parts, taken = stretches(n.proto, g.constant), dict[int, range]()
    if parts is None:
        return None
    for part in parts:
        axis = part.axis % n.rank()
        size = n.size(axis)
        if size is None:
            return None
        taken[axis] = range(*part.of(size).indices(size))
    return taken


def among_zeros(g: Emitter, n: Node, ct: str, taken: dict[int, range]) -> str:
    """ct at the elements taken of each axis, zeros at the others: spread out, cut, then padded to input 0's size."""
    margins = np.zeros((2, n.rank()), np.int64)
    sizes: Sizes = [len(taken[i]) if i in taken else (i, 1) for i in range(n.rank())]
    for axis, places in taken.items():
        if places.step < 0 and len(places) > 1:
            ct, places = g.op("Slice", ct, g.ints(-1), g.ints(-(2**31)), g.ints(axis), g.ints(-1)), places[::-1]
        step, first = (places.step, places.start) if len(places) > 1 else (1, max(places.start, 0))
        inside = min(first, step - 1)
        if step > 1:
            ct = spread(g, n, ct, axis, sizes, inside, step)
        before, length = first - inside, len(places) * step
        room = (n.size(axis) or 0) - before
        if length > room:
            ct = g.op("Slice", ct, g.ints(0), g.ints(room), g.ints(axis))
        sizes[axis] = min(length, room)
        margins[:, axis] = before, room - min(length, room)
    return g.op("Pad", ct, g.ints(*margins.ravel().tolist())) if margins.any() else ct


def spread(g: Emitter, n: Node, ct: str, axis: int, sizes: Sizes, first: int, step: int) -> str:
    """Elements of an axis `step` apart, with zeros before, between and after; by Concat: no other kernel is as fast.

    `sizes`: of ct; its elements along the axis are counted.
    """
    count, before, after = sizes[axis], sizes[:axis], sizes[axis + 1 :]
    assert isinstance(count, int)

    def zeros(many: int) -> list[str]:
        return [g.op("Expand", n.array(0), g.dims(n.input[0], *before, count, many, *after))] if many else []

    apart = g.op("Unsqueeze", ct, g.ints(axis + 1))
    rows = g.op("Concat", *zeros(first), apart, *zeros(step - 1 - first), axis=axis + 1)
    return g.op("Reshape", rows, g.dims(n.input[0], *before, count * step, *after), allowzero=1)


@rule("Pad", versions=(13, 18, 19, 21, 23, 24, 25))
def pad(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Constant: dx = ct with the padding taken off again. Others: every copy adds to its original."""
    mode = n.attr("mode", "constant")
    if mode == "constant":
        dx = g.op("Pad", ct, all_pads(g, n, sign=-1))
        return [dx, None, padding_cotangent(g, n, ct) if n.wants(2) else None]
    rank = n.rank()
    axes = n.const(3) if n.has(3) else np.arange(rank)
    if axes is None:
        return [put_back(g, n, ct, g.op("Pad", numbered(g, n), all_pads(g, n), mode=mode))]
    known = n.const(1)
    dx = ct
    for i, axis in enumerate(int(a) % rank for a in axes.ravel()):
        around = None if known is None else (int(known[i]), int(known[i + axes.size]))
        if around == (0, 0):
            continue
        if around is not None and can_fold(n, axis, *around):
            short = can_multiply(n, axis) and max(n.size(axis) or 0, *around) <= FEW
            dx = multiplied(g, n, dx, axis, copied(n, axis, *around)) if short else folded(g, n, dx, axis, *around)
            continue
        amount = g.op("Gather", n.input[1], g.ints(i, i + axes.size))
        origin = g.op("Pad", positions(g, n, axis), amount, mode=mode)
        dx = scatter_along(g, n, dx, origin, axis)
    return [dx]


# up to which size of an axis a product is faster (measured) than cutting and adding, than adding one by one
FEW, SOME = 32, 96
COPIED = {"reflect": -1, "wrap": 0, "edge": 2**31}  # mode -> how much more than its size an axis may be padded


def can_fold(n: Node, axis: int, before: int, after: int) -> bool:
    """Whether an axis of known size is padded on each side with one piece of itself, or with its end."""
    size, more = n.size(axis), COPIED.get(n.attr("mode"))
    if not size or more is None:
        return False
    return min(before, after) >= 0 and max(before, after) <= size + more


def can_multiply(n: Node, axis: int) -> bool:
    """Whether a product can go along an axis; ONNX Runtime makes none from the left where a batch may be empty."""
    last = n.rank() - 1
    return 0 < last == axis or (0 <= last - 1 == axis and all(n.size(i) for i in range(axis)))


def copied(n: Node, axis: int, before: int, after: int) -> Array:
    """Which element of an axis each one of the padded axis is a copy of: ones in a matrix (size, padded size)."""
    return np.pad(np.eye(n.size(axis) or 0), [(0, 0), (before, after)], mode=n.attr("mode"))


def multiplied(g: Emitter, n: Node, ct: str, axis: int, copies: Array) -> str:
    """The adjoint of copying elements of one of the last two axes: a product with what says which is whose copy."""
    if axis == n.rank() - 1:
        return g.op("MatMul", ct, n.array(copies.T))
    return g.op("MatMul", n.array(copies), ct)


def folded(g: Emitter, n: Node, ct: str, axis: int, before: int, after: int) -> str:
    """The adjoint of padding an axis with copies: what lies outside is added to the piece that it is a copy of."""
    size, mode = n.size(axis) or 0, n.attr("mode")

    def cut(first: int, last: int, step: int = 1) -> str:
        return g.op("Slice", ct, g.ints(first), g.ints(last), g.ints(axis), g.ints(step))

    def put(part: str, length: int, at: int) -> str:
        pads = np.zeros((2, n.rank()), np.int64)
        pads[:, axis] = at, size - length - at
        return g.op("Pad", part, g.ints(*pads.ravel().tolist()))

    parts = [cut(before, before + size)]
    for start, count, in_front in ((0, before, True), (before + size, after, False)):
        if count and mode == "edge":
            end = g.reduce("ReduceSum", cut(start, start + count), [axis])
            parts.append(put(end, 1, 0 if in_front else size - 1))
        elif count and mode == "wrap":
            parts.append(put(cut(start, start + count), count, size - count if in_front else 0))
        elif count:
            turned = cut(start + count - 1, start - 1 - before - size - after, -1)
            parts.append(put(turned, count, 1 if in_front else size - 1 - count))
    return g.add(parts)


def all_pads(g: Emitter, n: Node, sign: int = 1) -> str:
    """The padding of every axis: ONNX Runtime's transpose optimizer misreads a Pad that names some."""
    rank, known = n.rank(), n.const(1)
    axes = n.const(3) if n.has(3) else np.arange(rank)
    if known is not None and axes is not None:
        if known.size != 2 * axes.size:
            raise RuleError(f"it has {known.size} numbers of padding for {axes.size} axes")
        pads = np.zeros((2, rank), np.int64)
        pads[:, axes.ravel() % rank] = sign * known.reshape(2, -1)
        return g.ints(*pads.ravel().tolist())
    given = n.input[1] if sign > 0 else g.op("Neg", n.input[1])
    if not n.has(3):
        return given
    front = g.op("Mod", as_int64(g, n.input[3]), g.ints(rank))
    both = g.op("Concat", front, g.op("Add", front, g.ints(rank)), axis=0)
    return g.op("ScatterElements", g.ints(*[0] * 2 * rank), both, given)


def padding_cotangent(g: Emitter, n: Node, ct: str) -> str:
    """d value of a constant Pad: ct summed over the padding."""
    outside = g.op("Pad", g.zeros_like(n.input[0], n.elem_type), all_pads(g, n), n.array(1))
    return g.reshape_to(g.op("ReduceSum", g.op("Mul", ct, outside), keepdims=0), n.input[2])


@rule("Gather", versions=(13,))
def gather(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx[index] += ct."""
    axis = n.axis(0)
    size, index = n.size(axis), n.const(1)
    if index is not None and index.size == 1 and size:  # one slice: put back between zeros
        at = int(index.item()) % size
        one = ct if index.ndim == 1 else flattened(g, n, ct, axis, 1)
        return [among_zeros(g, n, one, {axis: range(at, at + 1)})]
    flat = g.op("Reshape", n.input[1], g.ints(-1))
    if g.graph.rank(n.input[1]) != 1:
        ct = flattened(g, n, ct, axis, index.size if index is not None else g.count(n.input[1]))
    if index is not None and size:
        order = index.ravel() % size
        if is_permutation(order, size):
            return [g.op("Gather", ct, g.const(np.argsort(order), np.int64), axis=axis)]
        if order.size and can_multiply(n, axis) and max(size, order.size / 2) <= SOME:  # over nothing there is none
            return [multiplied(g, n, ct, axis, np.eye(size)[:, order])]
    return [scatter_along(g, n, ct, as_int64(g, flat), axis)]


def is_permutation(order: Array, size: int) -> bool:
    """Whether indices name each of so many places once."""
    return np.array_equal(np.sort(order), np.arange(size))


def flattened(g: Emitter, n: Node, ct: str, axis: int, count: int | str) -> str:
    """ct of indices of any shape as that of a vector of so many."""
    sizes = [count if i == axis else (i, 1) for i in range(n.rank())]
    return g.op("Reshape", ct, g.dims(n.input[0], *sizes), allowzero=1)


@rule("GatherElements", versions=(13,))
def gather_elements(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx[index] += ct, element by element."""
    zeros = g.zeros_like(n.input[0], n.elem_type)
    return [g.op("ScatterElements", zeros, n.input[1], ct, axis=n.axis(0), reduction="add")]


@rule("GatherND", versions=(13,))
def gather_nd(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx[index] += ct, element by element."""
    return [put_back(g, n, ct, g.op("GatherND", numbered(g, n), n.input[1], **n.attrs))]


@rule("ScatterND", "ScatterElements", versions=(16, 18))
def scatter(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Overwrite: d data = ct with zeros there, d updates = ct there. Add: d data = ct. Others: as Mul, Max, Min."""
    mode = n.attr("reduction", "none")
    if mode in ("max", "min"):
        return scattered_extremum(g, n, ct, mode)
    if mode == "mul":
        return scattered_product(g, n, ct)
    zeros = g.zeros_like(n.input[2], n.elem_type)
    data = put(g, n, ct, zeros) if mode == "none" else ct
    if not n.wants(2):
        return [data, None, None]
    there = take(g, n, ct)
    lost = mode == "none" and may_collide(n)
    return [data, None, g.op("Where", survivors(g, n), there, n.array(0)) if lost else there]


def put(g: Emitter, n: Node, data: str, updates: str, reduction: str | None = None) -> str:
    """The same scatter of other values; what meets is reduced by ScatterElements (see `put_back`)."""
    if reduction and n.proto.op_type == "ScatterND":
        flat = [g.op("Reshape", value, g.ints(-1)) for value in (data, take(g, n, numbered(g, n)), updates)]
        return g.reshape_to(g.op("ScatterElements", *flat, axis=0, reduction=reduction), n.input[0])
    return g.op(n.proto.op_type, data, n.input[1], updates, axis=n.attr("axis"), reduction=reduction)


def take(g: Emitter, n: Node, value: str) -> str:
    """The elements of a value in the shape of data that a scatter touches, in the shape of its updates."""
    nd = n.proto.op_type == "ScatterND"
    return g.op("GatherND" if nd else "GatherElements", value, n.input[1], axis=n.attr("axis"))


def may_collide(n: Node) -> bool:
    """Whether two updates may go to one place; False only where constant indices rule it out."""
    index = n.const(1)
    if index is None:
        return True
    nd = n.proto.op_type == "ScatterND"
    if not nd and index.ndim != n.rank():
        return True  # as only a broken model has it
    axes = range(index.shape[-1]) if nd and index.ndim else [n.axis(0)]
    sizes = [n.size(axis) for axis in axes]
    if np.any(index < 0) and None in sizes:
        return True
    whole = index % np.array(sizes, np.int64) if np.any(index < 0) else index
    if nd:
        places = whole.reshape(-1, len(sizes))
        return len(np.unique(places, axis=0)) < len(places)
    ordered = np.sort(whole, axis=n.axis(0))
    return bool(np.any(np.diff(ordered, axis=n.axis(0)) == 0))


def survivors(g: Emitter, n: Node) -> str:
    """Which updates are still there afterwards, told by scattering their numbers the same way."""
    shape = g.op("Shape", n.input[2])
    numbers = g.op("Reshape", g.arange(g.op("ReduceProd", shape, keepdims=0)), shape)
    blank = g.op("Expand", g.const(-1, np.int64), g.shape_of(n.input[0]))
    return g.op("Equal", take(g, n, put(g, n, blank, numbers)), numbers)


def scattered_extremum(g: Emitter, n: Node, ct: str, mode: str) -> Cotangents:
    """y = the largest (smallest) of data and updates at each place;  ct goes there, ties share it evenly."""
    best = put(g, n, n.x(0), n.x(2), mode)
    old = g.cast(g.op("Equal", n.x(0), best), n.elem_type)
    new = g.cast(g.op("Equal", n.x(2), take(g, n, best)), n.elem_type)
    share = g.op("Div", ct, put(g, n, old, new, "add"))
    return [g.op("Mul", share, old), None, g.op("Mul", take(g, n, share), new)]


def scattered_product(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = data times its updates;  each gets ct times the product of the others, right also where one is 0."""
    zero, one = n.array(0), n.array(1)
    data = g.op("Mul", ct, put(g, n, g.op("Expand", one, g.shape_of(n.input[0])), n.x(2), "mul"))
    is_zero = g.op("Equal", n.x(2), zero)
    filled = g.op("Where", is_zero, one, n.x(2))
    rest = take(g, n, put(g, n, n.x(0), filled, "mul"))
    count = put(g, n, g.zeros_like(n.input[0], n.elem_type), g.cast(is_zero, n.elem_type), "add")
    return [data, None, g.op("Mul", take(g, n, ct), product_of_others(g, n, is_zero, take(g, n, count), rest, filled))]


@rule("TopK", versions=(11, 24))
def top_k(g: Emitter, n: Node, ct: str, _indices: str | None = None) -> Cotangents:
    """dx[index] = ct."""
    zeros = g.zeros_like(n.input[0], n.elem_type)
    index = n.output[1] if len(n.output) > 1 and n.output[1] else g.op("TopK", *n.input, outputs=2, **n.attrs)[1]
    return [g.op("ScatterElements", zeros, index, ct, axis=n.axis(-1))]


@rule("Compress", versions=(11, 28))
def compress(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct where the condition holds."""
    kept = g.op("Reshape", g.op("NonZero", n.input[1]), g.ints(-1))
    return [put_back(g, n, ct, kept) if n.attr("axis") is None else scatter_along(g, n, ct, kept, n.axis(0))]


@rule("ReverseSequence", versions=(10, 28))
def reverse_sequence(g: Emitter, n: Node, ct: str) -> Cotangents:
    """dx = ct with the same parts turned around."""
    return [g.op("ReverseSequence", ct, n.input[1], **n.attrs)]


@rule("OneHot", versions=(11, 28))
def one_hot(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = values[1] at the indices, values[0] elsewhere;  d values = ct summed over the one and over the other."""
    marks = [g.op("OneHot", n.input[0], n.input[1], n.array(values), **n.attrs) for values in ([1, 0], [0, 1])]
    sums = [g.op("ReduceSum", g.op("Mul", ct, mark), keepdims=0) for mark in marks]
    return [ZERO, ZERO, g.op("Concat", *(g.op("Reshape", total, g.ints(1)) for total in sums), axis=0)]


@rule("Range", versions=(11, 27))
def range_(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y_i = start + i step;  d start = sum ct, d step = sum i ct; the limit only decides how many there are."""
    count = g.cast(g.op("Size", ct), n.elem_type)
    steps = g.op("Range", n.array(0), count, n.array(1))
    totals = (g.op("ReduceSum", part, keepdims=0) for part in (ct, g.op("Mul", ct, steps)))
    start, step = (g.reshape_to(total, n.input[i]) for total, i in zip(totals, (0, 2), strict=True))
    return [start, ZERO, step]


@rule("TensorScatter", versions=(24,), only=[0, 1])
def tensor_scatter(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Rows written into a cache, each from its own start;  d cache = ct with zeros there, d update = ct there."""
    blank = g.op("TensorScatter", ct, g.zeros_like(n.input[1], n.elem_type), *n.input[2:], **n.attrs)
    if not n.wants(1):
        return [blank]
    rank, axis = n.rank(), n.axis(-2)
    steps = g.arange(g.op("Squeeze", g.dims(n.input[1], (axis, 1))))
    index = g.op("Reshape", steps, g.ints(*[-1 if i == axis else 1 for i in range(rank)]))
    if n.has(2):
        index = g.op("Add", index, g.op("Reshape", n.input[2], g.ints(-1, *[1] * (rank - 1))))
    if n.attr("mode", "linear") == "circular":
        index = g.op("Mod", index, g.dims(n.input[0], (axis, 1)))
    return [blank, g.op("GatherElements", ct, g.op("Expand", index, g.shape_of(n.input[1])), axis=axis)]
