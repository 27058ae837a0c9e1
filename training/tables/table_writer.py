"""Write the result of an experiment: CSV, Markdown, a self-contained HTML page, figures as PNG, SVG and PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from napari_survpgc.core.cells import frame_text
from napari_survpgc.core.files import write_bytes
from napari_survpgc.core.notice import RESEARCH_NOTICE
from napari_survpgc.core.output.page import Picture, render
from napari_survpgc.core.output.swap import Place, new_set

OPTIMISTIC = "Protocol 'published': the epoch was chosen on the test fold, so these numbers are optimistic."
_DPI = 150
_CLIP_NAME = re.compile(rb"(?<=[\"#])p[0-9a-f]{10}(?=[\")])")
_LONG_NUMBER = re.compile(rb"(?<![\d.])-?[1-9]\d*\.\d{4,}")


@dataclass(frozen=True)
class Table:
    """Texts for readers and numbers for machines.

    Attributes
    ----------
    columns : headings.   rows : formatted cells, one a column.   frame : the numbers, for the CSV.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    frame: pd.DataFrame


@dataclass(frozen=True)
class Product:
    """What an experiment gives.

    Attributes
    ----------
    notes : sentences under the table: how it was computed, what it cannot say.
    figures : suffix ("" for the main one) -> figure.   frames : suffix -> further CSV.
    files : name of its own -> CSV that other programs look for.
    """

    title: str
    table: Table
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    files: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def text(self) -> str:
        """Return title and table for a terminal."""
        cells = [self.table.columns, *self.table.rows]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.table.columns))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.title, RESEARCH_NOTICE, *lines])

    def list_text(self) -> str:
        """Return title, rows as columns (for few rows with many cells) and notes for a terminal."""
        cells = [list(row) for row in zip(self.table.columns, *self.table.rows, strict=True)]
        widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.title, RESEARCH_NOTICE, *lines, *(f"- {note}" for note in self.notes)])


def write_product(product: Product, name: str, out: Path, *, optimistic: bool) -> list[Path]:
    """Write all files of an experiment as ``<name>[_<suffix>].<kind>``, all of them or none.

    Parameters
    ----------
    optimistic : the epoch was chosen on the test folds; said wherever a number stands.

    Returns
    -------
    The files written, the HTML page first.

    Raises
    ------
    OutputError : disk full, no permission.
    """
    files: dict[str, bytes] = {}
    for suffix, figure in product.figures.items():
        stem = f"{name}_{suffix}" if suffix else name
        _leave_margins(figure)
        if optimistic:
            figure.text(0.995, 0.995, "optimistic: epoch chosen on the test fold", ha="right", va="top", fontsize=7, color="#CC3311")  # fmt: skip
        figure.text(0.005, 0.002, RESEARCH_NOTICE, ha="left", va="bottom", fontsize=6, color="#666666")
        for kind in ("png", "svg", "pdf"):
            files[f"{stem}.{kind}"] = figure_bytes(figure, kind)
    pictures = {
        suffix: files[f"{name}_{suffix}.png" if suffix else f"{name}.png"] for suffix in product.figures
    }
    files[f"{name}.md"] = markdown(product, name, optimistic).encode()
    files[f"{name}.html"] = html_page(product, pictures, optimistic).encode()
    files[f"{name}.csv"] = _csv(product.table.frame)
    files |= {f"{name}_{suffix}.csv": _csv(frame) for suffix, frame in product.frames.items()}
    files |= {file: _csv(frame) for file, frame in product.files.items()}
    with new_set(out, lambda: [Place(file) for file in files]) as made:
        for file, content in files.items():
            write_bytes(made / file, content)
    order = sorted(files, key=lambda file: (not file.endswith(".html"), file))
    return [out / file for file in order]


def _leave_margins(figure: Figure) -> None:
    """Keep a strip above and below free for the notices."""
    engine = figure.get_layout_engine()
    strip = 0.18 / figure.get_figheight()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, strip, 1, 1 - 2 * strip))


def _csv(frame: pd.DataFrame) -> bytes:
    return frame_text(frame).encode()


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as "png", "svg" or "pdf"; the same figure gives the same bytes."""
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "survpgc"}):
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    content = buffer.getvalue()
    if kind == "svg":
        # matplotlib names the clip paths of images by a memory address: number them instead.
        names: dict[bytes, bytes] = {}
        content = _CLIP_NAME.sub(lambda m: names.setdefault(m[0], b"clip%d" % len(names)), content)
        # The solver of the layout orders its variables by address, which shows in the sixth decimal.
        content = _LONG_NUMBER.sub(lambda m: b"%.3f" % float(m[0]), content)
    return content


def markdown(product: Product, name: str, optimistic: bool) -> str:
    """Return the page as Markdown; figures are linked by name."""
    table = product.table
    lines = [f"# {product.title}", "", f"**{RESEARCH_NOTICE}**", ""]
    if optimistic:
        lines += [f"**{OPTIMISTIC}**", ""]
    lines += [_line(table.columns), _line(["---"] * len(table.columns)), *(_line(row) for row in table.rows)]
    lines += ["", *(f"- {note}" for note in product.notes), ""]
    for suffix in product.figures:
        stem = f"{name}_{suffix}" if suffix else name
        lines += [f"![{product.title}]({stem}.png)", ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def html_page(product: Product, pictures: Mapping[str, bytes], optimistic: bool) -> str:
    """Return one self-contained page: style and pictures inside, no script, nothing fetched."""
    return render(
        "experiment.html.j2",
        product=product,
        notice=RESEARCH_NOTICE,
        optimistic=OPTIMISTIC if optimistic else "",
        pictures=[
            Picture(picture, "png", f"{product.title} {suffix}".strip())
            for suffix, picture in pictures.items()
        ],
    )
