"""The nouns that flow between modules: frozen dataclasses and unit types. Imports no sibling.

Axis rules: arrays of pixels are (rows, columns[, channels]); points and sizes are (x, y) and (width, height)
in level-0 pixels unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Resampling = Literal["bilinear", "bicubic"]
"""How a patch is brought to another number of pixels; always antialiased."""

ProgressCallback = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; it may raise :class:`~.errors.CancelledError` to stop the work."""


class Modality(StrEnum):
    """What a model can look at."""

    PATHOLOGY = "pathology"
    CLINIC = "clinic"
    GENOMIC = "genomic"


class EncoderKind(StrEnum):
    """What an encoder reads: files, options and folders name encoders by it, bundles by :attr:`modality`."""

    IMAGE = "image"
    TEXT = "text"
    GENE = "gene"

    @property
    def modality(self) -> Modality:
        """What a model sees of it."""
        return {"image": Modality.PATHOLOGY, "text": Modality.CLINIC, "gene": Modality.GENOMIC}[self]


class InputForm(StrEnum):
    """How a model wants a modality."""

    TOKENS = "tokens"  # (n_tokens, width) of a frozen encoder
    VECTOR = "vector"  # (n,): one-hot clinical record, expression of all genes
    GENE_SETS = "gene sets"  # a list of (d_i,), one a gene set


class GeneValues(StrEnum):
    """What values a gene encoder reads."""

    ZSCORE = "z-scores"  # clipped, against the training cohort
    LINEAR = "expression"  # counts or TPM themselves, 0 or more, no logarithm


class MppSource(StrEnum):
    """Where the pixel size of a slide came from."""

    FILE = "file"  # written by the scanner
    USER = "user"  # given by a person, because the file has none or has it wrong


MPP_RANGE = (0.05, 10.0)  # µm: pixel sizes that a slide or a patch may have by a person's word, 200x to 1x


class ExpressionUnit(StrEnum):
    """Unit of expression values."""

    COUNTS = "counts"
    TPM = "tpm"
    FPKM = "fpkm"
    LOG2_COUNTS = "log2(counts+1)"
    LOG2_TPM = "log2(tpm+1)"
    LOG2_FPKM = "log2(fpkm+1)"
    LOG2_TPM_MILLI = "log2(tpm+0.001)"  # of UCSC Xena's Toil tables; read as log2(tpm+1)
    ZSCORE = "z-score"


@dataclass(frozen=True)
class Level:
    """One resolution of a slide, stored in the file or made by us.

    Attributes
    ----------
    size : (width, height) px of this level.
    downsample : exact ratio of level-0 px to px of this level (>= 1, not rounded).
    stored : False for a level that is computed from a finer stored one.
    """

    size: tuple[int, int]
    downsample: float
    stored: bool = True


@dataclass(frozen=True)
class SlideInfo:
    """What is known about a slide without reading its pixels.

    Attributes
    ----------
    fingerprint : SHA-256 over the size and sampled blocks of the file(s): names a slide without its path.
    mpp : mean of mpp_x and mpp_y in µm per level-0 px; None when neither file nor user says.
    bounds : (x, y, width, height) in level-0 px of the scanned area.
    background : RGB of unscanned area.
    """

    path: Path
    fingerprint: str
    backend: str
    vendor: str
    size: tuple[int, int]
    levels: tuple[Level, ...]
    mpp: float | None
    mpp_x: float | None
    mpp_y: float | None
    mpp_source: MppSource | None
    bounds: tuple[int, int, int, int]
    background: tuple[int, int, int]
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Polygon:
    """One outline with its holes; every ring is (k, 2) float64 xy in level-0 px, not closed (first != last)."""

    exterior: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True)
