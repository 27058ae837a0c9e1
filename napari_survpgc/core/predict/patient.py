"""A patient as the models of a bundle see one: sentences and tokens of the record, gene expression, and their changes."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.clinical.fields import FIELDS
from napari_survpgc.core.clinical.sentences import clinical_tokens, load_templates
from napari_survpgc.core.encoders.base import GeneEncoder, TextEncoder
from napari_survpgc.core.encoders.catalog import load_gene_encoder, load_text_encoder
from napari_survpgc.core.errors import BundleError, ExpressionError
from napari_survpgc.core.genomics.gene_sets import gene_set_vectors
from napari_survpgc.core.genomics.normalize import normalize_profile
from napari_survpgc.core.models.base import GenomicInput
from napari_survpgc.core.threads import one_core
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    GeneValues,
    InputForm,
    ProgressCallback,
)


@dataclass(frozen=True)
class Patient:
    """A patient as the models see one; a modality that is not there is None.

    Attributes
    ----------
    clinic : (6, d_c) embeddings of ``sentences``; None for a model that does not read sentences.
    clinic_unknown : the same with every field unknown.
    expression : (n_genes,) in the order of the bundle's genes, 0 where missing: clipped z-scores, or expression itself
        in the bundle's unit where its gene encoder reads that.
    notes : how the expression was read and normalized.   expression_warnings : what a reader must know of it.
    gene_overlap : share (0-1) of the model's genes that the file has; None without a file.
    expression_sample : the sample or column of the file that was taken; None without expression.
    """

    record: ClinicalRecord
    sentences: tuple[str, ...]
    clinic: NDArray[np.float32] | None
    clinic_unknown: NDArray[np.float32] | None
    expression: NDArray[np.float32] | None
    notes: tuple[str, ...]
    expression_warnings: tuple[str, ...]
    gene_overlap: float | None = None
    expression_sample: str | None = None


class PatientInputs:
    """Turns patients into the inputs of a bundle's models, on one device.

    Parameters
    ----------
    genomic_form : how the models take expression.
    """

    def __init__(self, bundle: Bundle, device: torch.device, genomic_form: InputForm) -> None:
        self.bundle, self.device, self.genomic_form = bundle, device, genomic_form
        self.templates = load_templates(str(bundle.templates) if bundle.templates else "default")
        self._text_encoder: TextEncoder | None = None
        self._encoding = threading.Lock()  # tokenizers are not made for several threads

    @property
    def text_encoder(self) -> TextEncoder:
        """The bundle's text encoder, loaded on first use."""
        if self._text_encoder is None:
            self._text_encoder = load_text_encoder(self.bundle.config.encoders["clinic"].id, str(self.device))
        return self._text_encoder

    def prepare(self, record: ClinicalRecord, profile: ExpressionProfile | None) -> Patient:
        """Turn a record and an expression profile into tokens, with everything worth a warning.

        Raises
        ------
        ExpressionError : too few of the bundle's genes, or a unit that cannot be converted.
        EncoderError : the text encoder of the bundle cannot be loaded.
        """
        clinic, unknown, sentences = self._clinic(record)
        warnings: list[str] = []
        expression = None
        overlap = None
        notes: tuple[str, ...] = ()
        sample: str | None = None
        reference = self.bundle.gene_reference
        if reference is not None:
            if profile is None and "genomic" in self.bundle.config.optional:
                warnings.append("No expression file was given: the model leaves the genomic path out.")
            elif profile is None:
                expression = reference.average()
                warnings.append(
                    "No expression file was given: the model sees an average patient of the training cohort instead."
                )
            else:
                normalized = normalize_profile(profile, reference)
                expression = normalized.values.astype(np.float32)
                overlap = normalized.overlap
                sample = profile.sample
                notes = (*profile.notes, *normalized.notes)
                if normalized.missing:
                    meaning = "average" if reference.scale is None else "not expressed"
                    warnings.append(
                        f"{len(normalized.missing)} of the model's {len(reference.genes)} genes are not in"
                        f" {profile.source} and count as {meaning}."
                    )
        return Patient(
            record=record,
            sentences=sentences,
            clinic=clinic,
            clinic_unknown=unknown,
            expression=expression,
            notes=notes,
            expression_warnings=tuple(warnings),
            gene_overlap=overlap,
            expression_sample=sample,
        )

    def with_record(self, patient: Patient, record: ClinicalRecord) -> Patient:
        """Return the patient with another record; the expression stays."""
        clinic, _, sentences = self._clinic(record)
        return dataclasses.replace(patient, record=record, sentences=sentences, clinic=clinic)

    def _clinic(
        self, record: ClinicalRecord
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, tuple[str, ...]]:
        if "clinic" not in self.bundle.config.encoders or self.bundle.config.clinical_encodings:
            return None, None, ()
        with self._encoding:
            tokens = clinical_tokens(record, self.text_encoder, self.templates)
            unknown = clinical_tokens(ClinicalRecord(), self.text_encoder, self.templates)
        return tokens.embeddings, unknown.embeddings, tokens.sentences

    def foresee(self, record: ClinicalRecord) -> Iterator[None]:
        """Encode what may be asked next, a sentence a step: every listed value of every field, ages from near to far.

        Text encoders keep what they have encoded, so that a "what if" about one of these is a look-up.
        """
        if "clinic" not in self.bundle.config.encoders or self.bundle.config.clinical_encodings:
            return
        middle = 60.0 if record.age is None else record.age
        ages = sorted((float(age) for age in range(18, 100)), key=lambda age: abs(age - middle))
        # Short lists first: what is chosen from them is most likely asked next.
        for field in sorted(FIELDS, key=lambda f: len(f.suggestions) or len(ages)):
            listed = self.bundle.config.vocabulary.get(field.name) or field.suggestions
            values: Sequence[Any] = listed if field.suggestions else ages
            for value in (None, *values):
                changed = dataclasses.replace(record, **{field.name: value})
                with self._encoding, one_core() if self.device.type == "cpu" else nullcontext():
                    clinical_tokens(changed, self.text_encoder, self.templates)
                yield

    @property
    def gene_encoder(self) -> GeneEncoder:
        """The bundle's gene encoder (of models that take genomic tokens), loaded on first use.

        Raises
        ------
        EncoderError : its weights are not there.   BundleError : they are not those of the bundle's encoder.
        """
        spec, reference = self.bundle.config.encoders["genomic"], self.bundle.gene_reference
        encoder = load_gene_encoder(spec.id, str(self.device))
        linear = reference is not None and reference.scale is not None
        if (encoder.n_tokens, encoder.dim) != (spec.n_tokens, spec.dim):
            raise BundleError(
                f"Bundle {self.bundle.path.name} was trained on {spec.n_tokens} genomic tokens of {spec.dim} numbers,"
                f" but {encoder.id} gives {encoder.n_tokens} of {encoder.dim} here",
                "Install the weights that it was trained with, or choose another bundle",
            )
        if linear != (encoder.values is GeneValues.LINEAR):
            raise BundleError(
                f"Bundle {self.bundle.path.name} does not keep what {encoder.id} needs to read expression",
                "Make the bundle again with 'survpgc bundle'",
            )
        return encoder

    def genomic(
        self, expression: NDArray[np.float32] | None, progress: ProgressCallback | None = None
    ) -> tuple[GenomicInput | None, ...]:
        """Return the expression as each fold model takes it, with a batch axis; the same one where all share a scale."""
        reference = self.bundle.gene_reference
        n_folds = len(self.bundle.fold_files)
        if reference is None or not reference.folds:
            return (self._genomic(expression, 0, progress),) * n_folds
        return tuple(self._genomic(expression, fold, progress) for fold in range(n_folds))

    def _genomic(
        self, expression: NDArray[np.float32] | None, fold: int, progress: ProgressCallback | None
    ) -> GenomicInput | None:
        reference = self.bundle.gene_reference
        if expression is None or reference is None:
            return None
        expression = reference.of_fold(expression, fold)
        if self.genomic_form is InputForm.VECTOR:
            return torch.from_numpy(expression).to(self.device)[None]
        if self.genomic_form is InputForm.TOKENS:
            total = reference.total_of_fold(fold)
            tokens = self.gene_encoder.encode(expression, reference.genes, total=total, progress=progress)
            return torch.from_numpy(tokens).to(self.device)[None]
        vectors = gene_set_vectors(expression, reference.genes, self.bundle.gene_sets)
        return [torch.from_numpy(v).to(self.device)[None] for v in vectors]

    def clinic(self, patient: Patient, fold: int, unknown: bool = False) -> Tensor | None:
        """Return the record (``unknown``: one without any field) as a fold model takes it, with a batch axis."""
        encodings = self.bundle.config.clinical_encodings
        rows = patient.clinic_unknown if unknown else patient.clinic
        if encodings:
            rows = encodings[fold].encode(ClinicalRecord() if unknown else patient.record)
        return None if rows is None else torch.from_numpy(rows).to(self.device)[None]

    def changed_expression(
        self, patient: Patient, genes: Mapping[str, float], gene_sets: Mapping[str, float]
    ) -> NDArray[np.float32]:
        """Return the patient's expression with other values of some genes, see :func:`~napari_survpgc.core.predict.predictor.what_if.what_if`.

        Raises
        ------
        ExpressionError : the models or the patient have no expression, or not this gene or gene set.
        """
        reference = self.bundle.gene_reference
        if reference is None:
            raise ExpressionError("This model does not use gene expression", "Choose a bundle that does")
        if patient.expression is None:
            raise ExpressionError("The patient has no gene expression to change", "Give an expression file")
        index = {gene: i for i, gene in enumerate(reference.genes)}
        members = {s.name: s.genes for s in self.bundle.gene_sets}
        unknown = sorted((set(genes) - set(index)) | (set(gene_sets) - set(members)))
        if unknown:
            raise ExpressionError(
                f"The model does not use {', '.join(unknown)}",
                "Choose from the genes and gene sets of the bundle",
            )
        values = patient.expression.astype(np.float64)
        for name, shift in gene_sets.items():
            rows = [index[gene] for gene in members[name] if gene in index]
            values[rows] += float(shift)
        z = np.zeros(len(values))
        for gene, value in genes.items():
            z[index[gene]] = float(value)
        chosen = [index[gene] for gene in genes]
        values[chosen] = reference.at(z)[chosen]
        if not (np.isfinite(values).all() and np.isfinite(z).all()):
            raise ExpressionError("A changed gene value is not a number", "Enter z-scores such as -1.5")
        if reference.scale is None and not reference.folds:
            values = np.clip(values, -reference.clip, reference.clip)
        return values.astype(np.float32)
