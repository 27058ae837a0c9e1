"""Cohort -> tensors of each patient, and the facts about them that a bundle must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.bundle import EncoderSpec
from napari_survpgc.core.clinical import clinical_tokens, load_templates
from napari_survpgc.core.cohort import Cohort
from napari_survpgc.core.encoders import load_text_encoder
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.features import read_features
from napari_survpgc.core.genes import bundled_gene_sets
from napari_survpgc.core.genomics import GeneReference, gene_set_vectors
from napari_survpgc.core.types import GeneSet

from .settings import Settings
from .wordings import draw_wordings

_KEEP_BYTES = 6 << 30
"""Bags are kept in memory up to this; larger cohorts read them again for every step."""


@dataclass
class Dataset:
    """What the models see.

    Attributes
    ----------
    cases : ids that have every wanted modality.   left_out : id -> reason, for the others.
    clinic : id -> (6, d).   genomic : id -> (n_genes,) clipped z-scores.   features : id -> files of its slides.
    encoders : by modality.   gene_reference, gene_sets : None and () without genes.
    """

    patients: pd.DataFrame
    cases: tuple[str, ...]
    left_out: dict[str, str]
    clinic: dict[str, Tensor]
    genomic: dict[str, NDArray[np.float32]]
    features: dict[str, tuple[Path, ...]]
    encoders: dict[str, EncoderSpec]
    gene_reference: GeneReference | None
    gene_sets: tuple[GeneSet, ...]
    templates: Path | None
    _bags: dict[str, Tensor] = field(default_factory=dict)
    _kept: int = 0

    def bag(self, case: str) -> Tensor:
        """Return (n_p, d) patches of all slides of a patient; the tokens of the patient stay once."""
        if case not in self._bags:
            bag = torch.from_numpy(np.concatenate([read_features(f).features for f in self.features[case]]))
            if self._kept + bag.nbytes > _KEEP_BYTES:
                return bag
            self._bags[case] = bag
            self._kept += bag.nbytes
        return self._bags[case]

    def genomic_input(self, case: str, by_set: bool) -> Tensor | list[Tensor]:
        """Return the genomic input of a patient with a batch axis: a list of gene sets, or the vector."""
        z = self.genomic[case]
        if not by_set:
            return torch.from_numpy(z)[None]
        assert self.gene_reference is not None
        return [
            torch.from_numpy(v)[None] for v in gene_set_vectors(z, self.gene_reference.genes, self.gene_sets)
        ]


def load_dataset(cohort: Cohort, settings: Settings, *, by_gene_set: bool) -> Dataset:
    """Read what the settings ask for; patients who lack a wanted modality are left out, with the reason.

    Raises
    ------
    CohortError : no patient has everything, or features of different encoders are mixed.
    """
    wanted = settings.modalities
    left_out: dict[str, str] = {}
    encoders: dict[str, EncoderSpec] = {}
    reference: GeneReference | None = None
    gene_sets: tuple[GeneSet, ...] = ()
    z = pd.DataFrame()
    if "genomic" in wanted:
        if cohort.expression is None:
            raise CohortError(
                f"The cohort {cohort.name} has no expression.csv.gz", "Add it, or leave genes out"
            )
        z, reference, gene_sets = _expression(cohort, settings, by_gene_set)
        encoders["genomic"] = (
            EncoderSpec("gene-sets", 0, len(gene_sets))
            if by_gene_set
            else EncoderSpec("expression", z.shape[1], 1)
        )
    for case in cohort.patients.index:
        if "pathology" in wanted and not cohort.features.get(case):
            left_out[case] = "no features"
        elif "genomic" in wanted and case not in z.index:
            left_out[case] = "no expression"
    cases = tuple(c for c in cohort.patients.index if c not in left_out)
    if not cases:
        raise CohortError(
            f"No patient of the cohort {cohort.name} has {', '.join(wanted)}",
            "Make the features with 'survpgc features', or train on fewer modalities",
        )
    clinic: dict[str, Tensor] = {}
    templates: Path | None = None
    if "clinic" in wanted:
        encoder = load_text_encoder(settings.text_encoder, "cpu")
        template_set = load_templates(settings.templates)
        templates = template_set.source
        for case in cases:
            variants = draw_wordings(case, template_set, settings.n_templates, settings.seed)
            tokens = clinical_tokens(cohort.records[case], encoder, template_set, variants)
            clinic[case] = torch.from_numpy(tokens.embeddings)
        encoders["clinic"] = EncoderSpec(encoder.id, encoder.dim, 6)
    if "pathology" in wanted:
        encoders["pathology"] = _pathology_encoder(cohort, cases)
    return Dataset(
        patients=cohort.patients,
        cases=cases,
        left_out=left_out,
        clinic=clinic,
        genomic={c: z.loc[c].to_numpy(np.float32) for c in cases} if "genomic" in wanted else {},
        features={c: cohort.features[c] for c in cases} if "pathology" in wanted else {},
        encoders=encoders,
        gene_reference=reference,
        gene_sets=gene_sets,
        templates=templates,
    )


def _expression(
    cohort: Cohort, settings: Settings, by_gene_set: bool
) -> tuple[pd.DataFrame, GeneReference, tuple[GeneSet, ...]]:
    assert cohort.expression is not None
    frame = cohort.expression
    values = frame.to_numpy(float)
    stated = cohort.expression_reference
    if np.nanmin(values) < 0:
        z = frame  # z-scores as they come
        mean = sd = None
        if stated is not None and set(frame.columns) <= set(stated.index):
            mean = stated.loc[list(frame.columns), "mean"].to_numpy(float)
            sd = stated.loc[list(frame.columns), "sd"].to_numpy(float)
    else:
        logs = (
            frame
            if np.nanmax(values) <= 40
            else pd.DataFrame(np.log2(values + 1), frame.index, frame.columns)
        )
        mean, sd = logs.mean().to_numpy(float), logs.std(ddof=0).to_numpy(float)
        varies = sd > 1e-6
        logs, mean, sd = logs.loc[:, varies], mean[varies], sd[varies]
        z = pd.DataFrame((logs.to_numpy(float) - mean) / sd, logs.index, logs.columns)
    z = z.clip(-settings.clip, settings.clip).fillna(0.0)
    genes = list(z.columns)
    gene_sets: tuple[GeneSet, ...] = ()
    if by_gene_set:
        present = set(genes)
        candidates = [
            GeneSet(s.name, s.description, tuple(g for g in s.genes if g in present))
            for s in (cohort.gene_sets or bundled_gene_sets())
        ]
        gene_sets = tuple(
            s for s in candidates if s.genes
        )  # empty sets carry nothing: masked by leaving them out
        if not gene_sets:
            raise CohortError(
                "No gene set has a gene in the expression table", "Give gene sets of the same symbols"
            )
        used = {g for s in gene_sets for g in s.genes}
        keep = [i for i, g in enumerate(genes) if g in used]
    else:
        keep = sorted(range(len(genes)), key=lambda i: genes[i])
    reference = GeneReference(
        tuple(genes[i] for i in keep),
        None if mean is None else mean[keep],
        None if sd is None else sd[keep],
        clip=settings.clip,
    )
    return z.iloc[:, keep], reference, gene_sets


def _pathology_encoder(cohort: Cohort, cases: Sequence[str]) -> EncoderSpec:
    found: dict[tuple[str, int, int, float], str] = {}
    for case in cases:
        for path in cohort.features[case]:
            bag = read_features(path)
            key = (bag.encoder or "unknown", bag.features.shape[1], bag.grid.patch_px, round(bag.grid.mpp, 4))
            found.setdefault(key, path.name)
    if len({key[:2] for key in found}) > 1:
        listed = "; ".join(f"{name}: {key[0]}, width {key[1]}" for key, name in found.items())
        raise CohortError(
            f"The features of {cohort.name} come from different encoders ({listed})", "Use one encoder"
        )
    encoder, width, patch_px, mpp = next(iter(found))
    known = np.isfinite(mpp)
    return EncoderSpec(encoder, width, 0, patch_px if patch_px else None, float(mpp) if known else None)
