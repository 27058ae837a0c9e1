"""The command line ``survpgc``: the whole job without a screen.

Exit codes: 0 done; 2 bad input, with one line on stderr that names the file or field, what is wrong and what to do;
130 interrupted (what was finished is kept, the same line goes on). Heavy imports happen inside the commands so that
``survpgc --help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from napari_survpgc import __version__

from .core.errors import CancelledError, OutputError, SurvPGCError
from .core.notice import RESEARCH_NOTICE

if TYPE_CHECKING:
    from tqdm import tqdm

    from .core.bundle import Bundle
    from .core.types import ClinicalRecord, ExpressionProfile, Prediction


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing the usage block."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}. See '{self.prog} --help'.", file=sys.stderr)
        raise SystemExit(2)


class _ProgressBar:
    """A tqdm bar on stderr for each stage of the work; quiet when stderr is not a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            self._bar = tqdm(total=total, desc=stage, file=sys.stderr, disable=None, leave=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see the module's docstring)."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse: --help, --version or a wrong option
        return int(stop.code or 0)
    try:
        return int(options.run(options))
    except SurvPGCError as error:
        print(f"survpgc: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, CancelledError):
        print("survpgc: interrupted; run the same line again to go on where it stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (e.g. `| head`); python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="survpgc",
        description="See what a multimodal cancer survival model looks at: slide, gene expression and six clinical"
        f" characteristics in, risk and two attention maps out. {RESEARCH_NOTICE}",
    )
    parser.add_argument("--version", action="version", version=f"survpgc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    demo = commands.add_parser(
        "demo", help="the whole job on one simulated patient, with the model that comes along"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("survpgc-demo"), metavar="DIR", help="default: %(default)s"
    )
    demo.add_argument(
        "--headless", action="store_true", help="files only: neither a window nor a picture of one"
    )
    demo.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    demo.set_defaults(run=_demo)

    view = commands.add_parser(
        "view", help="open the window (napari) with a slide, a patient or a saved case"
    )
    view.add_argument(
        "slide", nargs="?", type=Path, metavar="SLIDE", help="slide, DICOM folder or saved case"
    )
    view.add_argument("--clinical", type=Path, metavar="F", help="JSON or CSV of the six fields")
    view.add_argument(
        "--expression", type=Path, metavar="F", help="one sample's file, or a table with --case"
    )
    view.add_argument("--bundle", type=Path, metavar="DIR", help="trained model (default: the demonstration)")
    view.add_argument("--case", metavar="ID", help="which patient of the table(s)")
    view.add_argument("--run", dest="press_run", action="store_true", help="press Run at once")
    view.add_argument(
        "--screenshot", type=Path, metavar="F.png", help="write a picture of the result and close the window"
    )
    view.set_defaults(run=_view)

    features = commands.add_parser(
        "features", help="slides -> tissue, patches and one feature row a patch (HDF5)"
    )
    features.add_argument(
        "slides", nargs="+", type=Path, metavar="SLIDE", help="slide files or DICOM folders"
    )
    features.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets <slide>.h5 and <slide>.geojson"
    )
    _slide_options(features)
    features.add_argument(
        "--encoder",
        default="efficientnet-lite0",
        metavar="ID",
        help="see 'survpgc weights'; also hf:<owner>/<name>, timm:<model> (default: %(default)s)",
    )
    features.add_argument(
        "--mpp", type=_positive, help="µm per px of a patch (default: as the encoder wants)"
    )
    features.add_argument(
        "--patch-px", type=_positive_int, help="side of a patch (default: as the encoder wants)"
    )
    features.add_argument(
        "--format",
        choices=("survpgc", "trident"),
        default="survpgc",
        help="trident: its folders and names, <out>/20x_256px_0px_overlap/features_<encoder>/ (default: %(default)s)",
    )
    features.set_defaults(run=_features)

    predict = commands.add_parser("predict", help="slide + patient -> risk, survival, attention maps, report")
    predict.add_argument("slide", type=Path, metavar="SLIDE", help="slide file or DICOM folder")
    predict.add_argument(
        "--clinical",
        type=Path,
        required=True,
        metavar="F",
        help="JSON of the six fields, one-row CSV, or a patients.csv with --case",
    )
    predict.add_argument(
        "--expression", type=Path, metavar="F", help="one sample's file, or a table with --case"
    )
    predict.add_argument(
        "--expression-unit",
        metavar="UNIT",
        help="counts, tpm, fpkm, log2(tpm+1), z-score ... (default: detected)",
    )
    predict.add_argument("--case", metavar="ID", help="which patient of the table(s)")
    predict.add_argument(
        "--features", type=Path, metavar="F.h5", help="features made before (ours, CLAM, TRIDENT)"
    )
    predict.add_argument(
        "--coords", type=Path, metavar="F.h5", help="coordinates, where --features lacks them (CLAM)"
    )
    predict.add_argument(
        "--patch-px-level0",
        type=_positive,
        metavar="PX",
        help="side of a patch at full resolution, where no file says",
    )
    predict.add_argument(
        "--bundle", type=Path, metavar="DIR", help="trained model (default: the demonstration)"
    )
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    predict.add_argument("--no-attribution", action="store_true", help="leave out integrated gradients")
    _slide_options(predict)
    predict.set_defaults(run=_predict)

    train = commands.add_parser("train", help="cohort folder -> cross-validated fold models (a run folder)")
    train.add_argument("cohort", type=Path, metavar="COHORT", help="cohort folder (see README)")
    train.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="e.g. survpgc_gene_sets; several with commas make a run folder each inside --out",
    )
    train.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="run folder; resumes when it exists"
    )
    train.add_argument(
        "--protocol",
        choices=("honest", "published"),
        help="honest (default): the test fold is never looked at; published: best epoch on the test fold, optimistic",
    )
    train.add_argument(
        "--stopping",
        choices=("last", "inner", "val"),
        help="epoch kept under honest: last (default), best on an inner split of the training fold, or best on val",
    )
    train.add_argument("--folds", metavar="0,1,...", help="default: all")
    train.add_argument(
        "--folds-by",
        choices=("cohort", "patient", "event", "site", "leave-site-out"),
        help="make new folds (kept in the run folder) instead of the cohort's own; 'event' spreads deaths evenly",
    )
    train.add_argument("--n-folds", type=_positive_int, metavar="N", help="of new folds (default: 5)")
    train.add_argument("--endpoint", metavar="NAME", help="<NAME>_months, <NAME>_event of patients.csv")
    train.add_argument("--seed", type=int, help="default: 0")
    train.add_argument(
        "--shuffle-labels",
        action="store_true",
        default=None,
        help="exchange the outcomes among the patients: a check that nothing leaks (C-index about 0.5)",
    )
    train.add_argument(
        "--risk-run", type=Path, metavar="RUN", help="cox_clinic_risk: the run whose risk it adds"
    )
    train.add_argument(
        "--settings", type=Path, metavar="F.toml", help="further settings; see <run>/settings.toml"
    )
    train.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one setting, e.g. alpha=0.5 or model_config.dim=64; repeatable",
    )
    train.add_argument(
        "--processes", type=_positive_int, default=1, help="folds trained at once (default: 1)"
    )
    train.add_argument("--device", help="auto (default), cpu, cuda, cuda:1, mps")
    train.set_defaults(run=_train)

    reproduce = commands.add_parser(
        "reproduce", help="a table or figure of the paper: cohort folder -> CSV, Markdown, HTML, figures"
    )
    reproduce.add_argument(
        "experiment", metavar="WHAT", help="table1 ... table5, fig3, fig4, fig5, cosine, baselines"
    )
    reproduce.add_argument("cohort", type=Path, metavar="COHORT", help="cohort folder (see README)")
    reproduce.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the files and runs/")
    reproduce.add_argument(
        "--protocol",
        choices=("honest", "published"),
        help="honest (default): the test fold is never looked at; published: best epoch on it, marked optimistic",
    )
    reproduce.add_argument(
        "--settings",
        type=Path,
        metavar="F.toml",
        help="settings for all systems, and under [systems.NAME] for one",
    )
    reproduce.add_argument(
        "--processes", type=_positive_int, default=1, help="folds trained at once (default: 1)"
    )
    reproduce.add_argument("--seed", type=int, help="default: 0")
    reproduce.add_argument("--epochs", type=_positive_int, metavar="N", help="default: 20, as published")
    reproduce.add_argument(
        "--runs", type=Path, metavar="DIR", help="runs to use again and to add to (default: <out>/runs)"
    )
    reproduce.add_argument("--systems", metavar="NAME,...", help="only these systems (default: all)")
    reproduce.add_argument(
        "--slides", type=Path, metavar="DIR", help="slide files for fig4 (default: COHORT/slides)"
    )
    reproduce.add_argument("--device", help="default: auto")
    reproduce.set_defaults(run=_reproduce)

    evaluate = commands.add_parser(
        "evaluate", help="finished runs -> C-index, AUC(t), Brier, calibration, Kaplan-Meier; runs compared"
    )
    evaluate.add_argument(
        "run_folders",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folders made by 'survpgc train'; the first is compared with each of the others",
    )
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="also write CSV, Markdown, HTML and figures there"
    )
    evaluate.add_argument(
        "--horizons",
        type=_numbers,
        default=(12.0, 36.0, 60.0),
        metavar="12,36,60",
        help="months of AUC(t) and calibration (default: 12,36,60)",
    )
    evaluate.add_argument(
        "--tau", type=_positive, default=60.0, help="months at which Uno's C and Brier end (default: 60)"
    )
    evaluate.add_argument(
        "--resamples", type=_positive_int, default=1000, help="of the bootstrap (default: %(default)s)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    evaluate.set_defaults(run=_evaluate)

    simulate = commands.add_parser(
        "simulate", help="a cohort with known truth: records, expression and H&E slides"
    )
    simulate.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new cohort folder")
    simulate.add_argument(
        "--patients", type=_positive_int, default=40, metavar="N", help="default: %(default)s"
    )
    simulate.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    simulate.add_argument(
        "--only", type=int, metavar="INDEX", help="one patient instead of a cohort: slide, record, expression"
    )
    simulate.add_argument("--workers", type=_positive_int, default=1, help="processes (default: %(default)s)")
    simulate.set_defaults(run=_simulate)

    bundle = commands.add_parser("bundle", help="run folder -> bundle that predict and the app open")
    bundle.add_argument("run_folder", type=Path, metavar="RUN", help="folder made by 'survpgc train'")
    bundle.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle folder")
    bundle.add_argument("--name", help="name shown to the user (default: cohort and model)")
    bundle.set_defaults(run=_bundle)

    _import_options(
        commands.add_parser(
            "import-checkpoint",
            help="weights of the authors' code (state dict or whole module) -> bundle; nothing in them is run",
        )
    )

    weights = commands.add_parser(
        "weights", help="what each encoder needs; fetch or put in place the weights of one"
    )
    weights.add_argument(
        "encoder",
        nargs="?",
        metavar="ID",
        help="uni, conch, scfoundation, hf:<owner>/<name>, timm:<model> ...",
    )
    weights.add_argument(
        "--kind",
        choices=("image", "text", "gene"),
        help="where an id stands for several; of a hub's id 'text' for sentences (default: image)",
    )
    weights.add_argument(
        "--file",
        action="append",
        default=[],
        type=Path,
        metavar="F",
        help="use this file instead of downloading it (may be repeated)",
    )
    weights.set_defaults(run=_weights)

    doctor = commands.add_parser(
        "doctor", help="what is installed, which device, what each encoder still needs"
    )
    doctor.set_defaults(run=_doctor)
    return parser


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="checkpoint (.pt, .pth, .bin, .safetensors), one a fold",
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="survpgc, survpath, mcat, porpoise ..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle folder")
    parser.add_argument(
        "--bin-edges",
        type=_numbers,
        default=(),
        metavar="12,24,36",
        help="months at which its intervals end: the inner edges, or all from 0 to the last follow-up",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="F.csv",
        help="risk,survival_months,event: what the model predicted for its test patients, to place a new one",
    )
    parser.add_argument("--image-encoder", metavar="ID", help="made the patch features, e.g. uni")
    parser.add_argument("--text-encoder", metavar="ID", help="made the clinic tokens, e.g. conch")
    parser.add_argument("--gene-encoder", metavar="ID", help="made the genomic tokens, e.g. scfoundation")
    parser.add_argument("--patch-px", type=_positive_int, help="side of a patch at --mpp, e.g. 256")
    parser.add_argument("--mpp", type=_positive, help="µm per px of a patch, e.g. 0.5")
    parser.add_argument(
        "--genes",
        type=Path,
        metavar="F",
        help="a gene a line, or CSV gene[,mean,sd of log2(TPM+1)], in the order of the training",
    )
    parser.add_argument(
        "--gene-sets", type=Path, metavar="F.gmt", help="sets and their genes in the order of the training"
    )
    parser.add_argument("--templates", type=Path, metavar="F.toml", help="wording of the clinical sentences")
    parser.add_argument("--name", help="name shown to the user (default: model and file)")
    parser.add_argument("--cohort", default="not stated", help="what it was trained on, e.g. TCGA-BRCA")
    parser.add_argument("--endpoint", default="overall survival", help="default: %(default)s")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the weights do not show, e.g. gated=false; repeatable",
    )
    parser.set_defaults(run=_import_checkpoint)


