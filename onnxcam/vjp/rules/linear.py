"""Products of matrices."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule


def transposed(g: Emitter, x: str, rank: int) -> str:
    """The last two axes swapped."""
    return g.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul", versions=(13,))
def matmul(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = A B, leading axes broadcast;  dA = ct B^T, dB = A^T ct. A vector is a matrix with one row or column."""
    if n.rank(1) == 2:
        return rows_by_matrix(g, n, ct)
    ranks = n.rank(0), n.rank(1)
    a, b = n.x(0), n.x(1)
    if ranks[1] == 1:
        b, ct = g.op("Unsqueeze", b, g.ints(1)), g.op("Unsqueeze", ct, g.ints(-1))
    if ranks[0] == 1:
        a, ct = g.op("Unsqueeze", a, g.ints(0)), g.op("Unsqueeze", ct, g.ints(-2))
    wide = max(*ranks, 2)
    da = db = None
    if n.wants(0):
        da = g.op("MatMul", ct, transposed(g, b, max(ranks[1], 2)))
        da = _fold(g, n, da, 0, wide)
    if n.wants(1):
        db = _fold(g, n, g.op("MatMul", transposed(g, a, max(ranks[0], 2)), ct), 1, wide)
    return [da, db]


def rows_by_matrix(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = A B, B one matrix for all rows of A, of whatever rank: dB is summed over them inside the product."""
    a, b = n.x(0), n.x(1)
    if g.graph.rank(n.input[0]) == 2:  # a large weight is read as it lies, and not held turned around as well
        da = g.op("Gemm", ct, b, transB=1) if n.wants(0) else None
        return [da, g.op("Gemm", a, ct, transA=1) if n.wants(1) else None]
    return [
        g.op("MatMul", ct, transposed(g, b, 2)) if n.wants(0) else None,
        g.op("Gemm", _rows(g, a), _rows(g, ct), transA=1) if n.wants(1) else None,
    ]


def _rows(g: Emitter, x: str) -> str:
    """All leading axes made one."""
    return g.op("Reshape", x, g.dims(x, -1, (-1, 1)))


def _fold(g: Emitter, n: Node, ct: str, i: int, wide: int) -> str:
    """Sum over the leading axes along which input i was broadcast."""
    if n.rank(i) == 1:
        ct = g.reduce("ReduceSum", ct, range(wide - 2), keepdims=0) if wide > 2 else ct
        return g.reshape_to(ct, n.input[i])
    out = g.graph.shape(n.output[0])
    own = n.shape(i)
    if out is None or own is None:
        return g.sum_to(ct, None, n.input[i])
    vectors = sum(n.rank(j) == 1 for j in (0, 1))
    leading = out[: len(out) - (2 - vectors)]
    return g.sum_to(ct, (*leading, *own[-2:]), n.input[i])


@rule("Gemm", versions=(13,))
def gemm(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = alpha A' B' + beta C;  dA' = alpha ct B'^T, dB' = alpha A'^T ct, dC = beta ct summed to C's shape."""
    ta, tb = (int(bool(n.attr(name, 0))) for name in ("transA", "transB"))
    alpha, beta = n.attr("alpha", 1.0), n.attr("beta", 1.0)
    da = db = dc = None
    if n.wants(0):
        b = n.x(1)
        da = (
            g.op("Gemm", b, ct, transA=tb, transB=1, alpha=alpha)
            if ta
            else g.op("Gemm", ct, b, transB=1 - tb, alpha=alpha)
        )
    if n.wants(1):
        a = n.x(0)
        db = (
            g.op("Gemm", ct, a, transA=1, transB=ta, alpha=alpha)
            if tb
            else g.op("Gemm", a, ct, transA=1 - ta, alpha=alpha)
        )
    if n.wants(2):
        dc = g.sum_to(ct, g.graph.shape(n.output[0]), n.input[2])
        dc = dc if beta == 1 else g.op("Mul", dc, n.array(beta))
    return [da, db, dc]


@rule("Det", versions=(11, 22))
def determinant(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = det X;  dX = ct times the cofactors, which are right for singular matrices too."""
    size, rank = n.size(-1), n.rank()
    if size is None:
        raise RuleError("the size of its matrices is not known")
    if size == 1:
        return [g.reshape_to(ct, n.input[0])]
    others = g.const([[j for j in range(size) if j != i] for i in range(size)], np.int64)
    minors = g.op(
        "Gather", g.op("Gather", n.x(), others, axis=rank - 2), others, axis=rank
    )  # (.., i, rows, j, columns)
    swapped = g.op("Transpose", minors, perm=[*range(rank - 2), rank - 2, rank, rank - 1, rank + 1])
    signs = n.array((-1.0) ** np.add.outer(np.arange(size), np.arange(size)))
    cofactors = g.op("Mul", g.op("Det", swapped), signs)
    return [g.op("Mul", cofactors, g.op("Unsqueeze", ct, g.ints(-2, -1)))]


@rule("Inverse", domain=MICROSOFT)
def inverse(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = X^-1;  dX = -Y^T ct Y^T."""
    y = transposed(g, n.y(), n.rank())
    return [g.op("Neg", g.op("MatMul", g.op("MatMul", y, ct), y))]


@rule("Einsum", versions=(12, 28))
def einsum(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = einsum(A, B, ...);  dA = einsum(ct, B, ... -> A's letters), spread over letters that only A has."""
    terms, out = subscripts(n.attr("equation"), [n.rank(i) for i in range(len(n.input))])
    values = [n.x(i) for i in range(len(terms))]
    for i, axis in repeats(terms):  # a diagonal: a fresh letter, and an identity that ties it to the first
        letter, fresh = terms[i][axis], unused("".join([*terms, out]))[0]
        terms[i] = terms[i][:axis] + fresh + terms[i][axis + 1 :]
        terms.append(letter + fresh)
        values.append(g.eye(n.input[i], axis, n.elem_type))
    return [_operand(g, n, ct, i, terms, values, out) if n.wants(i) else None for i in range(len(n.input))]


def unused(letters: str) -> list[str]:
    """Letters that are still free."""
    return [letter for letter in string.ascii_letters if letter not in letters]


def subscripts(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the output, an ellipsis spelled out."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise RuleError(f"the equation '{equation}' does not fit its {len(ranks)} inputs")
    if not arrow:
        once = (letter for letter in left if letter.isalpha() and left.count(letter) == 1)
        out = ("..." if "..." in left else "") + "".join(sorted(once))
    hidden = max((rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if "..." in term), default=0)
    spelled = "".join(unused(equation)[:hidden])
    *terms, out = (term.replace("...", spelled) for term in (*terms, out))
    if any(len(term) != rank for term, rank in zip(terms, ranks, strict=True)):
        raise RuleError(f"the equation '{equation}' does not fit the ranks of its inputs")
    return terms, out


def repeats(terms: Sequence[str]) -> list[tuple[int, int]]:
    """Where a letter comes again within one operand, as (operand, axis)."""
    return [(i, axis) for i, term in enumerate(terms) for axis in range(len(term)) if term[axis] in term[:axis]]


def _operand(g: Emitter, n: Node, ct: str, i: int, terms: list[str], values: list[str], out: str) -> str:
    others = [j for j in range(len(terms)) if j != i]
    there = set(out).union(*(terms[j] for j in others))
    kept = "".join(letter for letter in terms[i] if letter in there)
    equation = ",".join([out, *(terms[j] for j in others)]) + "->" + kept
    dx = g.op("Einsum", ct, *(values[j] for j in others), equation=equation)
    alone = [axis for axis, letter in enumerate(terms[i]) if letter not in there]
    if alone:
        dx = g.op("Unsqueeze", dx, g.ints(*alone))
    sizes = _sizes(n, terms)
    if not all(letter in out or _has_size_of(n, i, axis, terms) for axis, letter in enumerate(terms[i])):
        dx = g.op("Expand", dx, g.shape_of(n.input[i]))
    return g.sum_to(dx, tuple(_widest(sizes[letter]) for letter in terms[i]), n.input[i])


def _sizes(n: Node, terms: Sequence[str]) -> dict[str, set[int | str | None]]:
    """What sizes the operands have along each letter."""
    sizes: dict[str, set[int | str | None]] = {}
    for j in range(len(n.input)):
        for letter, size in zip(terms[j], n.shape(j) or (), strict=True):
            sizes.setdefault(letter, set()).add(size)
    return sizes


def _has_size_of(n: Node, i: int, axis: int, terms: Sequence[str]) -> bool:
    """Whether another operand is known to be as long as operand i along one of its axes (and does not broadcast)."""
    letter, own = terms[i][axis], (n.shape(i) or ())[axis]
    lengths = [(n.shape(j) or ())[terms[j].index(letter)] for j in range(len(n.input)) if j != i and letter in terms[j]]
    tied = any(letter in term for term in terms[len(n.input) :])
    return tied or (own is not None and own in lengths)


def _widest(sizes: set[int | str | None]) -> int | str | None:
    """The size of a letter when operands of these sizes are broadcast; None where one may have been 1."""
    whole = {size for size in sizes if isinstance(size, int) and size != 1}
    return min(whole) if whole else next(iter(sizes)) if len(sizes) == 1 else None
