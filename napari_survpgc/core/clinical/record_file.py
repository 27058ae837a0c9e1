"""Clinical records from JSON and tables."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_survpgc.core.errors import ClinicalError
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord

from .record import field_of_column, parse_record, plain

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
        text = read_text(path)
        if path.suffix.lower() == ".json" or text.lstrip()[:1] == "{":
            self._only = _read_object(path, text)
            return
        self._rows, columns = _read_rows(path, text)
        self._fields = {column: name for column in columns if (name := field_of_column(column))}
        names = list(self._fields.values())
        if not names:
            raise ClinicalError(
                f"{path.name} has none of the columns {', '.join(CLINICAL_FIELDS)}",
                "Name the columns like that",
            )
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ClinicalError(f"{path.name} has several columns for {twice[0]}", "Keep one of them")
        self._id_column = _id_column(columns)
        self._rows_of: dict[str, list[dict[str, str | None]]] = {}
        if self._id_column is not None:
            for row in self._rows:
                self._rows_of.setdefault((row[self._id_column] or "").strip(), []).append(row)

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
                known = [row[self._id_column] or "" for row in self._rows]
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
        return _named(self._path, {field: chosen[0][column] for column, field in self._fields.items()})


def _read_object(path: Path, text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClinicalError(f"{path.name} is not valid JSON ({error})", _example()) from error
    if not isinstance(document, dict):
        raise ClinicalError(f"{path.name} does not hold one record", _example())
    if isinstance(document.get("clinical"), dict):
        document = document["clinical"]
    return {k: v for k, v in document.items() if plain(k) not in ("case id", "slide ids")}


def list_cases(path: Path) -> tuple[str, ...]:
    """Return the ids of a table of patients; () for a file that holds one record.

    Raises
    ------
    ClinicalError : the file cannot be read.
    """
    text = read_text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] == "{":
        return ()
    rows, columns = _read_rows(path, text)
    column = _id_column(columns)
    if column is None or len(rows) < 2:
        return ()
    return tuple(dict.fromkeys((row[column] or "").strip() for row in rows))


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ClinicalError(f"{path.name} is too large for clinical records", "Give a smaller file")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ClinicalError(
            f"{path} cannot be read ({error.strerror})", "Check the name and the folder"
        ) from error
    except UnicodeDecodeError as error:
        raise ClinicalError(
            f"{path.name} is not a text file (UTF-8)", "Save it as CSV UTF-8 or JSON"
        ) from error


def _id_column(columns: Sequence[str]) -> str | None:
    return next((c for c in columns if plain(c) in ("case id", "case", "patient id", "patient")), None)


def _read_rows(path: Path, text: str) -> tuple[list[dict[str, str | None]], list[str]]:
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [row for row in reader if any(v for k, v in row.items() if k is not None)]
    except csv.Error as error:
        raise ClinicalError(f"{path.name} is not a CSV table ({error})", _example()) from error
    columns = list(reader.fieldnames or [])
    if not rows:
        raise ClinicalError(f"{path.name} holds no patient", _example())
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise ClinicalError(f"{path.name} has the column {twice[0]} twice", "Keep one of them")
    return rows, columns


def _named(path: Path, values: Mapping[str, object]) -> ClinicalRecord:
    try:
        return parse_record(values)
    except ClinicalError as error:
        raise ClinicalError(f"{path.name}: {error.problem}", error.next_step, error.fields) from error


def _example() -> str:
    return 'Write e.g. {"age": 58, "sex": "female", "stage": "Stage II", "staging_edition": "7th", "subtype": "", "race": ""}'