def _slide_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mpp-override",
        type=_positive,
        metavar="X",
        help="µm per px of the slide at full resolution, where the file has none or has it wrong",
    )
    parser.add_argument(
        "--tissue", type=Path, metavar="F.geojson", help="tissue outlines to use (QuPath GeoJSON)"
    )
    parser.add_argument("--workers", type=_positive_int, help="threads that read patches (default: chosen)")
    parser.add_argument("--batch-size", type=_positive_int, help="patches a batch (default: by memory)")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto (all graphics processors), cpu, cuda:0,cuda:1, mps (default: %(default)s)",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a list of numbers such as 12,24,36") from None


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def _features(options: argparse.Namespace) -> int:
    from .core.encoders import load_image_encoder
    from .core.features import write_features
    from .core.featurize import slide_features
    from .core.tissue import write_geojson
    from .core.trident_layout import trident_place, trident_slide_name

    trident = options.format == "trident"
    ids = [trident_slide_name(path) if trident else path.stem for path in options.slides]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise OutputError(
            f"Several slides would write {twice[0]}.h5", "Rename them, or use one --out for each"
        )
    progress = _ProgressBar()
    encoder = load_image_encoder(options.encoder, options.device)
    patch_px, mpp = options.patch_px or encoder.patch_px, options.mpp or encoder.mpp
    failed = 0
    for path, name in zip(options.slides, ids, strict=True):
        start = time.monotonic()
        place = trident_place(options.out, path, encoder.id, patch_px=patch_px, mpp=mpp)
        out = place.features if trident else options.out / f"{name}.h5"
        try:
            result = slide_features(
                path,
                encoder,
                out,
                patch_px=patch_px,
                mpp=mpp,
                mpp_override=options.mpp_override,
                tissue=options.tissue,
                workers=options.workers,
                batch_size=options.batch_size,
                write=place.write_features if trident else write_features,
                progress=progress,
            )
            if trident:
                place.write_patches(result.features)
            write_geojson(result.tissue, options.out / f"{name}.geojson")
        except OutputError:
            raise  # the next slide would meet the same full disk
        except SurvPGCError as error:
            progress.close()
            print(f"survpgc: {error}", file=sys.stderr)
            failed += 1
            continue
        finally:
            progress.close()
        seconds = time.monotonic() - start
        print(f"{path.name}: {len(result.features.grid)} patches in {seconds:.1f} s -> {out}")
        for warning in result.warnings:
            print(f"  note: {warning}")
    return 2 if failed else 0


