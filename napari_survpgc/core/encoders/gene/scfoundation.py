"""scFoundation's cell embedding (Hao et al. 2024, Nat Methods 21, 1481): four tokens of a whole transcriptome.

The user supplies the authors' ``models.ckpt`` (part 'cell') and their list of 19,264 genes. A sample becomes a sequence:
each gene with a value above 0, then two summaries of the total, T and S. Twelve transformer layers later the tokens are
S, T, and maximum and mean over the genes (``pool_type all`` of the authors' get_embedding.py), 768 wide each.

Where the authors' script depends on its surroundings: bulk samples are scaled to the median total *of the file*, so that
a patient's embedding depends on who else is in it; here the total is an argument, and a bundle keeps that of its training
cohort. Tables with at least 19,264 columns are taken as aligned there; here genes are always matched by name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.encoders.base import GeneMatch, check_sha256, resolve_device
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.encoders.weights.embedding_cache import EmbeddingCache
from napari_survpgc.core.encoders.weights.weights import (
    WeightSource,
    find_weights,
    load_strictly,
    read_checkpoint,
    sha256_of,
)
from napari_survpgc.core.errors import EncoderError, ExpressionError, OutputError
from napari_survpgc.core.genomics.genes import current_symbol
from napari_survpgc.core.types import EncoderKind, GeneValues, ProgressCallback

from .cell_network import CellConfig, CellNetwork

CARD = EncoderCard(
    id="scfoundation",
    kind=EncoderKind.GENE,
    title="scFoundation",
    licence="code Apache-2.0, weights for non-commercial use only",
    dim=768,
    n_tokens=4,
)
SOURCE = WeightSource(
    CARD,
    files=("models.ckpt", "OS_scRNA_gene_index.19264.tsv"),
    repository=None,
    site="https://github.com/biomap-research/scFoundation",
    gated=False,
)
MIN_OVERLAP = 0.6
"""Least share of the 19,264 genes that a table must have.

The authors set none and count what is absent as not expressed. Tables of whole transcriptomes have 85-100 % of the
genes, under whichever symbols; panels and curated subsets have less than half, and the total, the maximum and the mean
then describe the choice of the genes rather than the sample.
"""
GENE_LIST_SHA256 = "bb337ea195d94e7b033543abc02a42e7060d6562eba97deb077f7dcecec62661"
WORK = 12 * (2.0 * 7.1e6 * 16_000 + 4.0 * 768 * 16_000**2)
"""Floating-point operations a patient with 16,000 expressed genes, in float32."""
_IGNORED = (
    "decoder.",
    "decoder_embed.",
    "norm.",
    "to_final.",
)  # they restore expression; no embedding needs them


def pool_all(tokens: Tensor) -> Tensor:
    """(L, H) -> (4, H): S, T, maximum over the genes, mean over the genes (pool_type all)."""
    genes = tokens[:-2]
    return torch.stack([tokens[-1], tokens[-2], genes.amax(0), genes.mean(0)])


def input_row(expression: NDArray[np.floating], total: float | None = None) -> NDArray[np.float64]:
    """Return what the network is shown of a bulk sample: expression of every gene of the list, then T, then S.

    Parameters
    ----------
    expression : (n,) of the list's genes in its order, 0 where absent; counts or TPM.
    total : of a sample of the reference cohort (the median); None takes the sample's own, as the authors' script
        does for a file of one sample.

    Returns
    -------
    (n + 2,): x = log1p(expression * total / own total), T = S = log10(sum of x), the sum of *logarithms* as published.

    Raises
    ------
    ExpressionError : nothing is expressed.
    """
    values = np.asarray(expression, np.float64)
    own = float(values.sum())
    if not own > 0:
        raise ExpressionError(
            "None of scFoundation's genes is expressed in the sample", "Check the file and the column"
        )
    x = np.log1p(values * ((own if total is None else total) / own))
    depth = math.log10(x.sum())
    return np.concatenate([x, [depth, depth]])


def gather(row: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return values above 0 and their places; 0 and less are no tokens, be it T and S (a sum of x up to 1)."""
    values = np.asarray(row, np.float32)
    places = np.flatnonzero(values > 0)
    return values[places], places


