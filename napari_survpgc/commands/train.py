"""``survpgc train``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from napari_survpgc.core.errors import OutputError, SurvPGCError

from .options import ProgressBar, cohort_options, positive_int, print_notes

HELP = "cohort folder -> cross-validated fold models (a run folder)"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path, metavar="COHORT", help="cohort folder (see README)")
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="e.g. survpgc_gene_sets; several with commas make a run folder each inside --out",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="run folder; resumes when it exists"
    )
    parser.add_argument(
        "--protocol",
        choices=("honest", "published"),
        help="honest (default): the test fold is never looked at; published: best epoch on the test fold, optimistic",
    )
    parser.add_argument(
        "--stopping",
        choices=("last", "inner", "val"),
        help="epoch kept under honest: last (default), best on an inner split of the training fold, or best on val",
    )
    parser.add_argument("--folds", metavar="0,1,...", help="default: all")
    parser.add_argument(
        "--folds-by",
        choices=("cohort", "patient", "event", "site", "leave-site-out"),
        help="make new folds (kept in the run folder) instead of the cohort's own; 'event' spreads deaths evenly",
    )
    parser.add_argument("--n-folds", type=positive_int, metavar="N", help="of new folds (default: 5)")
    parser.add_argument(
        "--scaling",
        choices=("fold", "cohort"),
        help="genes against the training patients of the fold (default), or against the whole cohort as published",
    )
    parser.add_argument("--endpoint", metavar="NAME", help="<NAME>_months, <NAME>_event of patients.csv")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument(
        "--shuffle-labels",
        action="store_true",
        default=None,
        help="exchange the outcomes among the patients: a check that nothing leaks (C-index about 0.5)",
    )
    parser.add_argument(
        "--risk-run", type=Path, metavar="RUN", help="cox_clinic_risk: the run whose risk it adds"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="F.toml", help="further settings; see <run>/settings.toml"
    )
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one setting, e.g. alpha=0.5 or model_config.dim=64; repeatable",
    )
    parser.add_argument(
        "--processes", type=positive_int, default=1, help="folds trained at once (default: 1)"
    )
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, mps")
    cohort_options(parser)


def run(options: argparse.Namespace) -> int:
    from napari_survpgc.core.cohort.read import read_cohort
    from napari_survpgc.training.crossval import train
    from napari_survpgc.training.settings import load_settings
    from napari_survpgc.training.systems import build_system

    folds = None
    if options.folds is not None:
        try:
            folds = tuple(int(part) for part in options.folds.split(","))
        except ValueError:
            raise SurvPGCError(
                f"--folds {options.folds} is not a list of fold numbers", "Write e.g. 0,1,2"
            ) from None
    changes = list(options.changes)
    if options.risk_run is not None:
        changes.append(f"model_config.run={options.risk_run}")
    names = options.model.split(",")
    plans = [
        load_settings(
            options.settings,
            changes,
            model=name,
            protocol=options.protocol,
            stopping=options.stopping,
            folds_by=options.folds_by,
            n_folds=options.n_folds,
            endpoint=options.endpoint,
            scaling=options.scaling,
            seed=options.seed,
            device=options.device,
            folds=folds,
            shuffle_labels=options.shuffle_labels,
        )
        for name in names
    ]
    for settings in plans:
        build_system(settings)  # a wrong name is said before anything is trained
    cohort = read_cohort(
        options.cohort,
        endpoint=options.endpoint or "survival",
        open_features=True,
        long_follow_up=options.long_follow_up,
    )
    print_notes(cohort.notes)
    failed = 0
    for name, settings in zip(names, plans, strict=True):
        progress = ProgressBar()
        try:
            out = options.out if len(names) == 1 else options.out / name
            result = train(cohort, settings, out, processes=options.processes, progress=progress)
        except OutputError:
            raise  # the next model would meet the same full disk
        except SurvPGCError as error:
            progress.close()
            print(f"survpgc: {name}: {error}" if len(names) > 1 else f"survpgc: {error}", file=sys.stderr)
            failed += 1
            continue
        finally:
            progress.close()
        print(result.describe(), flush=True)
    return 2 if failed else 0