def _predict(options: argparse.Namespace) -> int:
    from .core.bundle import load_bundle
    from .core.clinical import read_record

    bundle = load_bundle(options.bundle or _demo_bundle())
    record = read_record(options.clinical, options.case)
    profile = None
    if options.expression is not None:
        from .core.genomics import parse_unit, read_expression

        unit = parse_unit(options.expression_unit) if options.expression_unit else None
        profile = read_expression(options.expression, sample=options.case, unit=unit)
    prediction = _predict_and_write(options, bundle, record, profile)
    print(summary(prediction, options.out))
    return 0


def _predict_and_write(
    options: argparse.Namespace, bundle: Bundle, record: ClinicalRecord, profile: ExpressionProfile | None
) -> Prediction:
    from .core.pipeline import predict_slide

    progress = _ProgressBar()
    try:
        return predict_slide(
            options.slide,
            bundle,
            record,
            profile,
            options.out,
            features=options.features,
            coords=options.coords,
            patch_px_level0=options.patch_px_level0,
            tissue=options.tissue,
            mpp_override=options.mpp_override,
            device=options.device,
            workers=options.workers,
            batch_size=options.batch_size,
            attribution=not options.no_attribution,
            progress=progress,
        )
    finally:
        progress.close()


def summary(prediction: Prediction, out: Path) -> str:
    """Return the few lines that a person wants to read after a prediction."""
    edges = prediction.bin_edges_months
    survival = ", ".join(
        f"{100 * s:.0f} % at {m:.0f} months" for s, m in zip(prediction.survival, edges[1:], strict=True)
    )
    lines = [
        f"Risk: higher than {prediction.risk_percentile:.0f} % of the reference patients"
        f" (group: {prediction.risk_group}; risk {prediction.risk:.4f})",
        f"Predicted survival: {survival}",
        *(f"Note: {warning}" for warning in prediction.warnings),
        f"Results: {out}{os.sep} (open report.html)",
        RESEARCH_NOTICE,
    ]
    return "\n".join(lines)


