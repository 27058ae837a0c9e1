"""Text tables as people have them, read strictly: what is unclear is said, no cell slips into a neighbour's column.

One reader for clinical records, cohorts, lists, folds and references; expression files, which are large, use its parts.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cells import restored
from .errors import SurvPGCError
from .files import read_bytes
from .packed import unpacked

MISSING_WORDS = frozenset(
    (
        # R, pandas, SQL, spreadsheets, SPSS
        "", "na", "nan", "n/a", "n.a.", "n.a", "<na>", "none", "null", "nil", ".", "-", "--", "---", "?", "#n/a", "#na",
        "#null!", "#value!", "#ref!", "#name?", "#div/0!", "#num!", "sysmis", "missing", "(missing)", "(empty)", "empty",
        # GDC, BCR, cBioPortal, registries
        "'--", "unknown", "unk", "unkn", "not known", "not reported", "not available", "not applicable", "not evaluated",
        "not allowed to collect", "not collected", "not recorded", "not specified", "not stated", "not provided",
        "not performed", "not done", "not assessed", "not determined", "undetermined", "unspecified", "unreported",
        "discrepancy", "completed", "pending", "redacted", "withheld", "data not available", "no data", "declined",
        "refused", "refused to answer", "prefer not to say", "prefer not to answer", "no answer", "not answered",
        "not asked", "not tested", "not submitted", "not in dataset", "no response", "patient refused", "indeterminate",
        "cannot be determined", "could not be determined", "unable to determine", "to be determined", "user missing",
        "missing value", "system missing", "unknown/not reported", "not reported/unknown", "unknown or not reported",
        "not available/unknown", "unknown stage", "stage unknown", "n.d.", "nd", "undef", "undefined", "void", "_", "\'-\'",
        "unbekannt", "keine angabe", "k.a.", "inconnu", "non disponible", "desconocido", "sconosciuto", "onbekend",
    )
)  # fmt: skip
CASE_COLUMNS = frozenset(
    (
        "case id", "case", "patient id", "patient", "case submitter id", "submitter id", "cases submitter id",
        "bcr patient barcode", "patient barcode", "patientid", "caseid", "bcr patient uuid", "pid",
    )
)  # fmt: skip
"""Names of the column with the patients' ids, as :func:`plain` writes them."""
_SAMPLE_ID_COLUMNS = frozenset(("sample", "sample id", "sampleid", "sample barcode", "bcr sample barcode"))
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BRACKETS = frozenset(zip("[(<{\"'", "])>}\"'", strict=True))
_DELIMITERS = "\t;,|"
_MAX_CELLS = 8_000_000  # each a text of 50 bytes and more
_LOOKED_AT = 200  # rows, to tell the delimiter
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_DECIMAL_POINT = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")


@functools.lru_cache(1 << 14)  # the same few names for each of 20,000 patients
def plain(name: str) -> str:
    """Return the name of a column as names are compared: lower case, one space for ``_``, ``.`` and ``-``."""
    return " ".join(re.sub(r"[\s_.\-]+", " ", name).lower().split())


def case_column(columns: Iterable[str], values: Callable[[str], Iterable[str]] | None = None) -> str | None:
    """Return the column with the patients' ids: case_id, or the first that other tables name like that.

    Parameters
    ----------
    values : column -> its cells; a case_id of UUIDs, as the GDC has it, then stands behind a submitter_id.
    """
    found = id_columns(columns, values)
    return found[0] if found else None


def id_columns(
    columns: Iterable[str], values: Callable[[str], Iterable[str]] | None = None
) -> tuple[str, ...]:
    """Return the columns with ids of patients, the best first, then those with ids of samples."""

    def rank(column: str) -> int:
        name = _bare_id(column)
        if values is not None and all(map(_UUID.fullmatch, filter(None, values(column)))):
            return 2
        return 3 if name in _SAMPLE_ID_COLUMNS else 0 if name == "case id" else 1

    return tuple(sorted((c for c in columns if _bare_id(c) in CASE_COLUMNS | _SAMPLE_ID_COLUMNS), key=rank))


def _bare_id(column: str) -> str:
    return plain(column).removeprefix("cases ")


def same_patient(name: str, case: str) -> bool:
    """Whether two ids are of one patient: equal, or the longer one is a barcode that begins with the parts of the other."""
    first, second = sorted((re.sub(r"[._]", "-", name), re.sub(r"[._]", "-", case)), key=len)
    return first == second or (bool(first) and second.startswith(f"{first}-"))


