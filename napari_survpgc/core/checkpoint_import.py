"""Published checkpoints -> a bundle: sizes from the weights, everything else from the person who imports them.

A checkpoint holds numbers under names. Which encoders its inputs came from, where the intervals of follow-up lie, which
gene a column stands for and how the risks of other patients are spread is nowhere in it, and nothing of that is guessed:
what is missing is named, all at once.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_survpgc.resources import resource_path

from .bundle import MAX_WEIGHT_BYTES, Bundle, BundleConfig, EncoderSpec, write_bundle
from .checkpoint_file import read_checkpoint
from .clinical import load_templates
from .errors import BundleError
from .genomics import GeneReference, composition, read_gmt
from .types import GeneSet, InputForm, Modality

if TYPE_CHECKING:
    from torch import Tensor

    from .models.base import SurvivalModel

_MAX_TABLE_BYTES = 64 << 20
_WIDTHS = {
    "efficientnet-lite0": 1280, "uni": 1024, "uni2-h": 1536, "conch": 512, "minilm": 384, "gene-projection": 768,
    "scfoundation": 768,
}  # fmt: skip
"""Widths of the encoders that we know; the ids of others are taken as they are."""


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
    kind = _kind(model)
    gene_sets = read_gmt(facts.gene_sets) if facts.gene_sets is not None else ()
    checkpoints = [read_checkpoint(path) for path in files]
    found = [
        _sizes_of(tensors, model, path, len(gene_sets)) | dict(facts.sizes)
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
    if genes is None or not _by_pathway(kind, sizes):
        gene_sets = ()
    options = dict(sizes)
    if genes is not None and gene_sets and kind.GENOMIC is InputForm.VECTOR:
        options["composition"] = composition(genes.genes, gene_sets)
    states = [
        _our_state(tensors, model, options, path) for path, tensors in zip(files, checkpoints, strict=True)
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
    return ImportedCheckpoint(bundle, _notes(kind, facts, sizes, genes))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- sizes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shapes:
    """Shapes of the tensors of a checkpoint, by the authors' names; asking for one that is not there is a KeyError."""

    of: Mapping[str, tuple[int, ...]]
    n_gene_sets: int = 0

    def rows(self, name: str) -> int:
        return self.of[name][0]

    def columns(self, name: str) -> int:
        return self.of[name][1]

    def gene_set_sizes(self) -> list[int]:
        sizes: list[int] = []
        while f"sig_networks.{len(sizes)}.0.0.weight" in self.of:
            sizes.append(self.columns(f"sig_networks.{len(sizes)}.0.0.weight"))
        return sizes or [self.columns("sig_networks.0.0.0.weight")]

    def fusion(self) -> str | None:
        if "mm.0.weight" in self.of:
            return "concat"
        return "bilinear" if "mm.linear_h1.0.weight" in self.of else None


def _projected(shapes: _Shapes, **widths: str) -> dict[str, Any]:
    """Return dim and n_bins of the SurvPath family, and the widths of its projections."""
    first = next(iter(widths.values()))
    return {
        "n_bins": shapes.rows("to_logits.2.weight"),
        "dim": shapes.rows(f"{first}_projection_net.0.weight"),
        **{name: shapes.columns(f"{theirs}_projection_net.0.weight") for name, theirs in widths.items()},
    }


def _survpgc(s: _Shapes) -> dict[str, Any]:
    return _projected(s, pathology_dim="wsi", clinic_dim="clinic", genomic_dim="gene")


def _survpc(s: _Shapes) -> dict[str, Any]:
    return _projected(s, pathology_dim="wsi", clinic_dim="clinic")


def _survgc(s: _Shapes) -> dict[str, Any]:
    # Their weights were trained with their grouping of the tokens.
    return {**_projected(s, clinic_dim="clinic", genomic_dim="gene"), "published": True}


def _survpath(s: _Shapes) -> dict[str, Any]:
    return {**_projected(s, pathology_dim="wsi"), "gene_set_sizes": s.gene_set_sizes()}


def _mcat(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("classifier.weight"),
        "dim": s.rows("wsi_net.0.weight"),
        "pathology_dim": s.columns("wsi_net.0.weight"),
        "gene_set_sizes": s.gene_set_sizes(),
        "fusion": s.fusion() or "concat",
    }


def _porpoise(s: _Shapes) -> dict[str, Any]:
    first = 1 if "attention_net.1.weight" in s.of else 0
    dim = s.columns("classifier_mm.weight")
    return {
        "n_bins": s.rows("classifier_mm.weight"),
        "dim": dim,
        "pathology_dim": s.columns(f"attention_net.{first}.weight"),
        "genomic_dim": s.columns("fc_omic.0.0.weight"),
        "skip": s.columns("mm.encoder2.0.weight") == 3 * dim,
    }