def _demo(options: argparse.Namespace) -> int:
    from .core.bundle import load_bundle
    from .core.clinical import read_record
    from .core.genomics import read_expression
    from .training.simulate import DEMO_INDEX, DEMO_SEED, DEMO_SLIDE_PX, simulate_case

    start = time.monotonic()
    bundle = load_bundle(_demo_bundle())
    print("1. Drawing the slide of a simulated patient (once; it is kept) ...", flush=True)
    case = simulate_case(options.out / "patient", seed=DEMO_SEED, index=DEMO_INDEX, slide_px=DEMO_SLIDE_PX)
    print(f"   slide       {case.slide}\n   record      {case.clinical}\n   expression  {case.expression}")
    print("2. Tissue, patches, features, prediction ...", flush=True)
    options.slide, options.features, options.tissue = case.slide, None, None
    options.mpp_override = options.workers = options.batch_size = options.coords = options.patch_px_level0 = (
        None
    )
    options.no_attribution = False
    options.out = options.out / "result"
    prediction = _predict_and_write(
        options, bundle, read_record(case.clinical), read_expression(case.expression)
    )
    print(summary(prediction, options.out))
    print(f"Done in {time.monotonic() - start:.0f} s. The same by hand:")
    print(
        f"  survpgc predict {case.slide} --clinical {case.clinical} --expression {case.expression} --out {options.out}"
    )
    return 0 if options.headless else _show_demo(options.out / "case.survpgc", options.out / "window.png")


