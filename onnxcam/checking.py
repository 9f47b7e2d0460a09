"""`check`: does the rewritten model still say the same, and is its gradient the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UsageError, VerificationError
from onnxcam.explainer import Ask, Explainer, Place, Seen
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.rewritten import Rewritten
from onnxcam.targets import Target, resolve

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]
SAME_FORWARD = 1e-4  # of the largest value
SAME_GRADIENT = 0.99  # cosine


@dataclass(frozen=True)
class CheckResult:
    """One line of the table.

    Attributes:
        name: what was checked.
        ok: whether it holds.
        measured, limit: the figure and what it must reach, in words.
        detail: on what it was measured, or what to do.
    """

    name: str
    ok: bool
    measured: str
    limit: str
    detail: str


def check(
    model: str | Path | bytes | onnx.ModelProto,
    image: Any = None,
    *,
    provider: str = "cpu",
    score: str | None = None,
    layer: str | None = None,
    preprocess: str | Path | Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check a model's explanation on one image (default: noise).

    Forward parity of every rewritten form with the original, symbolic against numeric gradient on the head, finite
    values all along.

    Raises:
        OnnxCamError: the model cannot be explained at all, in one line.
    """
    explainer = Explainer(model, provider=provider, score=score, preprocess=preprocess)
    subject = explainer.subject
    if not isinstance(subject, Rewritten):
        raise UsageError(f"{subject.name} is an exported file: check the model it was made from")
    x = explainer.item(noise(subject) if image is None else image).row[None]
    place = subject.place(layer, "gradcam")
    seen = subject.see(x, place, "symbolic")
    target = resolve(None, seen.scores[0], None)
    ask = Ask([0], target)
    return [
        *forward(subject, x, place),
        finite("activations finite", seen.values[place.name], place.name),
        *gradient(subject, place, seen, ask, target[0]),
    ]


def noise(subject: Rewritten) -> Array:
    """A made-up input: normal noise in the model's shape, 224 where it takes any size."""
    sizes = dict(zip("WH", subject.image.size, strict=True)) | {"C": subject.image.channels or 3}
    shape = [sizes[axis] or 224 for axis in subject.image.layout.replace("N", "")]
    values = np.random.default_rng(0).normal(size=shape)
    return (values * 64 + 128).clip(0, 255) if subject.image.dtype in ("uint8", "int8") else values


def finite(name: str, values: Array, where: str) -> CheckResult:
    """Whether there is neither NaN nor infinity."""
    bad = int(np.count_nonzero(~np.isfinite(values)))
    return CheckResult(name, bad == 0, f"{bad} not finite", "0", where)


def forward(subject: Rewritten, x: Array, place: Place) -> Iterator[CheckResult]:
    """The outputs of what we run against those of the file as given, unoptimized on both sides."""
    original = subject.run_original(x)
    for name, outputs in subject.run_rewritten(x, place).items():
        for output, value in original.items():
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or output not in outputs:
                continue
            scale = float(np.max(np.abs(value), initial=0.0)) or 1.0
            apart = float(np.max(np.abs(outputs[output].astype(np.float64) - value), initial=0.0)) / scale
            yield CheckResult(f"forward: {name}", apart <= SAME_FORWARD, f"{apart:.1e}", f"{SAME_FORWARD:.0e}", output)


def gradient(subject: Rewritten, place: Place, seen: Seen, ask: Ask, target: Target) -> Iterator[CheckResult]:
    """The symbolic gradient at the layer, and against differences of the head."""
    symbolic = to_grid(subject.layer_gradient(place, seen, ask), place.layout)
    where = f"d {target.name} / d {place.name}"
    yield finite("gradient finite", symbolic, where)
    yield CheckResult(
        "gradient not all zero", bool(symbolic.any()), f"largest {np.max(np.abs(symbolic)):.2e}", "> 0", where
    )
    mean = symbolic.mean(axis=tuple(range(2, symbolic.ndim)), dtype=np.float64)[0]
    try:
        numeric = subject.mean_gradient(place, seen, ask)[0].astype(np.float64)
    except VerificationError as error:
        yield CheckResult(
            "symbolic against numeric", False, "no numeric gradient", f"cosine {SAME_GRADIENT}", str(error)
        )
        return
    norm = float(np.linalg.norm(mean) * np.linalg.norm(numeric))
    cosine = float(mean @ numeric) / norm if norm else float(not mean.any() and not numeric.any())
    yield CheckResult(
        "symbolic against numeric", cosine >= SAME_GRADIENT, f"cosine {cosine:.5f}", f"{SAME_GRADIENT}", where
    )
