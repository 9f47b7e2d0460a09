"""Models with control flow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser

from tests.vjp.case import Array
from tests.vjp.harness import declared


@dataclass(frozen=True)
class Flow:
    """A model of y = f(x, z) with control flow, in ONNX's text format; `feeds` are its other inputs."""

    name: str
    body: str
    inputs: str = "float[N, 3] x, float[3] z"
    weights: str = ""
    shapes: Sequence[dict[str, tuple[int, ...]]] = ({"x": (4, 3), "z": (3,)}, {"x": (1, 3), "z": (3,)})
    feeds: Sequence[dict[str, Array]] = ({},)
    opset: int = 17

    def __str__(self) -> str:
        return self.name

    def model(self, kind: str = "float") -> onnx.ModelProto:
        """In float, or the same in double."""
        weights = f"<{self.weights}>" if self.weights else ""
        graph = f"g ({self.inputs}) => (float[] y) {weights} {{ {self.body} }}"
        if kind == "double":
            graph = re.sub(r"\bfloat\b", "double", graph).replace("to = 1>", "to = 11>")
        return declared(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {self.opset}]> {graph}'))


BOTH = ({"go": np.array(True)}, {"go": np.array(False)})
COUNTS = tuple({"n": np.array(n)} for n in (3, 1, 0))
GO = "bool go, float[N, 3] x, float[3] z"
COUNT = "int64 n, float[N, 3] x, float[3] z"
TRUE = "bool t = {1}"

