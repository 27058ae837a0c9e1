"""What the kill tests kill: small jobs of every command that writes, each with what was there before."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from napari_survpgc.core.bundle.bundle import Bundle, load_bundle
from napari_survpgc.core.cohort.read import read_cohort
from napari_survpgc.core.encoders import catalog
from napari_survpgc.core.jobs import make_features, one_patient
from napari_survpgc.core.jobs.one_patient import predict_case
from napari_survpgc.core.output import folder as output
from napari_survpgc.core.output import report
from napari_survpgc.core.output.case_file import load_case
from napari_survpgc.core.output.folder import write_outputs
from napari_survpgc.core.predict.predictor import Predictor
from napari_survpgc.core.slide.slide import open_slide
from napari_survpgc.core.types import Case, ClinicalRecord, JobOptions
from napari_survpgc.simulation.cohort import simulate_cohort
from napari_survpgc.training.crossval import train
from napari_survpgc.training.reproduce import reproduce
from napari_survpgc.training.runs.bundling import make_bundle
from napari_survpgc.training.settings import Settings
from tests.builders import tiny_bundle, tissue_image, write_tiff
from tests.core.test_features import FakeEncoder
from tests.training.test_train import make_cohort

_OPTIONS = JobOptions("cpu", 1, attribution=False)


class _Encoder(FakeEncoder):
    id = "efficientnet-lite0"


def _fake(*_: Any, **__: Any) -> _Encoder:
    return _Encoder()


catalog_loader, job_loader = catalog.load_image_encoder, make_features.load_image_encoder


@functools.cache
def _predictor_of(folder: Path, device: str) -> Predictor:
    return Predictor(_bundle(folder), device)


def _predictor(bundle: Bundle, device: str) -> Predictor:
    return _predictor_of(bundle.path, device)


_bundle = functools.cache(load_bundle)


def fake_encoders() -> None:
    """Let the jobs of this process encode in microseconds, load a model once, and draw small maps."""
    one_patient.Predictor = _predictor  # type: ignore[assignment,misc]
    output.HEATMAP_PX, output.heatmap_figure = 64, _no_figure  # type: ignore[assignment]
    output.figure_png = report.figure_png = _small_png
    catalog.load_image_encoder = make_features.load_image_encoder = _fake  # type: ignore[assignment]


def _small_png(figure: object, dpi: int = 100) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def _no_figure(*_: Any, **__: Any) -> None:
    return None


@dataclass(frozen=True)
class Scenario:
    """One job.

    Attributes
    ----------
    before : makes inputs in a folder, and the earlier outputs in another.   run : the job, as a user would repeat it.
    one_set : the outputs are of one run, all of them; otherwise each file is whole and the job goes on.
    passing : which files come and go while the job is not done.
    """

    name: str
    before: Callable[[Path, Path], None]
    run: Callable[[Path, Path], None]
    one_set: bool = True
    passing: Callable[[str], bool] = lambda name: False
    replaced: tuple[str, ...] = ()


# --- a patient ----------------------------------------------------------------------------------------------


def _slide(folder: Path, name: str = "S", seed: int = 0) -> Path:
    path = folder / f"{name}.tiff"
    return path if path.is_file() else write_tiff(path, tissue_image(1024, 1280, seed))


def _before_predict(folder: Path, place: Path) -> None:
    fake_encoders()
    tiny_bundle(folder / "bundle", pathology_dim=6, n_folds=1)
    _predict(folder, place / "out", 50)
    (place / "out" / "notes.txt").write_text("mine")
    (place / "out" / "top_clinic" / "notes.txt").write_text("mine")


def _predict(folder: Path, out: Path, age: int, slides: int = 1) -> None:
    fake_encoders()
    paths = tuple(_slide(folder, f"S{number}" if number else "S", number) for number in range(slides))
    predict_case(Case("A", paths, ClinicalRecord(age=age)), _bundle(folder / "bundle"), out, options=_OPTIONS)


def _before_new(folder: Path, place: Path) -> None:
    fake_encoders()
    tiny_bundle(folder / "bundle", pathology_dim=6, n_folds=1)
    _slide(folder)


def _is_features(name: str) -> bool:
    return "/features/" in name


def _before_several(folder: Path, place: Path) -> None:
    _before_new(folder, place)
    _predict(folder, place / "out", 50, 2)


def _export(folder: Path, place: Path) -> None:
    saved = load_case(folder / "old" / "out" / "case.survpgc")
    with open_slide(folder / "S.tiff") as slide:
        other = dataclasses.replace(saved.prediction, risk=-0.5, risk_group="high")
        write_outputs(other, slide, place / "out", k=3)


def _before_export(folder: Path, place: Path) -> None:
    _before_predict(folder, folder / "old")
    saved = load_case(folder / "old" / "out" / "case.survpgc")
    with open_slide(folder / "S.tiff") as slide:
        write_outputs(saved.prediction, slide, place / "out", k=3)
    (place / "out" / "notes.txt").write_text("mine")


def _features(folder: Path, place: Path) -> None:
    from napari_survpgc.commands import features

    fake_encoders()
    options = SimpleNamespace(
        slides=[_slide(folder), _slide(folder, "T", 1)], out=place / "out", encoder="x", device="cpu", mpp=None, patch_px=None,
        format="survpgc", mpp_override=None, tissue=None, tissue_class=[], workers=1, batch_size=4,
    )  # fmt: skip
    assert features.run(options) == 0


# --- a cohort -----------------------------------------------------------------------------------------------


def _settings(epochs: int = 2) -> Settings:
    return Settings(
        model="mlp_genomic", model_config={"dim": 8}, epochs=epochs, n_folds=2, stopping="last", device="cpu"
    )


def _before_train(folder: Path, place: Path) -> None:
    make_cohort(folder / "cohort", n=30)


def _train(folder: Path, place: Path) -> None:
    train(read_cohort(folder / "cohort"), _settings(), place / "run")


def _before_bundle(folder: Path, place: Path) -> None:
    _before_train(folder, place)
    _train(folder, folder)
    make_bundle(folder / "run", place / "bundle", name="old")


def _before_reproduce(folder: Path, place: Path) -> None:
    _before_train(folder, place)
    _reproduce(folder, folder / "scratch", 2)
    _reproduce(folder, place / "out", 1)


def _reproduce(folder: Path, out: Path, epochs: int) -> None:
    reproduce(
        "table1",
        read_cohort(folder / "cohort"),
        out,
        runs=folder / "runs",
        systems=["mlp_genomic"],
        epochs=epochs,
        device="cpu",
        n_folds=2,
    )


def _before_simulate(folder: Path, place: Path) -> None:
    torch.manual_seed(0)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("features", _before_new, _features, one_set=False, passing=lambda n: ".partial/" in n),
        Scenario("predict", _before_predict, lambda f, p: _predict(f, p / "out", 70)),
        Scenario("predict_new", _before_new, lambda f, p: _predict(f, p / "out", 70), passing=_is_features),
        Scenario("predict_several", _before_several, lambda f, p: _predict(f, p / "out", 70, 2)),
        Scenario("export", _before_export, _export),
        Scenario("bundle", _before_bundle, lambda f, p: make_bundle(f / "run", p / "bundle", name="new") and None),
        Scenario(
            "train", _before_train, _train, one_set=False, passing=lambda n: n.endswith(("checkpoint.pt", "log.csv"))
        ),
        Scenario("reproduce", _before_reproduce, lambda f, p: _reproduce(f, p / "out", 2)),
        Scenario(
            "simulate",
            _before_simulate,
            lambda f, p: simulate_cohort(p / "cohort", patients=10, seed=3, slide_px=(256, 256)),
            one_set=False,
        ),
    )
}  # fmt: skip