class TissueMask:
    """Where the tissue is.

    Attributes
    ----------
    polygons : editable outlines in level-0 px; the mask is always derived from them.
    size : (width, height) of the slide in level-0 px.
    method : how it was found, e.g. ``"survpgc-1"``, or ``"edited"``, ``"imported"``.
    notes : what was done to the outlines on the way in, in sentences.
    """

    polygons: tuple[Polygon, ...]
    size: tuple[int, int]
    method: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatchGrid:
    """Non-overlapping squares on tissue.

    Attributes
    ----------
    coords : (n_p, 2) int32, top-left xy in level-0 px, sorted by y then x.
    patch_px : side in px at ``mpp`` (256), the size the encoder sees.
    mpp : µm per px at which patches are taken (0.5); NaN when a foreign file does not say.
    patch_px_level0 : exact side in level-0 px, ``patch_px * mpp / slide_mpp`` (not rounded).
    slide_size : (width, height) level-0 px, or None when a foreign file does not say.
    """

    coords: NDArray[np.int32]
    patch_px: int
    mpp: float
    patch_px_level0: float
    slide_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True)
class SlidePart:
    """One slide of a patient who has several: its name, its patches, its fingerprint (None: the file does not say)."""

    name: str
    grid: PatchGrid
    fingerprint: str | None


@dataclass(frozen=True)
class PatchFeatures:
    """One feature row a patch, in the order of ``grid.coords``.

    Attributes
    ----------
    features : (n_p, d_p) float32 or float16, finite.
    encoder : id of the image encoder, or None when the file does not say.
    failed_coords : (n_f, 2) int32; patches that could not be read or encoded and are left out of ``grid``.
    slide_fingerprint : of the slide they were computed from, or None when the file does not say.
    attributes : further facts kept with the file (software version, tissue method, mpp source ...).
    parts : the slides of a patient with several, whose rows follow each other in this order; () for one slide.
    """

    features: NDArray[Any]
    grid: PatchGrid
    encoder: str | None
    failed_coords: NDArray[np.int32]
    slide_fingerprint: str | None = None
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    parts: tuple[SlidePart, ...] = ()


CLINICAL_FIELDS = ("age", "sex", "stage", "staging_edition", "subtype", "race")


@dataclass(frozen=True)
class ClinicalRecord:
    """The six clinical characteristics of the paper; None means unknown.

    Attributes
    ----------
    age : years, 0-120.
    sex : "female" or "male".
    stage : "Stage I" ... "Stage IVC" in canonical spelling.
    staging_edition : AJCC/TNM edition, "1st" ... "9th" in canonical spelling.
    subtype : histological subtype, free text.
    race : free text, as recorded.
    """

    age: float | None = None
    sex: str | None = None
    stage: str | None = None
    staging_edition: str | None = None
    subtype: str | None = None
    race: str | None = None


@dataclass(frozen=True)
class ClinicalTokens:
    """Six sentences and their embeddings: one row a field, in the order of CLINICAL_FIELDS."""

    embeddings: NDArray[np.float32]  # (6, d_c)
    sentences: tuple[str, ...]
    encoder: str


@dataclass(frozen=True)
class ExpressionProfile:
    """Expression of one sample.

    Attributes
    ----------
    values : gene symbol -> value, finite.
    unit : of the values.
    unit_declared : True when the user or the file's header said so, False when it was inferred from the values.
    sample : name of the sample within its file.
    source : file name (no folder).
    notes : what was done to read it, in sentences (duplicates averaged, ids mapped ...).
    """

    values: Mapping[str, float]
    unit: ExpressionUnit
    unit_declared: bool
    sample: str
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GeneSet:
    """A named programme or pathway: one token of a gene-set model."""

    name: str
    description: str
    genes: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One patient, as far as there is anything of them: any of it may be missing.

    Attributes
    ----------
    slides : files or DICOM folders; the patches of several are one bag, as in training.
    features : made before, by us, CLAM, TRIDENT or STAMP: one file a slide, in their order; () has them made.
    coords, patch_px_level0 : the file of the coordinates and the patch side, where the only slide's features lack them.
    tissue : outlines on the only slide, or a GeoJSON file of them, instead of the automatic ones.
    tissue_classes : which of QuPath's classes in that file are tissue; needed when it has several.
    mpp : µm per level-0 px of the slides, given by a person.
    missing_slides : ids of slides that belong to the patient and were not found.
    """

    case_id: str = ""
    slides: tuple[Path, ...] = ()
    record: ClinicalRecord = ClinicalRecord()
    profile: ExpressionProfile | None = None
    features: tuple[Path, ...] = ()
    coords: Path | None = None
    patch_px_level0: float | None = None
    tissue: TissueMask | Path | None = None
    tissue_classes: tuple[str, ...] = ()
    mpp: float | None = None
    missing_slides: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a reader of the result must know of the patient's slides, or ""."""
        if not self.missing_slides:
            return ""
        slides, were = ("slide", "was") if len(self.missing_slides) == 1 else ("slides", "were")
        names = ", ".join(self.missing_slides)
        return f"The {slides} {names} of this patient {were} not found: the risk is that of the others alone."


