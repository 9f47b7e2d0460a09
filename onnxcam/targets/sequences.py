"""Targets in sequences and embeddings: log-probabilities of tokens, and likeness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError, TargetError
from onnxcam.targets.kinds import SATURATED, Array, Target
from onnxcam.targets.reading import Reading

LONGEST_TEXT = 60  # letters that a name shows


@dataclass(frozen=True)
class TokensTarget(Target):
    """The log-probability of tokens at steps of a sequence: sum of log p[step, token].

    The captioning and question answering of the Grad-CAM paper, and CTC. Scores are (steps, tokens): logits,
    log-probabilities, or probabilities where every step sums to 1.

    Attributes:
        steps, tokens: as many of the one as of the other.
        title: what legends call it.
        axis: the tokens' axis, 1 or 0.
    """

    steps: tuple[int, ...]
    tokens: tuple[int, ...]
    title: str = "tokens"
    axis: int = 1

    @property
    def name(self) -> str:
        """What legends call it."""
        return self.title

    @property
    def unit(self) -> str | None:
        """What its value is."""
        return "log-probability"

    def value(self, scores: Array) -> float:
        """The number."""
        rows = self._rows(scores).astype(np.float64)
        with np.errstate(divide="ignore"):  # what is impossible has the logarithm -inf
            logs = np.log(rows) if is_distribution(rows) else rows - logsumexp(rows)
        return float(logs[np.arange(len(rows)), list(self.tokens)].sum())

    def cotangent(self, scores: Array) -> Array:
        """For logits 1 at the token, less the softmax; for probabilities 1 / p at the token."""
        rows = self._rows(scores).astype(np.float64)
        at = np.arange(len(rows)), list(self.tokens)
        if is_distribution(rows):
            slopes = np.zeros_like(rows)
            with np.errstate(divide="ignore"):
                slopes[at] = 1 / rows[at]
        else:
            slopes = -np.exp(rows - logsumexp(rows))
            slopes[at] += 1
        found = np.zeros_like(scores)
        np.add.at(found if self.axis else found.T, list(self.steps), slopes)
        return found

    def _rows(self, scores: Array) -> Array:
        """The steps' scores, (steps, tokens); TargetError when there is no such step or token."""
        rows = scores if self.axis else scores.T
        if rows.ndim != 2:
            raise TargetError(f"tokens are explained in scores (steps, tokens), these have shape {list(scores.shape)}")
        for what, asked, count in (("step", self.steps, rows.shape[0]), ("token", self.tokens, rows.shape[1])):
            if bad := [i for i in asked if not 0 <= i < count]:
                raise TargetError(f"{what} {bad[0]} is out of range: the model has {what}s 0 to {count - 1}")
        chosen: Array = rows[list(self.steps)]
        return chosen


def is_distribution(rows: Array) -> bool:
    """Whether every row already is a distribution."""
    return bool(rows.min(initial=0) >= 0 and np.all(np.abs(rows.sum(axis=1) - 1) < 1e-3))


def logsumexp(rows: Array) -> Array:
    """log sum exp along each row, (rows, 1)."""
    top = rows.max(axis=1, keepdims=True)
    found: Array = top + np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
    return found


@dataclass(frozen=True, eq=False)
class SimilarityTarget(Target):
    """How alike an embedding is to another: their cosine, or their dot product.

    Attributes:
        other: the other embedding, of the scores' shape.
        title: what legends call it.
        cosine: False for the dot product.
    """

    other: Array
    title: str = "similarity"
    cosine: bool = True

    @property
    def name(self) -> str:
        """What legends call it."""
        return self.title

    @property
    def unit(self) -> str | None:
        """What its value is."""
        return "cosine" if self.cosine else "dot product"

    def at_its_end(self, scores: Array) -> bool:
        """Whether both embeddings point the same way, as those of one image do, or opposite ways."""
        return self.cosine and abs(self.value(scores)) > 1 - SATURATED

    def value(self, scores: Array) -> float:
        """The number: <a, b>, over |a| |b| for the cosine."""
        one, other, length = self._vectors(scores)
        return float(np.vdot(one, other)) / length

    def cotangent(self, scores: Array) -> Array:
        """b / (|a| |b|) - cos a / |a|^2; for the dot product b."""
        one, other, length = self._vectors(scores)
        slope = other / length
        if self.cosine:
            slope = slope - self.value(scores) * one / float(np.vdot(one, one))
        return slope.astype(scores.dtype)

    def _vectors(self, scores: Array) -> tuple[Array, Array, float]:
        one, other = scores.astype(np.float64), np.asarray(self.other, np.float64)
        if one.shape != other.shape:
            raise TargetError(f"an embedding of shape {list(one.shape)} has no likeness to one of {list(other.shape)}")
        length = float(np.linalg.norm(one) * np.linalg.norm(other)) if self.cosine else 1.0
        if length == 0:
            raise TargetError("an embedding is zero: it has no direction, and no cosine")
        return one, other, length


# -- what a reader of text reads ----------------------------------------------------------------------


def what_is_read(reading: Reading, blank: int) -> TokensTarget | None:
    """The likeliest tokens, summed over the steps that are not blank (CTC); None where all are."""
    path = likeliest(reading)
    steps = tuple(int(i) for i in np.flatnonzero(path != blank))
    if not steps:
        return None
    name = f"what is read in {len(steps)} step{'s' if len(steps) > 1 else ''}" + f", blank {blank}" * bool(blank)
    if reading.labels is not None:
        name += f": {text_of(path, blank, reading.labels)}"
    return TokensTarget(steps, tuple(int(path[i]) for i in steps), name, reading.axis)


def nothing_read(blank: int) -> InputError:
    """What to say where every step is blank."""
    return InputError(f"the model reads nothing: token {blank}, the blank, is the likeliest at every step")


def usual_blank(reading: Reading) -> int:
    """The blank: token 0, or the last one where that is read at more than half of the steps."""
    path, last = likeliest(reading), reading.scores.shape[reading.axis] - 1
    return last if np.mean(path == last) > 0.5 else 0


def likeliest(reading: Reading) -> npt.NDArray[np.integer]:
    """The token of every step."""
    return np.asarray((reading.scores if reading.axis else reading.scores.T).argmax(axis=1))


def text_of(path: npt.NDArray[np.integer], blank: int, labels: Sequence[str]) -> str:
    """What a path through the steps reads: each token once until another, or a blank, is between."""
    kept = [int(token) for token, before in zip(path, [-1, *path[:-1]], strict=True) if token not in (blank, before)]
    text = "".join(labels[token] for token in kept)
    return f'"{text}"' if len(text) <= LONGEST_TEXT else f'"{text[:LONGEST_TEXT]}..."'
