"""The table of encoders in the README, made from their cards.

``python -m napari_survpgc.core.encoders.table README.md`` writes it between the marks; without a file it is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from napari_survpgc.core.types import EncoderKind

from .card import EncoderCard
from .catalog import ENCODERS

BEGIN, END = "<!-- encoders: python -m napari_survpgc.core.encoders.table README.md -->", "<!-- /encoders -->"
_READS = {EncoderKind.IMAGE: "slide", EncoderKind.TEXT: "record", EncoderKind.GENE: "expression"}


def encoder_table() -> str:
    """Return a row an id in Markdown; those that come along stand last."""
    by_id: dict[str, list[EncoderCard]] = {}
    for card in sorted((c for cards in ENCODERS.values() for c in cards.values()), key=lambda c: c.embedded):
        by_id.setdefault(card.id, []).append(card)
    rows = [("encoder", "of", "patches", "width", "licence"), ("---",) * 5, *map(_row, by_id.values())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _row(cards: Sequence[EncoderCard]) -> tuple[str, ...]:
    first = cards[0]
    along = "; comes along" if first.embedded else ""
    return (
        f"`{first.id}`",
        "; ".join(_READS[card.kind] for card in cards),
        "; ".join(f"{c.patch_px} px at {10 / c.mpp:g}x" for c in cards if c.patch_px),
        "; ".join(dict.fromkeys(f"{c.n_tokens} x {c.dim}" if c.n_tokens else str(c.dim) for c in cards)),
        f"{first.licence}{along}",
    )


def with_table(text: str) -> str:
    """Return a document with the present table between its marks; ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no line {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{encoder_table()}\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        document = Path(sys.argv[1])
        document.write_text(with_table(document.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(encoder_table(), end="")
