"""Gradients at points where differences cannot tell, held against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vjp.cases.known import KNOWN, Known
from tests.vjp.harness import Rewritten


@pytest.mark.parametrize("row", KNOWN, ids=str)
def test_known_value(row: Known) -> None:
    wrt = ["x"] if row.dz is None else ["x", "z"]
    rewritten = Rewritten(row.model(), "y", wrt, rules=row.rules)
    primal = rewritten.plain.run(["y"], row.feeds)[0]
    found = rewritten.run(row.feeds, np.ones_like(primal) if row.seed is None else np.array(row.seed)).gradients
    np.testing.assert_allclose(found["x"], row.dx, rtol=1e-5, atol=1e-6)
    if row.dz is not None:
        np.testing.assert_allclose(found["z"], row.dz, rtol=1e-5, atol=1e-6)