@dataclass(frozen=True)
class JobOptions:
    """How a job is done, whoever the patient is.

    Attributes
    ----------
    device : "auto", "cpu", "cuda", "cuda:0,cuda:1", "mps".
    workers, batch_size : threads that read patches, and patches a batch; None lets the machine decide.
    attribution : also run integrated gradients (seconds, not milliseconds).
    any_stain : go on with a slide that does not look like H&E; the result says so.
    """

    device: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    attribution: bool = True
    any_stain: bool = False


@dataclass(frozen=True)
class AttentionMap:
    """One score a patch, from one attention matrix or one of its rows.

    Attributes
    ----------
    name : "clinic", "genomic", or "clinic:age", "genomic:hypoxia" for a single row.
    scores : (n_p,) float32, mean over rows of the row-wise z-score (the row's z-score for a single row).
    percentiles : (n_p,) in (0, 100], 100 * average rank / n_p.
    """

    name: str
    scores: NDArray[np.float32]
    percentiles: NDArray[np.float32]


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of the risk (positive raises the risk).

    Attributes
    ----------
    paths : "clinic" and "genomic" -> share of the path in the risk, baseline zero embedding.
    tokens : "clinic:age", "genomic:hypoxia" ... -> contribution of the token against an uninformative one.
    completeness_error : |sum of attributions - (F(input) - F(baseline))| for ``paths`` and ``tokens``.
    """

    paths: Mapping[str, float]
    tokens: Mapping[str, float]
    completeness_error: Mapping[str, float]


@dataclass(frozen=True)
class Prediction:
    """The answer of all fold models for one case.

    Attributes
    ----------
    hazards, survival : (n_bins,) means over the fold models.
    risk : mean over the fold models of -sum of survival; larger is worse.
    fold_hazards, fold_survival : (n_folds, n_bins).   fold_risks : (n_folds,).
    bin_edges_months : (n_bins + 1,); the last one is the longest follow-up of the cohort.
    risk_percentile : share (0-100) of the bundle's reference patients with a smaller risk.
    risk_group : "low", "intermediate" or "high", by the bundle's cut points.
    attention : "clinic" (n_c, n_p) and "genomic" (n_g, n_p): pre-softmax, mean over fold models; none for what the patient lacks.
    token_names : the same keys -> name of each row.   coords : (n_p, 2) int32 level-0 px; patch_px_level0 as in PatchGrid.
    attribution : None when it was not asked for.
    provenance : bundle, encoders, slide, version: what prediction.json repeats.
    warnings : sentences a reader of the result must know.
    answer : see :func:`napari_survpgc.core.bundle.answer.answer_of`.
    state : what :func:`napari_survpgc.core.predict.predictor.what_if.what_if` re-uses (loaded models, projected patches); never
        written to a file.
    """

    hazards: NDArray[np.float64]
    survival: NDArray[np.float64]
    risk: float
    fold_hazards: NDArray[np.float64]
    fold_survival: NDArray[np.float64]
    fold_risks: NDArray[np.float64]
    bin_edges_months: NDArray[np.float64]
    risk_percentile: float
    risk_group: str
    attention: Mapping[str, NDArray[np.float32]]
    token_names: Mapping[str, tuple[str, ...]]
    coords: NDArray[np.int32]
    patch_px_level0: float
    attribution: Attribution | None
    provenance: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    answer: object = None
    state: object = field(default=None, repr=False, compare=False)
