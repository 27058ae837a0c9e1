"""Cohort -> tensors of each patient, and the facts about them that a bundle must keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.bundle.config import UNKNOWN_ENCODER, EncoderSpec
from napari_survpgc.core.clinical.sentences import clinical_tokens, load_templates
from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.encoders.base import ExpressionEncoder, GeneEncoder
from napari_survpgc.core.encoders.catalog import load_gene_encoder, load_text_encoder
from napari_survpgc.core.errors import CohortError, FeatureError
from napari_survpgc.core.features.feature_file import read_rows
from napari_survpgc.core.genomics.gene_sets import gene_set_vectors
from napari_survpgc.core.genomics.normalize import FoldScale, GeneReference
from napari_survpgc.core.types import (
    ClinicalRecord,
    GeneSet,
    GeneValues,
    InputForm,
    ProgressCallback,
)

from ..seeds import seed_of
from ..settings import Settings
from .expression import cohort_expression, expression_itself, fold_scale
from .pathology import pathology_encoder, unusable_features
from .wordings import draw_wordings

_KEEP_BYTES = 6 << 30
"""Bags are kept in memory up to this; larger cohorts read them again for every step."""


@dataclass(frozen=True)
class InputForms:
    """What a system is given, and how.

    Attributes
    ----------
    modalities : that it is given.   optional : those of them that a patient may lack.
    clinic, genomic : the form of these two.
    pathways : it looks at the genes of the gene sets only.
    among : patients that it can take; None for all.
    """

    modalities: frozenset[str]
    optional: frozenset[str] = frozenset()
    clinic: InputForm = InputForm.TOKENS
    genomic: InputForm = InputForm.VECTOR
    pathways: bool = False
    among: frozenset[str] | None = None


@dataclass
class Dataset:
    """What the systems see.

    Attributes
    ----------
    cases : ids that have every wanted modality.   left_out : id -> reason, for the others.
    clinic : id -> (6, d) tokens; empty for systems that take the record as it is.
    genomic : id -> (n_genes,) clipped z-scores, or expression where the gene encoder reads that.
    genomic_tokens : id -> (n_g, d_g).   notes : on how the data were read, in sentences.
    features : id -> files of its slides.
    scale : of the genes, where it is that of a fold: see :meth:`scaled`.
    encoders : by modality.   gene_reference, gene_sets : None and () without genes.
    """

    forms: InputForms
    patients: pd.DataFrame
    records: Mapping[str, ClinicalRecord]
    cases: tuple[str, ...]
    left_out: dict[str, str]
    clinic: dict[str, Tensor]
    genomic: dict[str, NDArray[np.float32]]
    genomic_tokens: dict[str, Tensor]
    features: dict[str, tuple[Path, ...]]
    encoders: dict[str, EncoderSpec]
    gene_reference: GeneReference | None
    gene_sets: tuple[GeneSet, ...]
    templates: Path | None
    notes: tuple[str, ...] = ()
    scale: FoldScale | None = None
    _logs: pd.DataFrame | None = None
    _gene_encoder: GeneEncoder | None = None
    _by_fold: bool = False
    _bags: dict[str, Tensor] = field(default_factory=dict)
    _kept: int = 0
    _known: set[Path] = field(default_factory=set)
    _reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "bags"))
    _next: tuple[str, Future[Tensor]] | None = None

    def bag(self, case: str) -> Tensor:
        """Return (n_p, d) patches of all slides of a patient, in the precision of the files."""
        if case in self._bags:
            return self._bags[case]
        waiting, self._next = self._next, None
        bag = waiting[1].result() if waiting is not None and waiting[0] == case else self._read(case)
        if self._kept + bag.nbytes <= _KEEP_BYTES:
            self._bags[case] = bag
            self._kept += bag.nbytes
        return bag

    def prefetch(self, case: str) -> None:
        """Read the bag of the patient after this one behind the step's computation."""
        if case in self.features and case not in self._bags:
            self._next = (case, self._reader.submit(self._read, case))

    def _read(self, case: str) -> Tensor:
        slides = [read_rows(file, known=file in self._known) for file in self.features[case]]
        self._known.update(self.features[case])
        return torch.from_numpy(slides[0] if len(slides) == 1 else np.concatenate(slides))

    def slide_means(self, progress: ProgressCallback | None = None) -> list[NDArray[np.float64]]:
        """Return the mean feature vector (d,) of every slide of the patients.

        Raises
        ------
        CohortError : lists every file that is damaged or holds anything but numbers.
        """
        files = [(case, file) for case in self.cases for file in self.features.get(case, ())]
        means, problems = [], []
        for done, (case, file) in enumerate(files, start=1):
            try:
                means.append(read_rows(file).mean(0, dtype=np.float64))
                self._known.add(file)
            except FeatureError as error:
                problems.append(f"patient {case}: {error.problem}")
            if progress:
                progress("slides", done, len(files))
        if problems:
            raise unusable_features(problems)
        return means

    def scaled(self, cases: Sequence[str], progress: ProgressCallback | None = None) -> Dataset:
        """Return the data with genes against some patients, those of a training fold, where the settings ask for it."""
        reference, encoder = self.gene_reference, self._gene_encoder
        if reference is None or not self._by_fold:
            return self
        if reference.scale is not None:
            totals = [
                float(self.genomic[case].sum(dtype=np.float64)) for case in cases if case in self.genomic
            ]
            if not totals:
                raise CohortError("No training patient of a fold has expression", "Make other folds")
            scale = FoldScale(np.zeros(0), np.zeros(0), float(np.median(totals)))
            genomic = self.genomic
        elif self._logs is None:
            return self
        else:
            scale = fold_scale(self._logs, cases)
            z = np.clip((self._logs.to_numpy(float) - scale.mean) / scale.sd, -reference.clip, reference.clip)
            rows = dict(zip(self._logs.index, np.nan_to_num(z).astype(np.float32), strict=True))
            genomic = {case: rows[case] for case in self.genomic}
        tokens = self.genomic_tokens
        if encoder is not None:
            tokens = encode_genes(encoder, genomic, reference.genes, scale.total, progress)
        return dataclasses.replace(self, genomic=genomic, genomic_tokens=tokens, scale=scale)

    def genomic_input(self, case: str) -> Tensor | list[Tensor] | None:
        """Return the genomic input of a patient without a batch axis; None for a patient without genes."""
        if self.forms.genomic is InputForm.TOKENS:
            return self.genomic_tokens.get(case)
        if case not in self.genomic:
            return None
        z = self.genomic[case]
        if self.forms.genomic is InputForm.VECTOR:
            return torch.from_numpy(z)
        assert self.gene_reference is not None
        return [torch.from_numpy(v) for v in gene_set_vectors(z, self.gene_reference.genes, self.gene_sets)]


