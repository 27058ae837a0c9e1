"""Clinical records from JSON and tables."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.files import read_json
from napari_survpgc.core.tables import CASE_COLUMNS, TextTable, case_column, plain, read_table
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

from .fields import columns_of_fields
from .record import parse_record

_MAX_BYTES = 64 << 20


def read_record(path: Path, case: str | None = None) -> ClinicalRecord:
    """Read a record from a JSON object, a one-row CSV, or a table with a ``case_id`` column and ``case``.

    Raises
    ------
    ClinicalError : missing or unreadable file, wrong columns, unknown or repeated case, unusable values.
    """
    return RecordFile(path).record(case)


class RecordFile:
    """The records of a file, which is read once for all its patients.

    Raises
    ------
    ClinicalError : missing or unreadable file, wrong columns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._only: Mapping[str, object] | None = None  # of a JSON file
        if _is_object(path):
            self._only = _read_object(path)
            return
        table = _patients_table(path)
        columns = table.header
        self._rows = [dict(zip(columns, row, strict=True)) for row in table.rows]
        self._fields, doubtful = columns_of_fields(columns)
        if doubtful:
            name, several = next(iter(doubtful.items()))
            raise ClinicalError(
                f"{path.name} has several columns for {name} ({', '.join(several)})", "Keep one of them"
            )
        if not self._fields:
            raise ClinicalError(
                f"{path.name} has none of the columns {', '.join(CLINICAL_FIELDS)}",
                "Name the columns like that",
            )
        self._id_column = case_column(columns)
        self._rows_of: dict[str, list[dict[str, str]]] = {}
        if self._id_column is not None:
            for row in self._rows:
                self._rows_of.setdefault(row[self._id_column], []).append(row)

    def record(self, case: str | None = None) -> ClinicalRecord:
        """Return the record of a case; the only one for None.

        Raises
        ------
        ClinicalError : unknown or repeated case, unusable values.
        """
        if self._only is not None:
            return _named(self._path, self._only)
        name, chosen = self._path.name, self._rows
        if case is not None and self._id_column is not None:
            chosen = self._rows_of.get(case, [])
            if not chosen:
                known = [row[self._id_column] for row in self._rows]
                near = difflib.get_close_matches(case, known, 3) or known[:3]
                raise ClinicalError(
                    f"{name} has no case {case}", f"Choose one that it has, e.g. {', '.join(near)}"
                )
        elif case is not None and len(chosen) > 1:
            raise ClinicalError(f"{name} has no column case_id", "Add it, or give a file with one row")
        if len(chosen) > 1:
            if case is None:
                raise ClinicalError(f"{name} holds {len(chosen)} patients", "Say which one with --case")
            if len({tuple(row[c] for c in self._fields) for row in chosen}) > 1:
                raise ClinicalError(
                    f"{name} holds {len(chosen)} different rows for {case}", "Keep one of them"
                )
        return _named(self._path, {column: chosen[0][column] for column in self._fields})


def _is_object(path: Path) -> bool:
    """Whether a file holds JSON rather than a table, by its name or its first sign."""
    if path.suffix.lower() == ".json":
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    except OSError:
        return False  # whoever reads it says so


def _patients_table(path: Path) -> TextTable:
    table = read_table(path, ClinicalError, "Save it as CSV UTF-8 or JSON", _MAX_BYTES)
    if not table.rows:
        raise ClinicalError(f"{path.name} holds no patient", _example())
    return table


def _read_object(path: Path) -> dict[str, object]:
    document = read_json(path, _MAX_BYTES, ClinicalError, _example(), nan=True)  # pandas writes it
    if not isinstance(document, dict):
        raise ClinicalError(f"{path.name} does not hold one record", _example())
    if isinstance(document.get("clinical"), dict):
        document = document["clinical"]
    return {k: v for k, v in document.items() if plain(k) not in (*CASE_COLUMNS, "slide ids")}


def list_cases(path: Path) -> tuple[str, ...]:
    """Return the ids of a table of patients; () for a file that holds one record.

    Raises
    ------
    ClinicalError : the file cannot be read.
    """
    if _is_object(path):
        return ()
    table = _patients_table(path)
    column = case_column(table.header)
    if column is None or len(table.rows) < 2:
        return ()
    place = table.header.index(column)
    return tuple(dict.fromkeys(row[place] for row in table.rows))


def _named(path: Path, values: Mapping[str, object]) -> ClinicalRecord:
    try:
        return parse_record(values)
    except ClinicalError as error:
        raise ClinicalError(f"{path.name}: {error.problem}", error.next_step, error.fields) from error


def _example() -> str:
    return 'Write e.g. {"age": 58, "sex": "female", "stage": "Stage II", "staging_edition": "7th", "subtype": "", "race": ""}'
