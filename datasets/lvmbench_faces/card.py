"""The two tables of the data set's card that follow from the code: factors, and the rules of the attributes."""

from __future__ import annotations

from lvmbench_faces.attributes import RULES, Rule
from lvmbench_faces.factors import FACTORS, Factor


def factor_table() -> str:
    """Return the factors with their values and what they move, as Markdown."""
    rows = [f"| {f.name} | {_values(f)} | {f.moves} |" for f in FACTORS]
    return "\n".join(["| factor | values | moves |", "|---|---|---|", *rows])


def _values(factor: Factor) -> str:
    if factor.classes:
        return ", ".join(factor.classes)
    around = ", wraps around" if factor.circular else ""
    return f"{factor.low:g} to {factor.high:g}, {factor.unit}{around}"


def rule_table() -> str:
    """Return the attributes with their rules, as Markdown."""
    rows = [f"| {r.attribute.name} | {_kind(r)} | {r.text} | {r.attribute.note} |" for r in RULES]
    return "\n".join(["| attribute | kind | rule | note |", "|---|---|---|---|", *rows])


def _kind(rule: Rule) -> str:
    attribute = rule.attribute
    if attribute.is_number:
        return f"number, {attribute.unit}"
    return f"{attribute.kind}: {', '.join(attribute.classes)}" if attribute.classes else attribute.kind