def _abmil(s: _Shapes) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "n_bins": s.rows("classifier.weight"),
        "dim": s.rows("attention_net.0.weight"),
        "pathology_dim": s.columns("attention_net.0.weight"),
        "fusion": s.fusion(),
    }
    if sizes["fusion"] is not None:
        sizes["genomic_dim"] = s.rows("fc_1_weight")
        if s.n_gene_sets:
            layers = (s.columns("fc_1_weight"), s.columns("fc_2_weight"))
            sizes["pathway_dims"] = [units // s.n_gene_sets for units in layers]
    return sizes


def _transmil(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("_fc2.weight"),
        "dim": s.rows("_fc1.0.weight"),
        "pathology_dim": s.columns("_fc1.0.weight"),
    }


def _mlp_pathology(s: _Shapes) -> dict[str, Any]:
    return _projected(s, pathology_dim="wsi")


def _mlp_clinic(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("to_logits.0.weight"),
        "dim": 2 * s.rows("net.0.weight"),
        "clinic_dim": s.columns("net.0.weight"),
        "n_clinic": s.columns("to_logits.0.weight") // s.rows("net.3.weight"),
    }


def _mlp_genomic(s: _Shapes) -> dict[str, Any]:
    return {
        "n_bins": s.rows("to_logits.0.weight"),
        "dim": 2 * s.rows("net.0.weight"),
        "genomic_dim": s.columns("net.0.weight"),
    }


def _snn(s: _Shapes, width: str) -> dict[str, Any]:
    return {
        "n_bins": s.rows("classifier.weight"),
        width: s.columns("fc_omic.0.0.weight"),
        "size": "big" if "fc_omic.3.0.weight" in s.of else "small",
    }


_SIZES: dict[str, Callable[[_Shapes], dict[str, Any]]] = {
    "survpgc": _survpgc,
    "survpc": _survpc,
    "survgc": _survgc,
    "survpath": _survpath,
    "mcat": _mcat,
    "porpoise": _porpoise,
    "abmil": _abmil,
    "transmil": _transmil,
    "mlp_pathology": _mlp_pathology,
    "mlp_clinic": _mlp_clinic,
    "mlp_genomic": _mlp_genomic,
    "snn_clinic": lambda s: _snn(s, "clinic_dim"),
    "snn_genomic": lambda s: _snn(s, "genomic_dim"),
}
IMPORTABLE = tuple(_SIZES)
"""Systems whose published weights can become a bundle."""


def _kind(model: str) -> type[SurvivalModel]:
    from .models import model_class

    kind = model_class(model)
    if model not in _SIZES:
        reason = (
            "it takes the record as numbers, and its checkpoint does not say which number stands for what"
            if kind.CLINIC is InputForm.VECTOR
            else "there are no published weights of it"
        )
        raise BundleError(
            f"A checkpoint of {model} cannot become a bundle: {reason}",
            f"Choose from {', '.join(IMPORTABLE)}, or train it with 'survpgc train'",
        )
    return kind


def _sizes_of(tensors: Mapping[str, Tensor], model: str, path: Path, n_gene_sets: int) -> dict[str, Any]:
    shapes = _Shapes({name: tuple(t.shape) for name, t in tensors.items()}, n_gene_sets)
    try:
        return _SIZES[model](shapes)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        missing = error.args[0] if isinstance(error, KeyError) else "a layer of the right shape"
        first = ", ".join(list(tensors)[:3])
        raise BundleError(
            f"{path.name} does not hold the weights of {model}: missing is {missing}, and it begins with {first}",
            _other_system(tensors, model, path),
        ) from error


def _other_system(tensors: Mapping[str, Tensor], model: str, path: Path) -> str:
    """Return the next step for a file of another system; name the system if the weights fit one."""
    shapes = _Shapes({name: tuple(t.shape) for name, t in tensors.items()})
    for other, sizes_of in _SIZES.items():
        if other == model:
            continue
        try:
            _load(tensors, other, sizes_of(shapes), path)
        except (BundleError, KeyError, IndexError, ZeroDivisionError, ValueError):
            continue
        return f"Give --model {other}: the weights fit that system"
    return f"Check the model's name (--model); known are {', '.join(IMPORTABLE)}"


def _our_state(
    tensors: Mapping[str, Tensor], model: str, sizes: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    """Return the weights under our names, after they fitted a model of these sizes."""
    try:
        return _load(tensors, model, sizes, path)
    except BundleError as error:
        raise BundleError(error.problem, _other_system(tensors, model, path)) from error


def _load(
    tensors: Mapping[str, Tensor], model: str, sizes: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    import torch

    from .models import build_model, load_published_state_dict

    try:
        with torch.device("meta"):  # shapes only: a hostile file may ask for a model of any size
            numbers = sum(p.numel() for p in build_model(model, **sizes).parameters())
        # Gene sets are padded to the largest, so ours can be several times as large as theirs.
        most = 1_000_000 + 50 * sum(t.numel() for t in tensors.values())
        if numbers > most or 4 * numbers > MAX_WEIGHT_BYTES:
            raise BundleError(
                f"The shapes in {path.name} do not fit together as a {model}",
                "Give a checkpoint of this system",
            )
        built = build_model(model, **sizes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{path.name} does not give a {model} that can be built ({str(error).splitlines()[0][:200]})",
            "Check --model and --set",
        ) from error
    try:
        load_published_state_dict(built, tensors)
    except BundleError as error:
        raise BundleError(f"{path.name}: {error.problem}", error.next_step) from error
    return built.state_dict()


# --- what must be given -------------------------------------------------------------------------------------


def _by_pathway(kind: type[SurvivalModel], sizes: Mapping[str, Any]) -> bool:
    """Whether gene sets are part of the model's structure, as networks of their own or as connections."""
    if kind.GENOMIC is InputForm.GENE_SETS:
        return True
    return sizes.get("fusion") is not None and "composition" in inspect.signature(kind).parameters


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
        pathways = _by_pathway(kind, sizes)
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
        known = _WIDTHS.get(spec.id)
        if known is not None and known != spec.dim:
            raise BundleError(
                f"The encoder {spec.id} gives {known} numbers, but the checkpoint was trained on {spec.dim}",
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


# --- files --------------------------------------------------------------------------------------------------


def read_reference(path: Path, n_bins: int) -> pd.DataFrame:
    """Read the reference patients: risk, survival_months, event, and fold if it is there.

    Raises
    ------
    BundleError : a column is missing or not of numbers, or the risks are not those of a model of ``n_bins``.
    """
    table = _read_csv(path)
    columns = ("risk", "survival_months", "event")
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        raise BundleError(
            f"{path.name} lacks {', '.join(missing) or 'rows'}",
            "Give the columns risk, survival_months, event",
        )
    kept = [*columns, *(["fold"] if "fold" in table.columns else [])]
    values = table[kept].apply(pd.to_numeric, errors="coerce")
    good = np.isfinite(values.to_numpy(float)).all(1) & (values["survival_months"] >= 0)
    good &= values["event"].isin([0, 1])
    if not good.all():
        row = int(np.flatnonzero(~good.to_numpy())[0])
        raise BundleError(
            f"Row {row + 2} of {path.name} is not usable: risk and survival_months are numbers, event is 1 for a"
            " death and 0 otherwise",
            "Correct it, or leave the patient out",
        )
    if not values["risk"].between(-n_bins - 1e-6, 0).all():
        raise BundleError(
            f"The risks in {path.name} are not those of a model with {n_bins} intervals: they lie between"
            f" -{n_bins} and 0, minus the sum of the survival probabilities",
            "Give the risks that this model predicted for its test patients",
        )
    return values.astype({"event": int})


def _gene_reference(
    facts: ImportFacts, gene_sets: Sequence[GeneSet], sizes: Mapping[str, Any], kind: type[SurvivalModel]
) -> GeneReference:
    if facts.genes is not None:
        reference = _read_genes(facts.genes)
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


def _read_genes(path: Path) -> GeneReference:
    """Read genes, one a line or in the column ``gene`` (``gene_name``), with mean and sd if they are there."""
    table = _read_csv(path, separators=True)
    column = next((c for c in table.columns if c.strip().lower() in ("gene", "gene_name", "symbol")), None)
    if column is None and len(table.columns) == 1:
        column = table.columns[0]
        names = [column, *table[column]]
        table = pd.DataFrame({column: names})
    if column is None:
        raise BundleError(
            f"{path.name} has no column gene", "Write one gene a line, or a CSV with that column"
        )
    names = [str(name).strip() for name in table[column]]
    repeated = pd.Series(names).duplicated()
    if repeated.any():
        raise BundleError(f"{path.name} has the gene {names[int(repeated.argmax())]} twice", "Correct it")
    if not all(names):
        raise BundleError(f"{path.name} has a line without a gene", "Correct it")
    if not {"mean", "sd"} <= set(table.columns):
        return GeneReference(tuple(names))
    numbers = table[["mean", "sd"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not np.isfinite(numbers).all() or (numbers[:, 1] <= 0).any():
        raise BundleError(
            f"{path.name} has a mean or sd that is not a number, or an sd that is not above 0", "Correct it"
        )
    return GeneReference(tuple(names), numbers[:, 0], numbers[:, 1])


def _read_csv(path: Path, separators: bool = False) -> pd.DataFrame:
    try:
        if path.stat().st_size > _MAX_TABLE_BYTES:
            raise BundleError(f"{path.name} is too large for a table", "Check the file")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror})", "Check the name and the folder"
        ) from error
    separator = "\t" if separators and b"\t" in content.split(b"\n", 1)[0] else ","
    try:
        # Gene NAN and the like are text, not missing values.
        return pd.read_csv(io.BytesIO(content), sep=separator, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise BundleError(f"{path.name} is not a table", "Give a CSV file with a header") from error


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
