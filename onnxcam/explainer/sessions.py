"""What is made of a model to explain its score: graphs, each in a session that opens when it first runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from onnxcam.errors import LayerError, UnsupportedOpError
from onnxcam.explainer.advice import advised
from onnxcam.explainer.grids import grid_axes, to_grid
from onnxcam.explainer.subject import Array, Ask, Seen, TargetLayer
from onnxcam.graph import Graph, Head, class_axis, expose, features, global_mean, head, packing_pays, pooled_value
from onnxcam.runtime import Layout, Rows
from onnxcam.vjp import (
    CLASS,
    GRADIENT,
    GUIDED,
    SEED,
    STANDARD,
    RowGraph,
    RuleSet,
    all_scores,
    class_gradient,
    class_score,
    seeded_gradient,
    whole_class_gradient,
    whole_seeded_gradient,
)

if TYPE_CHECKING:
    import onnx

    from onnxcam.explainer.rewritten import Rewritten

RULE_SETS = {"standard": STANDARD, "guided": GUIDED}
T = TypeVar("T")


class Once:
    """Values that are made when they are first asked for."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave for a key."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found


@dataclass(frozen=True)
class Part:
    """A graph of a head, or of the whole model, that runs with a row per target."""

    graph: RowGraph
    open: Callable[[], Rows]

    @cached_property
    def rows(self) -> Rows:
        """Its session."""
        return self.open()

    def run(self, feeds: Mapping[str, Array]) -> Array:
        """What it gives, from what it reads."""
        return self.rows.run({name: feeds[name] for name in self.graph.inputs}, [self.graph.output])[self.graph.output]

    def run_for(self, seen: Seen, ask: Ask, **others: Array) -> Array:
        """The same for what is asked, from values of a forward run, or others."""
        return self.run({n: others[n] if n in others else ask.of(seen.values[n]) for n in self.graph.inputs})


@dataclass(frozen=True)
class ClassGradient:
    """The gradient of a class's score at a layer.

    Attributes:
        of: "whole"; "mean": its mean over positions; "pooled": the gradient of the layer's mean, where that is all that
            is read of it: the layer's is that divided by the number of positions.
    """

    part: Part
    of: str

    @cached_property
    def of_class_alone(self) -> bool:
        """Whether nothing of the image decides, as behind global pooling and a matrix."""
        return self.part.graph.inputs == [CLASS]

    def read(self, gradient: Array, held: Array, layout: Layout) -> Array:
        """What was given out as the gradient of a layer, (targets, C, *grid), or its mean, (targets, C, 1, ...).

        `held`: the layer's values.
        """
        if self.of == "whole":
            return to_grid(gradient, layout)
        grid = to_grid(held, layout).shape[2:]
        means = gradient.reshape(len(gradient), -1, *[1] * len(grid))
        return means if self.of == "mean" else means / np.float32(math.prod(grid))