def _show_demo(case: Path, picture: Path) -> int:
    """Open the result in the window; without a display draw the window on a virtual one and keep its picture."""
    import importlib.util
    import shutil
    import subprocess

    if importlib.util.find_spec("napari") is None:
        print('The window is not installed: pip install "napari-survpgc[app]", then: survpgc view', case)
        return 0
    if _has_display():
        print(f"Opening the window; later: survpgc view {case}", flush=True)
        from .app.launch import view

        return view(case)
    xvfb = shutil.which("xvfb-run")
    if xvfb is None:
        print(f"There is no display, so no window; on a desktop: survpgc view {case}")
        return 0
    print("There is no display: the window is drawn on a virtual one ...", flush=True)
    line = [xvfb, "-a", "-s", "-screen 0 1600x1000x24", sys.executable, "-m", "napari_survpgc.cli", "view"]
    done = subprocess.run(
        [*line, str(case), "--screenshot", str(picture)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode or not picture.is_file():
        reason = done.stderr.strip().splitlines()
        raise OutputError(
            f"The window could not be drawn ({reason[-1] if reason else done.returncode})",
            f"Run 'survpgc demo --headless', or 'survpgc view {case}' on a desktop",
        )
    print(f"Picture of the window: {picture}")
    return 0


def _view(options: argparse.Namespace) -> int:
    for path in (options.slide, options.clinical, options.expression, options.bundle):
        if path is not None and not path.exists():
            raise SurvPGCError(f"There is no file {path}", "Check the name and the folder")
    _need_window()
    from .app.launch import view

    return view(
        options.slide,
        clinical=options.clinical,
        expression=options.expression,
        bundle=options.bundle,
        case=options.case,
        run=options.press_run,
        screenshot=options.screenshot,
    )


def _need_window() -> None:
    """Say clearly what is missing for a window, before Qt ends the process in its own words."""
    import importlib.util

    if importlib.util.find_spec("napari") is None or importlib.util.find_spec("qtpy") is None:
        raise SurvPGCError("The window is not installed", 'pip install "napari-survpgc[app]"')
    if not _has_display():
        raise SurvPGCError(
            "There is no display to open a window on",
            "Use a desktop session, or xvfb-run -a survpgc view ...",
        )


def _has_display() -> bool:
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _train(options: argparse.Namespace) -> int:
    from .core.cohort import read_cohort
    from .training.crossval import train
    from .training.settings import load_settings
    from .training.systems import build_system

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
            seed=options.seed,
            device=options.device,
            folds=folds,
            shuffle_labels=options.shuffle_labels,
        )
        for name in names
    ]
    for settings in plans:
        build_system(settings)  # a wrong name is said before anything is trained
    cohort = read_cohort(options.cohort, endpoint=options.endpoint or "survival", open_features=True)
    failed = 0
    for name, settings in zip(names, plans, strict=True):
        progress = _ProgressBar()
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


