"""A trained model as a folder: weights, sizes, encoders, genes, wording and reference patients.

Layout (contract)::

    bundle.json          model name and sizes, encoders, bin edges in months, vocabulary, endpoint, hashes ...
    fold_<i>.safetensors one fold model each
    reference.csv        fold, risk, survival_months, event of the cross-validated test patients; no identifiers
    genes.csv            optional: gene, mean, sd (of log2(TPM+1)) in the order of the expression vector
    gene_sets.gmt        optional: the gene sets whose tokens the model was trained on
    templates.toml       optional: the wording of the clinical sentences
    feature_profile.safetensors  optional: mean, sd and distances of the training slides' features

A bundle is untrusted input: nothing in it is unpickled, every file is checked against its size and SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_survpgc import __version__

from .clinical_encoding import ClinicalEncoding, encoding_from_json, encoding_to_json
from .drift import PROFILE_FILE as _PROFILE
from .drift import FeatureProfile, parse_profile, write_profile
from .errors import BundleError, writing
from .genomics import ExpressionScale, GeneReference, composition, read_gmt
from .types import ExpressionUnit, GeneSet

if TYPE_CHECKING:
    import torch

    from .models.base import SurvivalModel

FORMAT = 1
UNKNOWN_ENCODER = "unknown"
"""Id of an image encoder that no feature file named."""
MAX_JSON_BYTES = 4 << 20
MAX_WEIGHT_BYTES = 4 << 30
_FOLD_FILE = re.compile(r"fold_(\d+)\.safetensors")
_RETRAIN = "Make the bundle again with 'survpgc bundle', or get a fresh copy of it"


@dataclass(frozen=True)
class EncoderSpec:
    """Which encoder a model was trained on.

    Attributes
    ----------
    id : of the encoder, e.g. "efficientnet-lite0", "minilm", "gene-sets".
    dim : width of a token; 0 where each token has its own width (gene sets).
    n_tokens : tokens a patient: 6 for clinic, the number of genomic tokens, 0 for patches (any number).
    patch_px, mpp : how patches were cut (image encoders only).
    """

    id: str
    dim: int
    n_tokens: int = 0
    patch_px: int | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class BundleConfig:
    """Everything about a bundle that is not a weight or a table; written to bundle.json.

    Attributes
    ----------
    name : short name shown to the user.
    model, model_config : name and sizes for :func:`napari_survpgc.core.models.build_model`.
    encoders : by modality ("pathology", "clinic", "genomic"); a modality the model does not use is absent.
    bin_edges_months : (n_bins + 1,) edges shown to the user: mean over folds, 0 first, last follow-up last.
    fold_bin_edges_months : the edges each fold model was trained with.
    endpoint : e.g. "overall survival".   cohort : name.
    vocabulary : clinical field -> values seen in training.
    training : settings and cross-validated C-index, for the report.
    expression_clip : z-scores are clipped to +- this value.   min_gene_overlap : floor, 0-1.
    expression_scale : of models whose gene encoder reads expression itself; None for z-scores.
    demonstration : True for a model trained on simulated patients: its risk means nothing for a real one.
    optional : modalities that a patient may lack, because the models were trained without them now and then.
    clinical_encodings : one a fold, for models that take the record as numbers; () for those that read sentences.
    """

    name: str
    model: str
    model_config: Mapping[str, Any]
    encoders: Mapping[str, EncoderSpec]
    bin_edges_months: tuple[float, ...]
    fold_bin_edges_months: tuple[tuple[float, ...], ...]
    endpoint: str
    cohort: str
    vocabulary: Mapping[str, tuple[str, ...]]
    training: Mapping[str, Any]
    expression_clip: float = 5.0
    min_gene_overlap: float = 0.5
    expression_scale: ExpressionScale | None = None
    demonstration: bool = False
    optional: tuple[str, ...] = ()
    clinical_encodings: tuple[ClinicalEncoding, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; weights are read when :meth:`load_models` is called.

    Attributes
    ----------
    path : the folder.   config : see :class:`BundleConfig`.   version : software that wrote it.
    fingerprint : SHA-256 of bundle.json, which holds the hashes of all other files.
    reference : columns fold, risk, survival_months, event.
    risk_cuts : the two tertiles of the reference risks: low | intermediate | high.
    gene_reference : None for a model without genes.   gene_sets : () for a model without gene sets.
    templates : path of the wording, or None.
    feature_profile : the training slides' features, to tell a slide unlike them; None when not known.
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

    @cached_property
    def risk_cuts(self) -> tuple[float, float]:
        low, high = np.quantile(self.reference["risk"].to_numpy(float), [1 / 3, 2 / 3])
        return float(low), float(high)

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

        from .models import build_model

        models: list[SurvivalModel] = []
        for number, name in enumerate(self.fold_files):
            content = _read_checked(self.path, name, self.hashes, MAX_WEIGHT_BYTES)
            try:
                state = safetensors.torch.load(content)
                model = build_model(self.config.model, **self._sizes(number))
                model.load_state_dict(state, strict=True)
            except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
                reason = str(error).splitlines()[0][:200]
                raise BundleError(
                    f"The weights {name} of bundle {self.path.name} do not fit its model ({reason})", _RETRAIN
                ) from error
            models.append(model.to(device).eval().requires_grad_(False))
        return models

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
    folder = Path(folder)
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
    if manifest.stat().st_size > MAX_JSON_BYTES:
        raise BundleError(f"{manifest} is too large to be a bundle.json", _RETRAIN)
    raw = manifest.read_bytes()
    try:
        document = json.loads(raw)
        if not isinstance(document, dict):
            raise TypeError("not an object")
        if document.get("format") != FORMAT:
            raise BundleError(
                f"{folder.name} has bundle format {document.get('format')!r}, this program reads format {FORMAT}",
                "Update napari-survpgc, or make the bundle again",
            )
        config = _config_from_json(document)
        hashes = {str(name): str(digest) for name, digest in dict(document["files"]).items()}
        version = str(document["version"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{manifest} is damaged ({type(error).__name__}: {error})", _RETRAIN) from error
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
    reference = _read_table(folder, "reference.csv", hashes, ("risk", "survival_months", "event"))
    gene_reference = None
    if "genes.csv" in hashes:
        gene_reference = _gene_reference(_read_table(folder, "genes.csv", hashes, ("gene",)), config, folder)
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
    return Bundle(
        path=folder,
        config=config,
        version=version,
        fingerprint=hashlib.sha256(raw).hexdigest(),
        fold_files=tuple(folds),
        hashes=hashes,
        reference=reference,
        gene_reference=gene_reference,
        gene_sets=gene_sets,
        templates=templates,
        feature_profile=profile,
    )


def _read_profile(raw: bytes, config: BundleConfig, folder: Path) -> FeatureProfile:
    spec = config.encoders.get("pathology")
    try:
        return parse_profile(raw, spec.dim if spec else 0)
    except ValueError as error:
        raise BundleError(f"{_PROFILE} of bundle {folder.name} is damaged ({error})", _RETRAIN) from error


def write_bundle(
    out: Path,
    config: BundleConfig,
    fold_states: Sequence[Mapping[str, torch.Tensor]],
    reference: pd.DataFrame,
    *,
    gene_reference: GeneReference | None = None,
    gene_sets: Sequence[GeneSet] = (),
    templates: Path | None = None,
    feature_profile: FeatureProfile | None = None,
) -> Bundle:
    """Write a bundle folder in one step and read it back.

    Parameters
    ----------
    out : the new folder; an existing bundle there is replaced, any other non-empty folder is refused.
    fold_states : state_dict of each fold model, float32.
    reference : columns risk, survival_months, event and, if there, fold; other columns are dropped so that
        no identifier of a patient gets into the bundle.
    templates : the TOML file with the wording used in training; copied.
    feature_profile : of the training slides.
    """
    import safetensors.torch

    if not fold_states:
        raise BundleError("There is no fold model to put into a bundle", "Train at least one fold first")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "bundle.json").is_file())):
        raise BundleError(f"{out} exists and is not a bundle", "Choose a new folder")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        with writing(out):
            for index, state in enumerate(fold_states):
                # Sorted and metadata-free, so that the same weights give the same bytes.
                tensors = {key: state[key].detach().cpu().contiguous() for key in sorted(state)}
                safetensors.torch.save_file(tensors, str(staging / f"fold_{index}.safetensors"))
            columns = [c for c in ("fold", "risk", "survival_months", "event") if c in reference.columns]
            table = reference[columns].sort_values(columns, kind="stable")
            table.to_csv(staging / "reference.csv", index=False, lineterminator="\n")
            if gene_reference is not None:
                genes = pd.DataFrame({"gene": gene_reference.genes})
                if gene_reference.mean is not None and gene_reference.sd is not None:
                    genes["mean"], genes["sd"] = gene_reference.mean, gene_reference.sd
                genes.to_csv(staging / "genes.csv", index=False, lineterminator="\n")
            if gene_sets:
                lines = ["\t".join((s.name, s.description, *s.genes)) for s in gene_sets]
                (staging / "gene_sets.gmt").write_text(
                    "\n".join(lines) + "\n", encoding="utf-8", newline="\n"
                )
            if templates is not None:
                shutil.copyfile(templates, staging / "templates.toml")
            if feature_profile is not None:
                write_profile(feature_profile, staging / _PROFILE)
            hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(staging.iterdir())}
            document = {"format": FORMAT, "version": __version__, **_config_to_json(config), "files": hashes}
            text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
            (staging / "bundle.json").write_text(text, encoding="utf-8", newline="\n")
            staging.chmod(0o755)  # mkdtemp and safetensors make private files; a bundle is there to be shared
            for file in staging.iterdir():
                file.chmod(0o644)
            if out.exists():
                old = staging.with_suffix(".old")
                out.replace(old)
                staging.replace(out)
                shutil.rmtree(old)
            else:
                staging.replace(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_bundle(out)


def _config_to_json(config: BundleConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "model": {"name": config.model, "config": dict(config.model_config)},
        "encoders": {
            modality: {k: v for k, v in vars(spec).items() if v is not None}
            for modality, spec in config.encoders.items()
        },
        "bin_edges_months": list(config.bin_edges_months),
        "fold_bin_edges_months": [list(edges) for edges in config.fold_bin_edges_months],
        "endpoint": config.endpoint,
        "cohort": config.cohort,
        "vocabulary": {name: list(values) for name, values in config.vocabulary.items()},
        "training": dict(config.training),
        "expression": {
            "clip": config.expression_clip,
            "min_gene_overlap": config.min_gene_overlap,
            **scale_to_json(config.expression_scale),
        },
        "demonstration": config.demonstration,
        "optional": list(config.optional),
        "clinical_encodings": [encoding_to_json(e) for e in config.clinical_encodings],
        "research_use_only": True,
    }


def _config_from_json(document: Mapping[str, Any]) -> BundleConfig:
    edges = _edges(document["bin_edges_months"])
    model = document["model"]
    if not isinstance(model["config"], dict):
        raise TypeError("model sizes are not an object")
    encoders = {
        str(modality): EncoderSpec(
            id=str(spec["id"]),
            dim=int(spec["dim"]),
            n_tokens=int(spec.get("n_tokens", 0)),
            patch_px=int(spec["patch_px"]) if "patch_px" in spec else None,
            mpp=float(spec["mpp"]) if "mpp" in spec else None,
        )
        for modality, spec in document["encoders"].items()
    }
    unknown = set(encoders) - {"pathology", "clinic", "genomic"}
    if unknown or not encoders:
        raise ValueError(f"unknown modalities {sorted(unknown)}")
    expression = document["expression"]
    return BundleConfig(
        name=str(document["name"]),
        model=str(model["name"]),
        model_config=model["config"],
        encoders=encoders,
        bin_edges_months=edges,
        fold_bin_edges_months=tuple(_edges(e) for e in document["fold_bin_edges_months"]),
        endpoint=str(document["endpoint"]),
        cohort=str(document["cohort"]),
        vocabulary={str(k): tuple(str(v) for v in values) for k, values in document["vocabulary"].items()},
        training=dict(document["training"]),
        expression_clip=float(expression["clip"]),
        min_gene_overlap=float(expression["min_gene_overlap"]),
        expression_scale=scale_from_json(expression),
        demonstration=bool(document["demonstration"]),
        optional=tuple(str(m) for m in document.get("optional", ())),
        clinical_encodings=tuple(encoding_from_json(e) for e in document.get("clinical_encodings", ())),
    )


def scale_to_json(scale: ExpressionScale | None) -> dict[str, Any]:
    """Return the entries of a document that hold the scale; none without one."""
    return {} if scale is None else {"unit": str(scale.unit), "reference_total": scale.total}


def scale_from_json(document: Mapping[str, Any]) -> ExpressionScale | None:
    """Read what :func:`scale_to_json` wrote; ValueError for what makes no sense."""
    if "reference_total" not in document:
        return None
    scale = ExpressionScale(ExpressionUnit(document["unit"]), float(document["reference_total"]))
    if scale.unit not in (ExpressionUnit.COUNTS, ExpressionUnit.TPM):
        raise ValueError(f"no unit of a scale: {scale.unit}")
    if not (math.isfinite(scale.total) and scale.total > 0):
        raise ValueError("the reference total must be a positive number")
    return scale


def _edges(values: Any) -> tuple[float, ...]:
    edges = tuple(float(v) for v in values)
    increasing = all(a < b for a, b in itertools.pairwise(edges))
    if not 2 <= len(edges) <= 1000 or not all(math.isfinite(e) for e in edges) or not increasing:
        raise ValueError("bin edges must be finite and increasing")
    return edges


def _read_checked(folder: Path, name: str, hashes: Mapping[str, str], limit: int) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > limit:
            raise BundleError(f"The file {name} of bundle {folder.name} is too large", _RETRAIN)
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"The file {name} of bundle {folder.name} cannot be read ({error.strerror})", _RETRAIN
        ) from error
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
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])
    except (ValueError, UnicodeDecodeError) as error:
        raise BundleError(f"The file {name} of bundle {folder.name} is not a table", _RETRAIN) from error
    missing = [column for column in required if column not in table.columns]
    if missing or table.empty:
        raise BundleError(
            f"The file {name} of bundle {folder.name} lacks {', '.join(missing) or 'rows'}", _RETRAIN
        )
    return table


def _gene_reference(table: pd.DataFrame, config: BundleConfig, folder: Path) -> GeneReference:
    mean: NDArray[np.float64] | None = None
    sd: NDArray[np.float64] | None = None
    if {"mean", "sd"} <= set(table.columns):
        mean, sd = table["mean"].to_numpy(float), table["sd"].to_numpy(float)
        if not (np.isfinite(mean).all() and np.isfinite(sd).all() and (sd > 0).all()):
            raise BundleError(f"genes.csv of bundle {folder.name} has an unusable mean or sd", _RETRAIN)
    elif config.expression_scale is not None:
        raise BundleError(f"genes.csv of bundle {folder.name} lacks mean and sd", _RETRAIN)
    return GeneReference(
        genes=tuple(str(g) for g in table["gene"]),
        mean=mean,
        sd=sd,
        clip=config.expression_clip,
        min_overlap=config.min_gene_overlap,
        scale=config.expression_scale,
    )
