"""featureCounts (Subread): counts behind six columns that place the gene; the samples are named by their BAM files."""

from __future__ import annotations

import re

from napari_survpgc.core.errors import ExpressionError
from napari_survpgc.core.genomics.annotations import describes_genes
from napari_survpgc.core.genomics.sheet import Layout, Sheet
from napari_survpgc.core.types import ExpressionUnit

NAME = "featureCounts"
_PLACE = ("geneid", "chr", "start", "end", "strand", "length")
_ENDING = re.compile(
    r"(Aligned)?([._](sortedByCoord|sorted|sort|dedup|markdup|out|toTranscriptome))*\.(bam|sam|cram)$"
)


def recognises(sheet: Sheet) -> bool:
    return sheet.lower[:6] == _PLACE


def layout(sheet: Sheet) -> Layout:
    columns = [i for i in range(6, len(sheet.cells)) if not describes_genes(sheet.cells[i])]
    short = [_ENDING.sub("", re.split(r"[/\\]", sheet.cells[i])[-1]) for i in columns]
    names = short if len(set(short)) == len(short) else [sheet.cells[i] for i in columns]
    if not names:
        raise ExpressionError(
            f"{sheet.name} has no column with counts", "Give the table of featureCounts as it is"
        )
    return Layout(
        NAME, 0, samples=dict(zip(names, columns, strict=True)), unit=ExpressionUnit.COUNTS, merge=True
    )
