"""A trained model as a folder: weights, sizes, encoders, genes, wording and reference patients.

Layout (contract)::

    bundle.json          model name and sizes, encoders, bin edges in months, vocabulary, endpoint, hashes ...
    fold_<i>.safetensors one fold model each
    reference.csv        fold, risk, survival_months, event of the cross-validated test patients; no identifiers
    genes.csv            optional: gene, mean, sd (of log2(TPM+1)) in the order of the expression vector
    gene_sets.gmt        optional: the gene sets whose tokens the model was trained on
    templates.toml       optional: the wording of the clinical sentences
    feature_profile.safetensors  optional: mean, sd and distances of the training slides' features
    recalibration.json   optional: what makes the survival of the models true, learned from held-out predictions

A bundle is untrusted input: nothing in it is unpickled, every file is checked against its size and SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc.core import documents
from napari_survpgc.core.calibration import Recalibration, parse_recalibration
from napari_survpgc.core.cells import restored_frame
from napari_survpgc.core.errors import BundleError
from napari_survpgc.core.features.drift import PROFILE_FILE as _PROFILE
from napari_survpgc.core.features.drift import FeatureProfile, parse_profile
from napari_survpgc.core.files import read_bytes, sweep
from napari_survpgc.core.genomics.gene_sets import composition, read_gmt
from napari_survpgc.core.genomics.normalize import FoldScale, GeneReference
from napari_survpgc.core.groups import thirds
from napari_survpgc.core.outlook import Outlook, fit_outlook
from napari_survpgc.core.types import ExpressionUnit, GeneSet

if TYPE_CHECKING:
    import torch

    from napari_survpgc.core.models.base import SurvivalModel

from .config import BundleConfig, config_from_json
from .reference import PATIENT, ModelQuality, hashed, quality_of

FORMAT = 1
FORMAT_FOLDS = 2
"""Of bundles whose fold models each have a scale of the genes, which earlier versions would not notice."""
RECALIBRATION_FILE = "recalibration.json"
MAX_JSON_BYTES = 4 << 20
MAX_WEIGHT_BYTES = 4 << 30
_FOLD_FILE = re.compile(r"fold_(\d+)\.safetensors")
_OF_REFERENCE = ("risk", "survival_months", "event")
_RETRAIN = "Make the bundle again with 'survpgc bundle', or get a fresh copy of it"


@dataclass(frozen=True)
class _Head:
    """What bundle.json holds beside the configuration."""

    version: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; weights are read when :meth:`load_models` is called.

    Attributes
    ----------
    path : the folder.   config : see :class:`BundleConfig`.   version : software that wrote it.
    fingerprint : SHA-256 of bundle.json, which holds the hashes of all other files.
    reference : columns fold, risk, survival_months, event; newer bundles also hashed ids and the six fields.
    risk_cuts : the two tertiles of the reference risks: low | intermediate | high.
    gene_reference : None for a model without genes.   gene_sets : () for a model without gene sets.
    templates : path of the wording, or None.
    feature_profile : the training slides' features, to tell a slide unlike them; None when not known.
    recalibration : from the models' survival to true survival at some times, see
        :func:`napari_survpgc.core.calibration.recalibrated`; None where a bundle has none.
    """

    path: Path
    config: BundleConfig
    version: str
    fingerprint: str
    fold_files: tuple[str, ...]
    hashes: Mapping[str, str]
    reference: pd.DataFrame
    gene_reference: GeneReference | None
    gene_sets: tuple[GeneSet, ...]
    templates: Path | None = None
    feature_profile: FeatureProfile | None = None
    recalibration: Recalibration | None = None

    @cached_property
    def risk_cuts(self) -> tuple[float, float]:
        return thirds(self.reference["risk"].to_numpy(float))

    @cached_property
    def outlook(self) -> Outlook | None:
        """What the reference patients say about survival at a risk; None for too few of them."""
        return fit_outlook(
            *(self.reference[name].to_numpy(float) for name in ("risk", "survival_months", "event"))
        )

    @cached_property
    def quality(self) -> ModelQuality:
        """How well the model ranks patients whom it has not seen."""
        return quality_of(self.reference, str(self.config.training.get("protocol", "unknown")))

    @cached_property
    def _held_out(self) -> Mapping[str, float]:
        if PATIENT not in self.reference.columns:
            return {}
        return dict(zip(self.reference[PATIENT], self.reference["risk"].astype(float), strict=True))

    def held_out_risk(self, case_id: str) -> float | None:
        """Return the risk of a training patient by the fold model that had not seen them; None for anybody else.

        Bundles made before hashed ids were kept know nobody.
        """
        return self._held_out.get(hashed(case_id, self.config.salt))

    @property
    def n_bins(self) -> int:
        return len(self.config.bin_edges_months) - 1

    def load_models(self, device: torch.device | str = "cpu") -> list[SurvivalModel]:
        """Build every fold model in eval mode on ``device``.

        Raises
        ------
        BundleError : a weight file was changed, or does not fit the sizes in bundle.json.
        """
        import safetensors.torch
        from safetensors import SafetensorError

        from napari_survpgc.core.models import build_model

        models: list[SurvivalModel] = []
        for number, name in enumerate(self.fold_files):
            content = _read_checked(self.path, name, self.hashes, MAX_WEIGHT_BYTES)
            try:
                state = safetensors.torch.load(content)
                self._check_size(number, sum(tensor.numel() for tensor in state.values()))
                model = build_model(self.config.model, **self._sizes(number))
                model.load_state_dict(state, strict=True)
            except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
                reason = str(error).splitlines()[0][:200]
                raise BundleError(
                    f"The weights {name} of bundle {self.path.name} do not fit its model ({reason})", _RETRAIN
                ) from error
            models.append(model.to(device).eval().requires_grad_(False))
        return models

    def _check_size(self, fold: int, numbers: int) -> None:
        """Raise ValueError for sizes in bundle.json that ask for more weights than the file has, before they are made."""
        import torch

        from napari_survpgc.core.models import build_model

        with torch.device("meta"):
            weights = build_model(self.config.model, **self._sizes(fold)).state_dict()
        if sum(tensor.numel() for tensor in weights.values()) > numbers:
            raise ValueError("bundle.json states larger sizes")

    def _sizes(self, fold: int) -> dict[str, Any]:
        """Return the sizes of a fold model; what follows from the bundle's other files is not kept twice."""
        sizes = dict(self.config.model_config)
        if self.config.clinical_encodings:
            sizes["clinic_dim"] = len(self.config.clinical_encodings[fold].columns)
        if sizes.get("fusion") is not None and self.gene_sets and "gene_set_sizes" not in sizes:
            assert self.gene_reference is not None
            sizes["composition"] = composition(self.gene_reference.genes, self.gene_sets)
        return sizes


