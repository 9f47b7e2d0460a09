"""Nothing is forgotten: every rule has a row, every operator of the pinned onnx is in exactly one class."""

from __future__ import annotations

import onnx.defs
import pytest

from onnxcam.graph import MICROSOFT
from onnxcam.vjp import NO_GRADIENT, OUT_OF_SCOPE, STANDARD, UPGRADED, Operator, list_operators
from onnxcam.vjp.body import lowering
from onnxcam.vjp.operators import OLDEST_OPSET, schema_versions
from onnxcam.vjp.registry import rule
from tests.vjp.cases import CASES
from tests.vjp.cases.control import FLOWS
from tests.vjp.cases.integer import INTEGERS
from tests.vjp.cases.known import KNOWN

RULES = {name: rule for (domain, name), rule in STANDARD.rules.items() if domain == ""}


def standard_operators() -> set[str]:
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    return {name for name in names if schema_versions(name)}


def test_every_rule_has_a_row() -> None:
    cases = {(case.domain, case.op) for case in CASES}
    nodes = [(node.domain, node.op_type) for row in (*KNOWN, *FLOWS) for node in row.model().graph.node]
    own = standard_operators()  # ONNX Runtime has put a few others into the default domain
    rows = cases | {(domain if domain or op in own else MICROSOFT, op) for domain, op in nodes}
    rows |= {row.key for row in INTEGERS}
    assert set(STANDARD.rules) - rows == set()
    assert cases <= set(STANDARD.rules)


def test_every_operator_is_in_one_class() -> None:
    classes = [*RULES, *NO_GRADIENT, *UPGRADED, *OUT_OF_SCOPE]
    assert sorted(classes) == sorted(standard_operators())


def test_every_version_is_decided() -> None:
    """A version of a rule's operator that the rule does not cover would be refused, and nobody would have said so."""
    decided = {name: tuple(sorted(rule.versions)) for name, rule in RULES.items()}
    assert decided == {name: schema_versions(name) for name in RULES}


def test_a_rule_without_versions_is_not_registered() -> None:
    """A default would leave out versions of ONNX's own operators, and nobody would have said so."""
    for register in (rule, lowering):
        with pytest.raises(ValueError, match="which versions of New"):
            register("New")
    assert ("", "New") not in STANDARD.rules


def test_list_operators() -> None:
    listed = {(operator.domain, operator.name): operator for operator in list_operators()}
    assert list(listed) == sorted(listed)
    assert set(listed) == set(STANDARD.rules) | {("", name) for name in standard_operators()}
    assert listed["", "Relu"] == Operator(
        "Relu", "", (14,), "rule", "y = max(x, 0);  dx = ct where y > 0, else 0 (0 at the kink)."
    )
    assert listed["", "Round"].support == "no gradient"
    assert listed["", "Upsample"] == Operator("Upsample", "", (10,), "upgraded", "read as Resize")
    assert min(version for operator in listed.values() for version in operator.versions) <= OLDEST_OPSET


def test_every_note_is_one_line_for_a_person() -> None:
    assert all(operator.note and "\n" not in operator.note for operator in list_operators())