def _reproduce(options: argparse.Namespace) -> int:
    from .core.cohort import read_cohort
    from .training.experiments import EXPERIMENTS
    from .training.reproduce import reproduce

    if options.experiment not in EXPERIMENTS:
        raise SurvPGCError(
            f"There is no table or figure named {options.experiment}", f"Choose from {', '.join(EXPERIMENTS)}"
        )
    progress = _ProgressBar()
    try:
        product, files = reproduce(
            options.experiment,
            read_cohort(options.cohort, open_features=True),
            options.out,
            settings_file=options.settings,
            runs=options.runs,
            processes=options.processes,
            systems=options.systems.split(",") if options.systems else None,
            slides=options.slides,
            progress=progress,
            protocol=options.protocol,
            seed=options.seed,
            epochs=options.epochs,
            device=options.device,
        )
    finally:
        progress.close()
    print(product.text())
    print("Files:", *(f"  {path}" for path in files), sep="\n")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from .training.run_report import evaluate_runs
    from .training.table_writer import OPTIMISTIC, write_product

    product, optimistic = evaluate_runs(
        options.run_folders,
        horizons=options.horizons,
        tau=options.tau,
        resamples=options.resamples,
        seed=options.seed,
    )
    print(product.list_text())
    if optimistic:
        print(OPTIMISTIC)
    if options.out is not None:
        files = write_product(product, "evaluation", options.out, optimistic=optimistic)
        print("Files:", *(f"  {path}" for path in files), sep="\n")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from .training.simulate import DEMO_SLIDE_PX, simulate_case, simulate_cohort

    if options.only is not None:
        case = simulate_case(options.out, seed=options.seed, index=options.only, slide_px=DEMO_SLIDE_PX)
        print(f"Simulated patient: {case.slide}")
        return 0
    progress = _ProgressBar()
    try:
        simulate_cohort(
            options.out,
            patients=options.patients,
            seed=options.seed,
            workers=options.workers,
            progress=progress,
        )
    finally:
        progress.close()
    print(f"{options.patients} simulated patients in {options.out}: the truth is in its folder truth")
    return 0


