"""The files of a result, written anew from what of them may leave."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from napari_survpgc.core import documents
from napari_survpgc.core.bundle.bundle import load_bundle
from napari_survpgc.core.cells import csv_text
from napari_survpgc.core.errors import CohortError, SurvPGCError
from napari_survpgc.core.files import atomic, read_json, write_text
from napari_survpgc.core.output.case_file import CASE_FILE, SUFFIX, SavedCase, load_case, save_case
from napari_survpgc.core.output.folder import OUTLINES_FILE
from napari_survpgc.core.output.gallery import GALLERY_FILES, IN_REPORT, Gallery
from napari_survpgc.core.output.links import leads_out
from napari_survpgc.core.output.prediction_json import PREDICTION_FILE, PredictionDocument
from napari_survpgc.core.output.report import ReportFacts, report_html
from napari_survpgc.core.tables import TextTable, case_column, plain, read_table
from napari_survpgc.core.types import CLINICAL_FIELDS, ClinicalRecord, Prediction

from .pseudonyms import LEFT_OUT, Pseudonyms, age, clinical, field_value

_LARGEST = 1 << 30
_PATHS = ("clinic", "genomic")
_AGAIN = "Predict the patient again"
# Of prediction.json: numbers and words of the program, which name nobody.
_NUMBERS = (
    "risk", "risk_percentile", "risk_group", "hazards", "survival", "survival_at", "bin_edges_months", "fold_risks",
    "fold_survival", "attribution", "encoders", "median_months", "outlived_months",
    "device", "answered", "model", "place", "map_trust", "version", "notice",
)  # fmt: skip
_SLIDE = ("n_patches", "mpp", "mpp_source", "vendor", "backend", "patch_px_level0")
_COLUMNS = re.compile(
    r"risk( (percentile|group|score))?|(hazard|survival) ?\d*|survival (months|at \d+)|event|\w+ (months|event)"
    r"|n (patches|slides)|n|median( survival)?( months)?|answered|fold|split|status"
)
_REASONS = ("reason", "note", "notes", "error", "problem", "warnings", "not answered because")


def read_list(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of a batch; none where there is none that can be read."""
    table = _table(path)
    return [] if table is None else [dict(zip(table.header, row, strict=True)) for row in table.rows]


