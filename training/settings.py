"""All settings of a run in one TOML file that is saved with it; the defaults are the published ones."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from napari_survpgc.core.cohort.folds import FOLD_KINDS
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.files import read_text
from napari_survpgc.core.types import Modality

_MAX_BYTES = 16 << 20
FOLDS_BY = ("cohort", *FOLD_KINDS)
_CHOICES = {
    "protocol": ("honest", "published"),
    "stopping": ("last", "val", "inner"),
    "folds_by": FOLDS_BY,
    "precision": ("float32", "bfloat16"),
    "scaling": ("fold", "cohort"),
}


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides its cohort.

    Attributes
    ----------
    model : name of a system (training.systems).
    model_config : what differs from its defaults: sizes such as {"dim": 128}, or the options of a Cox system.
    protocol : "honest" (last epoch; the test fold is never looked at) or "published" (best of the epochs from
        ``first_kept_epoch`` on, by the C-index of the test fold: optimistic).
    endpoint : "survival", or the name of a further endpoint of patients.csv.
    stopping : which epoch is kept under "honest": "last", or the best by C-index of "val" (the folds' own val patients)
        or "inner" (``inner_share`` of the training patients), from ``first_kept_epoch`` on.
    train_on_val : train on the folds' own val patients too, unless they choose the epoch (``stopping`` "val"); those who
        are test patients as well, as in the published folds, are left out.
    patience : end after so many epochs without a better one; 0 for all epochs.
    folds : numbers of the folds to train; None for all.   n_folds : how many to make.
    folds_by : "cohort" takes the cohort's folds, or makes them by event where it has none; "patient", "event", "site"
        and "leave-site-out" make new ones (see core.cohort.make_folds).
    lr, weight_decay : RAdam with decoupled decay.   epochs : the first one warms up from 0, the rest is half a cosine.
    alpha : weight of the censored patients is 1 - alpha.   beta, margin : share and margin of the cosine loss.
    batch_size : patients a training step, whose mean loss moves the weights; 1 is published.
    max_patches : patches of a patient in a training step; all are used in evaluation.
    n_templates : wordings of a field from which each patient's is drawn, once (N_t of the paper's Table 5).
    weighted_sampling : draw patients with replacement, inversely to how many share their bin and censoring.
    genomic_dropout, clinic_dropout : share of the steps in which the model goes without that modality; patients who
        lack a modality that is dropped are then trained on without it, and predicted.
    modalities : what the model is given; fewer than it takes for an ablation.
    shuffle_labels : exchange the outcomes among the patients, by the seed: a check that nothing leaks (C-index 0.5).
    templates : wording of the sentences.   text_encoder, gene_encoder : ids.   clip : of z-scores.
    scaling : whose mean and sd z-scores of genes are against, and whose median total scFoundation's: "fold", the training
        patients of the fold, so that nothing of a test patient changes a weight, or "cohort", everyone's, as published.
        Expression that comes as z-scores stays as it comes.
    image_encoder : id of the encoder that made the features, where the files do not say (CLAM); "" takes their word.
    precision : "float32" or "bfloat16" (autocast while training; predictions are always float32).
    tensorboard : also write the log for TensorBoard.
    """

    model: str
    model_config: dict[str, Any] = field(default_factory=dict)
    protocol: str = "honest"
    endpoint: str = "survival"
    seed: int = 0
    device: str = "auto"
    stopping: str = "last"
    inner_share: float = 0.2
    train_on_val: bool = False
    patience: int = 0
    folds: tuple[int, ...] | None = None
    folds_by: str = "cohort"
    n_folds: int = 5
    n_bins: int = 4
    epochs: int = 20
    first_kept_epoch: int = 10
    lr: float = 5e-4
    weight_decay: float = 1e-3
    alpha: float = 0.0
    beta: float = 0.0
    margin: float = 0.2
    batch_size: int = 1
    max_patches: int = 4096
    weighted_sampling: bool = False
    genomic_dropout: float = 0.0
    clinic_dropout: float = 0.0
    modalities: tuple[str, ...] = ("pathology", "clinic", "genomic")
    shuffle_labels: bool = False
    templates: str = "default"
    n_templates: int = 1
    image_encoder: str = ""
    text_encoder: str = "minilm"
    gene_encoder: str = "gene-projection"
    clip: float = 5.0
    scaling: str = "fold"
    precision: str = "float32"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}"
            for name, known in _CHOICES.items()
            if getattr(self, name) not in known
        ]
        problems += [
            f"{name} must be a positive number"
            for name in (
                "n_folds",
                "n_bins",
                "epochs",
                "lr",
                "batch_size",
                "max_patches",
                "clip",
                "n_templates",
            )
            if not getattr(self, name) > 0
        ]
        problems += [
            f"{name} must lie between 0 and 1"
            for name in ("alpha", "beta", "genomic_dropout", "clinic_dropout", "inner_share")
            if not 0 <= getattr(self, name) <= 1
        ]
        if not set(self.modalities) <= set(Modality) or not self.modalities:
            problems.append(f"modalities {self.modalities} are not among pathology, clinic, genomic")
        if self.protocol == "published" and self.stopping != "last":
            problems.append("the protocol published chooses the epoch itself, so stopping must be last")
        if self.train_on_val and self.stopping == "val":
            problems.append(
                "patients who choose the epoch cannot be trained on: train_on_val needs another stopping"
            )
        if problems:
            raise CohortError(f"The settings are not usable: {'; '.join(problems)}", "Correct them")


