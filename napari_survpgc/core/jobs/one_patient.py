"""From files to results: slide, record and expression in, prediction and every output out.

The command line and the app run this; each step is also there on its own in its noun's module. Everything that can
be refused cheaply (bundle, record, expression, pixel size) is refused before the long work.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from napari_survpgc.core.bundle.bundle import Bundle
from napari_survpgc.core.errors import FeatureError, OutputError, SurvPGCError, writing
from napari_survpgc.core.features.feature_file import check_within, read_features, with_geometry
from napari_survpgc.core.features.joined import join_slides
from napari_survpgc.core.output.case_file import CASE_FILE, SavedCase, save_case
from napari_survpgc.core.output.folder import write_joint_outputs, write_outputs
from napari_survpgc.core.output.report import ReportFacts
from napari_survpgc.core.predict.patient import Patient
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.predict.what_if import for_slide
from napari_survpgc.core.slide.slide import Slide, open_slide, require_mpp
from napari_survpgc.core.tissue.geojson import write_geojson
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    MppSource,
    PatchFeatures,
    Prediction,
    ProgressCallback,
    TissueMask,
)

from .analysis import check_geometry, features_of_slide
from .make_features import bundle_features


def predict_slide(
    path: Path,
    bundle: Bundle,
    record: ClinicalRecord,
    profile: ExpressionProfile | None,
    out: Path,
    *,
    features: Path | None = None,
    coords: Path | None = None,
    patch_px_level0: float | None = None,
    tissue: Path | None = None,
    warnings: Sequence[str] = (),
    mpp_override: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    attribution: bool = True,
    progress: ProgressCallback | None = None,
) -> Prediction:
    """Do the whole job for one patient and write every output of the contract into ``out``.

    Parameters
    ----------
    features : features made before, by us, CLAM, TRIDENT or STAMP; without it they are computed into
        ``out/features/<slide>.h5``, which an interrupted run takes up again.
    coords, patch_px_level0 : the file with the coordinates and the patch side, where ``features`` lacks them.
    warnings : about the slide, to be kept with the result.

    Raises
    ------
    SurvPGCError : bad input, in one sentence; nothing is left in ``out`` but finished or resumable features
        of an earlier, interrupted run.
    """
    # The order is by cost: everything a typing mistake can spoil comes before the first slow step.
    predictor = Predictor(bundle, device)
    patient = predictor.prepare_patient(record, profile)
    cut = _Cut(device, tissue, workers, batch_size, progress)
    with _kept_only_when_good(out), open_slide(path, mpp=mpp_override) as slide:
        require_mpp(slide.info)
        if features is not None:
            bag = read_features(features, coords=coords, slide_mpp=slide.info.mpp)
            if patch_px_level0 is not None:
                bag = with_geometry(bag, patch_px_level0)
            check_within(bag, slide.info)
            check_geometry(bag, slide.info, features)
            made = _Made(bag, features)
        else:
            made = _make_features(slide, bundle, out, out / "tissue.geojson", cut)
        prediction = predictor.predict(
            patient,
            made.features,
            slide.info,
            warnings=[*warnings, *made.warnings],
            attribution=attribution,
            progress=progress,
        )
        subject = _Subject(bundle, record, profile, patient)
        _write_slide(prediction, slide, out, subject, made, progress=progress)
    return prediction


def predict_slides(
    paths: Sequence[Path],
    bundle: Bundle,
    record: ClinicalRecord,
    profile: ExpressionProfile | None,
    out: Path,
    *,
    features: Sequence[Path] = (),
    warnings: Sequence[str] = (),
    mpp_override: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    attribution: bool = True,
    progress: ProgressCallback | None = None,
) -> Prediction:
    """Do the whole job for one patient with several slides, whose patches are one bag, as in training.

    ``out`` gets prediction.json and attention.h5 (dataset ``slide``: which slide a patch is of) of all slides together,
    and for each slide a folder with everything that :func:`predict_slide` writes, the maps over this slide.

    Parameters
    ----------
    features : made before, one file a slide.   warnings : about the patient's slides, to be kept with the result.
    mpp_override : of all the slides.

    Raises
    ------
    SurvPGCError : as of :func:`predict_slide`; one bad slide refuses the patient.
    """
    if len(paths) == 1:
        return predict_slide(
            paths[0], bundle, record, profile, out, features=features[0] if features else None,
            warnings=warnings, mpp_override=mpp_override, device=device, workers=workers, batch_size=batch_size,
            attribution=attribution, progress=progress,
        )  # fmt: skip
    folders = _folders(paths, out)
    if features and len(features) != len(paths):
        raise FeatureError(
            f"There are {len(paths)} slides and {len(features)} feature files",
            "Give one file a slide, in order",
        )
    predictor = Predictor(bundle, device)
    patient = predictor.prepare_patient(record, profile)
    with _kept_only_when_good(out), ExitStack() as stack:
        slides = [stack.enter_context(open_slide(path, mpp=mpp_override)) for path in paths]
        for slide in slides:
            require_mpp(slide.info)
        made = []
        for number, slide in enumerate(slides):
            cut = _Cut(device, None, workers, batch_size, _named(progress, slide.info.path.name))
            if features:
                one = _Made(features_of_slide(features[number], slide.info), features[number])
            else:
                one = _make_features(slide, bundle, out, folders[number] / "tissue.geojson", cut)
            made.append(one)
        bags = [
            # A file of others may not say of which slide it is.
            replace(one.features, slide_fingerprint=one.features.slide_fingerprint or slide.info.fingerprint)
            for one, slide in zip(made, slides, strict=True)
        ]
        names = [slide.info.path.name for slide in slides]
        bag = join_slides(bags, names)
        known = predictor.check_features(bag, None)
        found = list(warnings)
        for slide, one in zip(slides, made, strict=True):
            # Of one slide alone: that of all together hides a strange one among usual ones.
            own = [w for w in predictor.check_features(one.features, slide.info) if w not in known]
            found += [f"{slide.info.path.name}: {warning}" for warning in (*one.warnings, *own)]
        prediction = predictor.predict(
            patient, bag, slides[0].info, warnings=found, attribution=attribution, progress=progress
        )
        subject = _Subject(bundle, record, profile, patient)
        for slide, one, folder in zip(slides, made, folders, strict=True):
            shown = for_slide(prediction, slide.info)
            files = [each.file for each in made]
            _write_slide(
                shown, slide, folder, subject, replace(one, features=bag), files,
                progress=_named(progress, slide.info.path.name),
            )  # fmt: skip
        # Last, since a batch takes a patient with it for finished.
        write_joint_outputs(prediction, out, ReportFacts(record, patient.sentences))
    return prediction


@dataclass(frozen=True)
class _Cut:
    """How the patches of a slide are found and encoded."""

    device: str
    tissue: Path | None
    workers: int | None
    batch_size: int | None
    progress: ProgressCallback | None


@dataclass(frozen=True)
class _Made:
    """Features, the file that has them, and what came of the slide on the way."""

    features: PatchFeatures
    file: Path
    warnings: tuple[str, ...] = ()
    tissue: TissueMask | None = None


@dataclass(frozen=True)
class _Subject:
    """Who was predicted, and with what."""

    bundle: Bundle
    record: ClinicalRecord
    profile: ExpressionProfile | None
    patient: Patient


@contextmanager
def _kept_only_when_good(out: Path) -> Iterator[None]:
    """Bad input leaves nothing behind; an interruption (another exception) keeps what was finished."""
    new = not out.exists()
    try:
        _check_writable(out)
        yield
    except SurvPGCError:
        if new:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _make_features(slide: Slide, bundle: Bundle, out: Path, outlines: Path, cut: _Cut) -> _Made:
    """Compute the features of a slide into ``out/features``, or take those of an interrupted run up again."""
    file = out / "features" / f"{slide.info.path.stem}.h5"
    result = bundle_features(
        slide,
        bundle,
        file,
        device=cut.device,
        tissue=cut.tissue,
        workers=cut.workers,
        batch_size=cut.batch_size,
        progress=cut.progress,
    )
    with writing(outlines):
        outlines.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(result.tissue, outlines)
    return _Made(result.features, file, result.warnings, result.tissue)


def _write_slide(
    prediction: Prediction,
    slide: Slide,
    out: Path,
    subject: _Subject,
    made: _Made,
    files: Sequence[Path] = (),
    *,
    progress: ProgressCallback | None,
) -> None:
    """Write results and case file of a slide; ``files`` are those of the features when they are of several slides."""
    info, bundle = slide.info, subject.bundle
    write_outputs(
        prediction,
        slide,
        out,
        ReportFacts(subject.record, subject.patient.sentences, subject.patient.notes, bundle.reference),
        progress=progress,
    )
    save_case(
        SavedCase(
            slide=info.path.resolve(),
            fingerprint=info.fingerprint,
            mpp=info.mpp if info.mpp_source is MppSource.USER else None,
            record=subject.record,
            profile=subject.profile,
            bundle=bundle.path.resolve(),
            bundle_fingerprint=bundle.fingerprint,
            tissue=made.tissue,
            features=made.features,
            prediction=prediction,
            name=out.resolve().name,
        ),
        out / CASE_FILE,
        features_paths=files or [made.file],
    )


def _folders(paths: Sequence[Path], out: Path) -> list[Path]:
    """Return a folder in ``out`` for each slide."""
    stems = [path.stem for path in paths]
    for stem in stems:
        if stems.count(stem) > 1 or stem == "features":
            raise OutputError(
                f"Two slides of the patient are named {stem}"
                if stem != "features"
                else "A slide cannot be named features, since a folder of the results is",
                "Rename one",
            )
    return [out / stem for stem in stems]


def _named(progress: ProgressCallback | None, name: str) -> ProgressCallback | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{name}, {stage}", done, total)


def _check_writable(out: Path) -> None:
    """Refuse an unusable output folder before minutes of work, not after."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file, not a folder", "Choose another --out folder")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".survpgc-write-test"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