class Sessions:
    """The features of a model, its heads, and gradients of both.

    Attributes:
        provider: the execution provider that runs them; empty before one did.
    """

    def __init__(self, subject: Rewritten) -> None:
        self._subject = subject
        self._once = Once()
        self._of_one = set[str]()  # what was read besides of a model of one image, without an axis of images
        self.provider = ""

    def head(self, at: TargetLayer) -> Head:
        """The graph from a layer to the score."""
        return self._once(("head", at.name), lambda: head(self._subject.graph, at.name, self._subject.score.name))

    @cached_property
    def axis(self) -> int | None:
        """The classes' axis of a row of class scores, where the graph tells it; else targets are explained by a dense
        seed.
        """
        score = self._subject.score
        shape = self._subject.graph.shape(score.name)
        images_alone = shape is not None and len(shape) == 1 and score.rows
        return None if score.axes or images_alone else class_axis(shape)

    @cached_property
    def classes(self) -> int:
        """How many there are along that axis, as far as the graph tells."""
        shape = self._subject.graph.shape(self._subject.score.name) or ()
        size = shape[self.axis] if self.axis is not None else 0
        return size if isinstance(size, int) else 0

    @cached_property
    def bare(self) -> set[str]:
        """Values without an axis of rows: in a model that takes no batch, the image; scores that are one image's."""
        subject = self._subject
        image = set() if "N" in subject.image.layout else {subject.image.name}
        return image | (set() if subject.score.rows else {subject.score.name, SEED})

    # -- forward ---------------------------------------------------------------------------------

    def features(self, at: TargetLayer | None, gradient: str, indices: Mapping[str, bool]) -> tuple[Rows, list[str]]:
        """The deployed model with values exposed, and what is read of it: also what a layer's gradient reads.

        Args:
            gradient: "symbolic", "numeric", "auto", or "" for none.
            indices: read besides, and whether they have a row for each image.

        Raises:
            UnsupportedOpError: an operator has no rule.
        """

        def opened() -> tuple[Rows, list[str]]:
            image, names = self._subject.image.name, [self._subject.score.name, *indices]
            names += [at.name, *self._read_of_features(at, gradient)] if at else []
            taps = [name for name in dict.fromkeys(names) if name not in (image, CLASS)]
            self._of_one |= {name for name, has_rows in indices.items() if not has_rows}
            still = self._of_one | (self.head(at).still if at else set())
            return self._once(("features", *taps), lambda: self._exposing(taps, still)), taps

        return self._once(("view", gradient, *((at.name, at.mean_only) if at else ()), *indices), opened)

    def _read_of_features(self, at: TargetLayer, gradient: str) -> Sequence[str]:
        """What a head, or its gradient, reads besides the layer."""
        extra = self.head(at).extra
        if gradient in ("", "numeric") or self.axis is None:
            return extra
        try:
            return [*extra, *self.class_gradient(at, self.axis).part.graph.inputs]
        except UnsupportedOpError:
            if gradient != "auto":
                raise
            return extra

    def _exposing(self, taps: Sequence[str], still: Collection[str]) -> Rows:
        """The session of the deployed model with some values exposed; `still`: those that have no axis of rows."""
        subject = self._subject
        bare = (self.bare | set(still)).intersection([subject.image.name, *taps])
        return self._rows(features(subject.graph, taps), bare, may_batch=subject.image.batch is None)

    # -- gradients, and the way forward from a layer ------------------------------------------------

    def class_gradient(self, at: TargetLayer, axis: int) -> ClassGradient:
        """That of a class's score at a layer, or of its mean where that is all that is wanted. As do those below:

        UnsupportedOpError: an operator stops the gradient; says what to do instead.
        """

        def made() -> ClassGradient:
            behind, graph = self.head(at), self._subject.graph
            pooled = global_mean(graph, at.name, at.layout) if at.mean_only else None
            mean = grid_axes(at.layout) if at.mean_only and not pooled else ()
            wrt, of = pooled or at.name, "pooled" if pooled else "mean" if mean else "whole"
            return ClassGradient(
                self._part((of, wrt), lambda: class_gradient(behind, axis, wrt=wrt, mean=mean), at), of
            )

        return self._once(("class gradient", at.name, at.mean_only), made)

    def seeded_gradient(self, at: TargetLayer, seen: Seen) -> Part:
        """That of scores weighted by a seed at a layer; it reads what a run gave besides."""
        behind, taps = self.head(at), set(seen.values)
        return self._part(("seed", at.name, *sorted(taps)), lambda: seeded_gradient(behind, taps=taps), at)

    def image_gradient(self, rules: str, *, of_class: bool) -> Part:
        """That of a class's score, or of seeded ones, at the image: forward and backward in one graph."""
        graph, score, image = self._subject.graph, self._subject.score.name, self._subject.image.name
        axis = self.axis
        if axis is not None and of_class:
            return self._part(("image", rules), lambda: with_score(graph, score, axis, image, RULE_SETS[rules]))
        return self._part(
            ("seeded image", rules), lambda: whole_seeded_gradient(graph, score, image, rules=RULE_SETS[rules])
        )

    def weights(self, at: TargetLayer, *, of_class: bool) -> Part:
        """That of a class's score, or of seeded ones, at the pooled layer. LayerError: the head is not linear in it."""
        subject, behind = self._subject, self.head(at)
        pooled = pooled_value(subject.graph, at.name, at.layout, subject.score.name)
        if pooled is None:
            raise LayerError(
                f"cam needs a layer that goes straight into global average pooling and linear layers, "
                f"'{at.name}' does not: use gradcam, or another layer"
            )
        axis = self.axis
        if axis is not None and of_class:
            return self._part(("weights", at.name), lambda: class_gradient(behind, axis, wrt=pooled, taps=()), at)
        return self._part(("seed weights", at.name), lambda: seeded_gradient(behind, wrt=pooled, taps=()), at)

    def forward(self, at: TargetLayer, *, to_class: bool) -> Part:
        """A head's forward pass: to the score of one class where that is the target, else to all scores."""
        behind, axis = self.head(at), self.axis
        if axis is None or not to_class:
            return self._part(("scores", at.name), lambda: all_scores(behind), at)
        return self._part(("score", at.name), lambda: class_score(behind, axis), at)

    def _part(self, key: Hashable, build: Callable[[], RowGraph], at: TargetLayer | None = None) -> Part:
        """A graph of the head behind a layer, or of the whole model. The key: what for, and what else decides."""

        def made() -> Part | UnsupportedOpError:
            try:
                with advised(self._subject, at):  # which takes its time
                    graph = build()
            except UnsupportedOpError as error:
                return error
            return Part(graph, lambda: self._opened(graph, at))

        found = self._once(key, made)
        if isinstance(found, UnsupportedOpError):
            raise found.with_traceback(None)
        return found

    def _opened(self, graph: RowGraph, at: TargetLayer | None) -> Rows:
        """The session of a graph."""
        moved = at.name if at else self._subject.image.name
        bare = self.bare | self._of_one | (self.head(at).still if at else set())
        without_rows = bare.intersection([*graph.inputs, *graph.outputs]) | ({graph.output} if moved in bare else set())
        # without gain a weight of all rows would be held a third time
        pack = at is None or graph.output != GRADIENT or packing_pays(self.head(at).graph)
        return self._rows(graph.proto, without_rows, pack=pack)

    def _rows(
        self, proto: onnx.ModelProto, bare: Collection[str], *, may_batch: bool = True, pack: bool = True
    ) -> Rows:
        """A graph in its session; `bare`: values in it that have no axis of rows."""
        session = self._subject.open(proto, pack=pack)
        self.provider = session.provider
        return Rows(session, may_batch=may_batch, bare=bare, copies=self._subject.image.batch or 1)


def with_score(graph: Graph, score: str, axis: int, image: str, rules: RuleSet) -> RowGraph:
    """The gradient of a class's score at the image, and the score."""
    found = whole_class_gradient(graph, score, axis, image, rules=rules)
    expose(graph, found.proto, [score])
    return found
