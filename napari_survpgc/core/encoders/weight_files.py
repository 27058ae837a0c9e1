"""Getting the weights of an encoder onto this machine, when the user asks for it: from the hub, or from the user's file.

The hub's own library finds the user's access token (``hf auth login``) and goes on by itself when the connection breaks;
we neither read, print nor keep the token. A file is checked before it is kept: keys and shapes, not only its name.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from napari_survpgc.core.errors import CancelledError, EncoderError, OutputError, writing
from napari_survpgc.core.files import atomic
from napari_survpgc.core.types import ProgressCallback

from .catalog import check_weights, weight_sources
from .weights.weights import (
    DamagedWeightsError,
    WeightSource,
    find_optional,
    find_weights,
    next_step,
    weights_folder,
)

_TABLES = {".json", ".tsv", ".txt"}
_MEGABYTE = 10**6
_REACH_SECONDS = 10


def fetch_weights(
    encoder_id: str, kind: str | None = None, progress: ProgressCallback | None = None
) -> tuple[Path, ...]:
    """Fetch from the hub what an encoder still needs, with the user's own access.

    Parameters
    ----------
    kind : "image", "text" or "gene", where an id stands for several; None for all of them.
    progress : called with megabytes; it may raise CancelledError. Files that have arrived whole are kept.

    Returns
    -------
    All files of the encoder, () for one that comes along.

    Raises
    ------
    EncoderError : no access, no network, a broken or altered file.   OutputError : disk full.
    """
    found: dict[Path, None] = {}
    for source in weight_sources(encoder_id, kind):
        found.update(dict.fromkeys(download_weights(source, progress)))
    return tuple(found)


def keep_files(encoder_id: str, given: Sequence[Path], kind: str | None = None) -> dict[str, Path]:
    """Check files that the user has and copy them to where they are looked for.

    Returns
    -------
    Name under which it is kept -> the user's file.

    Raises
    ------
    EncoderError : not there, not one of the encoder's files, or other weights; nothing is kept then.
    OutputError : it cannot be written.
    """
    sources = weight_sources(encoder_id, kind)
    if not sources:
        raise EncoderError(f"{encoder_id} comes along and needs no file", "Leave --file out")
    files = match_files(sources, given)
    for name, path in files.items():
        if not path.is_file():
            raise EncoderError(f"There is no file {path}", "Check the name and the folder")
        check_weights(encoder_id, name, path, kind)
    install_weights(sources[0], files)
    return files


def download_weights(source: WeightSource, progress: ProgressCallback | None = None) -> tuple[Path, ...]:
    """Fetch what is missing of one source; see :func:`fetch_weights`."""
    if source.repository is None:
        try:
            return find_weights(source)
        except EncoderError as error:
            raise EncoderError(
                f"{source.card.title} is not on the Hugging Face hub", next_step(source, source.files)
            ) from error
    try:
        find_weights(source)
    except DamagedWeightsError as damaged:
        damaged.path.unlink(missing_ok=True)  # the user asks for it anew
    except EncoderError:
        pass  # that is why we are here
    wanted = [name for name in source.files if name not in source.elsewhere and _is_missing(source, name)]
    extra = [name for name in source.optional if find_optional(source, name) is None]
    if wanted or extra:
        _need_hub(source)
    for name in wanted:
        _download(source, source.repository, name, progress)
    for name in extra:
        _download(source, source.repository, name, progress, may_lack=True)
    try:
        return find_weights(source)
    except DamagedWeightsError as damaged:
        damaged.path.unlink(missing_ok=True)
        raise EncoderError(
            f"{source.card.title} arrived damaged: its SHA-256 is not the one that the hub states",
            f"Try again with '{source.command}'",
        ) from damaged


def _need_hub(source: WeightSource) -> None:
    """Ask the hub for any answer, once: its library tries for half a minute before it says that there is no network."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_REACH_SECONDS)
    except Exception as error:  # of its HTTP library, which has changed twice
        raise EncoderError(
            f"{source.card.title} could not be downloaded: the hub cannot be reached",
            f"Check the network (and HF_HUB_OFFLINE), or {_by_hand(source)}",
        ) from error


