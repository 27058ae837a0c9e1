"""What each encoder needs before it can run here: ready, a file, or the authors' access; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from napari_survpgc.core.errors import EncoderError

from .catalog import GENE_ENCODERS, IMAGE_ENCODERS, TEXT_ENCODERS, encoder_module, weight_sources
from .speed import expected_speed
from .weights.weights import DamagedWeightsError, MissingWeightsError, WeightSource, find_weights

_REGISTRIES = {"image": IMAGE_ENCODERS, "text": TEXT_ENCODERS, "gene": GENE_ENCODERS}
_WITHOUT_FILES = ("gene-sets", "expression", "one-hot")
"""What bundles name as encoders and models compute themselves."""


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
    return [(kind, encoder_id) for kind, registry in _REGISTRIES.items() for encoder_id in registry]


def kinds_of(encoder_id: str, kind: str | None = None) -> list[tuple[str, str]]:
    """Return (kind, id) of all encoders that an id stands for; of one of a hub, the image encoder unless ``kind`` says."""
    known = [each for each in known_encoders() if each[1] == encoder_id and kind in (None, each[0])]
    return known or [(kind or "image", encoder_id)]


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
    if encoder_id in _WITHOUT_FILES:
        return EncoderStatus(kind, encoder_id, encoder_id, Readiness.READY)
    try:
        source = _source(kind, encoder_id)
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
        source.title,
        state,
        step,
        where,
        source.licence,
        source.page,
        source.repository is not None,
        source.files,
        speed,
    )


def _source(kind: str, encoder_id: str) -> WeightSource | None:
    module = encoder_module(kind, encoder_id)
    if module is not None:
        return getattr(module, "SOURCE", None)
    return weight_sources(encoder_id, kind)[0]