def load_bundle(folder: Path | str) -> Bundle:
    """Read and check a bundle folder; the weights are hashed when they are loaded.

    Raises
    ------
    BundleError : the folder is no bundle, a file is missing or was changed, or a value makes no sense.
    """
    try:
        return _load(Path(folder))
    except OSError as error:
        raise BundleError(
            f"The bundle {folder} cannot be read ({error.strerror or error})",
            "Check its drive, and that you may read all of its files",
        ) from error


def _load(folder: Path) -> Bundle:
    if not folder.is_dir():
        sweep(folder.parent, folder.name)  # a kill while it was replaced has left the earlier one aside
    if not folder.is_dir():
        raise BundleError(
            f"There is no bundle folder {folder}",
            "Give the folder that holds bundle.json and fold_0.safetensors",
        )
    manifest = folder / "bundle.json"
    if not manifest.is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no bundle.json", "Give a folder made by 'survpgc bundle'"
        )
    raw = read_bytes(manifest, MAX_JSON_BYTES, BundleError, _RETRAIN, "a bundle")
    try:
        document = documents.parse(raw)
        if isinstance(document, dict) and document.get("format") not in (FORMAT, FORMAT_FOLDS):
            raise BundleError(
                f"{folder.name} has bundle format {document.get('format')!r}, this program reads {FORMAT} and {FORMAT_FOLDS}",
                "Update napari-survpgc, or make the bundle again",
            )
        head = documents.structure(document, _Head)
        config, hashes = config_from_json(document), head.files
    except ValueError as error:
        raise BundleError(f"{manifest} is damaged ({error})", _RETRAIN) from error
    matches = [match for name in hashes if (match := _FOLD_FILE.fullmatch(name))]
    folds = [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]
    if not folds:
        raise BundleError(f"Bundle {folder.name} lists no fold model", _RETRAIN)
    for name in hashes:
        if name != Path(name).name or "\\" in name or name.startswith("."):
            raise BundleError(f"Bundle {folder.name} lists a file outside its folder ({name})", _RETRAIN)
        if not (folder / name).is_file():
            raise BundleError(f"Bundle {folder.name} lacks its file {name}", _RETRAIN)
    if len(config.clinical_encodings) not in (0, len(folds)):
        raise BundleError(
            f"Bundle {folder.name} has {len(config.clinical_encodings)} clinical encodings for {len(folds)} fold models",
            _RETRAIN,
        )
    if "reference.csv" not in hashes:
        raise BundleError(f"Bundle {folder.name} lacks its file reference.csv", _RETRAIN)
    reference = _numbers(
        _read_table(folder, "reference.csv", hashes, _OF_REFERENCE), _OF_REFERENCE, folder, "reference.csv"
    )
    gene_reference = None
    if "genes.csv" in hashes:
        gene_reference = _gene_reference(
            _read_table(folder, "genes.csv", hashes, ("gene",)), config, folder, len(folds)
        )
    gene_sets: tuple[GeneSet, ...] = ()
    if "gene_sets.gmt" in hashes:
        _read_checked(folder, "gene_sets.gmt", hashes, MAX_JSON_BYTES * 16)
        gene_sets = read_gmt(folder / "gene_sets.gmt")
    templates = None
    if "templates.toml" in hashes:
        _read_checked(folder, "templates.toml", hashes, MAX_JSON_BYTES)
        templates = folder / "templates.toml"
    profile = None
    if _PROFILE in hashes:
        profile = _read_profile(_read_checked(folder, _PROFILE, hashes, MAX_JSON_BYTES * 16), config, folder)
    recalibration = None
    if RECALIBRATION_FILE in hashes:
        try:
            recalibration = parse_recalibration(
                _read_checked(folder, RECALIBRATION_FILE, hashes, MAX_JSON_BYTES)
            )
        except ValueError as error:
            raise BundleError(
                f"{RECALIBRATION_FILE} of bundle {folder.name} is damaged ({error})", _RETRAIN
            ) from error
    return Bundle(
        path=folder,
        config=config,
        version=head.version,
        fingerprint=hashlib.sha256(raw).hexdigest(),
        fold_files=tuple(folds),
        hashes=hashes,
        reference=reference,
        gene_reference=gene_reference,
        gene_sets=gene_sets,
        templates=templates,
        feature_profile=profile,
        recalibration=recalibration,
    )


