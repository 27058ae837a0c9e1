"""Make a table or figure of the paper from a cohort folder: train what is missing, evaluate, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_survpgc.core.cohort.cohort import Cohort
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.locks import claim
from napari_survpgc.core.types import ProgressCallback

from .experiments import find_experiment
from .settings import Settings, read_toml
from .systems import SYSTEMS
from .tables.plan import Plan
from .tables.run_store import RunStore
from .tables.table_writer import Product, write_product


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
    colors: str = "cividis",
    progress: ProgressCallback | None = None,
    **given: Any,
) -> tuple[Product, list[Path]]:
    """Make one table or figure and write it into ``out``; a stopped one goes on with the same call.

    Parameters
    ----------
    name : see EXPERIMENTS.   settings_file : TOML of settings for all systems, and [systems.<name>] for one.
    runs : folder of runs to use and to add to (default: ``out``/runs).   systems : run these only.
    colors : of the maps of Fig. 4, "cividis" or "red-blue" as the paper has them.
    given : settings that win over the file: protocol, seed, epochs, device ...

    Raises
    ------
    CohortError : unknown experiment or unusable settings.   OutputError : ``out`` cannot be written.
    """
    make = find_experiment(name)
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
        colors=colors,
        progress=progress,
    )
    for model in by_system or ("mlp_clinic",):
        plan.settings(model)  # a wrong value is said before anything is trained
    with claim(out, f"writing {name} into {out}"):
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
    common = read_toml(path)
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
