"""Write everything of a prediction into a folder, all or nothing.

:data:`OUTPUTS` is the list of the files; another one is another entry there. They are made in a hidden folder inside the
output folder and renamed into place at the end; whatever goes wrong before leaves the folder as it was. Only what stands
in the list is ever replaced or removed: a user's own file stays, also inside a gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.attention.scores import patch_scores, percentiles, top_k
from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.files import staging, write_bytes, write_text
from napari_survpgc.core.slide.slide import Slide
from napari_survpgc.core.types import Prediction, ProgressCallback

from .attention_file import write_attention, write_attention_geojson
from .case_file import CASE_FILE
from .gallery import GALLERY_FILES, Gallery, write_gallery
from .heatmap import heatmap_figure
from .prediction_json import PREDICTION_FILE, write_prediction_json
from .report import PATHS, ReportFacts, figure_png, report_html

HEATMAP_PX = 1800
"""Longer side of the slide in a heatmap, about 2000 px with its margins."""
SLIDE = "slide"
OUTLINES_FILE = "tissue.geojson"
FEATURES = "features/<slide>.h5"


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

    def remove(self, folder: Path) -> None:
        """Remove it from a folder; what lies in it and is not ours stays."""
        place = folder / self.name
        if not place.is_dir():
            place.unlink(missing_ok=True)
            return
        for file in [file for pattern in self.files for file in place.glob(pattern)]:
            file.unlink()
        remove_if_empty(place)

    def put(self, made: Path, out: Path) -> list[Path]:
        """Move it from one folder to another and return its files; an earlier one goes whole, so that no patch stays."""
        source, target = made / self.name, out / self.name
        names = sorted(file.name for file in source.iterdir()) if source.is_dir() else []
        if names:
            self.remove(out)
        if names and target.is_dir():
            for name in names:
                (source / name).replace(target / name)
        else:
            source.replace(target)
        return [target / name for name in names] or [target]


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


def remove_outputs(folder: Path) -> None:
    """Remove every output from a folder but features, which took the longest; what is not ours stays."""
    for output in OUTPUTS if folder.is_dir() else ():
        if output.name != FEATURES:
            output.remove(folder)


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _write(contents: Contents, out: Path, progress: ProgressCallback | None) -> list[Path]:
    steps = [output for output in OUTPUTS if output.write is not None and output.needs <= contents.there]
    with _new_outputs(out) as made:
        for number, output in enumerate(steps):
            if progress:
                progress("results", number, len(steps))
            assert output.write is not None
            output.write(contents, made / output.name)
        if progress:
            progress("results", len(steps), len(steps))
        for output in steps:
            place = out / output.name
            if place.exists() and place.is_dir() != (made / output.name).is_dir():
                raise OutputError(f"{place} is in the way", "Move it away, or choose another folder")
        for output in OUTPUTS:
            if not output.needs <= contents.there:
                output.remove(out)  # of an earlier prediction: a path that this one lacks, or one slide alone
        # By name: of what several slides have in common prediction.json is the last, which says that all is there.
        return [file for output in sorted(steps, key=lambda o: o.name) for file in output.put(made, out)]


@contextmanager
def _new_outputs(out: Path) -> Iterator[Path]:
    """Yield a hidden folder in ``out`` that goes at the end, and a new ``out`` with it when the end is a bad one."""
    new = not out.exists()
    with staging(out) as place:
        try:
            yield place
        except BaseException:
            if new:
                with suppress(OSError):
                    remove_outputs(out)
            raise
