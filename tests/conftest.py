"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# The same examples on every machine and in every run; `-m fuzz` is where new ones are looked for.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.load_profile("steady")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real models and images that nobody here wrote, kept beside the checkout; skipped where they are not."""
    folder = ROOT.parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip("no folder of real models beside the checkout")
    return folder
