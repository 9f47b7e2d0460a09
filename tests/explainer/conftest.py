"""The sample models, opened once."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxcam import Explainer

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES


@pytest.fixture(scope="session")
def tiny() -> Explainer:
    """Three colour detectors with hand-set weights: sample_models/README.md."""
    return Explainer(SAMPLES / "tiny_cnn.onnx")


@pytest.fixture(scope="session")
def squeezenet() -> Explainer:
    return Explainer(SAMPLES / "squeezenet11.onnx")
