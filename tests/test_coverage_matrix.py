"""docs/coverage.md tells of every primitive, and the matrix that makes it sees what is missing."""

from __future__ import annotations

from dataclasses import replace

import coverage_matrix as matrix
import pytest

from funtorch.core import primitives

SAMPLE = ("add", "sin", "gather", "cholesky", "scan", "bitcast", "clz", "iota")


def documented() -> dict[str, str]:
    """Return the rows of the document by primitive."""
    lines = matrix.DOCUMENT.read_text(encoding="utf-8").splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def test_every_primitive_is_in_the_document():
    assert set(documented()) == set(matrix.numeric_primitives()) - set(matrix.ELSEWHERE), (
        "docs/coverage.md is not up to date: run `make coverage`"
    )
    assert set(matrix.ELSEWHERE) <= set(primitives)
    text = matrix.DOCUMENT.read_text(encoding="utf-8")
    assert all(f"- `{name}`: {why}." in text for name, why in matrix.ELSEWHERE.items())


def test_the_document_has_no_holes():
    text = matrix.DOCUMENT.read_text(encoding="utf-8")
    assert "**hole**" not in text
    assert text.endswith("## Holes\n\nNone.\n")


@pytest.mark.parametrize("name", SAMPLE)
def test_the_document_says_what_the_matrix_finds(name):
    (line,) = matrix.matrix([name])
    assert not line.holes
    assert matrix.table_row(line) == documented()[name]


def test_a_wrong_rule_is_a_hole(monkeypatch):
    def wrong(primals, tangents, **params):
        (x,), (t,) = primals, tangents
        return primitives["tanh"].bind(x), t

    monkeypatch.setattr(primitives["tanh"], "jvp", wrong)
    (line,) = matrix.matrix(["tanh"])
    assert ("jvp", "float64") in line.holes
    assert "float64" not in line.checked["jvp"]
    assert not {column for column, _ in line.holes} & {"type", "eager", "vmap", "jit"}
    assert "**hole**" in matrix.table_row(line)
    assert any(text.startswith("- `tanh`, jvp, ") for text in matrix.holes([line]))


def test_a_missing_rule_without_a_reason_is_a_hole(monkeypatch):
    monkeypatch.setattr(primitives["tanh"], "batch", None)
    (line,) = matrix.matrix(["tanh"])
    assert {column for column, _ in line.holes} == {"vmap"}


def test_what_no_row_can_check_is_a_hole():
    assert matrix.line_of("sinh", []).holes
    use = matrix.uses_by_primitive()["sinh"][0]
    blind = matrix.Use(replace(use.row, reference=None), use.equations, use.size)
    assert ("eager", "float64") in matrix.line_of("sinh", [blind]).holes