def list_columns(row: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the id of the patient and those of the slides."""
    column = case_column(row)
    slides = next((row[name] for name in row if plain(name) in ("slide ids", "slides", "slide id")), "")
    return row[column] if column else "", [part.strip() for part in slides.split(";") if part.strip()]


def _table(path: Path) -> TextTable | None:
    if not path.is_file():
        return None
    try:
        return read_table(path, CohortError, _AGAIN)
    except CohortError:
        return None


@dataclass
class Copier:
    """Writes copies, and remembers what it left out: by name for the screen, by kind for the copy."""

    names: Pseudonyms
    left_out: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    _done: set[Path] = field(default_factory=set)

    def leave(self, kind: str, where: object) -> None:
        self.kinds.append(kind)
        self.left_out.append(f"{where}: {kind}")

    # --- a result -------------------------------------------------------------------------------------------

    def folder(self, source: Path, target: Path, document: dict[str, Any] | None) -> None:
        """Copy what is known of the folder of one result."""
        target.mkdir(parents=True, exist_ok=True)
        written = self._prediction(source / PREDICTION_FILE, target / PREDICTION_FILE, document)
        prediction = self._cases(source, target)
        for name in ("attention.h5",):
            self._try(source / name, lambda path: self._attention(path, target / path.name))
        for name in ("attention.geojson", OUTLINES_FILE):
            self._try(source / name, lambda path: self._geojson(path, target / path.name))
        pictures: dict[str, bytes] = {}
        galleries: dict[str, Gallery] = {}
        for name in _PATHS:
            self._try(source / f"heatmap_{name}.png", lambda path: _picture(path, target / path.name))
            if (target / f"heatmap_{name}.png").is_file():
                pictures[name] = (target / f"heatmap_{name}.png").read_bytes()
            if (found := self._gallery(source / f"top_{name}", target / f"top_{name}")) is not None:
                galleries[name] = found
        report = source / "report.html"
        if report.is_file():
            self._done.add(report)
            if prediction is None or written is None:
                self.leave("report without case file and prediction.json to make it anew", report)
            else:
                facts = ReportFacts(written.clinical, written.sentences, (), _reference(prediction[1]))
                write_text(target / "report.html", report_html(prediction[0], pictures, galleries, facts))

    def _try(self, path: Path, copy: Any) -> None:
        if not path.is_file():
            return
        self._done.add(path)
        try:
            copy(path)
        except (CohortError, OSError, RuntimeError, LookupError, AttributeError, ValueError, TypeError):
            self.leave("file that could not be read", path)

    def _prediction(
        self, path: Path, target: Path, document: dict[str, Any] | None
    ) -> PredictionDocument | None:
        if not path.is_file():
            return None
        self._done.add(path)
        clean = None if document is None else self.document(document)
        try:
            found = documents.structure(clean, PredictionDocument)
        except documents.DocumentError:
            self.leave("file that could not be read", path)
            return None
        for key in set(document or ()) - set(clean or ()):
            self.leave("entry of prediction.json that this version does not know", f"{path}, {key}")
        write_text(target, json.dumps(clean, indent=1, allow_nan=False) + "\n")
        return found

    def document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a prediction.json names nobody."""
        clean: dict[str, Any] = {}
        for key, value in document.items():
            if key in _NUMBERS or key == "bundle":
                clean[key] = self._plain(value)
            elif key == "slide":
                clean[key] = self._slide(value)
            elif key == "slides":
                clean[key] = [self._slide(part) | {"fingerprint": ""} for part in value or ()]
            elif key == "clinical":
                clean[key] = clinical(value, self.names)
            elif key in ("warnings", "not_answered_because"):
                clean[key] = self._texts(value)
            elif key == "sentences":
                # Those of an age above 89, or of a field with a name in it, would say it after all.
                whole = clinical(document.get("clinical"), self.names) == document.get("clinical")
                clean[key] = self._texts(value) if whole else []
            elif key == "expression_sample":
                clean[key] = None if value is None else "sample"
            elif key == "regions":
                clean[key] = [
                    {
                        k: self.names.text(v) if isinstance(v, str) else self._plain(v)
                        for k, v in region.items()
                    }
                    | {"name": f"region {number}"}
                    for number, region in enumerate(value or (), start=1)
                ]
        return clean

    def _slide(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: self._plain(facts[key]) for key in _SLIDE if key in facts}
        return {"name": self.names.slide(str(facts["name"])), **kept} if facts.get("name") else kept

    def _texts(self, texts: Sequence[object]) -> list[str]:
        found = [self.names.text(text) for text in texts or ()]
        self.kinds += ["note"] * found.count(LEFT_OUT)
        return list(dict.fromkeys(found))

    def _plain(self, value: Any) -> Any:
        """Return numbers as they are, and texts in any depth without names."""
        if isinstance(value, str):
            return self.names.without(value)
        if isinstance(value, Mapping):
            return {self.names.without(key): self._plain(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._plain(each) for each in value]
        return value if value is None or isinstance(value, (bool, int, float)) else None

    def _cases(self, source: Path, target: Path) -> tuple[Prediction, SavedCase] | None:
        """Copy the case files; return what the first says, without names, and the original."""
        first = None
        for number, path in enumerate(sorted(source.glob(f"*{SUFFIX}")), start=1):
            self._done.add(path)
            try:
                case = load_case(path, features=False)
            except SurvPGCError:
                self.leave("file that could not be read", path)
                continue
            place = target / (CASE_FILE if number == 1 else f"case-{number}{SUFFIX}")
            clean = self._case(case, place)
            save_case(clean, place)
            first = first or (clean.prediction, case)
        return first

    def _case(self, case: SavedCase, place: Path) -> SavedCase:
        made = dict(case.prediction.provenance)
        keys = ("bundle", "encoders", "slide", "slides", "device", "map_trust", "regions", "version")
        clean = self.document({key: made[key] for key in keys if made.get(key) is not None})
        record = clinical(vars(case.record), self.names) or {}
        profile = case.profile
        if profile is not None:
            profile = replace(profile, sample="sample", source="expression", notes=())
        slide = f"{self.names.slide(case.slide.name)}{case.slide.suffix.lower()}" if case.slide else None
        if case.settings:
            self.kinds.append("how a case was looked at (settings)")
        return replace(
            case,
            slide=place.parent / slide if slide else None,
            fingerprint="anonymised",
            record=ClinicalRecord(**record),
            profile=profile,
            bundle=place.parent / "model",
            features=None,
            prediction=replace(
                case.prediction, provenance=clean, warnings=tuple(self._texts(case.prediction.warnings))
            ),
            name=place.parent.name,
            settings={},
        )

    def _attention(self, path: Path, target: Path) -> None:
        with h5py.File(path, "r") as file, atomic(target) as place, h5py.File(place, "w") as out:
            if leads_out(file):
                raise CohortError(f"{path.name} points to other files", _AGAIN)
            kept = {"coords", "slide", *_PATHS, *(f"{name}_score" for name in _PATHS)}
            for name, data in file.items():
                if name not in kept or data.size > _LARGEST or data.dtype.kind not in "fiu":
                    self.leave("data of attention.h5 that this version does not know", f"{path}, {name}")
                    continue
                copy = out.create_dataset(name, data=data[()])
                for key in ("patch_px_level0", "patch_size_level0"):
                    if key in data.attrs:
                        copy.attrs[key] = np.asarray(data.attrs[key], float)
                if "rows" in data.attrs:
                    copy.attrs["rows"] = [self.names.without(row) for row in data.attrs["rows"]]
                if name == "slide" and "names" in data.attrs:
                    copy.attrs["names"] = [self.names.slide(str(each)) for each in data.attrs["names"]]

    def _geojson(self, path: Path, target: Path) -> None:
        document = read_json(path, _LARGEST, CohortError, _AGAIN)
        features = []
        for each in document["features"]:
            said = each.get("properties") or {}
            name = str((said.get("classification") or {}).get("name") or "")
            kept: dict[str, Any] = {
                "objectType": "tile" if said.get("objectType") == "tile" else "annotation"
            }
            if name:
                kept["classification"] = {"name": self.names.value(name) or "Region"}
            if isinstance(said.get("measurements"), dict):
                numbers = {self.names.without(k): v for k, v in said["measurements"].items()}
                kept["measurements"] = {k: v for k, v in numbers.items() if isinstance(v, (int, float))}
            shape = each["geometry"]
            geometry = {"type": _word(shape["type"]), "coordinates": _numbers(shape["coordinates"])}
            features.append({"type": "Feature", "geometry": geometry, "properties": kept})
        write_text(target, json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False))

    def _gallery(self, source: Path, target: Path) -> Gallery | None:
        if not source.is_dir():
            return None
        table = source / "patches.csv"
        self._try(table, lambda path: self._patches(path, target / path.name))
        images = sorted(
            (
                path
                for path in source.glob(GALLERY_FILES[1])
                if re.fullmatch(r"rank_\d+_x-?\d+_y-?\d+\.png", path.name)
            ),
            key=lambda path: (len(path.name.split("_")[1]), path.name),
        )
        for path in images:
            self._try(path, lambda one: _picture(one, target / one.name))
        places = [target / path.name for path in images if (target / path.name).is_file()][:IN_REPORT]
        percentiles = [float(row["percentile"]) for row in read_list(target / "patches.csv")]
        shown = [np.asarray(Image.open(place).convert("RGB")) for place in places[: len(percentiles)]]
        return Gallery(shown, percentiles[: len(shown)])

    def _patches(self, path: Path, target: Path) -> None:
        kept = ("rank", "x", "y", "score", "percentile")
        rows = [
            [float(row[name]) if "." in row[name] else int(row[name]) for name in kept]
            for row in read_list(path)
        ]
        target.parent.mkdir(exist_ok=True)
        write_text(target, csv_text(kept, rows))

    # --- a list ---------------------------------------------------------------------------------------------

    def table(self, path: Path, target: Path) -> None:
        """Copy a table of a batch: ids replaced, numbers and the fields kept, texts without names."""
        if not path.is_file():
            return
        self._done.add(path)
        table = _table(path)
        column = None if table is None else case_column(table.header)
        if table is None or column is None:
            self.leave("file that could not be read", path)
            return
        columns: dict[str, list[str]] = {}
        for place, name in enumerate(table.header):
            cells = [row[place] for row in table.rows]
            plainly = plain(name)
            if name == column:
                columns["case_id"] = [self.names.patient(cell) if cell else "" for cell in cells]
            elif plainly in ("slide ids", "slides", "slide id"):
                parts = [[part for part in cell.split(";") if part.strip()] for cell in cells]
                columns[name] = [";".join(self.names.slide(part) for part in row) for row in parts]
            elif plainly == "age":
                columns[name] = [_age(cell) for cell in cells]
            elif plainly in _REASONS:
                columns[name] = [self.names.text(cell) if cell else "" for cell in cells]
            elif plainly.replace(" ", "_") in CLINICAL_FIELDS:
                field_name = plainly.replace(" ", "_")
                columns[name] = [field_value(field_name, cell, self.names) or "" for cell in cells]
            elif _COLUMNS.fullmatch(plainly):
                columns[name] = [
                    (self.names.value(cell) or "") if not _is_number(cell) else cell for cell in cells
                ]
            else:
                self.leave("column of a table", f"{path.name}, {name}")
        # By the new names: the order of the rows may be that in which the patients came.
        order = sorted(range(len(table.rows)), key=lambda i: columns["case_id"][i])
        write_text(target, csv_text(list(columns), [[cells[i] for cells in columns.values()] for i in order]))

    def leave_the_rest(self, folder: Path, results: Mapping[Path, str]) -> None:
        """Say what of the originals is not in the copy."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path not in self._done:
                kind = "feature file" if path.suffix in (".h5", ".pt") else "other file"
                self.leave(
                    "risks.parquet (risks.csv says the same)" if path.suffix == ".parquet" else kind, path
                )


def _picture(path: Path, target: Path) -> None:
    """Write the pixels of a picture and nothing else."""
    target.parent.mkdir(exist_ok=True)
    with Image.open(path, formats=["PNG"]) as file:
        pixels = np.asarray(file.convert("RGB"))
    with atomic(target) as place:
        Image.fromarray(pixels).save(place, "PNG")


def _reference(case: SavedCase) -> Any:
    """Return the reference patients of the model, where it can be found."""
    try:
        bundle = load_bundle(case.bundle)
    except SurvPGCError:
        return None
    return bundle.reference if bundle.fingerprint == case.bundle_fingerprint else None


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("no coordinate")
    return value


def _word(value: object) -> str:
    if value not in ("Polygon", "MultiPolygon", "Point", "MultiPoint", "LineString", "MultiLineString"):
        raise ValueError("no geometry")
    return str(value)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and len(cell) <= 24 and abs(float(cell)) < 1e5
    except ValueError:
        return False


def _age(cell: str) -> str:
    try:
        value = age(float(cell))
    except ValueError:
        return ""
    return "" if value is None else f"{value:g}"
