"""Every reader of a file that comes from outside, by kind: a small sound input of it, and how it is read."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from napari_survpgc.core.errors import SlideError
from napari_survpgc.core.types import (
    ClinicalRecord,
    ExpressionProfile,
    ExpressionUnit,
    PatchFeatures,
    PatchGrid,
    Polygon,
    TissueMask,
)
from tests.builders import GENES, tiny_bundle, tissue_image, write_tiff

SLIDE_PX = (600, 500)


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes
    ----------
    make : writes a sound one into an empty folder; returns what :attr:`read` takes, a file or a folder.
    read : opens it and reads all of it; raises SurvPGCError for what it refuses.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def read_slide(path: Path) -> None:
    """Open, thumbnail, and every tile of every level, as the window and as features read them."""
    from napari_survpgc.core.slide.slide import open_slide
    from napari_survpgc.core.slide.tiles import TileCache

    with open_slide(path) as slide:
        tiles = TileCache(slide)
        try:
            for index, level in enumerate(slide.info.levels):
                width, height = level.size
                # Of a pyramid that is said to be huge a part; every tile of a real one.
                rows, columns = min(-(-height // 512), 8), min(-(-width // 512), 8)
                for row in range(rows):
                    for column in range(columns):
                        x, y = column * 512, row * 512
                        tiles.region(index, x, y, min(512, width - x), min(512, height - y))
            try:
                slide.read_square(0, 0, 256.0, 256)
                slide.thumbnail(256)
            except SlideError:
                pass  # a damaged part, told of; the rest is read
        finally:
            tiles.close()


def _svs(folder: Path) -> Path:
    """Return an Aperio pyramid of JPEG tiles, as small as crash_one_byte.svs."""
    path, image = folder / "a.svs", tissue_image(500, 600)
    text = "Aperio Image Library v11.2.1\r\n600x500 [0,0 600x500] (240x240) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990"
    jpeg = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "software": False}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, tile=(240, 240), description=text, **jpeg)
        tiff.write(image[::4, ::4], description=text, rowsperstrip=125, **jpeg)
        tiff.write(image[::2, ::2], tile=(240, 240), description=text, subfiletype=1, **jpeg)
    return path


def _ome(folder: Path) -> Path:
    path, image = folder / "a.ome.tif", tissue_image(500, 600)
    facts = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
    options = {"photometric": "rgb", "compression": "jpeg", "tile": (256, 256)}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(image, subifds=1, metadata={**facts, "PhysicalSizeYUnit": "µm"}, **options)
        tiff.write(image[::2, ::2], subfiletype=1, **options)
    return path


def _jp2k(folder: Path) -> Path:
    path = folder / "a.tiff"
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2):
            tiff.write(
                np.ascontiguousarray(tissue_image(500, 600)[::step, ::step]), tile=(256, 256), photometric="rgb",
                compression="jpeg2000", metadata=None, subfiletype=step - 1, resolution=(20000 / step,) * 2,
                resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


def _big(folder: Path) -> Path:
    path = folder / "a.btf"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for step in (1, 2):
            tiff.write(
                np.ascontiguousarray(tissue_image(500, 600)[::step, ::step]), tile=(256, 256), photometric="rgb",
                compression="lzw", metadata=None, subfiletype=step - 1,
            )  # fmt: skip
    return path


def _geo(folder: Path) -> Path:
    ring = [[0, 0], [400, 0], [400, 400.5], [0, 0]]
    shapes = [
        {"type": "Polygon", "coordinates": [ring, [[10, 5], [40, 5], [40, 30], [10, 5]]]},
        {"type": "MultiPolygon", "coordinates": [[ring]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
    ]
    features = [
        {"type": "Feature", "geometry": shape, "properties": {"classification": {"name": "Tumor"}, "objectType": "annotation"}}
        for shape in shapes
    ]  # fmt: skip
    path = folder / "t.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _read_geo(path: Path) -> None:
    from napari_survpgc.core.tissue.geojson import read_geojson

    read_geojson(path, SLIDE_PX, ("all",))


def bag(width: int = 16, n: int = 40) -> PatchFeatures:
    """Return features of 40 patches."""
    place = np.arange(n)
    coords = np.stack([place % 8 * 256, place // 8 * 256], 1).astype(np.int32)
    rows = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    grid = PatchGrid(coords, 256, 0.5, 256.0, (4000, 4000))
    return PatchFeatures(rows, grid, "efficientnet-lite0", np.zeros((0, 2), np.int32), "ab" * 32)


def _h5(folder: Path) -> Path:
    from napari_survpgc.core.features.feature_file import write_features

    path = folder / "a.h5"
    write_features(bag(), path)
    return path


def _packed_h5(folder: Path) -> Path:
    import h5py

    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "features", data=bag().features[None], compression="gzip", shuffle=True, chunks=(1, 8, 16)
        )
        file.create_dataset("coords", data=bag().grid.coords, compression="lzf", chunks=(8, 2))
        file["coords"].attrs.update(patch_size=256, patch_level=0, name="a", downsample=[1.0, 1.0])
    return path


def _read_h5(path: Path) -> None:
    from napari_survpgc.core.errors import FeatureError
    from napari_survpgc.core.features.feature_file import read_features, read_rows, summarize_features

    problems = []
    for reader in (read_features, summarize_features, read_rows):
        try:
            reader(path)
        except FeatureError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def _pt(folder: Path) -> Path:
    import torch

    torch.save(torch.from_numpy(bag().features), folder / "a.pt")
    _h5(folder).rename(folder / "a.coords.h5")
    return folder / "a.pt"


def _read_pt(path: Path) -> None:
    from napari_survpgc.core.features.feature_file import read_features

    read_features(path, coords=path.with_name("a.coords.h5"))


def _checkpoint(folder: Path) -> Path:
    import torch

    weights = {f"net.{i}.weight": torch.randn(4, 5) for i in range(3)}
    torch.save({"state_dict": weights, "epoch": 3}, folder / "a.pt")
    return folder / "a.pt"


def _old_checkpoint(folder: Path) -> Path:
    import torch

    torch.save({"a.weight": torch.randn(4, 5)}, folder / "a.pt", _use_new_zipfile_serialization=False)
    return folder / "a.pt"


def _safetensors(folder: Path) -> Path:
    import safetensors.torch
    import torch

    safetensors.torch.save_file(
        {"a.weight": torch.randn(4, 5), "b": torch.randn(3)}, folder / "a.safetensors"
    )
    return folder / "a.safetensors"


def _read_checkpoint(path: Path) -> None:
    from napari_survpgc.core.checkpoints.file import read_checkpoint
    from napari_survpgc.core.encoders.weights import weights
    from napari_survpgc.core.errors import SurvPGCError

    problem = None
    for reader in (read_checkpoint, weights.read_checkpoint):
        try:
            reader(path)
        except SurvPGCError as error:
            problem = error
    if problem is not None:
        raise problem


def _toml(folder: Path) -> Path:
    from napari_survpgc.training.settings import load_settings, settings_toml

    path = folder / "settings.toml"
    path.write_text(settings_toml(load_settings(None, model="survpgc")))
    return path


def _read_toml(path: Path) -> None:
    from napari_survpgc.core.clinical.sentences import load_templates
    from napari_survpgc.training.settings import load_settings

    if path.name.startswith("templates"):
        load_templates(str(path))
    else:
        load_settings(path)


def _templates(folder: Path) -> Path:
    from napari_survpgc.resources import resource_path

    return Path(shutil.copy(resource_path("templates", "default.toml"), folder / "templates.toml"))


@cache
def _kept_bundle() -> Path:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="survpgc-trust-"))
    import atexit

    atexit.register(shutil.rmtree, folder, True)
    return tiny_bundle(folder / "b").path


def _bundle(folder: Path) -> Path:
    return Path(shutil.copytree(_kept_bundle(), folder / "b"))


def _read_bundle(path: Path) -> None:
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.clinical.sentences import load_templates

    bundle = load_bundle(path)
    bundle.load_models("cpu")
    if bundle.templates is not None:
        load_templates(str(bundle.templates))


PROFILE = ExpressionProfile(dict.fromkeys(GENES, 1.0), ExpressionUnit.ZSCORE, True, "s", "x.csv")
RECORD = ClinicalRecord(age=60.0, sex="female")


def predict_with(path: Path) -> object:
    """Predict a patient with the bundle of a folder."""
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.predict.predictor import Predictor

    bundle = load_bundle(path)
    predictor = Predictor(bundle, "cpu")
    patient = predictor.prepare_patient(RECORD, PROFILE)
    width = bundle.config.encoders["pathology"].dim
    return predictor.predict(patient, bag(width), attribution=False)


@cache
def _kept_case() -> Path:
    from napari_survpgc.core.bundle.bundle import load_bundle
    from napari_survpgc.core.output.case_file import SavedCase, save_case
    from napari_survpgc.core.predict.predictor import Predictor

    bundle = load_bundle(_kept_bundle())
    predictor = Predictor(bundle, "cpu")
    features = bag(1280)
    prediction = predictor.predict(predictor.prepare_patient(RECORD, PROFILE), features)
    ring = np.array([[0.0, 0.0], [2000.0, 0.0], [2000.0, 2000.0]])
    tissue = TissueMask((Polygon(ring, (ring / 4 + 100,)),), (4000, 4000), "edited")
    path = _kept_bundle().parent / "case.survpgc"
    case = SavedCase(
        Path("slide.svs"), "ab" * 32, 0.5, RECORD, PROFILE, bundle.path, bundle.fingerprint, tissue, features,
        prediction, "case", {"map": "clinic"},
    )  # fmt: skip
    save_case(case, path)
    return path


def _case(folder: Path) -> Path:
    return Path(shutil.copy(_kept_case(), folder / "case.survpgc"))


def _read_case(path: Path) -> None:
    from napari_survpgc.core.output.case_file import load_case

    load_case(path)


@cache
def _kept_prediction() -> str:
    from napari_survpgc.core.output.case_file import load_case
    from napari_survpgc.core.output.prediction_json import write_prediction_json

    path = _kept_bundle().parent / "prediction.json"
    write_prediction_json(load_case(_kept_case()).prediction, path, RECORD, ["a sentence"] * 6)
    return path.read_text()


def _results(folder: Path) -> Path:
    for name in ("A", "B"):
        (folder / "res" / name).mkdir(parents=True)
        (folder / "res" / name / "prediction.json").write_text(_kept_prediction())
    (folder / "res" / "patients.csv").write_text("case_id,survival_months,event\nA,12.5,1\nB,30,0\n")
    return folder / "res"


def _read_results(path: Path) -> None:
    from napari_survpgc.core.jobs.results_folder import read_results

    read_results(path)


def _cohort(folder: Path) -> Path:
    from napari_survpgc.core.features.feature_file import write_features

    place = folder / "co"
    (place / "folds").mkdir(parents=True)
    (place / "features").mkdir()
    names = [f"P-{i}" for i in range(6)]
    rows = "".join(f"{n},S-{i},{50 + i},male,II,7th,a,white,{10 + i},{i % 2}\n" for i, n in enumerate(names))
    head = "case_id,slide_ids,age,sex,stage,staging_edition,subtype,race,survival_months,event\n"
    (place / "patients.csv").write_text(head + rows)
    genes = pd.DataFrame(np.arange(30.0).reshape(6, 5) / 7, pd.Index(names, name="case_id"), list(GENES))
    (place / "expression.csv.gz").write_bytes(gzip.compress(genes.to_csv().encode(), mtime=0))
    (place / "expression_reference.csv").write_text("gene,mean,sd\n" + "".join(f"{g},1.5,2\n" for g in GENES))
    splits = ("train", "train", "train", "val", "test", "test")
    fold = "".join(f"{n},{s}\n" for n, s in zip(names, splits, strict=True))
    (place / "folds" / "fold_0.csv").write_text("case_id,split\n" + fold)
    for i in range(6):
        write_features(bag(4, 8), place / "features" / f"S-{i}.h5")
    return place


def _read_cohort(path: Path) -> None:
    from napari_survpgc.core.cohort.read import read_cohort

    read_cohort(path, open_features=True)


def _expr(folder: Path) -> Path:
    path = folder / "matrix.csv"
    rows = "".join(f"{gene},{1.5 + i},{2.25 * i},0\n" for i, gene in enumerate(GENES))
    path.write_text("gene,TCGA-AA-0001-01A,TCGA-AA-0002-01A,c\n" + rows)
    return path


def _gdc(folder: Path) -> Path:
    columns = "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\ttpm_unstranded\tfpkm_unstranded\tfpkm_uq_unstranded"
    rows = "".join(
        f"ENSG{i:011d}.2\t{gene}\tprotein_coding\t{i}\t1\t1\t{i}.5\t0.5\t0.25\n"
        for i, gene in enumerate(GENES)
    )
    path = folder / "counts.tsv.gz"
    path.write_bytes(gzip.compress(f"# gene-model: GENCODE v36\n{columns}\n{rows}".encode(), mtime=0))
    return path


def _read_expr(path: Path) -> None:
    from napari_survpgc.core.genomics.expression_file import SampleNeededError, read_expression

    try:
        read_expression(path)
    except SampleNeededError as error:
        read_expression(path, sample=error.samples[0])


def _clinical_csv(folder: Path) -> Path:
    path = folder / "clinical.csv"
    path.write_text(
        "case_id;age;sex;stage;subtype;race\nP1;58,5;female;Stage II;luminal;white\nP2;61;male;III;;\n"
    )
    return path


def _clinical_json(folder: Path) -> Path:
    path = folder / "clinical.json"
    path.write_text(
        '{"age": 58, "sex": "female", "stage": "Stage II", "staging_edition": "7th", "race": "white"}'
    )
    return path


def _read_clinical(path: Path) -> None:
    from napari_survpgc.core.clinical.record_file import list_cases, read_record

    cases = list_cases(path)
    read_record(path, cases[0] if cases else None)


def _gmt(folder: Path) -> Path:
    path = folder / "sets.gmt"
    path.write_text("".join(f"SET_{i}\turl\t" + "\t".join(GENES) + "\n" for i in range(3)))
    return path


def _read_gmt(path: Path) -> None:
    from napari_survpgc.core.genomics.gene_sets import read_gmt

    read_gmt(path)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("svs", _svs, read_slide),
        Kind(
            "tif", lambda folder: write_tiff(folder / "a.tif", tissue_image(500, 600), levels=2), read_slide
        ),
        Kind("btf", _big, read_slide),
        Kind("ome", _ome, read_slide),
        Kind("jp2k", _jp2k, read_slide),
        Kind("geo", _geo, _read_geo),
        Kind("h5", _h5, _read_h5),
        Kind("packed_h5", _packed_h5, _read_h5),
        Kind("pt", _pt, _read_pt),
        Kind("checkpoint", _checkpoint, _read_checkpoint),
        Kind("old_checkpoint", _old_checkpoint, _read_checkpoint),
        Kind("safetensors", _safetensors, _read_checkpoint),
        Kind("toml", _toml, _read_toml),
        Kind("templates", _templates, _read_toml),
        Kind("bundle", _bundle, _read_bundle),
        Kind("bpredict", _bundle, predict_with),
        Kind("case", _case, _read_case),
        Kind("results", _results, _read_results),
        Kind("cohort", _cohort, _read_cohort),
        Kind("expr", _expr, _read_expr),
        Kind("gdc", _gdc, _read_expr),
        Kind("clinical_csv", _clinical_csv, _read_clinical),
        Kind("clinical_json", _clinical_json, _read_clinical),
        Kind("gmt", _gmt, _read_gmt),
    )
}
SLIDE_KINDS = ("svs", "tif", "btf", "ome", "jp2k")