def is_missing(value: object) -> bool:
    """Whether a cell says that there is no value, in any of the words that tables use for it; brackets do not count."""
    if value is None or (isinstance(value, float) and value != value):
        return True
    text = str(value).strip().lower()
    if text in MISSING_WORDS:
        return True
    # [Not Available], (unknown), <NA>, "Not_Reported", not-reported.
    while len(text) > 1 and (text[0], text[-1]) in _BRACKETS:
        text = text[1:-1].strip()
    return text in MISSING_WORDS or " ".join(re.split(r"[\s_\-]+", text)) in MISSING_WORDS


@dataclass(frozen=True)
class TextTable:
    """A table, cell for cell as text, stripped.

    Attributes
    ----------
    header : unique names; only a first column may have none.   rows : each as long as the header.
    lines : the line of the file that each row begins at, from 1.
    decimal : "," where numbers are written with a comma, else ".".
    notes : what was found out to read it, in sentences.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    decimal: str
    notes: tuple[str, ...]

    def number(self, text: str) -> float:
        """Return a cell as a number by the table's decimal sign; ValueError for anything else."""
        return float(text.replace(",", ".") if self.decimal == "," else text)


def read_table(path: Path, error: type[SurvPGCError], step: str, limit: int = 256 << 20) -> TextTable:
    """Read a table: plain or gzipped, UTF-8, UTF-16 or Latin-1, with tabs, commas, semicolons or bars between cells.

    Parameters
    ----------
    error, step : what is raised for a table that cannot be read for certain, and what to do then.

    Raises
    ------
    error : missing, too large, no text; a row longer or shorter than the header (with its line); a column twice.
    """
    text, notes = read_table_text(path, error, step, limit)
    delimiter = find_delimiter(text)
    if text.count(delimiter) > _MAX_CELLS:
        raise error(f"{path.name} has more than {_MAX_CELLS:,} cells", step)
    try:
        read = [(line, cells) for line, cells in _cells(text, delimiter) if any(cells)]
    except csv.Error as problem:
        raise error(f"{path.name} is not a table ({problem})", step) from problem
    if not read:
        raise error(f"{path.name} is empty", step)
    header, rows = list(read[0][1]), read[1:]
    # A delimiter at the end of each line makes rows longer, too: then the last cell is empty.
    corner = rows and header[-1] and all(len(cells) == len(header) + 1 and cells[-1] for _, cells in rows)
    if corner and lacks_corner(header[0], [cells[0] for _, cells in rows], text, delimiter):
        header.insert(0, "")  # as R's write.table leaves it out
        notes.append(f"The first column of {path.name} has no name, as R writes it; it was read as the ids.")
    while header and not header[-1] and all(not any(cells[len(header) - 1 :]) for _, cells in rows):
        header.pop()
    width = len(header)
    for line, cells in rows:
        if len(cells) < width or any(cells[width:]):
            raise error(
                f"Line {line} of {path.name} has {len(cells)} cells where the header has {width}",
                "Correct this line: a cell with a comma in it needs quotes",
            )
    named = [name for name in header if name]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise error(f"{path.name} has the column {twice[0]} twice", "Keep one of them")
    if len(named) < width - (header[0] == ""):
        where = next(i for i, name in enumerate(header) if not name and i)
        raise error(f"The column {where + 1} of {path.name} has no name", "Name it, or remove it")
    # The biotab files of the BCR repeat the header in the words of two dictionaries.
    further = [
        i for i, (_, cells) in enumerate(rows[:3]) if any(cell.startswith("CDE_ID:") for cell in cells)
    ]
    if further:
        del rows[: further[-1] + 1]
        notes.append(f"{further[-1] + 1} further header rows of {path.name} were left out.")
    body = tuple(tuple(cells[:width]) for _, cells in rows)
    decimal = find_decimal((cell for row in body for cell in row), delimiter)
    if decimal == ",":
        notes.append(f"The numbers of {path.name} were read with a comma as the decimal sign.")
    return TextTable(tuple(header), body, tuple(line for line, _ in rows), decimal, tuple(notes))


def read_table_text(path: Path, error: type[SurvPGCError], step: str, limit: int) -> tuple[str, list[str]]:
    """Return the text of a table without the comment lines before its header, and what was found out to read it."""
    text, notes = read_whole_text(path, error, step, limit)
    text = without_comments(text)
    if not text.strip():
        raise error(f"{path.name} is empty", step)
    return text, notes