FLOWS = [
    Flow("If: a branch each, one value read by one of them", """
        y = If (go) <then_branch = a () => (p) { s = Sin(x) p = Mul(s, z) },
                     else_branch = b () => (q) { w = Constant <value = float {2}> ()
                                                 q = Mul(x, w) }>""", GO, feeds=BOTH),
    Flow("If: two outputs, one of them the other", """
        c = Cos(x)
        u, v = If (go) <then_branch = a () => (p, p2) { p = Identity(c) p2 = Tanh(z) },
                        else_branch = b () => (q, q2) { q = Add(x, z) q2 = Identity(q) }>
        y = Mul(u, v)""", GO, feeds=BOTH),
    Flow("If: one output used, an integer beside it", """
        i, f = If (go) <then_branch = a () => (i1, p) { i1 = Shape(x) p = Mul(x, x) },
                        else_branch = b () => (i2, q) { i2 = Shape(z) q = Mul(x, z) }>
        k = Cast <to = 1> (i) m = ReduceSum <keepdims = 0> (k) y = Mul(f, m)""", GO, feeds=BOTH),
    Flow("If: nested, the condition computed from x", """
        m = ReduceMax <keepdims = 0> (x) zero = Constant <value = float {0}> () c = Greater(m, zero)
        y = If (c) <
          then_branch = a () => (p) {
            e = Exp(z)
            p = If (go) <then_branch = aa () => (pp) { pp = Mul(e, x) }, else_branch = ab () => (pq) { pq = Div(x, e) }>
          },
          else_branch = b () => (q) { q = Sigmoid(x) }>""", GO, feeds=BOTH),
    Flow("Loop: a state and what every step reads", """
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e) {
          d = Identity(c) m = Mul(s, z) e = Sin(m) }>""", COUNT, TRUE, feeds=COUNTS),
    Flow("Loop: no state of its own count, scanned outputs", """
        u, v = Loop (n, , x) <body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e, float[N, 3] o) {
          d = Identity(c) f = Cast <to = 1> (i) e = Mul(s, z) o = Mul(e, f) }>
        w = ReduceSum <keepdims = 0> (v, k) y = Add(u, w)""", COUNT, "int64[1] k = {0}", feeds=COUNTS[:2]),
    Flow("Loop: ends by its condition", """
        y, count = Loop ( , t, x, zero) <
          body = b (int64 i, bool c, float[N, 3] s, float total) => (bool d, float[N, 3] e, float sum) {
            e = Mul(s, z) one = Constant <value = float {1}> () sum = Add(total, one)
            limit = Constant <value = float {3}> () d = Less(sum, limit) }>""", weights=f"{TRUE}, float zero = {{0}}"),
    Flow("Loop: states that feed each other, one of them an integer", """
        p, q, j = Loop (n, t, x, z, one) <
          body = b (int64 i, bool c, float[N, 3] s, float[3] r, int64 k)
            => (bool d, float[N, 3] e, float[3] h, int64 l) {
            d = Identity(c) l = Add(k, k) f = Cast <to = 1> (l) g = Mul(r, f) e = Add(s, g) h = Tanh(r) }>
        y = Mul(p, q)""", COUNT, f"{TRUE}, int64 one = {{1}}", feeds=COUNTS),
    Flow("Loop: rows picked by the step, an If inside", """
        y = Loop (n, t, z) <body = b (int64 i, bool c, float[3] s) => (bool d, float[3] e) {
          d = Identity(c) r = Gather <axis = 0> (x, i) zero = Constant <value = int64 {0}> () first = Equal(i, zero)
          e = If (first) <then_branch = a () => (p) { p = Mul(r, s) }, else_branch = o () => (q) { q = Add(r, s) }>
        }>""", COUNT, TRUE, shapes=[{"x": (4, 3), "z": (3,)}], feeds=COUNTS),
    Flow("Loop: the counter as a vector of one", """
        v, y = Loop (n, t, z) <body = b (int64[1] i, bool c, float[3] s) => (bool d, float[3] e, float[1, 3] o) {
          d = Identity(c) o = Gather <axis = 0> (x, i) first = Constant <value = int64[1] {0}> ()
          r = Squeeze(o, first) m = Mul(s, r) e = Sin(m) }>""", COUNT, TRUE,
        shapes=[{"x": (4, 3), "z": (3,)}], feeds=COUNTS[:2]),
    Flow("Loop: a state that starts as a placeholder of another rank", """
        u, v = Loop (three, t, zero, x) <
          body = b (int64 i, bool c, float r, float[N, 3] s) => (bool d, float[N, 3] e, float[N, 3] f) {
            d = Identity(c) e = Mul(s, z) f = Sin(e) }>
        p = Slice (u, one, three, one) q = Slice (v, one, three, one) y = Mul(p, q)""",
        weights=f"{TRUE}, int64[1] three = {{3}}, int64[1] one = {{1}}, float zero = {{0}}"),
    Flow("Loop: a branch inside declares another shape than it gives", """
        y, r = Loop (n, t, z, zero) <
          body = b (int64 i, bool c, float[3] s, float o) => (bool d, float[3] e, float k) {
            d = Identity(c) none = Constant <value = int64 {0}> () first = Equal(i, none)
            k = If (first) <then_branch = a () => (float p) { p = Constant <value = float {2}> () },
                            else_branch = g () => (float q) { l = Constant <value = float[1] {2}> () q = Add(o, l) }>
            m = Mul(s, k) e = Sin(m) }>""", COUNT, f"{TRUE}, float zero = {{0}}", feeds=COUNTS),
    Flow("Loop in a Loop", """
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e) {
          d = Identity(c) two = Constant <value = int64 {2}> ()
          e = Loop (two, c, s) <body = bb (int64 ii, bool cc, float[N, 3] ss) => (bool dd, float[N, 3] ee) {
            dd = Identity(cc) m = Mul(ss, z) w = Cos(s) ee = Add(m, w) }>
        }>""", COUNT, TRUE, feeds=COUNTS),
    Flow("Scan: a recurrent net over rows", """
        s, y = Scan <num_scan_inputs = 1, body = b (float[3] h, float[3] r) => (float[3] k, float[3] o) {
          a = Mul(h, z) c = Add(a, r) k = Tanh(c) o = Identity(k) }> (z, x)"""),
    Flow("Scan: the last state alone", """
        y, o = Scan <num_scan_inputs = 1, body = b (float[3] h, float[3] r) => (float[3] k, float[3] o) {
          a = Mul(h, r) k = Sin(a) o = Identity(r) }> (z, x)"""),
    Flow("Scan: axes and directions", """
        s, o = Scan <num_scan_inputs = 2, scan_input_axes = [0, 1], scan_input_directions = [1, 0],
                     scan_output_axes = [-1], scan_output_directions = [1],
                     body = b (float[3] h, float[3] r, float[2] q) => (float[3] k, float[3] u) {
          m = ReduceSum <keepdims = 0> (q) a = Mul(h, m) k = Add(a, r) u = Mul(r, m) }> (z, x, w)
        t = Transpose(o) y = Mul(t, s)""", "float[N, 3] x, float[3] z, float[2, N] w",
        shapes=[{"x": (4, 3), "z": (3,), "w": (2, 4)}]),
    Flow("Scan: no states", """
        y = Scan <num_scan_inputs = 1, body = b (float[3] r) => (float[3] u) { m = Mul(r, z) u = Exp(m) }> (x)"""),
    Flow("Scan: rows of what a loop gives out", """
        s = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] a) => (bool d, float[N, 3] e) {
          d = Identity(c) e = Sin(a) }>
        y = Scan <num_scan_inputs = 1, body = q (float[3] r) => (float[3] u) { u = Mul(r, z) }> (s)""",
        COUNT, TRUE, feeds=COUNTS[:2]),
    Flow("Loop: a product of its last state", """
        s = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] a) => (bool d, float[N, 3] e) {
          d = Identity(c) e = Sin(a) }> y = MatMul(s, z)""", COUNT, TRUE, feeds=COUNTS),
    Flow("Scan: of the steps only the number counts", """
        y, o = Scan <num_scan_inputs = 1, body = b (float[3] h, float[3] r) => (float[3] k, float[3] u) {
          k = Mul(h, h) u = Identity(r) }> (z, x)"""),
]  # fmt: skip
