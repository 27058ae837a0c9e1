"""Loading networks of the transformers library from a folder: quietly, strictly, offline, and without code of others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_survpgc.core.errors import EncoderError

from .weights import first_of


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting what is not used (the pooler of BERT, say) on every start."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def load_network(folder: Path, title: str) -> nn.Module:
    """Load a frozen float32 network from ``config.json`` and the weights beside it.

    transformers renames keys between its versions, so its own loader is used and its account of it checked: nothing
    may be missing but a pooler or a head, which are not used here.

    Raises
    ------
    EncoderError : damaged, other weights than the config states, or an architecture that needs code of its own.
    """
    from transformers import AutoModel

    with quiet():
        try:
            network, account = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # the library raises anything on a bad file
            raise EncoderError(
                f"{title} cannot be loaded: it is damaged, or of a kind that the transformers library does not know by"
                f" itself ({(str(error) or type(error).__name__).splitlines()[0][:120]})",
                "Get its files again or choose another encoder; code from a repository is not run",
            ) from error
    problems = _problems(account)
    if problems:
        raise EncoderError(
            f"The files are not the weights of {title}: {'; '.join(problems)}",
            "Get configuration and weights again from the same page",
        )
    network.requires_grad_(False)
    return network.eval()


def _problems(account: dict[str, Any]) -> list[str]:
    missing = sorted(k for k in account.get("missing_keys", ()) if not k.startswith(("pooler.", "head.")))
    mismatched = sorted(str(k[0] if isinstance(k, tuple) else k) for k in account.get("mismatched_keys", ()))
    found = []
    if missing:
        found.append(f"missing {first_of(missing)}")
    if mismatched:
        found.append(f"other shapes: {first_of(mismatched)}")
    return found