class SCFoundation:
    """See the module's docstring; bulk samples, always in float32. A sample is encoded once on a machine.

    Parameters
    ----------
    genes : the list, in its order.   weights : SHA-256 of the checkpoint, for the cache.
    """

    id, n_tokens = CARD.id, CARD.n_tokens
    values = GeneValues.LINEAR
    min_overlap = MIN_OVERLAP

    def __init__(
        self, network: CellNetwork, genes: tuple[str, ...], device: torch.device, weights: str
    ) -> None:
        self.network = network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self.genes, self.device = genes, device
        self.dim = network.pos_emb.embedding_dim
        self._place = {gene: i for i, gene in enumerate(genes)}
        self._later: dict[str, int] = {}
        for i, gene in enumerate(genes):
            self._later.setdefault(current_symbol(gene), i)
        self._cache = EmbeddingCache(self.id, f"{weights} bulk all", (self.n_tokens, self.dim))
        self._known: dict[bytes, NDArray[np.float32]] = {}
        self._matched: tuple[tuple[str, ...], GeneMatch] | None = None

    def align(self, genes: Sequence[str]) -> GeneMatch:
        """Find genes in the list: by symbol, then by current symbol where that gene is still free."""
        given = tuple(genes)
        if self._matched is not None and self._matched[0] == given:
            return self._matched[1]
        places: dict[int, int] = {}  # in the list -> among the given
        for i, gene in enumerate(given):
            if gene in self._place:
                places.setdefault(self._place[gene], i)
        renamed = []
        for i, gene in enumerate(given):
            other = None if gene in self._place else self._later.get(current_symbol(gene))
            if other is not None and other not in places:
                places[other] = i
                renamed.append((gene, self.genes[other]))
        pairs = sorted((i, place) for place, i in places.items())
        used = {i for i, _ in pairs}
        match = GeneMatch(
            source=np.array([i for i, _ in pairs], np.int64),
            target=np.array([place for _, place in pairs], np.int64),
            missing=tuple(gene for place, gene in enumerate(self.genes) if place not in places),
            dropped=tuple(gene for i, gene in enumerate(given) if i not in used),
            renamed=tuple(renamed),
            listed=len(self.genes),
        )
        self._matched = given, match
        return match

    def match(self, genes: Sequence[str], source: str = "The sample") -> GeneMatch:
        match = self.align(genes)
        if match.overlap < self.min_overlap:
            raise ExpressionError(
                f"{source} has {len(match.source)} of the {match.listed} genes that scFoundation reads"
                f" ({100 * match.overlap:.0f} %); at least {100 * self.min_overlap:.0f} % are needed",
                "Give the whole transcriptome with HGNC symbols, or choose another gene encoder",
            )
        return match

    def encode(
        self,
        values: NDArray[np.float32],
        genes: Sequence[str],
        *,
        total: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> NDArray[np.float32]:
        """Encode (n_genes,) expression of a bulk sample into (4, 768): S, T, maximum, mean.

        Raises
        ------
        ExpressionError : too few genes, values below 0 (z-scores, say), or hardly any expression.
        """
        match = self.match(genes)
        given = np.asarray(values, np.float64)
        if not (np.isfinite(given).all() and (given >= 0).all()):
            raise ExpressionError(
                "scFoundation reads expression, which is never below 0, and these values are (z-scores?)",
                "Give counts, TPM or FPKM, or their log2(x+1)",
            )
        aligned = np.zeros(len(self.genes))
        aligned[match.target] = given[match.source]
        row = input_row(aligned, total=total)
        if not row[-1] > 0:
            # The script would go on, with two genes in the places of T and S.
            raise ExpressionError(
                "The sample has hardly any expression of scFoundation's genes", "Check the file and its unit"
            )
        content = row.astype("<f4").tobytes()
        key = hashlib.sha256(content).digest()
        tokens = self._known.get(key)
        if tokens is None:
            tokens = self._cache.get(content)
        if tokens is None:
            tokens = self._compute(row, progress)
            # Minutes of work are not thrown away because the cache is full or read-only.
            with suppress(OutputError):
                self._cache.put(content, tokens)
        self._known[key] = tokens
        return tokens.copy()

    def _compute(self, row: NDArray[np.float64], progress: ProgressCallback | None) -> NDArray[np.float32]:
        read, places = gather(row)
        with torch.inference_mode():
            tokens = self.network(
                torch.from_numpy(read).to(self.device), torch.from_numpy(places).to(self.device), progress
            )
            return pool_all(tokens).cpu().numpy()


def load(device: str = "auto") -> SCFoundation:
    """Load the encoder from the user's files.

    Raises
    ------
    EncoderError : a file is missing, altered, or not what scFoundation publishes.
    """
    where = resolve_device(device)
    checkpoint, gene_list = find_weights(SOURCE)
    check_sha256(gene_list, GENE_LIST_SHA256, f"Take the list from {SOURCE.page}")
    genes = read_gene_list(gene_list)
    network, config = read_network(checkpoint)
    if config.seq_len != len(genes) + 2:
        raise EncoderError(
            f"{checkpoint.name} was made for {config.seq_len - 2} genes, but {gene_list.name} lists {len(genes)}",
            f"Take both files from {SOURCE.page}",
        )
    return SCFoundation(network, genes, where, sha256_of(checkpoint))


def check_file(name: str, path: Path) -> None:
    """Raise EncoderError unless a file is the gene list, or the checkpoint: checked before it is kept."""
    if name == SOURCE.files[1]:
        check_sha256(path, GENE_LIST_SHA256, f"Take the list from {SOURCE.page}")
    else:
        read_network(path)


def read_gene_list(path: Path) -> tuple[str, ...]:
    """Read the symbols in their order: tab-separated gene_name and index, one header line."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return tuple(row[0] for row in rows)


def read_network(path: Path) -> tuple[CellNetwork, CellConfig]:
    """Read the 'cell' part of the authors' checkpoint, every key of the encoder strictly.

    Raises
    ------
    EncoderError : damaged, or another checkpoint.
    """
    cell = read_checkpoint(path).get("cell")
    if not isinstance(cell, Mapping) or not isinstance(cell.get("state_dict"), Mapping):
        raise EncoderError(
            f"{path.name} has no part 'cell', so it is not scFoundation's", f"Take it from {SOURCE.page}"
        )
    config = _config(cell.get("config"), path)
    state = {}
    for key, value in cell["state_dict"].items():
        _, prefix, rest = str(key).partition("model.")
        name = rest if prefix else str(key)
        if isinstance(value, Tensor) and not name.startswith(_IGNORED):
            state[name] = value
    with torch.device("meta"):  # 100 million random numbers that the file replaces anyway
        network = CellNetwork(config)
    network = network.to_empty(device="cpu")
    load_strictly(network, state, CARD.title)
    return network, config


def _config(stated: Any, path: Path) -> CellConfig:
    """Read the sizes: those of the model, overruled by those of the data set, as the authors' loader does."""
    try:
        name = stated["model"]
        effective = {**stated["model_config"][name], **stated["dataset_config"]["rnaseq"]}
        encoder = effective["encoder"]
        kind, norm_first = encoder["module_type"], bool(encoder.get("norm_first", False))
        config = CellConfig(
            seq_len=int(effective["seq_len"]),
            hidden=int(encoder["hidden_dim"]),
            depth=int(encoder["depth"]),
            heads=int(encoder["heads"]),
            bins=int(effective["bin_num"]),
            bin_alpha=float(effective["bin_alpha"]),
            mask_id=int(effective["mask_token_id"]),
            pad_id=int(effective["pad_token_id"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EncoderError(
            f"{path.name} does not state the sizes of its network as scFoundation's checkpoint does"
            f" ({type(error).__name__}: {error})",
            f"Take it from {SOURCE.page}",
        ) from error
    sizes = (config.seq_len, config.hidden, config.depth, config.heads, config.bins)
    if (name, kind, norm_first) != ("mae_autobin", "transformer", False) or min(sizes) < 1:
        raise EncoderError(
            f"{path.name} holds another network than scFoundation's cell encoder ({name}, {kind})",
            f"Take the published checkpoint from {SOURCE.page}",
        )
    if config.hidden % config.heads:
        raise EncoderError(
            f"{path.name} states sizes that do not fit together", f"Take it from {SOURCE.page}"
        )
    return config
