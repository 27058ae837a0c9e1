"""What the tables and figures of the paper are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.types import ProgressCallback

from ..runs.run_folder import Run
from ..settings import Settings, load_settings
from .run_store import RunStore, Unavailable


@dataclass(frozen=True)
class PaperSystem:
    """A row of the paper's tables.

    Attributes
    ----------
    model : name of the system.   label, group : as the paper prints them.
    published : settings of the published runs where they differ from the trainer's defaults.
    """

    model: str
    label: str
    group: str
    published: Mapping[str, Any] = field(default_factory=dict)


UNIMODAL = (
    PaperSystem("cox_clinic", "Cox (Clinic)", "Unimodal"),
    PaperSystem("mlp_clinic", "MLP (Clinic)", "Unimodal"),
    PaperSystem("snn_clinic", "SNN (Clinic)", "Unimodal"),
    PaperSystem("mlp_genomic", "MLP (Genomic)", "Unimodal"),
    PaperSystem("snn_genomic", "SNN (Genomic)", "Unimodal"),
    PaperSystem("mlp_pathology", "MLP (Pathology)", "Unimodal"),
    PaperSystem("abmil", "ABMIL (Pathology)", "Unimodal"),
    PaperSystem(
        "transmil",
        "TransMIL (Pathology)",
        "Unimodal",
        {"alpha": 0.5, "lr": 1e-3, "weight_decay": 1e-4},
    ),
)


MULTIMODAL = (
    PaperSystem("porpoise", "PORPOISE", "Multimodal"),
    PaperSystem("mcat", "MCAT", "Multimodal"),
    PaperSystem("survpath", "SurvPath", "Multimodal"),
    PaperSystem("survpgc", "SurvPGC", "Multimodal"),
    PaperSystem("survpgc_gene_sets", "SurvPGC on gene sets (not in the paper)", "Multimodal"),
    PaperSystem("cox_multimodal", "Cox on all three (not in the paper)", "Multimodal"),
)


INTEGRATION = (
    PaperSystem("approach_a", "Approach a (late fusion)", "Clinic + pathology"),
    PaperSystem("approach_b", "Approach b (mixed fusion)", "Clinic + pathology"),
    PaperSystem("approach_c", "Approach c (intermediate fusion)", "Clinic + pathology"),
    PaperSystem("survpc", "SurvPC (intermediate fusion)", "Clinic + pathology"),
)


TWO_PATH = ("survpgc", "survpgc_gene_sets")
"""Systems with a clinic and a genomic path, the paper's first."""


_PUBLISHED = {s.model: s.published for s in (*UNIMODAL, *MULTIMODAL, *INTEGRATION)}


@dataclass(frozen=True)
class Plan:
    """What an experiment works with.

    Attributes
    ----------
    common, by_system : settings of the user for all systems, and for one.   given : those of the command line.
    systems : the only ones to run; None for all.   slides : folder of the slide files (Fig. 4).
    colors : of the maps of Fig. 4.
    """

    cohort: Cohort
    store: RunStore
    out: Path
    common: Mapping[str, Any]
    by_system: Mapping[str, Mapping[str, Any]]
    given: Mapping[str, Any]
    systems: tuple[str, ...] | None = None
    slides: Path | None = None
    colors: str = "cividis"
    progress: ProgressCallback | None = None

    @property
    def seed(self) -> int:
        return self.settings("mlp_clinic").seed

    @property
    def optimistic(self) -> bool:
        return self.settings("mlp_clinic").protocol != "honest"

    def settings(self, model: str, **changes: Any) -> Settings:
        """Return the settings of a system: published, then the user's file, the command line, the experiment's."""
        values = {
            **_PUBLISHED.get(model, {}),
            **self.common,
            **self.by_system.get(model, {}),
            **self.given,
            **changes,
        }
        return load_settings(None, model=model, **values)

    def run(self, model: str, **changes: Any) -> Run | Unavailable:
        """Return the run of a system, trained if need be, or why there is none."""
        if self.systems is not None and model not in self.systems:
            return Unavailable(model, "It is not among the systems asked for.")
        return self.store.get(self.settings(model, **changes))
