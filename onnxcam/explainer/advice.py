"""What to do instead where a gradient does not arrive: only what works for this model, as far as can be told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from onnxcam.errors import OnnxCamError, UnsupportedOpError
from onnxcam.explainer.subject import TargetLayer
from onnxcam.graph import Graph, all_arrive, can_be_cut, candidates, layouts, placed_before, shown
from onnxcam.vjp import STANDARD
from onnxcam.vjp.coverage import blocker, covered

if TYPE_CHECKING:
    from onnxcam.explainer.rewritten import Rewritten

RUN = "use `onnxcam run` with gradcam and --gradient numeric"  # also for what takes neither, `check` and `export`
NOTHING = "no layer of this model has a gradient that onnxcam can work out (see `onnxcam ops`)"


def instead(subject: Rewritten, at: TargetLayer | None) -> str:
    """Where the rules end on the way to a layer (None: to the image alone)."""
    reached = reached_layers(subject)
    if at is None:
        return "use a method of a layer" + layer_with_gradcam(subject, reached)
    ways = [f"choose --layer '{reached[0]}'"] if reached else []
    if allows_differences(subject, at):
        ways.append("choose --gradient numeric" if at.mean_only else RUN)
    return ", or ".join(ways) or NOTHING


@contextmanager
def advised(subject: Rewritten, at: TargetLayer | None) -> Iterator[None]:
    """An operator that stops the gradient on its way to a layer, or to the image, is told with what to do instead."""
    try:
        yield
    except UnsupportedOpError as error:
        raise error.advising(instead(subject, at)) from error


def layer_with_gradcam(subject: Rewritten, reached: list[str]) -> str:
    """How to explain a layer where the image cannot be, ready to follow a noun."""
    automatic = automatic_layer(subject)
    if automatic and automatic.name in reached:
        return ", such as gradcam"
    if reached:
        return f": gradcam with --layer '{reached[0]}'"
    numeric = automatic is not None and allows_differences(subject, automatic)
    return ": gradcam with --gradient numeric" if numeric else f"; but {NOTHING}"


def instead_of_differences(subject: Rewritten, at: TargetLayer) -> str:
    """Where a head rounds, so that differences say nothing."""
    reached = reached_layers(subject)
    if at.name in reached or not stopped(subject.graph, subject.score.name, at.name):
        return "choose --gradient symbolic"
    return f"choose --gradient symbolic and --layer '{reached[0]}'" if reached else NOTHING


def without_layer(graph: Graph, image: str, score: str) -> str:
    """Why no layer lies on all paths to the score, and what to do, ready to follow that statement."""
    known = layouts(graph)
    arriving = (name for name in placed_before(graph, score, known) if all_arrive(graph, name, score))
    beside = next((name for name in arriving if can_be_cut(graph, name, score)), None)
    lost = "" if beside else known.lost(score)
    why = f" (positions cannot be followed through {lost})" if lost else ""
    if known.unfit:
        why = f" (no usual size fits its input {shown(graph.shape(image))}: fix it in the file)"
    ways = [f"name another with --layer, such as '{beside}'"] if beside else []
    if not stopped(graph, score, image):
        ways.append("use an input-level method (saliency)")
    return f"{why}: {', or '.join(ways) or NOTHING}"


def reached_layers(subject: Rewritten) -> list[str]:
    """Candidate layers that the gradient arrives at, the best first."""
    ranked = candidates(subject.graph, subject.image, subject.score)
    return [row.layer.name for row in covered(subject.graph, subject.score.name, ranked, STANDARD) if not row.blocker]


def automatic_layer(subject: Rewritten) -> TargetLayer | None:
    """The layer that is taken when none is named."""
    found = (c for c in candidates(subject.graph, subject.image, subject.score) if c.automatic)
    return next((TargetLayer(c.name, c.layout) for c in found), None)


def allows_differences(subject: Rewritten, at: TargetLayer) -> bool:
    """Whether a numeric gradient may be had: the model can be cut there, and nothing behind rounds."""
    try:
        return not subject.rounding(at)
    except OnnxCamError:
        return False


def stopped(graph: Graph, score: str, name: str) -> bool:
    """Whether the rules end between a value and the score."""
    return bool(blocker(graph, score, name, STANDARD))