def read_whole_text(path: Path, error: type[SurvPGCError], step: str, limit: int) -> tuple[str, list[str]]:
    """Return the text of a table with its comment lines, and what was found out to read it.

    Lines end in ``\\n``. A gzip or zip file is known by its content.
    """
    raw = unpacked(path, read_bytes(path, limit, error, step), error, limit)
    text, notes = _decoded(path, raw, error, step)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text, notes


def without_comments(text: str) -> str:
    """Return a text without the comment lines of cBioPortal, the GDC and featureCounts before the header."""
    while text.startswith("#"):
        rest = text.partition("\n")[2]
        if not rest.strip():
            break
        text = rest
    return text


def _decoded(path: Path, raw: bytes, error: type[SurvPGCError], step: str) -> tuple[str, list[str]]:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = raw.decode("utf-16")
        except UnicodeDecodeError as problem:
            raise error(f"{path.name} is not a text file", step) from problem
        if not any(
            sign in text for sign in "\n\r" + _DELIMITERS
        ):  # any two bytes are a letter of some script
            raise error(f"{path.name} is not a text file", step)
        return text, []
    if b"\0" in raw[: 1 << 16]:
        raise error(f"{path.name} is not a text file", step)
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as problem:
        if any(byte < 32 and byte not in b"\t\n\r\f" for byte in raw[: 1 << 16]) or b"\xff" in raw:
            raise error(f"{path.name} is not a text file", step) from problem
        note = f"{path.name} is not UTF-8 and was read as Windows' Latin-1: check letters such as é or ü."
        return raw.decode("cp1252", errors="replace"), [note]


def find_delimiter(text: str, looked_at: int = _LOOKED_AT) -> str:
    """Return what stands between the cells: the sign that cuts most rows into as many cells as the header has.

    Among signs that do so equally well the one with the most cells; numbers with a decimal comma thus do not win over
    the semicolons between them.
    """
    best, chosen = (-1.0, 0), ","
    sample = "\n".join(text.split("\n", looked_at)[:looked_at])
    for delimiter in _DELIMITERS:
        try:
            rows = [cells for _, cells in _cells(sample, delimiter) if any(cells)]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 1
        if width < 2:
            continue
        regular = sum(len(cells) in (width, width + 1) for cells in rows[1:]) / max(1, len(rows) - 1)
        if (regular, width) > best:
            best, chosen = (regular, width), delimiter
    return chosen


def lacks_corner(first: str, ids: Sequence[str], text: str, delimiter: str) -> bool:
    """Whether rows one cell longer than the header begin with a name, as R writes them.

    Numbers with a decimal comma make rows longer too. R writes no name that a first column has, no id twice, and ids in
    quotes where commas stand between the cells.
    """
    if plain(first) in CASE_COLUMNS | {
        "gene",
        "genes",
        "gene id",
        "gene name",
        "gene symbol",
        "symbol",
        "sample",
        "id",
    }:
        return False
    if len(set(ids)) < len(ids) or not all(ids):
        return False
    return delimiter != "," or text.split("\n", 2)[1].lstrip().startswith('"')


def is_decimal_comma(cell: str) -> bool:
    """Whether a cell is a number with a comma for the decimal sign."""
    return _DECIMAL_COMMA.fullmatch(cell) is not None


def find_decimal(cells: Iterable[str], delimiter: str) -> str:
    """Return "," when numbers are written with a decimal comma and none with a point, else ".".

    Between commas it is ".": a quoted 1,234 is rather a thousand, so that whoever wants a number refuses it.
    """
    if delimiter == ",":
        return "."
    comma = False
    for cell in cells:
        if _DECIMAL_POINT.fullmatch(cell):
            return "."
        comma = comma or is_decimal_comma(cell)
    return "," if comma else "."


def first_irregular_line(text: str, delimiter: str, width: int) -> tuple[int, int] | None:
    """Return the number of the first line without ``width`` cells, and how many it has; None for a regular table.

    For large texts: counts signs, and cuts a line into cells only where the count differs. Empty lines and empty cells
    at the end do not count.
    """
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.count(delimiter) == width - 1 and '"' not in line:
            continue
        if not line.strip():
            continue
        cells = next(csv.reader([line.rstrip("\n")], delimiter=delimiter))
        while len(cells) > width and not cells[-1].strip():
            cells.pop()
        if len(cells) != width and any(cell.strip() for cell in cells):
            return number, len(cells)
    return None


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the line at which each row begins, and its cells, stripped."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    begins = 1
    for cells in reader:
        yield begins, [restored(cell.strip()) for cell in cells]
        begins = reader.line_num + 1