def _bundle(options: argparse.Namespace) -> int:
    from .training.bundling import make_bundle

    bundle = make_bundle(options.run_folder, options.out, name=options.name)
    print(f"Bundle '{bundle.config.name}' with {len(bundle.fold_files)} fold models in {options.out}")
    return 0


def _import_checkpoint(options: argparse.Namespace) -> int:
    import json

    from .core.checkpoint_import import ImportFacts, import_checkpoint

    sizes = {}
    for change in options.changes:
        key, found, value = change.partition("=")
        if not found:
            raise SurvPGCError(f"--set {change} has no value", "Write e.g. --set gated=false")
        try:
            sizes[key.strip()] = json.loads(value)
        except ValueError:
            sizes[key.strip()] = value
    facts = ImportFacts(
        bin_edges=options.bin_edges,
        reference=options.reference,
        image_encoder=options.image_encoder,
        text_encoder=options.text_encoder,
        gene_encoder=options.gene_encoder,
        patch_px=options.patch_px,
        mpp=options.mpp,
        genes=options.genes,
        gene_sets=options.gene_sets,
        templates=options.templates,
        endpoint=options.endpoint,
        cohort=options.cohort,
        name=options.name,
        sizes=sizes,
    )
    done = import_checkpoint(options.files, options.model, options.out, facts)
    bundle = done.bundle
    print(f"Bundle '{bundle.config.name}' with {len(bundle.fold_files)} fold models in {options.out}")
    for note in done.notes:
        print(f"  note: {note}")
    return 0


def _weights(options: argparse.Namespace) -> int:
    from .core.encoder_status import Readiness, encoder_statuses, kinds_of
    from .core.encoders.weight_files import fetch_weights, keep_files
    from .core.encoders.weights import weights_folder

    if options.encoder is None:
        if options.file:
            raise SurvPGCError("--file does not say of which encoder", "Write 'survpgc weights ID --file F'")
        for status in encoder_statuses():
            print(status.line())
        print(f"Files are looked for in {weights_folder()} and in the cache of the Hugging Face hub.")
        return 0
    if options.file:
        kept = keep_files(options.encoder, options.file, options.kind)
        print(f"{', '.join(kept)} kept for {options.encoder} in {weights_folder()}")
    else:
        for status in encoder_statuses(kinds_of(options.encoder, options.kind)):
            if status.readiness is not Readiness.READY:
                print(f"{status.title}: {status.licence} ({status.page})")
        progress = _ProgressBar()
        try:
            fetch_weights(options.encoder, options.kind, progress)
        finally:
            progress.close()
    for status in encoder_statuses(kinds_of(options.encoder, options.kind)):
        print(status.line())
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from .core.doctor import examine

    report = examine(_demo_bundle())
    print(report.text())
    return 0 if report.ready else 2


def _demo_bundle() -> Path:
    from .resources import resource_path

    return resource_path("demo_bundle")


if __name__ == "__main__":
    main()
