"""Published checkpoints -> a bundle: sizes from the weights, everything else from the person who imports them.

A checkpoint holds numbers under names. Which encoders its inputs came from, where the intervals of follow-up lie, which
gene a column stands for and how the risks of other patients are spread is nowhere in it, and nothing of that is guessed:
what is missing is named, all at once.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.bundle.config import BundleConfig, EncoderSpec
from napari_survpgc.core.bundle.write import write_bundle
from napari_survpgc.core.clinical.sentences import load_templates
from napari_survpgc.core.encoders.catalog import cards_of
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.genomics.gene_sets import composition, read_gmt
from napari_survpgc.core.genomics.normalize import GeneReference
from napari_survpgc.core.types import GeneSet, InputForm, Modality
from napari_survpgc.resources import resource_path

from .file import open_checkpoint
from .sizes import by_pathway, importable_class, our_state, published_sizes
from .tables import read_genes, read_reference

if TYPE_CHECKING:
    from napari_survpgc.core.models.base import SurvivalModel


@dataclass(frozen=True)
class ImportFacts:
    """What a checkpoint cannot say.

    Attributes
    ----------
    bin_edges : months; the inner edges (one fewer than intervals), or all of them from 0 to the last follow-up.
    reference : CSV with risk, survival_months, event (1 = death) of the patients that a new one is compared with.
    image_encoder, text_encoder, gene_encoder : ids.
    patch_px, mpp : side of a patch in px, and its µm per px.
    genes : text file, a gene a line, or CSV with the column gene and, if there, mean and sd of log2(TPM+1); in the
        order of the expression vector.
    gene_sets : GMT; sets, and the genes within them, in the order of the training.
    templates : TOML with the wording of the clinical sentences; None for the default.
    sizes : settings that the weights do not show, by their names in the model's constructor, e.g. ``gated``.
    """

    bin_edges: tuple[float, ...] = ()
    reference: Path | None = None
    image_encoder: str | None = None
    text_encoder: str | None = None
    gene_encoder: str | None = None
    patch_px: int | None = None
    mpp: float | None = None
    genes: Path | None = None
    gene_sets: Path | None = None
    templates: Path | None = None
    endpoint: str = "overall survival"
    cohort: str = "not stated"
    name: str | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportedCheckpoint:
    """The new bundle, and what a person should know of how it was read."""

    bundle: Bundle
    notes: tuple[str, ...]


def import_checkpoint(files: Sequence[Path], model: str, out: Path, facts: ImportFacts) -> ImportedCheckpoint:
    """Make a bundle of checkpoints of the authors' code; nothing in them is executed.

    Parameters
    ----------
    files : one a fold, all of the same system and sizes.   model : see :data:`napari_survpgc.core.models.MODELS`.

    Raises
    ------
    BundleError : not a checkpoint, of another system, or something is missing that only a person can say.
    """
    kind = importable_class(model)
    gene_sets = read_gmt(facts.gene_sets) if facts.gene_sets is not None else ()
    opened = [open_checkpoint(path) for path in files]
    checkpoints = [one.tensors for one in opened]
    found = [
        published_sizes(tensors, model, path, len(gene_sets)) | dict(facts.sizes)
        for path, tensors in zip(files, checkpoints, strict=True)
    ]
    sizes = found[0]
    for path, other in zip(files, found, strict=True):
        differing = [key for key in sizes if other.get(key) != sizes[key]]
        if differing:
            raise BundleError(
                f"{path.name} has another {differing[0]} than {files[0].name}: they are not folds of one model",
                "Import them one by one",
            )
    _require(model, kind, facts, sizes)
    genes = None
    if Modality.GENOMIC in kind.requires(sizes):
        genes = _gene_reference(facts, gene_sets, sizes, kind)
    if genes is None or not by_pathway(kind, sizes):
        gene_sets = ()
    options = dict(sizes)
    if genes is not None and gene_sets and kind.GENOMIC is InputForm.VECTOR:
        options["composition"] = composition(genes.genes, gene_sets)
    states = [
        our_state(tensors, model, options, path) for path, tensors in zip(files, checkpoints, strict=True)
    ]
    reference = read_reference(_given(facts.reference), int(sizes["n_bins"]))
    edges = _edges(facts.bin_edges, int(sizes["n_bins"]), reference)
    clinic = Modality.CLINIC in kind.requires(sizes)
    config = BundleConfig(
        name=facts.name or f"{model} ({files[0].stem})",
        model=model,
        model_config=sizes,
        encoders=_encoders(kind, facts, sizes, genes),
        bin_edges_months=edges,
        fold_bin_edges_months=(edges,) * len(files),
        endpoint=facts.endpoint,
        cohort=facts.cohort,
        vocabulary={},
        training={
            "protocol": "imported checkpoint",
            "files": {path.name: _sha256(path) for path in files},
        },
    )
    templates = None
    if clinic:
        templates = facts.templates or resource_path("templates", "default.toml")
        load_templates(str(templates))  # an unusable wording is told of now, not at the first prediction
    bundle = write_bundle(
        out,
        config,
        states,
        reference,
        gene_reference=genes,
        gene_sets=gene_sets,
        templates=templates,
    )
    removed = dict.fromkeys(prefix for one in opened for prefix in one.removed)
    cut = (f"Removed from the names of the weights: {', '.join(removed)}",) if removed else ()
    return ImportedCheckpoint(bundle, (*cut, *_notes(kind, facts, sizes, genes)))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require(model: str, kind: type[SurvivalModel], facts: ImportFacts, sizes: Mapping[str, Any]) -> None:
    """Name everything that is missing at once."""
    needs = kind.requires(sizes)
    n = int(sizes["n_bins"])
    wanted: list[tuple[str, object]] = [
        (f"--bin-edges (the {n - 1} inner edges of its {n} intervals, in months)", facts.bin_edges),
        ("--reference (CSV: risk, survival_months, event of the patients it was tested on)", facts.reference),
    ]
    if Modality.PATHOLOGY in needs:
        wanted += [
            (f"--image-encoder (its features are {sizes['pathology_dim']} wide)", facts.image_encoder),
            ("--patch-px and --mpp (how its patches were cut)", facts.patch_px and facts.mpp),
        ]
    if Modality.CLINIC in needs:
        wanted.append((f"--text-encoder (its tokens are {sizes['clinic_dim']} wide)", facts.text_encoder))
    if Modality.GENOMIC in needs:
        pathways = by_pathway(kind, sizes)
        if pathways:
            wanted.append(("--gene-sets (GMT, in the order of the training)", facts.gene_sets))
        if kind.GENOMIC is InputForm.TOKENS:
            width = sizes["genomic_dim"]
            wanted.append((f"--gene-encoder (its tokens are {width} wide)", facts.gene_encoder))
        if kind.GENOMIC is not InputForm.GENE_SETS:
            wanted.append(("--genes (the genes in the order of the training)", facts.genes))
    missing = [text for text, given in wanted if not given]
    if missing:
        raise BundleError(
            f"The checkpoint alone does not make a bundle of {model}: missing are {'; '.join(missing)}",
            "Give them; see 'survpgc import-checkpoint --help'",
        )


def _given(path: Path | None) -> Path:
    assert path is not None  # _require has asked for it
    return path


def _encoders(
    kind: type[SurvivalModel], facts: ImportFacts, sizes: Mapping[str, Any], genes: GeneReference | None
) -> dict[str, EncoderSpec]:
    needs = kind.requires(sizes)
    encoders: dict[str, EncoderSpec] = {}
    if Modality.PATHOLOGY in needs:
        encoders["pathology"] = EncoderSpec(
            str(facts.image_encoder), sizes["pathology_dim"], 0, facts.patch_px, facts.mpp
        )
    if Modality.CLINIC in needs:
        encoders["clinic"] = EncoderSpec(str(facts.text_encoder), sizes["clinic_dim"], 6)
    if Modality.GENOMIC in needs:
        assert genes is not None
        if kind.GENOMIC is InputForm.TOKENS:
            encoders["genomic"] = EncoderSpec(
                str(facts.gene_encoder), sizes["genomic_dim"], sizes.get("n_genomic", 4)
            )
        elif kind.GENOMIC is InputForm.GENE_SETS:
            encoders["genomic"] = EncoderSpec("gene-sets", 0, len(sizes["gene_set_sizes"]))
        else:
            encoders["genomic"] = EncoderSpec("expression", len(genes.genes), 1)
    for spec in encoders.values():
        known = sorted({card.dim for card in cards_of(spec.id)})  # ids of others are taken as they are
        if known and spec.dim not in known:
            raise BundleError(
                f"The encoder {spec.id} gives {known[0]} numbers, but the checkpoint was trained on {spec.dim}",
                "Name the encoder that it was trained on",
            )
    return encoders


def _edges(given: Sequence[float], n_bins: int, reference: pd.DataFrame) -> tuple[float, ...]:
    """Return the (n_bins + 1,) edges in months, 0 first and the last follow-up of the reference patients last."""
    if len(given) not in (n_bins - 1, n_bins + 1):
        raise BundleError(
            f"--bin-edges has {len(given)} values, but the checkpoint has {n_bins} intervals",
            f"Give its {n_bins - 1} inner edges, or all {n_bins + 1} from 0 to the last follow-up",
        )
    edges = tuple(float(edge) for edge in given)
    if len(given) == n_bins - 1:
        edges = (0.0, *edges, float(reference["survival_months"].max()))
    increasing = all(a < b for a, b in itertools.pairwise(edges))
    if not increasing or not all(math.isfinite(e) and e >= 0 for e in edges):
        raise BundleError(
            f"The intervals would end at {', '.join(f'{e:g}' for e in edges)} months, which does not increase (the last"
            " is the longest follow-up in --reference)",
            "Correct --bin-edges, or give all of them from 0 to the last follow-up",
        )
    return edges


def _gene_reference(
    facts: ImportFacts, gene_sets: Sequence[GeneSet], sizes: Mapping[str, Any], kind: type[SurvivalModel]
) -> GeneReference:
    if facts.genes is not None:
        reference = read_genes(facts.genes)
    else:
        reference = GeneReference(tuple(dict.fromkeys(gene for s in gene_sets for gene in s.genes)))
    count = sizes.get("genomic_dim")
    if kind.GENOMIC is InputForm.VECTOR and count != len(reference.genes):
        raise BundleError(
            f"{_given(facts.genes).name} names {len(reference.genes)} genes, but the checkpoint takes {count}",
            "Give the genes that it was trained on, in that order",
        )
    if kind.GENOMIC is InputForm.GENE_SETS:
        wanted = list(sizes["gene_set_sizes"])
        known = set(reference.genes)
        if len(gene_sets) != len(wanted):
            raise BundleError(
                f"{_given(facts.gene_sets).name} has {len(gene_sets)} gene sets, but the checkpoint {len(wanted)}",
                "Give the gene sets that it was trained on, in that order",
            )
        for gene_set, size in zip(gene_sets, wanted, strict=True):
            members = sum(gene in known for gene in gene_set.genes)
            if members != size:
                raise BundleError(
                    f"The gene set {gene_set.name} has {members} genes, but its part of the checkpoint takes {size}",
                    "Give sets and genes (--gene-sets, --genes) that it was trained on, in that order",
                )
    return reference


def _notes(
    kind: type[SurvivalModel], facts: ImportFacts, sizes: Mapping[str, Any], genes: GeneReference | None
) -> tuple[str, ...]:
    notes = []
    shown = {k: v for k, v in sizes.items() if k != "gene_set_sizes"}
    if "gene_set_sizes" in sizes:
        shown["gene sets"] = len(sizes["gene_set_sizes"])
    notes.append("Read from the weights: " + ", ".join(f"{k} {v}" for k, v in shown.items()) + ".")
    if sizes.get("fusion") == "bilinear" or "skip" in sizes:
        gated = sizes.get("gated", True)
        notes.append(
            f"{'Given' if 'gated' in facts.sizes else 'Assumed'}: gates in the fusion {'on' if gated else 'off'}"
            " (--set gated=...); the weights look the same either way."
        )
    if genes is not None and genes.mean is None:
        notes.append(
            "--genes has no mean and sd of log2(TPM+1): expression files must hold z-scores like those of the training."
        )
    if genes is not None and kind.GENOMIC is InputForm.VECTOR:
        notes.append(
            "The published gene baselines saw expression scaled to [-1, 1]: for such weights give mean = (lowest +"
            " highest) / 2 and sd = (highest - lowest) / 2 of the training table in --genes, the same for every gene."
        )
    if genes is not None and kind.GENOMIC is InputForm.GENE_SETS:
        notes.append(
            "Genes within a set are taken in the order of the GMT file; SurvPath's and MCAT's code sorts them by name."
        )
    return tuple(notes)
