"""Write everything of a prediction into a folder, all or nothing.

:data:`OUTPUTS` is the list of the files; another one is another entry there. They are made in a hidden folder beside the
output folder and put into place at once at the end (:mod:`.swap`); whatever goes wrong before leaves the folder as it
was. Only what stands in the list is ever replaced or removed: a user's own file stays, also inside a gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.attention.scores import patch_scores, percentiles, top_k
from napari_survpgc.core.errors import OutputError, SurvPGCError, writing
from napari_survpgc.core.files import write_bytes, write_text
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import Prediction, ProgressCallback

from .attention_file import write_attention, write_attention_geojson
from .case_file import CASE_FILE
from .gallery import GALLERY_FILES, Gallery, write_gallery
from .heatmap import heatmap_figure
from .prediction_json import PREDICTION_FILE, read_prediction_json, write_prediction_json
from .report import PATHS, ReportFacts, figure_png, report_html
from .swap import Place, new_set

HEATMAP_PX = 1800
"""Longer side of the slide in a heatmap, about 2000 px with its margins."""
SLIDE = "slide"
OUTLINES_FILE = "tissue.geojson"
FEATURES = "features/<slide>.h5"
_MARK = "Research use only"  # in the reports of every version


@dataclass(frozen=True)
class Contents:
    """What the outputs are made from.

    Attributes
    ----------
    slide : None for what several slides have in common.   k : patches a gallery, fewer when there are fewer.
    heatmaps, galleries : what the entries before the report have made, by path.
    """

    prediction: Prediction
    slide: Slide | None
    facts: ReportFacts
    k: int = 50
    heatmaps: dict[str, bytes] = field(default_factory=dict)
    galleries: dict[str, Gallery] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[str, NDArray[np.float64]]:
        return {name: patch_scores(matrix) for name, matrix in self.prediction.attention.items()}

    @cached_property
    def ranks(self) -> dict[str, NDArray[np.float64]]:
        return {name: percentiles(values) for name, values in self.scores.items()}

    @cached_property
    def thumbnail(self) -> NDArray[np.uint8]:
        return self.shown.thumbnail(HEATMAP_PX)

    @property
    def shown(self) -> Slide:
        assert self.slide is not None, "the entry must say that it needs a slide"
        return self.slide

    @property
    def there(self) -> frozenset[str]:
        """What an output may need: SLIDE, and the paths that have a map."""
        return frozenset(self.prediction.attention) | ({SLIDE} if self.slide else set())


@dataclass(frozen=True)
class Output:
    """One output: a file, or a folder of files.

    Attributes
    ----------
    name : in the folder of the results; ``<slide>`` stands for the name of the slide.
    write : makes it at a place; None where a job makes it itself, before there is a prediction or after the others.
    needs : without which it is not made, and one of an earlier prediction goes; see :attr:`Contents.there`.
    files : patterns of what lies in it, when it is a folder.
    """

    name: str
    write: Callable[[Contents, Path], None] | None = None
    needs: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()


# --- writers ------------------------------------------------------------------------------------------------


def _prediction(contents: Contents, path: Path) -> None:
    write_prediction_json(contents.prediction, path, contents.facts.record, contents.facts.sentences)


def _attention(contents: Contents, path: Path) -> None:
    write_attention(contents.prediction, contents.scores, path)


def _attention_geojson(contents: Contents, path: Path) -> None:
    write_attention_geojson(contents.prediction, contents.scores, contents.ranks, path)


def _heatmap(name: str, contents: Contents, path: Path) -> None:
    prediction, slide = contents.prediction, contents.shown
    figure = heatmap_figure(
        contents.thumbnail,
        slide.info.size,
        prediction.coords,
        contents.ranks[name],
        prediction.patch_px_level0,
        title=f"{PATHS[name][0]}: {PATHS[name][1]}",
        mpp=slide.info.mpp,
    )
    contents.heatmaps[name] = figure_png(figure, 100)
    write_bytes(path, contents.heatmaps[name])


def _gallery(name: str, contents: Contents, path: Path) -> None:
    scores = contents.scores[name]
    contents.galleries[name] = write_gallery(
        path, contents.prediction, contents.shown, scores, contents.ranks[name], top_k(scores, contents.k)
    )


def _report(contents: Contents, path: Path) -> None:
    page = report_html(contents.prediction, contents.heatmaps, contents.galleries, contents.facts)
    write_text(path, page)


# --- the list -----------------------------------------------------------------------------------------------

_ONE_SLIDE = frozenset({SLIDE})

OUTPUTS: tuple[Output, ...] = (
    Output(PREDICTION_FILE, _prediction),
    Output("attention.h5", _attention),
    Output("attention.geojson", _attention_geojson, _ONE_SLIDE),
    Output("heatmap_clinic.png", partial(_heatmap, "clinic"), _ONE_SLIDE | {"clinic"}),
    Output("top_clinic", partial(_gallery, "clinic"), _ONE_SLIDE | {"clinic"}, GALLERY_FILES),
    Output("heatmap_genomic.png", partial(_heatmap, "genomic"), _ONE_SLIDE | {"genomic"}),
    Output("top_genomic", partial(_gallery, "genomic"), _ONE_SLIDE | {"genomic"}, GALLERY_FILES),
    Output("report.html", _report, _ONE_SLIDE),
    Output(OUTLINES_FILE, None, _ONE_SLIDE),
    Output(CASE_FILE, None, _ONE_SLIDE),
    Output(FEATURES, None),
)
"""In the order in which they are made; of several slides together there are those that need no slide."""


class ResultSet:
    """The results of one prediction on their way into a folder, see :func:`result_set`."""

    def __init__(self, made: Path, out: Path) -> None:
        self.made, self.out = made, out
        self._folders: dict[str, frozenset[str]] = {}

    def add(
        self,
        contents: Contents,
        folder: str = "",
        progress: ProgressCallback | None = None,
        **jobs: Callable[[Path], None],
    ) -> None:
        """Make the outputs of one slide, or of what several have in common.

        Parameters
        ----------
        folder : inside the folder of results.
        jobs : "case" and "outlines", for the outputs that a job makes itself; without any these are left as they are.
        """
        place = self.made / folder
        place.mkdir(parents=True, exist_ok=True)
        steps = [output for output in OUTPUTS if output.write is not None and output.needs <= contents.there]
        for number, output in enumerate(steps):
            if progress:
                progress("results", number, len(steps))
            assert output.write is not None
            output.write(contents, place / output.name)
        if progress:
            progress("results", len(steps), len(steps))
        for job, write in jobs.items():
            write(place / JOBS[job])
        kept = frozenset() if jobs or contents.slide is None else frozenset(JOBS.values())
        self._folders[folder] = kept | {FEATURES}

    def places(self) -> list[Place]:
        """Return what belongs to this set and to an earlier one, also of slides that this one lacks."""
        earlier = (
            {name: frozenset({FEATURES}) for name in _slide_folders(self.out)} if "" in self._folders else {}
        )
        return [
            Place(f"{folder}/{output.name}".lstrip("/"), output.files)
            for folder, kept in {**earlier, **self._folders}.items()
            for output in OUTPUTS
            if output.name not in kept
        ]


JOBS = {"case": CASE_FILE, "outlines": OUTLINES_FILE}


@contextmanager
def result_set(out: Path) -> Iterator[ResultSet]:
    """Yield where the results of a prediction are made; at the end they are put into ``out`` all at once, or not at all.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way; ``out`` is then as it was before.
    """
    made: list[ResultSet] = []
    with new_set(out, lambda: made[0].places()) as place:
        made.append(ResultSet(place, out))
        yield made[0]


def write_outputs(
    prediction: Prediction,
    slide: Slide,
    out: Path,
    facts: ReportFacts = ReportFacts(),
    *,
    k: int = 50,
    progress: ProgressCallback | None = None,
) -> list[Path]:
    """Write every output of a prediction over one slide.

    Parameters
    ----------
    facts : for the pages that repeat it.   k : patches a gallery, fewer when there are fewer.

    Returns
    -------
    The files written. Files of an earlier prediction in ``out`` are replaced, others are left alone.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way; ``out`` is then as it was before.
    """
    return _write(Contents(prediction, slide, facts, k), out, progress)


def write_joint_outputs(prediction: Prediction, out: Path, facts: ReportFacts = ReportFacts()) -> None:
    """Write what a patient's slides have in common: prediction.json, and attention.h5 over the patches of all slides.

    The results of one slide alone that an earlier prediction has left in ``out`` go.

    Raises
    ------
    OutputError : disk full, no permission, a name in the way.
    """
    _write(Contents(prediction, None, facts), out, None)


def _write(contents: Contents, out: Path, progress: ProgressCallback | None) -> list[Path]:
    check_ours(out)
    with result_set(out) as results:
        results.add(contents, progress=progress)
        made = [path.relative_to(results.made) for path in results.made.rglob("*") if path.is_file()]
    return sorted(out / path for path in made)


def _slide_folders(out: Path) -> list[str]:
    """Return the folders in which an earlier prediction of several slides has put the results of each."""
    try:
        names = read_prediction_json(out / PREDICTION_FILE).slide_names
    except SurvPGCError:
        return []
    stems = [Path(name).stem for name in names]
    return [
        stem for stem in stems if len(stems) > 1 and stem == Path(stem).name and stem not in ("", ".", "..")
    ]


def check_ours(out: Path) -> None:
    """Refuse a folder in which a file has the name of an output and is none.

    Raises
    ------
    OutputError : names the file.
    """
    evident = any((out / name).is_file() for name in (PREDICTION_FILE, CASE_FILE, "attention.h5"))
    for output in OUTPUTS:
        place = out / output.name
        if output.name == FEATURES or not place.exists():
            continue
        if place.is_dir() != bool(output.files):
            raise OutputError(f"{place} is in the way", "Move it away, or choose another folder")
        ours = evident
        if output.files:
            ours = evident or not any(next(place.glob(pattern), None) for pattern in output.files)
        elif place.name == OUTLINES_FILE:  # a kill of version 0.1.0 left it alone with the features
            ours = evident or (out / FEATURES).parent.is_dir()
        elif place.name == "report.html":
            ours = _says(place, _MARK)
        elif place.name == PREDICTION_FILE:
            ours = place.stat().st_size == 0 or _says(place, '"risk"')
        if not ours:
            raise OutputError(
                f"{place} is not of a prediction and would be replaced",
                "Move it away, or choose another folder",
            )


def _says(file: Path, text: str) -> bool:
    with writing(file), file.open("rb") as stream:
        return text.encode() in stream.read(64 << 20)
