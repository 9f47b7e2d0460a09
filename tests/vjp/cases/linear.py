"""Products of matrices."""

from __future__ import annotations

import numpy as np

from tests.vjp.case import case, held, normal, values

CASES = [
    case("MatMul", normal("N", 3), normal(3, 2)),
    case("MatMul", normal("N", 4, 3), held(normal(3, 2))),
    case("MatMul", normal("N", 4, 3), normal(3, 2)),
    case("MatMul", normal("N", 4, 3), normal("N", 3, 2)),
    case("MatMul", normal("N", 1, 4, 3), normal(2, 3, 2)),
    case("MatMul", normal(4, 3), normal("N", 2, 3, 2)),
    case("MatMul", normal("M", 4, 3), normal("K", 3, 2)),
    case("MatMul", normal(3), normal(3)),
    case("MatMul", normal(3), normal(3, 2)),
    case("MatMul", normal(3), normal("N", 3, 2)),
    case("MatMul", normal("N", 3), normal(3)),
    case("MatMul", normal("N", 2, 3), normal(3)),
    case("MatMul", normal("N", 2, "H", 3), normal("N", 2, 3, "W")),
    case("Gemm", normal("N", 3), normal(3, 2)),
    case("Gemm", normal("N", 3), normal(3, 2), normal(2)),
    case("Gemm", normal("N", 3), held(normal(2, 3)), held(normal(2)), transB=1),
    case("Gemm", normal(3, "N"), normal(3, 2), normal("N", 1), transA=1, alpha=0.5, beta=2.0),
    case("Gemm", normal("N", 3), normal(2, 3), normal(), transB=1, alpha=-1.5),
    case("Gemm", normal(3, "N"), normal(2, 3), normal(1, 2), transA=1, transB=1, alpha=0.5, beta=0.25),
    case("Gemm", normal("N", 3), normal(3, 2), normal("N", 2), beta=0.5),
    case("Einsum", normal("N", 3), normal(3, 2), equation="ij,jk->ik"),
    case("Einsum", normal("N", 2, 4), normal("N", 3, 4), equation="bid, bjd -> bij"),
    case("Einsum", normal("N", 3), normal(3, 2), equation="ij,jk"),
    case("Einsum", normal("N", 3), equation="ij->ji"),
    case("Einsum", normal("N", 3, 4), equation="ijk->j"),
    case("Einsum", normal("N", 3), normal(2), equation="ij,k->i"),
    case("Einsum", normal(3), normal(3), equation="i,i->"),
    case("Einsum", normal("N", 3), normal("N", 2), normal(3, 2), equation="ni,nj,ij->n"),
    case("Einsum", normal("N", 2, 3), normal(3, 4), equation="...j,jk->...k"),
    case("Einsum", normal("N", 2, 3), normal("N", 3, 4), equation="b...j,bjk->b...k"),
    case("Einsum", normal("N", 2, 3), normal("N", 2, 3), equation="...i,...i->..."),
    case("Einsum", normal("N", 2, 3, 4), normal("N", 1, 4, 2), equation="...ij,...jk->...ik"),
    case("Einsum", normal(2, 3), equation="...->..."),
    # sizes of 1 that broadcast
    case("Einsum", normal(1, 3), normal(2, 3), equation="ij,ij->j"),
    case("Einsum", normal(1, 3), normal(2, 3), equation="ij,ij->"),
    case("Einsum", normal(2, 1), normal(3, 4), equation="ij,jk->ik"),
    case("Einsum", normal("M", 3), normal("K", 3), equation="ij,ij->ij"),
    case("Einsum", normal("M", 3), normal("K", 3), equation="ij,ij->j"),
    case("Einsum", normal(2, 1, 3), normal(1, 4, 3), equation="...j,...j->..."),
    case("Einsum", normal(), normal(3), equation=",i->i"),
    # diagonals
    case("Einsum", normal(3, 3), equation="ii->i"),
    case("Einsum", normal(3, 3), equation="ii->"),
    case("Einsum", normal(3, 3), normal(3), equation="ii,i->i"),
    case("Einsum", normal(2, 3, 3), equation="...ii->...i", truth=lambda x: np.einsum("...ii->...i", x)),
    case("Einsum", normal("N", "L", "L"), normal("N", "L"), equation="bii,bi->b"),
    case("Einsum", normal(3, 3, 3), equation="iii->i"),
    case("Det", normal("N", 2, 2)),
    case("Det", normal("N", 3, 3)),
    case("Det", normal("N", 2, 4, 4)),
    case("Det", normal("N", 1, 1)),
    case("Det", values([[1, 2, 3], [2, 4, 6], [1, 0, 1]])),
]
