"""What each encoder needs before it can run here: ready, a file, or the authors' access; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from napari_survpgc.core.errors import EncoderError
from napari_survpgc.core.types import EncoderKind

from .catalog import ENCODERS, WITHOUT_FILES, cards_of, weight_sources
from .speed import expected_speed
from .weights.weights import DamagedWeightsError, MissingWeightsError, find_weights


class Readiness(StrEnum):
    """What stands between an encoder and its first patch."""

    READY = "ready"
    NEEDS_FILE = "needs a file"
    NEEDS_ACCESS = "needs access"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class EncoderStatus:
    """One encoder on this machine.

    Attributes
    ----------
    kind : "image", "text" or "gene".
    title : what its authors call it.
    next_step : what to do on the command line; empty when it is ready.
    where : to get what is missing; empty when nothing is.
    licence : in one line; empty for encoders that come along.
    page : where to read about it and ask for access.   on_hub : it can be fetched from the Hugging Face hub.
    files : names of the files that it needs; () for encoders that come along.
    weights_mb : their megabytes, about; None where it is not known.
    speed : to be expected here, in words; "" where it was not asked for or nothing is known.
    """

    kind: str
    encoder_id: str
    title: str
    readiness: Readiness
    next_step: str = ""
    where: str = ""
    licence: str = ""
    page: str = ""
    on_hub: bool = False
    files: tuple[str, ...] = ()
    speed: str = ""
    weights_mb: int | None = None

    @property
    def embedded(self) -> bool:
        return not self.files

    def line(self) -> str:
        """Return it in one or two sentences."""
        text = f"{self.kind}: {self.encoder_id}, {self.readiness}"
        if self.speed:
            text += f", {self.speed}"
        if self.next_step:
            return f"{text}. {self.next_step}."
        return f"{text} ({self.licence})" if self.licence else text


def known_encoders() -> list[tuple[str, str]]:
    """Return (kind, id) of all that have a file of their own."""
    return [(kind, encoder_id) for kind, cards in ENCODERS.items() for encoder_id in cards]


def kinds_of(encoder_id: str, kind: str | None = None) -> list[tuple[str, str]]:
    """Return (kind, id) of all encoders that an id stands for; of one of a hub, the image encoder unless ``kind`` says."""
    known: list[tuple[str, str]] = [(card.kind, card.id) for card in cards_of(encoder_id, kind)]
    return known or [(kind or EncoderKind.IMAGE, encoder_id)]


def encoder_statuses(
    wanted: Iterable[tuple[str, str]] | None = None, *, device: str | None = None
) -> list[EncoderStatus]:
    """Look for the weights of encoders, all of them by default; large files are not read for it.

    Parameters
    ----------
    wanted : (kind, id); kinds are "image", "text", "gene".
    device : also estimate how fast each will be there, which takes a few seconds; None does not.
    """
    return [_status(kind, encoder_id, device) for kind, encoder_id in (wanted or known_encoders())]


def _status(kind: str, encoder_id: str, device: str | None) -> EncoderStatus:
    if encoder_id in WITHOUT_FILES:
        return EncoderStatus(kind, encoder_id, encoder_id, Readiness.READY)
    try:
        source = next(iter(weight_sources(encoder_id, kind)), None)
        speed = "" if device is None else expected_speed(kind, encoder_id, device)
    except EncoderError as error:  # unknown, or a package that came along is gone
        return EncoderStatus(kind, encoder_id, encoder_id, Readiness.NEEDS_FILE, str(error).rstrip("."))
    if source is None:
        return EncoderStatus(kind, encoder_id, encoder_id, Readiness.READY, speed=speed)
    state, step, where = Readiness.READY, "", ""
    try:
        find_weights(source, check=False)
    except MissingWeightsError as error:
        state = Readiness.NEEDS_ACCESS if error.by_request else Readiness.NEEDS_FILE
        step, where = error.next_step, error.where
    except DamagedWeightsError as error:
        state, step = Readiness.DAMAGED, error.next_step
    return EncoderStatus(
        kind,
        encoder_id,
        source.card.title,
        state,
        step,
        where,
        source.card.licence,
        source.page,
        source.repository is not None,
        source.files,
        speed,
        source.card.weights_mb,
    )