def _read_profile(raw: bytes, config: BundleConfig, folder: Path) -> FeatureProfile:
    spec = config.encoders.get("pathology")
    try:
        return parse_profile(raw, spec.dim if spec else 0)
    except ValueError as error:
        raise BundleError(f"{_PROFILE} of bundle {folder.name} is damaged ({error})", _RETRAIN) from error


def _read_checked(folder: Path, name: str, hashes: Mapping[str, str], limit: int) -> bytes:
    content = read_bytes(folder / name, limit, BundleError, _RETRAIN, f"the bundle {folder.name}")
    if hashlib.sha256(content).hexdigest() != hashes[name]:
        raise BundleError(
            f"The file {name} of bundle {folder.name} was changed since the bundle was made (its SHA-256 differs)",
            _RETRAIN,
        )
    return content


def _read_table(
    folder: Path, name: str, hashes: Mapping[str, str], required: tuple[str, ...]
) -> pd.DataFrame:
    content = _read_checked(folder, name, hashes, MAX_JSON_BYTES * 16)
    try:
        table = restored_frame(pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""]))
    except (ValueError, UnicodeDecodeError) as error:
        raise BundleError(f"The file {name} of bundle {folder.name} is not a table", _RETRAIN) from error
    missing = [column for column in required if column not in table.columns]
    if missing or table.empty:
        raise BundleError(
            f"The file {name} of bundle {folder.name} lacks {', '.join(missing) or 'rows'}", _RETRAIN
        )
    return table


def _numbers(table: pd.DataFrame, columns: Sequence[str], folder: Path, name: str) -> pd.DataFrame:
    """Return the table with these columns as numbers; BundleError where one is none."""
    found = {column: pd.to_numeric(table[column], errors="coerce") for column in columns}
    wrong = [column for column, values in found.items() if not np.isfinite(values.to_numpy(float)).all()]
    if wrong:
        raise BundleError(
            f"{name} of bundle {folder.name} has values in {', '.join(wrong)} that are no numbers", _RETRAIN
        )
    return table.assign(**found)


def _gene_reference(table: pd.DataFrame, config: BundleConfig, folder: Path, n_folds: int) -> GeneReference:
    mean: NDArray[np.float64] | None = None
    sd: NDArray[np.float64] | None = None
    if {"mean", "sd"} <= set(table.columns):
        table = _numbers(table, ("mean", "sd"), folder, "genes.csv")
        mean, sd = table["mean"].to_numpy(float), table["sd"].to_numpy(float)
        if not (sd > 0).all():
            raise BundleError(f"genes.csv of bundle {folder.name} has an unusable mean or sd", _RETRAIN)
    elif config.expression_scale is not None:
        raise BundleError(f"genes.csv of bundle {folder.name} lacks mean and sd", _RETRAIN)
    scales = []
    for fold in range(n_folds):
        names = (f"mean_{fold}", f"sd_{fold}")
        if not set(names) <= set(table.columns):
            continue
        own_mean, own_sd = (table[name].to_numpy(float) for name in names)
        if mean is None or not (
            np.isfinite(own_mean).all() and np.isfinite(own_sd).all() and (own_sd > 0).all()
        ):
            raise BundleError(
                f"genes.csv of bundle {folder.name} has an unusable {names[0]} or {names[1]}", _RETRAIN
            )
        scales.append(FoldScale(own_mean, own_sd))
    if config.fold_totals:
        scales = [FoldScale(np.zeros(0), np.zeros(0), total) for total in config.fold_totals]
    if len(scales) not in (0, n_folds):
        raise BundleError(
            f"Bundle {folder.name} has {len(scales)} scales of the genes for {n_folds} fold models", _RETRAIN
        )
    return GeneReference(
        folds=tuple(scales),
        genes=tuple(str(g) for g in table["gene"]),
        mean=mean,
        sd=sd,
        clip=config.expression_clip,
        min_overlap=config.min_gene_overlap,
        scale=config.expression_scale,
        unit=config.expression_unit or ExpressionUnit.TPM,
    )
