"""Recurrent networks, step by step in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tests.vjp.case import Array, Case, case, held, index, normal

STEPS, BATCH, INPUT, H = 4, 2, 3, 2

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Affine": lambda x: 0.7 * x + 0.2,
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.3 * x),
    "ScaledTanh": lambda x: 0 * x,  # without parameters, as ONNX Runtime takes it
    "ThresholdedRelu": lambda x: np.where(x > 0, x, 0),  # likewise
    "HardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}
Step = Callable[..., tuple[Array, ...]]


def functions(names: list[str], clip: float | None) -> list[Callable[[Array], Array]]:
    def bounded(name: str) -> Callable[[Array], Array]:
        return lambda x: FUNCTIONS[name](x if clip is None else np.clip(x, -clip, clip))

    return [bounded(name) for name in names]


def rnn_step(x, states, w, r, b, p, f, **_):
    return (f[0](x @ w.T + states[0] @ r.T + b[:H] + b[H:]),)


def gru_step(x, states, w, r, b, p, f, linear_before_reset=0, **_):
    (h,) = states
    wz, wr, wh = np.split(w, 3)
    rz, rr, rh = np.split(r, 3)
    bz, br, bh, cz, cr, ch = np.split(b, 6)
    z = f[0](x @ wz.T + h @ rz.T + bz + cz)
    reset = f[0](x @ wr.T + h @ rr.T + br + cr)
    old = reset * (h @ rh.T + ch) if linear_before_reset else (reset * h) @ rh.T + ch
    return ((1 - z) * f[1](x @ wh.T + old + bh) + z * h,)


def lstm_step(x, states, w, r, b, p, f, input_forget=0, **_):
    h, c = states
    pi, po, pf = np.split(np.zeros(3 * H) if p is None else p, 3)
    i, o, forget, new = np.split(x @ w.T + h @ r.T + b[: 4 * H] + b[4 * H :], 4, axis=-1)
    i = f[0](i + pi * c)
    forget = 1 - i if input_forget else f[0](forget + pf * c)
    c = forget * c + i * f[1](new)
    return FUNCTIONS[f[2]](c) * f[0](o + po * c), c


def recurrent(
    step: Step, defaults: list[str], of: int, direction: str = "forward", activations: list[str] | None = None,
    clip: float | None = None, **options,
) -> Callable[..., Array]:  # fmt: skip
    """Y, or a last state, in float64."""
    ways = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[direction]
    states_of = 2 if step is lstm_step else 1

    def truth(x, w, r, b=None, lengths=None, h=None, c=None, p=None) -> Array:
        y, last = np.zeros((len(x), len(ways), x.shape[1], H)), []
        for d, way in enumerate(ways):
            names = (activations or defaults * len(ways))[d * len(defaults) : (d + 1) * len(defaults)]
            f = functions(names, clip)
            if states_of == 2:
                f[2] = names[2]
            states = [np.zeros((x.shape[1], H)) if s is None else s[d] for s in (h, c)][:states_of]
            bias = np.zeros(2 * len(w[d])) if b is None else b[d]
            for t in range(len(x))[::way]:
                new = step(x[t], states, w[d], r[d], bias, None if p is None else p[d], f, **options)
                runs = (np.full(x.shape[1], len(x)) if lengths is None else lengths)[:, None] > t
                y[t, d] = np.where(runs, new[0], 0)
                states = [np.where(runs, one, old) for one, old in zip(new, states, strict=True)]
            if lengths is not None:  # as in ONNX Runtime
                states = [np.where(lengths[:, None] > 0, one, 0) for one in states]
            last.append(states)
        return y if of == 0 else np.stack([states[of - 1] for states in last])

    return truth


def net(op: str, step: Step, gates: int, defaults: list[str], *more, of: int = 0, ways: int = 1, **attrs) -> Case:
    x, w, r = normal(STEPS, BATCH, INPUT), normal(ways, gates * H, INPUT), normal(ways, gates * H, H)
    exact = {key: value for key, value in attrs.items() if not key.startswith("activation_")}
    truth = recurrent(step, defaults, of, **exact)
    return case(op, x, w, r, *more, outputs=3 if op == "LSTM" else 2, of=of, truth=truth, hidden_size=H, **attrs)


rnn = partial(net, "RNN", rnn_step, 1, ["Tanh"])
gru = partial(net, "GRU", gru_step, 3, ["Sigmoid", "Tanh"])
lstm = partial(net, "LSTM", lstm_step, 4, ["Sigmoid", "Tanh", "Tanh"])
LENGTHS, EMPTY = index([4, 2], np.int32), index([0, 3], np.int32)
BOTH = {"direction": "bidirectional", "ways": 2}

CASES = [
    rnn(),
    rnn(normal(1, 2 * H), of=1),
    rnn(normal(1, 2 * H), None, normal(1, BATCH, H), direction="reverse"),
    rnn(normal(2, 2 * H), LENGTHS, normal(2, BATCH, H), **BOTH),
    rnn(normal(2, 2 * H), LENGTHS, normal(2, BATCH, H), of=1, **BOTH),
    rnn(normal(2, 2 * H), activations=["Softsign", "Affine"], activation_alpha=[0.7], activation_beta=[0.2], **BOTH),
    rnn(normal(1, 2 * H), activations=["LeakyRelu"], activation_alpha=[0.3]),
    rnn(normal(1, 2 * H), clip=0.5),
    rnn(normal(1, 2 * H), activations=["ScaledTanh"]),
    rnn(normal(1, 2 * H), activations=["ThresholdedRelu"]),
    gru(),
    gru(normal(1, 6 * H), of=1),
    gru(normal(1, 6 * H), None, normal(1, BATCH, H), linear_before_reset=1),
    gru(held(normal(1, 6 * H)), None, normal(1, BATCH, H), linear_before_reset=1, direction="reverse"),
    gru(normal(2, 6 * H), LENGTHS, normal(2, BATCH, H), **BOTH),
    gru(normal(2, 6 * H), LENGTHS, normal(2, BATCH, H), of=1, linear_before_reset=1, **BOTH),
    lstm(),
    lstm(normal(1, 8 * H), of=1),
    lstm(normal(1, 8 * H), of=2),
    lstm(normal(1, 8 * H), None, normal(1, BATCH, H), normal(1, BATCH, H), normal(1, 3 * H)),
    lstm(normal(1, 8 * H), None, normal(1, BATCH, H), normal(1, BATCH, H), direction="reverse"),
    lstm(normal(2, 8 * H), LENGTHS, normal(2, BATCH, H), normal(2, BATCH, H), **BOTH),
    lstm(normal(2, 8 * H), LENGTHS, normal(2, BATCH, H), normal(2, BATCH, H), normal(2, 3 * H), of=2, **BOTH),
    lstm(normal(2, 8 * H), EMPTY, normal(2, BATCH, H), normal(2, BATCH, H), of=1, **BOTH),
    gru(normal(1, 6 * H), EMPTY, normal(1, BATCH, H), of=1),
    lstm(normal(1, 8 * H), input_forget=1),
    lstm(normal(1, 8 * H), activations=["HardSigmoid", "Tanh", "Softsign"]),
]  # fmt: skip
