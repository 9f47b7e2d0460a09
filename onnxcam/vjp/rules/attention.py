"""Attention: softmax(Q K^T scale + mask) V, as ONNX and ONNX Runtime spell it.

Inside, queries, keys and values are [batch, heads, positions, size].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.body import Outputs, lowering
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Node, RuleError


def in_heads(w: Emitter, x: str, heads: int) -> str:
    """[batch, positions, heads x size] as [batch, heads, positions, size]."""
    return w.op("Transpose", w.op("Reshape", x, w.ints(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def from_heads(w: Emitter, y: str) -> str:
    """[batch, heads, positions, size] as [batch, positions, heads x size]."""
    return w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), w.ints(0, 0, -1))


def size_of(w: Emitter, x: str, axis: int) -> str:
    """A size of a computed value: a scalar."""
    return w.op("Gather", w.op("Shape", x), w.const(axis, np.int64))


def scores_of(w: Emitter, n: Node, q: str, k: str) -> str:
    """Q K^T times `scale`, by default 1 / sqrt(size)."""
    scale = n.attr("scale", 0.0)
    root = w.op("Sqrt", w.cast(size_of(w, q, 3), n.elem_type))
    q = w.op("Mul", q, n.array(scale)) if scale else w.op("Div", q, root)
    return w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2]))


def positions(w: Emitter, x: str) -> str:
    """[positions]: 0, 1, ... of queries or keys."""
    return w.arange(size_of(w, x, 2))


def after_past(w: Emitter, old_k: str, old_v: str, k: str, v: str) -> tuple[str, str, str]:
    """Keys and values with those of the past before them, and the number of these."""
    return w.op("Concat", old_k, k, axis=2), w.op("Concat", old_v, v, axis=2), size_of(w, old_k, 2)


def ahead(w: Emitter, q: str, k: str, past: str) -> str:
    """[queries, keys]: by how many positions a key comes after its query, `past` keys being there before the first."""
    queries = w.op("Unsqueeze", positions(w, q), w.ints(1))
    return w.op("Sub", positions(w, k), w.op("Add", queries, past) if past else queries)


def no_later(w: Emitter, offsets: str, limit: int = 0) -> str:
    """Where keys come at most so many positions after their query."""
    return w.op("LessOrEqual", offsets, w.const(limit, np.int64))


# -- ONNX's own -----------------------------------------------------------------------------------


@lowering("Attention", versions=(23, 24, 25), only=[0, 1, 2, 3, 4, 5])
def attention(w: Emitter, n: Node) -> Outputs:
    """Y = softmax(cap(Q K^T scale) + mask) V;  outputs Y, keys, values, scores."""
    if n.attr("is_causal", 0) and n.has(4) and not settled(n):
        raise RuleError("one query with a past sees every new key in ONNX Runtime, and one of them by the standard")
    flat = n.rank(0) == 3
    q, k, v = (in_heads(w, n.x(i), n.attr(heads)) if flat else n.x(i) for i, heads in enumerate(HEADS))
    past = ""
    if n.has(4):
        k, v, past = after_past(w, n.x(4), n.x(5), k, v)
    elif n.has(6):
        if n.elem_type == TensorProto.DOUBLE:
            raise RuleError("its keys are a cache, which ONNX Runtime reads otherwise in double precision")
        past = w.op("Sub", filled(w, n), size_of(w, q, 2))
    keys, values = (shared_by(w, n, x) for x in (k, v))
    stages = [scores_of(w, n, q, keys)]
    stages.append(capped(w, n, stages[0]))
    stages += masked(w, n, q, k, past, stages[1])
    y = w.op("MatMul", stages[3], values)
    stage = n.attr("qk_matmul_output_mode", 0)
    if not 0 <= stage < len(stages):
        raise RuleError(f"its qk_matmul_output_mode is {stage}")
    scores = w.op("Identity", stages[stage])  # made again: ONNX Runtime infers wrong sizes of them
    return [from_heads(w, y) if flat else y, k, v, scores]


def filled(w: Emitter, n: Node) -> str:
    """[batch, 1, 1, 1]: how many of the keys are there, where these are a cache; the queries are the last of them."""
    return w.op("Unsqueeze", n.input[6], w.ints(1, 2, 3))


def settled(n: Node) -> bool:
    """Whether ONNX Runtime's causal mask is the standard's: there are several queries, or no more keys than these."""
    queries, keys = ((n.shape(i) or (None,) * 4)[-2] for i in (0, 1))
    return keys == 1 or (isinstance(queries, int) and queries > 1) or (queries is not None and queries == keys)


MOST_SHARING = 1024  # heads of queries on one of keys
HEADS = ("q_num_heads", "kv_num_heads", "kv_num_heads")


def heads_of(n: Node, i: int) -> int:
    """The number of heads of an input; RuleError when it is not known."""
    count: int | None = n.attr(HEADS[i]) or (n.size(1, i) if n.rank(i) == 4 else None)
    if count is None:
        raise RuleError("the number of its heads is not known")
    return count


def shared_by(w: Emitter, n: Node, x: str) -> str:
    """Keys or values, once for every query head that shares them."""
    own = heads_of(n, 1)
    times = heads_of(n, 0) // own
    if not 0 < times <= MOST_SHARING:
        raise RuleError(f"{heads_of(n, 0)} heads of queries do not share {own} of keys")
    if times == 1:
        return x
    copies = w.op("Concat", *[w.op("Unsqueeze", x, w.ints(2))] * times, axis=2)
    rest = w.op("Slice", w.op("Shape", x), w.ints(2), w.ints(4))
    return w.op("Reshape", copies, w.op("Concat", w.ints(0, own * times), rest, axis=0))


def capped(w: Emitter, n: Node, scores: str) -> str:
    """c tanh(scores / c), where there is a softcap c."""
    cap = n.attr("softcap", 0.0)
    return w.op("Mul", w.op("Tanh", w.op("Div", scores, n.array(cap))), n.array(cap)) if cap else scores


def masked(w: Emitter, n: Node, q: str, k: str, past: str, scores: str) -> list[str]:
    """The scores with the masks, and their softmax; 0 where nothing may be attended to."""
    left, right, offsets = n.attr("left_window_size", -1), n.attr("right_window_size", -1), ahead(w, q, k, past)
    limit = 0 if n.attr("is_causal", 0) else right
    allowed = [no_later(w, offsets, limit)] if limit >= 0 else []
    allowed += [w.op("GreaterOrEqual", offsets, w.const(-left, np.int64))] if left >= 0 else []
    if n.has(6):
        allowed.append(w.op("Less", positions(w, k), filled(w, n)))
    if n.has(3) and w.graph.type(n.input[3]).elem_type == TensorProto.BOOL:
        allowed.append(n.input[3])
    elif n.has(3):
        scores = w.op("Add", scores, n.x(3))
        allowed += [w.op("Greater", n.x(3), n.array(-np.inf))] if may_shut_out(w, n) else []
    if not allowed:
        return [scores, w.op("Softmax", scores, axis=-1)]
    whole = allowed[0]
    for mask in allowed[1:]:
        whole = w.op("And", whole, mask)
    scores = w.op("Where", whole, scores, n.array(n.least()))
    return [scores, w.op("Where", whole, w.op("Softmax", scores, axis=-1), n.array(0))]


def may_shut_out(w: Emitter, n: Node) -> bool:
    """Whether a mask of numbers may be minus infinity for all keys of a query, whose softmax is then of none."""
    mask = w.constant(n.input[3])
    return mask is None or bool(mask.ndim and (mask == -np.inf).all(axis=-1).any())


# -- ONNX Runtime's -------------------------------------------------------------------------------


@lowering("Attention", domain=MICROSOFT, only=[0, 1, 2, 4, 5])
def packed_attention(w: Emitter, n: Node) -> Outputs:
    """Q, K, V = X W + b, Y = softmax(Q K^T scale + mask) V;  outputs Y, keys and values."""
    refuse(n, {6: "past_sequence_length"}, ["do_rotary", "past_present_share_buffer"])
    projected = w.op("MatMul", n.x(0), n.x(1))
    projected = w.op("Add", projected, n.x(2)) if n.has(2) else projected
    width = n.size(-1, 1)
    sizes = n.attr("qkv_hidden_sizes") or ([width // 3] * 3 if width is not None else None)
    if sizes is None:
        raise RuleError("the width of its weight is not known")
    parts = w.op("Split", projected, w.ints(*sizes), outputs=3, axis=-1)
    q, k, v = (in_heads(w, part, n.attr("num_heads")) for part in parts)
    past = ""
    if n.has(4):
        old_k, old_v = (w.op("Gather", n.x(4), w.const(i, np.int64), axis=0) for i in (0, 1))
        k, v, past = after_past(w, old_k, old_v, k, v)
    y = from_heads(w, attended(w, n, q, k, v, past, mask=3, bias=5))
    if len(n.output) == 1:
        return [y]
    return [y, w.op("Concat", *(w.op("Unsqueeze", x, w.ints(0)) for x in (k, v)), axis=0)]


@lowering("MultiHeadAttention", domain=MICROSOFT, only=[0, 1, 2, 3, 5, 6, 7])
def multi_head_attention(w: Emitter, n: Node) -> Outputs:
    """Y = softmax(Q K^T scale + mask) V, the bias added to all three first;  outputs Y, keys, values."""
    refuse(n, {8: "past_sequence_length", 9: "cache_indirection"}, [])
    q, k, v = queries_keys_values(w, n)
    past = ""
    if n.has(6):
        if len([name for name in n.output[1:] if name]) < 2:
            raise RuleError("it has a past but gives out no keys and values, without which ONNX Runtime reads others")
        k, v, past = after_past(w, n.x(6), n.x(7), k, v)
    y = from_heads(w, attended(w, n, q, k, v, past, mask=4, bias=5))
    return [y, w.op("Identity", k), w.op("Identity", v)]  # models declare wrong shapes for these: they are not read


def refuse(n: Node, inputs: dict[int, str], flags: Sequence[str]) -> None:
    """RuleError where a node does what only text generation needs."""
    used = [name for i, name in inputs.items() if n.has(i)] + [flag for flag in flags if n.attr(flag, 0)]
    if used:
        raise RuleError(f"it keeps a cache of generated tokens ({used[0]})")


def queries_keys_values(w: Emitter, n: Node) -> tuple[str, str, str]:
    """The three in heads, with their bias; keys and values may come in heads, and then have none."""
    if 5 in (n.rank(0), n.rank(1) if n.has(1) else 5):
        raise RuleError("its queries, keys and values are packed into one, which ONNX Runtime does not do on a CPU")
    biases = [""] * 3
    if n.has(3):
        width, whole = n.size(-1), n.size(0, 3)
        if width is None or whole is None:
            raise RuleError("the width of its queries is not known")
        biases = list(w.op("Split", n.x(3), w.ints(width, width, whole - 2 * width), outputs=3, axis=0))
    found = []
    for i, bias in enumerate(biases):
        flat = w.op("Add", n.x(i), bias) if bias and n.rank(i) == 3 else n.x(i)
        found.append(in_heads(w, flat, n.attr("num_heads")) if n.rank(i) == 3 else flat)
    return found[0], found[1], found[2]


def attended(w: Emitter, n: Node, q: str, k: str, v: str, past: str, *, mask: int, bias: int) -> str:
    """softmax(Q K^T scale + mask) V; `mask` and `bias` are inputs, past the number of keys before the first query."""
    scores = scores_of(w, n, q, k)
    if n.has(mask):
        off = w.op("Where", kept(w, n, k, mask), n.array(0), n.array(n.attr("mask_filter_value", -10000.0)))
        scores = w.op("Add", scores, off)
    if n.has(bias):
        scores = w.op("Add", scores, n.x(bias))
    if n.attr("unidirectional", 0):
        scores = w.op("Where", earlier(w, q, k, past), scores, n.array(n.least()))
    return w.op("MatMul", w.op("Softmax", scores, axis=-1), v)


def earlier(w: Emitter, q: str, k: str, past: str) -> str:
    """[queries, keys]: where a key is no later than its query; the last query looks at every key that there is."""
    last = w.op("Equal", positions(w, q), w.op("Sub", size_of(w, q, 2), w.const(1, np.int64)))
    return w.op("Or", no_later(w, ahead(w, q, k, past)), w.op("Unsqueeze", last, w.ints(1)))


def kept(w: Emitter, n: Node, k: str, i: int) -> str:
    """Where a mask lets keys be attended to, ready to broadcast: one per key, per query and key, or their number."""
    name, rank, zero = n.input[i], n.rank(i), w.const(0, np.int32)
    if rank == 2:
        return w.op("Unsqueeze", w.op("Greater", name, zero), w.ints(1, 2))
    if rank == 3:
        return w.op("Unsqueeze", w.op("Greater", name, zero), w.ints(1))
    if rank == 1 and (n.shape(i) or ())[:1] == (n.shape(0) or ())[:1]:
        lengths = w.op("Reshape", w.cast(name, TensorProto.INT64), w.ints(-1, 1, 1, 1))
        return w.op("Less", positions(w, k), lengths)
    raise RuleError("its mask is of a kind that is not differentiated: give one number per key")
