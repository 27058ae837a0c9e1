"""Every row of the table of formats is tried, and the table is that of the rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_survpgc.core.errors import SurvPGCError
from tests.formats.case import Case
from tests.formats.table import KINDS, PAGE, cases, with_table

EVERY = [pytest.param(case, id=f"{kind}: {case.name}") for kind in KINDS for case in cases(kind)]


@pytest.mark.parametrize("case", EVERY)
def test_what_the_table_says_comes_of_the_file(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if case.write is not None:
        path = case.write(tmp_path)
    else:
        path = request.getfixturevalue("shared_dir") / str(case.shared)
    try:
        came, refused = case.open(path), False
    except SurvPGCError as error:
        came, refused = str(error).replace(f"{path.parent}/", ""), True
    assert (came, refused) == (case.result, case.refused)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_told_from_every_other(kind: str) -> None:
    names = [case.name for case in cases(kind)]
    assert len(set(names)) == len(names)


def test_the_page_has_the_present_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_table(text) == text, "run python -m tests.formats.table"
