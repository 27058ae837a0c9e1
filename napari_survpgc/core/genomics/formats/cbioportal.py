"""cBioPortal: genes by symbol and Entrez number, a column a sample; the unit stands in the meta file beside the table."""

from __future__ import annotations

from pathlib import Path

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.files import read_text
from napari_survpgc.core.genomics.annotations import describes_genes
from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.genomics.units import unit_in
from napari_survpgc.core.types import ExpressionUnit

NAME = "cBioPortal"
_STABLE = {"rna_seq_v2_mrna": ExpressionUnit.COUNTS}  # RSEM, where the description does not say it
_MAX_META = 1 << 16
_MOST_META = 200


def recognises(sheet: Sheet) -> bool:
    return bool({"hugo_symbol", "entrez_gene_id"} & set(sheet.lower)) and "tpm_unstranded" not in sheet.lower


def layout(sheet: Sheet) -> Layout:
    lower = sheet.lower
    if "hugo_symbol" not in lower:
        raise ExpressionError(
            f"{sheet.name} names its genes by numbers of Entrez alone",
            "Give a table with the column Hugo_Symbol",
        )
    genes = lower.index("hugo_symbol")
    samples = {
        cell: i for i, cell in enumerate(sheet.cells) if i != genes and cell and not describes_genes(cell)
    }
    unit, notes = _unit_of_meta(sheet.path)
    return Layout(
        NAME,
        genes,
        samples=samples,
        unit=unit,
        asks_unit="cBioPortal says it in the meta file (datatype, stable_id) that belongs to the table",
        merge="entrez_gene_id" in lower,
        notes=notes,
    )


def _unit_of_meta(path: Path) -> tuple[ExpressionUnit | None, tuple[str, ...]]:
    """Return the unit that the study's meta file states of this table, and what it says of it."""
    table = path.name.removesuffix(".gz").removesuffix(".zip")
    for meta in sorted(path.parent.glob("meta_*.txt"))[:_MOST_META]:
        text = read_text(meta, _MAX_META, ExpressionError, "Repair the meta file, or move it away")
        said = {
            key.strip().lower(): value.strip()
            for key, mark, value in (line.partition(":") for line in text.splitlines())
            if mark
        }
        if said.get("data_filename") != table:
            continue
        about = said.get("profile_name", said.get("stable_id", ""))
        if said.get("datatype", "").upper() == "Z-SCORE":
            unit: ExpressionUnit | None = ExpressionUnit.ZSCORE
        else:
            words = " ".join(
                said.get(key, "") for key in ("stable_id", "profile_name", "profile_description")
            )
            unit = unit_in(words) or _STABLE.get(said.get("stable_id", ""))
        note = f"{meta.name} says of {path.name}: {about}." if about else ""
        return unit, (note,) if note else ()
    return None, ()
