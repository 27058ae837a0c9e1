"""Make a table or figure of the paper from a cohort folder: train what is missing, evaluate, write."""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_survpgc.core.cohort import Cohort
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.types import ProgressCallback

from .experiments import EXPERIMENTS
from .run_folder import Run
from .run_store import RunStore, Unavailable
from .settings import Settings, load_settings
from .systems import SYSTEMS
from .table_writer import Product, write_product


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
    """

    cohort: Cohort
    store: RunStore
    out: Path
    common: Mapping[str, Any]
    by_system: Mapping[str, Mapping[str, Any]]
    given: Mapping[str, Any]
    systems: tuple[str, ...] | None = None
    slides: Path | None = None
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


def reproduce(
    name: str,
    cohort: Cohort,
    out: Path,
    *,
    settings_file: Path | None = None,
    runs: Path | None = None,
    processes: int = 1,
    systems: Sequence[str] | None = None,
    slides: Path | None = None,
    progress: ProgressCallback | None = None,
    **given: Any,
) -> tuple[Product, list[Path]]:
    """Make one table or figure and write it into ``out``; a stopped one goes on with the same call.

    Parameters
    ----------
    name : see EXPERIMENTS.   settings_file : TOML of settings for all systems, and [systems.<name>] for one.
    runs : folder of runs to use and to add to (default: ``out``/runs).   systems : run these only.
    given : settings that win over the file: protocol, seed, epochs, device ...

    Raises
    ------
    CohortError : unknown experiment or unusable settings.   OutputError : ``out`` cannot be written.
    """
    if name not in EXPERIMENTS:
        raise CohortError(
            f"There is no table or figure named {name}", f"Choose from {', '.join(EXPERIMENTS)}"
        )
    common, by_system = read_plan_settings(settings_file)
    unknown = sorted({*(systems or ()), *by_system} - set(SYSTEMS))
    if unknown:
        raise CohortError(
            f"There is no system named {unknown[0]}", f"Choose from {', '.join(sorted(SYSTEMS))}"
        )
    store = RunStore(cohort, runs or out / "runs", processes, progress)
    plan = Plan(
        cohort=cohort,
        store=store,
        out=out,
        common=common,
        by_system=by_system,
        given={key: value for key, value in given.items() if value is not None},
        systems=None if systems is None else tuple(systems),
        slides=slides or cohort.path / "slides",
        progress=progress,
    )
    for model in by_system or ("mlp_clinic",):
        plan.settings(model)  # a wrong value is said before anything is trained
    make: Callable[[Plan], Product] = importlib.import_module(f".experiments.{name}", __package__).make
    product = make(plan)
    return product, write_product(product, name, out, optimistic=plan.optimistic)


def read_plan_settings(path: Path | None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read settings for all systems and, under [systems.<name>], for single ones.

    Raises
    ------
    CohortError : no readable TOML, or an unknown setting.
    """
    if path is None:
        return {}, {}
    try:
        common = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CohortError(
            f"{path} is not a readable TOML file ({error})", "Correct the settings file"
        ) from error
    by_system = common.pop("systems", {})
    if not isinstance(by_system, dict) or not all(isinstance(v, dict) for v in by_system.values()):
        raise CohortError(
            f"{path} has systems that are no tables", "Write [systems.survpgc] and settings below it"
        )
    known = {f.name for f in dataclasses.fields(Settings)} - {"model"}
    for values in (common, *by_system.values()):
        unknown = sorted(set(values) - known)
        if unknown:
            raise CohortError(
                f"{path} has the unknown setting {unknown[0]}", f"Known are: {', '.join(sorted(known))}"
            )
    return common, by_system
