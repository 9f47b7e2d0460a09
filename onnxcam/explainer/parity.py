"""The original model and the rewritten ones on one input, no operator fused, to be held against each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxcam.explainer.rewritten import Rewritten
from onnxcam.explainer.subject import Array, TargetLayer
from onnxcam.graph import features
from onnxcam.vjp import SEED, whole_seeded_gradient


def run_original(subject: Rewritten, x: Array) -> dict[str, Any]:
    """Every output of the file as given."""
    return subject.open(subject.model.proto, optimize=False).run({subject.image.name: subject.fed(x)})


def run_rewritten(subject: Rewritten, x: Array, at: TargetLayer) -> dict[str, dict[str, Any]]:
    """The original outputs of what is run: features, and the normalized graph with the gradient appended."""
    score = subject.score.name
    names = [value.name for value in subject.model.proto.graph.output]
    deployed = subject.open(features(subject.graph, [at.name, score]), optimize=False)
    seeded = subject.open(whole_seeded_gradient(subject.graph, score, at.name).proto, optimize=False)
    feeds = {subject.image.name: subject.fed(x)}
    like = deployed.run(feeds, [score])[score]
    return {
        "features": deployed.run(feeds, names),
        "with the gradient": seeded.run({**feeds, SEED: np.zeros_like(like)}, names),
    }
