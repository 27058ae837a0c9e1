"""The panels of one patient, in the order of the work: a new one is a file in ``patient/`` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qtpy.QtWidgets import QWidget

from napari_survpgc.app.canvas.case_layers import CaseLayers
from napari_survpgc.app.session.session import Session

from .patient.case_panel import CasePanel
from .patient.gallery_panel import GalleryPanel
from .patient.maps_panel import MapsPanel
from .patient.model_panel import ModelPanel
from .patient.patient_panel import PatientPanel
from .patient.programmes_panel import ProgrammesPanel
from .patient.result_panel import ResultPanel
from .patient.run_panel import RunPanel
from .patient.shortcuts import shortcut_text
from .patient.slide_panel import SlidePanel
from .widgets.parts import note


@dataclass(frozen=True)
class Panel:
    """One panel of the dock.

    Attributes
    ----------
    name : the dock's attribute that holds it.   title : its heading.
    make : returns the widget; a method ``end`` of it is called when the dock ends.
    is_open : unfolded from the start.   with_result : unfolded by the first result.
    signpost : what stands on its button, if not the title.
    """

    name: str
    title: str
    make: Callable[[Session, CaseLayers], QWidget]
    is_open: bool = False
    with_result: bool = False
    signpost: str = ""


PANELS = (
    Panel("slide", "Slide", SlidePanel, is_open=True),
    Panel("patient", "Patient", lambda session, _: PatientPanel(session), is_open=True),
    Panel("model", "Model", lambda session, _: ModelPanel(session)),
    Panel("run", "Run", lambda session, _: RunPanel(session), is_open=True),
    Panel("result", "Result", lambda session, _: ResultPanel(session), is_open=True, with_result=True),
    Panel("maps", "Maps", MapsPanel, with_result=True),
    Panel("gallery", "Patches", GalleryPanel, with_result=True),
    Panel(
        "programmes",
        "What if: gene programmes",
        lambda session, _: ProgrammesPanel(session),
        signpost="What if",
    ),
    Panel("case", "Case", lambda session, _: CasePanel(session), is_open=True),
    Panel("shortcuts", "Shortcuts", lambda *_: note(shortcut_text()), signpost="Keys"),
)
