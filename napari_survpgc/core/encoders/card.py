"""What is known of an encoder before any of its code runs; each encoder's own file states it as ``CARD``."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from napari_survpgc.core.types import EncoderKind


@dataclass(frozen=True)
class EncoderCard:
    """The one description of an encoder.

    Attributes
    ----------
    id : name in options, bundles and feature files; the encoder's file is called so, with _ for -.
    kind : what it reads; the folder of its file.
    title : what its authors call it.   licence : of the weights, in one line.
    dim : width of a row or token; 0 where only its files say it.   n_tokens : a patient (gene encoders), else 0.
    patch_px, mpp : how its authors cut patches, px and µm per px; 0 for encoders that read no patches.
    weights_mb : megabytes of its files, about; None where it is not known.
    embedded : it comes along and needs no file of the user.
    trident : its name in TRIDENT's files and folders, where that is not the id.
    aliases : further names in the feature files of other tools, in lower case and without a hash at the end.
    """

    id: str
    kind: EncoderKind
    title: str
    licence: str
    dim: int = 0
    n_tokens: int = 0
    patch_px: int = 0
    mpp: float = 0.0
    weights_mb: int | None = None
    embedded: bool = False
    trident: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Name of its file, within the package of the encoders."""
        return f"{self.kind}.{self.id.replace('-', '_')}"


def read_cards(folder: Path) -> dict[str, EncoderCard]:
    """Return id -> card of every file of a folder that states one, those that come along first.

    The files are not imported, which would load torch, timm and transformers (3 s): only the statement of the card is
    run, and knows nothing but the names of this module.

    Raises
    ------
    ValueError : a card that uses other names, or a file that is not named as its id.
    """
    cards = []
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\nCARD = " in text:
            card = _card(text, path)
            if card.module != f"{folder.name}.{path.stem}":
                raise ValueError(f"{path} holds the card of {card.module}")
            cards.append(card)
    return {card.id: card for card in sorted(cards, key=lambda card: (not card.embedded, card.id))}


def _card(text: str, path: Path) -> EncoderCard:
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CARD":
            code = compile(ast.Expression(node.value), str(path), "eval")
            try:
                return eval(code, {"EncoderCard": EncoderCard, "EncoderKind": EncoderKind})
            except NameError as error:
                raise ValueError(f"The card in {path} is to be read without imports: {error}") from error
    raise ValueError(f"{path} has no statement CARD = EncoderCard(...)")
