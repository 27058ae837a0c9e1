"""Clinical records from JSON and tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.files import read_json
from napari_survpgc.core.tables import CASE_COLUMNS, TextTable, id_columns, plain, read_table, same_patient
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

from .fields import columns_of_fields, key_of_column, notes_of_columns
from .gdc_json import cases_of_json, table_of_cases
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

    Attributes
    ----------
    notes : which columns were read as which field, and which look like one and are not used, in sentences.

    Raises
    ------
    ClinicalError : missing or unreadable file, wrong columns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._only: Mapping[str, object] | None = None  # of a JSON file
        self.notes: tuple[str, ...] = ()
        if _is_json(path):
            document = _read_document(path)
            cases = cases_of_json(document)
            if cases is None:
                self._only = _one_record(path, document)
                return
            columns, self._rows = table_of_cases(cases)
            notes: list[str] = []
        else:
            table = _patients_table(path)
            columns = table.header
            self._rows = [dict(zip(columns, row, strict=True)) for row in table.rows]
            notes = list(table.notes)
        self._fields, doubtful = columns_of_fields(columns, self._cells)
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
        self.notes = (*notes, *notes_of_columns(columns, self._fields))
        self._keys = {column: key_of_column(column, self._cells(column)) for column in self._fields}
        self._id_columns = id_columns(columns, self._cells)
        self._primary = _primary_column(columns)
        self._rows_of: dict[str, list[dict[str, str]]] = {}
        for row in self._rows:
            for id_ in dict.fromkeys(row[column] for column in self._id_columns):
                self._rows_of.setdefault(id_, []).append(row)

    def _cells(self, column: str) -> list[str]:
        return [row[column] for row in self._rows]

    @property
    def cases(self) -> tuple[str, ...]:
        """The ids of the patients of a table; () for a file that holds one record."""
        if self._only is not None or not self._id_columns or len(self._rows) < 2:
            return ()
        return tuple(dict.fromkeys(self._cells(self._id_columns[0])))

    def record(self, case: str | None = None) -> ClinicalRecord:
        """Return the record of a case; the only one for None.

        A case is found by its whole id in any column of ids, else by the parts of a barcode. Several rows of a patient
        (one a treatment, diagnosis or sample) must agree in what they know; of diagnoses the primary one counts.

        Raises
        ------
        ClinicalError : unknown or repeated case, unusable values.
        """
        if self._only is not None:
            return _named(self._path, self._only)
        name, chosen = self._path.name, self._rows
        if case is not None and self._id_columns:
            chosen = self._rows_of.get(case) or self._by_parts(case)
        elif case is not None and len(chosen) > 1:
            raise ClinicalError(f"{name} has no column case_id", "Add it, or give a file with one row")
        patients = len(set(map(self._patient_of, chosen))) if self._id_columns else len(chosen)
        if patients > 1:
            if case is None:
                raise ClinicalError(f"{name} holds {patients} patients", "Say which one with --case")
            raise ClinicalError(
                f"{name} holds {patients} patients whose ids begin with {case}", "Give the whole id"
            )
        return self._merged(chosen, case or (self._patient_of(chosen[0]) if self._id_columns else ""))

    def _patient_of(self, row: Mapping[str, str]) -> str:
        return row[self._id_columns[0]]

    def _by_parts(self, case: str) -> list[dict[str, str]]:
        found = [row for id_, rows in self._rows_of.items() if same_patient(id_, case) for row in rows]
        if not found:
            known = list(dict.fromkeys(map(self._patient_of, self._rows)))
            near = difflib.get_close_matches(case, known, 3) or known[:3]
            raise ClinicalError(
                f"{self._path.name} has no case {case}", f"Choose one that it has, e.g. {', '.join(near)}"
            )
        return found

    def _merged(self, rows: list[dict[str, str]], case: str) -> ClinicalRecord:
        name = self._path.name
        if len(rows) > 1 and self._primary is not None:
            rows = [
                row for row in rows if row[self._primary].strip().lower() in ("true", "yes", "primary")
            ] or rows
        values: list[dict[str, str]] = [{self._keys[c]: row[c] for c in self._fields} for row in rows]
        different = [dict(items) for items in dict.fromkeys(tuple(one.items()) for one in values)]
        if len(different) == 1:
            return _named(self._path, different[0])
        records = [_named(self._path, each) for each in different]
        merged: dict[str, object] = {}
        for field in CLINICAL_FIELDS:
            known = list(dict.fromkeys(v for r in records if (v := getattr(r, field)) is not None))
            if len(known) > 1:
                shown = ", ".join(str(value) for value in known[:3])
                raise ClinicalError(
                    f"{name} holds {len(rows)} different rows for {case} ({field}: {shown})",
                    "Keep one of them",
                )
            merged[field] = known[0] if known else None
        return _named(self._path, merged)


def _primary_column(columns: Iterable[str]) -> str | None:
    """Return the column of the GDC that says which diagnosis is the primary one."""
    names = {plain(column).removeprefix("diagnoses "): column for column in columns}
    return names.get("diagnosis is primary disease") or names.get("classification of tumor")


def _is_json(path: Path) -> bool:
    """Whether a file holds JSON rather than a table, by its name or its first signs."""
    if path.suffix.lower() == ".json":
        return True
    try:
        with path.open("rb") as stream:
            begins = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
            return begins[:1] == b"{" or (begins[:1] == b"[" and begins[1:].lstrip()[:1] == b"{")
    except OSError:
        return False  # whoever reads it says so


def _patients_table(path: Path) -> TextTable:
    table = read_table(path, ClinicalError, "Save it as CSV UTF-8 or JSON", _MAX_BYTES)
    if not table.rows:
        raise ClinicalError(f"{path.name} holds no patient", _example())
    return table


def _read_document(path: Path) -> object:
    return read_json(path, _MAX_BYTES, ClinicalError, _example(), nan=True)  # pandas writes it


def _one_record(path: Path, document: object) -> dict[str, object]:
    if not isinstance(document, dict):
        raise ClinicalError(f"{path.name} does not hold one record", _example())
    inner = document.get("clinical")
    values = inner if isinstance(inner, dict) else document
    return {k: v for k, v in values.items() if plain(k) not in (*CASE_COLUMNS, "slide ids")}


def list_cases(path: Path) -> tuple[str, ...]:
    """Return the ids of a table of patients; () for a file that holds one record.

    Raises
    ------
    ClinicalError : the file cannot be read.
    """
    return RecordFile(path).cases


def _named(path: Path, values: Mapping[str, object]) -> ClinicalRecord:
    try:
        return parse_record(values)
    except ClinicalError as error:
        raise ClinicalError(f"{path.name}: {error.problem}", error.next_step, error.fields) from error


def _example() -> str:
    return 'Write e.g. {"age": 58, "sex": "female", "stage": "Stage II", "staging_edition": "7th", "subtype": "", "race": ""}'