def load_dataset(
    cohort: Cohort, settings: Settings, forms: InputForms, progress: ProgressCallback | None = None
) -> Dataset:
    """Read what a system asks for; patients who lack a modality that they may not lack are left out, with the reason.

    Raises
    ------
    CohortError : no patient has everything, or feature files are damaged or of different encoders (all are listed).
    ExpressionError : the expression is not what the gene encoder reads.
    EncoderError : an encoder's weights are not there.
    """
    wanted = forms.modalities
    by_gene_set = forms.genomic is InputForm.GENE_SETS or forms.pathways
    left_out: dict[str, str] = {}
    encoders: dict[str, EncoderSpec] = {}
    reference: GeneReference | None = None
    gene_sets: tuple[GeneSet, ...] = ()
    values = pd.DataFrame()
    gene_encoder: GeneEncoder | None = None
    notes: tuple[str, ...] = ()
    logs: pd.DataFrame | None = None
    if "genomic" in wanted:
        if cohort.expression is None:
            raise CohortError(
                f"The cohort {cohort.name} has no expression.csv.gz", "Add it, or leave genes out"
            )
        if forms.genomic is InputForm.TOKENS:
            # Where the models run: an encoder of a whole transcriptome needs minutes a patient on a processor.
            gene_encoder = load_gene_encoder(settings.gene_encoder, settings.device)
        if isinstance(gene_encoder, ExpressionEncoder) and gene_encoder.values is GeneValues.LINEAR:
            values, reference, note = expression_itself(cohort, settings, gene_encoder)
            notes = (note,)
        else:
            values, reference, gene_sets, logs, notes = cohort_expression(cohort, settings, by_gene_set)
        encoders["genomic"] = (
            EncoderSpec("gene-sets", 0, len(gene_sets))
            if forms.genomic is InputForm.GENE_SETS
            else EncoderSpec("expression", values.shape[1], 1)
        )
    for case in cohort.patients.index:
        if "pathology" in wanted and not cohort.features.get(case):
            left_out[case] = "no features"
        elif "genomic" in wanted - forms.optional and case not in values.index:
            left_out[case] = "no expression"
        elif forms.among is not None and case not in forms.among:
            left_out[case] = "no risk in the other run"
    cases = tuple(c for c in cohort.patients.index if c not in left_out)
    if not cases:
        raise CohortError(
            f"No patient of the cohort {cohort.name} has {', '.join(sorted(wanted - forms.optional))}",
            "Make the features with 'survpgc features', or train on fewer modalities",
        )
    clinic: dict[str, Tensor] = {}
    templates: Path | None = None
    if "clinic" in wanted and forms.clinic is InputForm.VECTOR:
        encoders["clinic"] = EncoderSpec("one-hot", 0, 1)
    elif "clinic" in wanted:
        encoder = load_text_encoder(settings.text_encoder, "cpu")
        template_set = load_templates(settings.templates)
        templates = template_set.source
        for case in cases:
            variants = draw_wordings(case, template_set, settings.n_templates, settings.seed)
            tokens = clinical_tokens(cohort.records[case], encoder, template_set, variants)
            clinic[case] = torch.from_numpy(tokens.embeddings)
        encoders["clinic"] = EncoderSpec(encoder.id, encoder.dim, 6)
    if "pathology" in wanted:
        encoders["pathology"] = pathology_encoder(cohort, cases, settings.image_encoder)
        if encoders["pathology"].id == UNKNOWN_ENCODER:
            notes = (
                *notes,
                "The feature files do not say which encoder made them: a bundle of this run will ask for features; say"
                " --set image_encoder=ID to have it make them.",
            )
    genomic = {c: values.loc[c].to_numpy(np.float32) for c in cases if c in values.index}
    genomic_tokens: dict[str, Tensor] = {}
    if gene_encoder is not None:
        assert reference is not None
        total = None if reference.scale is None else reference.scale.total
        if total is None or settings.scaling != "fold":  # else each fold has its own, minutes a patient
            genomic_tokens = encode_genes(gene_encoder, genomic, reference.genes, total, progress)
        encoders["genomic"] = EncoderSpec(gene_encoder.id, gene_encoder.dim, gene_encoder.n_tokens)
    return Dataset(
        forms=forms,
        patients=shuffled(cohort.patients, settings.seed) if settings.shuffle_labels else cohort.patients,
        records=cohort.records,
        cases=cases,
        left_out=left_out,
        clinic=clinic,
        genomic=genomic,
        genomic_tokens=genomic_tokens,
        features={c: cohort.features[c] for c in cases} if "pathology" in wanted else {},
        encoders=encoders,
        gene_reference=reference,
        gene_sets=gene_sets,
        templates=templates,
        notes=notes,
        _logs=logs,
        _gene_encoder=gene_encoder,
        _by_fold=settings.scaling == "fold",
    )


def encode_genes(
    encoder: GeneEncoder,
    genomic: Mapping[str, NDArray[np.float32]],
    genes: Sequence[str],
    total: float | None,
    progress: ProgressCallback | None = None,
) -> dict[str, Tensor]:
    """Return id -> (n_g, d_g) tokens of each patient's expression; ``total`` is the reference total, None for z-scores."""
    tokens = {}
    for done, (case, row) in enumerate(genomic.items(), start=1):
        tokens[case] = torch.from_numpy(encoder.encode(row, genes, total=total))
        if progress and total is not None:  # the other encoders are done before a bar could be seen
            progress("genes", done, len(genomic))
    return tokens


def shuffled(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the patients with their outcomes exchanged: months and event stay together, whose they are is chance."""
    rng = np.random.default_rng(seed_of(seed, "shuffled"))
    order = rng.permutation(len(patients))
    names = ("survival_months", "event")
    return patients.assign(**{name: patients[name].to_numpy()[order] for name in names})
