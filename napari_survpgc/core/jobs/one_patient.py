"""From files to results: a patient's slides, record and expression in, prediction and every output out.

The command line and the app run this; each step is also there on its own in its noun's module. Everything that can
be refused cheaply (bundle, record, expression, pixel size) is refused before the long work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.errors import FeatureError, OutputError, SlideError
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.files import staging, sweep
from napari_survpgc.core.locks import claim
from napari_survpgc.core.names import file_name
from napari_survpgc.core.output.case_file import SavedCase, save_case
from napari_survpgc.core.output.folder import (
    FEATURES,
    Contents,
    check_ours,
    result_set,
)
from napari_survpgc.core.output.report import ReportFacts
from napari_survpgc.core.output.swap import finish
from napari_survpgc.core.predict.patches import region_risks
from napari_survpgc.core.predict.patient import Patient
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.predict.what_if import for_slide
from napari_survpgc.core.slide.slide import Slide, open_slide, require_mpp
from napari_survpgc.core.tissue.geojson import read_regions, write_geojson
from napari_survpgc.core.types import (
    Case,
    JobOptions,
    MppSource,
    PatchFeatures,
    Prediction,
    ProgressCallback,
    TissueMask,
)

from .analysis import features_of_slide, kept_warnings
from .make_features import bundle_features


def predict_case(
    case: Case,
    bundle: Bundle,
    out: Path,
    *,
    options: JobOptions = JobOptions(),
    regions: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Prediction:
    """Do the whole job for one patient and write every output of the contract into ``out``.

    The patches of several slides are one bag, as in training: ``out`` then gets prediction.json and attention.h5
    (dataset ``slide``: which slide a patch is of) of all slides together, and a folder for each slide with everything
    that one slide alone would have in ``out``, the maps over this slide.

    Parameters
    ----------
    regions : GeoJSON of regions on the only slide, of which is said what the risk is without each and of each alone.
    case : without features they are computed into ``out/features/<slide>.h5``, which an interrupted run takes up again.

    Raises
    ------
    SurvPGCError : bad input, in one sentence; one bad slide refuses the patient. ``out`` then has what was there before,
        and features, finished or to be gone on with.
    """
    # The order is by cost: everything a typing mistake can spoil comes before the first slow step.
    _check_slides(case)
    if regions is not None and len(case.slides) > 1:
        raise SlideError(
            f"--regions belongs to one slide, and there are {len(case.slides)}",
            "Predict from that slide alone",
        )
    folders = _folders(case.slides, out)
    predictor = Predictor(bundle, options.device)
    patient = predictor.prepare_patient(case.record, case.profile)
    with _alone_in(out, folders), ExitStack() as stack:
        slides = [stack.enter_context(open_slide(path, mpp=case.mpp)) for path in case.slides]
        for slide in slides:
            require_mpp(slide.info)
        asked = () if regions is None else read_regions(regions, slides[0].info.size)
        job = _Job(case, bundle, patient, out, options, progress)
        parts = [job.part(*each) for each in zip(range(len(slides)), slides, folders, strict=True)]
        bag = join_slides([part.features for part in parts], [part.slide.info.path.name for part in parts])
        prediction = predictor.predict(
            patient,
            bag,
            slides[0].info,
            warnings=_warnings(case, parts, bag, predictor),
            attribution=options.attribution,
            progress=progress,
        )
        if asked:
            risks = region_risks(prediction, asked)
            prediction = replace(prediction, provenance={**prediction.provenance, "regions": risks})
        job.write(prediction, parts, bag)
    return prediction


@dataclass(frozen=True)
class _Part:
    """A slide, where its results go, its features and the file that has them, and what came of it on the way."""

    slide: Slide
    folder: Path
    features: PatchFeatures
    file: Path
    warnings: tuple[str, ...] = ()
    tissue: TissueMask | None = None


@dataclass(frozen=True)
class _Job:
    """What all slides of a patient share."""

    case: Case
    bundle: Bundle
    patient: Patient
    out: Path
    options: JobOptions
    progress: ProgressCallback | None

    def part(self, number: int, slide: Slide, folder: Path) -> _Part:
        """Read the features of a slide, or compute them; those of an interrupted run are taken up again."""
        case, info = self.case, slide.info
        if case.features:
            file = case.features[number]
            found = features_of_slide(file, info, coords=case.coords, patch_px_level0=case.patch_px_level0)
            # A file of others may not say of which slide it is.
            return _Part(
                slide,
                folder,
                replace(found, slide_fingerprint=found.slide_fingerprint or info.fingerprint),
                file,
                kept_warnings(found),
            )
        file = self.out / _features_name(info.path)
        made = bundle_features(
            slide,
            self.bundle,
            file,
            tissue=case.tissue,
            tissue_classes=case.tissue_classes,
            options=self.options,
            progress=self._progress_of(slide),
        )
        return _Part(slide, folder, made.features, file, made.warnings, made.tissue)

    def write(self, prediction: Prediction, parts: Sequence[_Part], bag: PatchFeatures) -> None:
        """Write results, outlines and case file of each slide, and what several have in common, as one set."""
        patient = self.patient
        facts = ReportFacts(patient.record, patient.sentences, patient.notes, self.bundle.reference)
        with result_set(self.out) as results:
            for part in parts:
                shown = for_slide(prediction, part.slide.info)
                jobs = {"case": partial(self._save, self._saved(shown, part, bag), part, parts)}
                if part.tissue is not None:
                    jobs["outlines"] = partial(write_geojson, part.tissue, mpp=part.slide.info.mpp)
                folder = part.folder.relative_to(self.out).as_posix()
                progress = self._progress_of(part.slide)
                results.add(
                    Contents(shown, part.slide, facts), "" if folder == "." else folder, progress, **jobs
                )
            if len(parts) > 1:
                results.add(Contents(prediction, None, facts))

    def _save(self, saved: SavedCase, part: _Part, parts: Sequence[_Part], place: Path) -> None:
        save_case(saved, place, features_paths=[each.file for each in parts], folder=part.folder)

    def _saved(self, prediction: Prediction, part: _Part, bag: PatchFeatures) -> SavedCase:
        info = part.slide.info
        return SavedCase(
            slide=info.path.resolve(),
            fingerprint=info.fingerprint,
            mpp=info.mpp if info.mpp_source is MppSource.USER else None,
            record=self.case.record,
            profile=self.case.profile,
            bundle=self.bundle.path.resolve(),
            bundle_fingerprint=self.bundle.fingerprint,
            tissue=part.tissue,
            features=bag,
            prediction=prediction,
            name=part.folder.resolve().name,
        )

    def _progress_of(self, slide: Slide) -> ProgressCallback | None:
        """Name the slide in the stages where there are several."""
        progress, name = self.progress, slide.info.path.name
        if progress is None or len(self.case.slides) == 1:
            return progress
        return lambda stage, done, total: progress(f"{name}, {stage}", done, total)


def _warnings(case: Case, parts: Sequence[_Part], bag: PatchFeatures, predictor: Predictor) -> list[str]:
    """Return what is to be said of the slides; of several, with the name of the one."""
    found = [case.note] if case.note else []
    if len(parts) == 1:
        return [*found, *parts[0].warnings]
    known = predictor.check_features(bag, None).warnings
    for part in parts:
        # Of one slide alone: that of all together hides a strange one among usual ones.
        own = [w for w in predictor.check_features(part.features, part.slide.info).warnings if w not in known]
        found += [f"{part.slide.info.path.name}: {warning}" for warning in (*part.warnings, *own)]
    return found


def _check_slides(case: Case) -> None:
    """Refuse a case whose slides and what goes with each of them do not match."""
    slides, files = len(case.slides), len(case.features)
    if slides == 0:
        raise SlideError("There is no slide of the patient", "Give at least one")
    if files and files != slides:
        one = "There are several feature files and one slide" if slides == 1 else ""
        raise FeatureError(
            one or f"There are {slides} slides and {files} feature file{'' if files == 1 else 's'}",
            "Give one file a slide, in order (--features)",
        )
    for name in ("coords", "patch_px_level0", "tissue"):
        if slides > 1 and getattr(case, name) is not None:
            raise SlideError(
                f"--{name.replace('_', '-')} belongs to one slide, and there are {slides}",
                "Make the features of each slide with 'survpgc features' and give them with --features",
            )


def _folders(slides: Sequence[Path], out: Path) -> list[Path]:
    """Return where the results of each slide go: a folder in ``out`` for each of several."""
    if len(slides) == 1:
        return [out]
    names = [file_name(path.stem) for path in slides]
    for name in names:
        if names.count(name) > 1 or name == "features":
            raise OutputError(
                f"Two slides of the patient are named {name}"
                if name != "features"
                else "A slide cannot be named features, since a folder of the results is",
                "Rename one",
            )
    return [out / name for name in names]


@contextmanager
def _alone_in(out: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Work in the output folder alone, refuse an unusable one before minutes of work, and leave nothing empty behind.

    Results come at the end and all at once, so whatever goes wrong leaves the earlier ones; features, finished or not,
    stay for the next run.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file, not a folder", "Choose another --out folder")
    with claim(out, f"predicting into {out}"):
        try:
            finish(out)
            for folder in dict.fromkeys((out, *folders)):
                check_ours(folder)
            with staging(out) as place:  # which also sweeps what a killed run has left
                (place / "probe").write_bytes(b"\0" * 4096)
            sweep(out.parent, out.name)
            sweep(out / "features")
            yield
        finally:
            with suppress(OSError):
                (out / "features").rmdir()


def _features_name(slide: Path) -> str:
    return FEATURES.replace("<slide>", file_name(slide.stem))