def _by_hand(source: WeightSource) -> str:
    return f"put the file into {weights_folder() / source.folder}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hub's library from writing each new try to the terminal: what is wrong at the end is said by us."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _is_missing(source: WeightSource, name: str) -> bool:
    try:
        find_weights(replace(source, files=(name,)), check=False)
    except EncoderError:
        return True
    return False


def _download(
    source: WeightSource,
    repository: str,
    name: str,
    progress: ProgressCallback | None,
    *,
    may_lack: bool = False,
) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    local = _by_hand(source)
    try:
        with writing(weights_folder()), _quiet():
            hf_hub_download(repository, name, tqdm_class=_bar(name, progress))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        # The hub answers 'not found' to those who are not logged in.
        raise EncoderError(
            f"The hub gives no access to {source.card.title}",
            f"Ask for it at {source.page} ({source.card.licence}), log in with 'hf auth login', and try again",
        ) from error
    except LocalEntryNotFoundError as error:
        raise EncoderError(
            f"{source.card.title} could not be downloaded: the hub cannot be reached",
            f"Check the network (and HF_HUB_OFFLINE), or {local}",
        ) from error
    except EntryNotFoundError as error:
        if name in source.also:
            return _download(replace(source, also={}), repository, source.also[name], progress)
        if may_lack:
            return None
        raise EncoderError(
            f"{source.card.title} has no file {name} on the hub", f"See {source.page}, or {local}"
        ) from error
    except (OutputError, CancelledError):
        raise
    except (
        Exception
    ) as error:  # the hub's library has changed its HTTP library, and with it its errors, twice
        raise EncoderError(
            f"{source.card.title} could not be downloaded ({(str(error) or type(error).__name__).splitlines()[0]})",
            f"Try again, or {local}",
        ) from error
    return None


def _bar(name: str, progress: ProgressCallback | None) -> type[tqdm]:
    """Return what the hub's library draws its progress with: it reports to us and draws nothing."""

    class Report(tqdm):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            named.pop("name", None)  # the hub's own addition
            super().__init__(*arguments, **{**named, "disable": True})
            self.total, self._bytes = named.get("total"), int(named.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._bytes += int(n or 0)
            if progress and self.total:
                progress(f"download {name}", self._bytes // _MEGABYTE, max(1, int(self.total) // _MEGABYTE))

    return Report


def match_files(sources: Sequence[WeightSource], given: Sequence[Path]) -> dict[str, Path]:
    """Say which of the files that an encoder needs each given file is: by its name, or else by its kind.

    Raises
    ------
    EncoderError : a file that could be any of several, or none.
    """
    names = list(
        dict.fromkeys(
            name
            for source in sources
            for file in (*source.files, *source.optional)
            for name in (file, *filter(None, [source.also.get(file)]))
        )
    )
    found: dict[str, Path] = {}
    for path in given:
        same = [name for name in names if name == path.name or name.endswith(f"/{path.name}")]
        alike = [n for n in names if (Path(n).suffix in _TABLES) == (path.suffix.lower() in _TABLES)]
        if path.suffix.lower() == ".safetensors" or len(alike) > 1:
            alike = [n for n in alike if Path(n).suffix == path.suffix.lower()] or alike
        if len(same) > 1:  # config.json and 1_Pooling/config.json
            same = [n for n in same if n.endswith("/".join(path.parts[-2:]))] or [
                n for n in same if n == path.name
            ]
        fitting = same or [n for n in alike if n not in found]
        if len(fitting) != 1:
            raise EncoderError(
                f"{path.name} could be none or several of the files of {sources[0].card.title} ({', '.join(names)})",
                "Give it the name under which its authors publish it",
            )
        found[fitting[0]] = path
    return found


def install_weights(source: WeightSource, files: Mapping[str, Path]) -> None:
    """Copy files into the weights folder, under the names that are looked for; what is there is replaced at the end.

    Parameters
    ----------
    files : name in ``source.files`` -> the user's file.

    Raises
    ------
    EncoderError : a file that is not there.   OutputError : it cannot be written.
    """
    folder = weights_folder() / source.folder
    for name, path in files.items():
        if not path.is_file():
            raise EncoderError(f"There is no file {path}", "Check the name and the folder")
        target = folder / name
        if target.exists() and target.samefile(path):
            continue
        with atomic(target) as place:
            shutil.copyfile(path, place)