BEFORE: Mapping[str, Any] = {"scaling": "cohort"}
"""What runs of versions up to 0.2 did that had no word for it."""


def load_settings(
    path: Path | None, changes: Sequence[str] = (), *, kept: bool = False, **given: Any
) -> Settings:
    """Read settings from a TOML file.

    Parameters
    ----------
    changes : "name=value" each, with a TOML value, e.g. "alpha=0.5" or "model_config.dim=64"; they win over the file.
    kept : the file is that of a run; what it does not say is as in the version of the run.
    given : wins over both; None means not given.

    Raises
    ------
    CohortError : no such file, no TOML, an unknown setting or an impossible value.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = read_toml(path)
        if kept:
            values.setdefault("scaling", BEFORE["scaling"])
    source = str(path) if path is not None else "The command line"
    for change in changes:
        _change(values, change)
    values.update({name: value for name, value in given.items() if value is not None})
    known = {f.name for f in dataclasses.fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise CohortError(
            f"{source} has the unknown setting {unknown[0]}", f"Known are: {', '.join(sorted(known))}"
        )
    for name in ("folds", "modalities"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    try:
        return Settings(**values)
    except TypeError as error:
        raise CohortError(f"{source} has a setting of the wrong kind ({error})", "Correct it") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file of settings; CohortError when it is missing or no TOML."""
    step = "Correct the settings file"
    try:
        return tomllib.loads(read_text(path, _MAX_BYTES, CohortError, step, "settings"))
    except tomllib.TOMLDecodeError as error:
        raise CohortError(f"{path} is not a readable TOML file ({error})", step) from error


def _change(values: dict[str, Any], change: str) -> None:
    """Set one "name=value"; a value that is no TOML is a text."""
    name, equals, text = change.partition("=")
    table, dot, key = name.strip().rpartition(".")
    if not equals or not key or table not in ("", "model_config"):
        raise CohortError(f"--set {change} is not a setting", "Write e.g. alpha=0.5 or model_config.dim=64")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    if dot:
        values.setdefault(table, {})[key] = value
    else:
        values[key] = value


def settings_toml(settings: Settings) -> str:
    """Return the settings as TOML, to be read back by :func:`load_settings`."""
    return tomli_w.dumps(_said(dataclasses.asdict(settings)))


def going_on(settings: Settings, path: Path) -> Settings:
    """Return the settings for going on with a run: what its version had no word for stays as that version did it."""
    said = read_toml(path)
    return dataclasses.replace(
        settings, **{name: value for name, value in BEFORE.items() if name not in said}
    )


def same_settings(path: Path, text: str) -> bool:
    """Whether a run's file says what :func:`settings_toml` does, be it in the words of another version."""
    return {**BEFORE, **read_toml(path)} == tomllib.loads(text)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    """Return values without those that are None, for which TOML has no word."""
    return {k: _said(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}
