"""What the keyboard does: the list in the dock, and the shortcuts themselves."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget

from napari_survpgc.app.canvas.case_layers import CaseLayers
from napari_survpgc.app.session.session import Session
from napari_survpgc.core.attention.maps import DIFFERENCE

from .gallery_panel import GalleryPanel
from .maps_panel import MapsPanel
from .run_panel import RunPanel
from .slide_panel import POWERS, SlidePanel


def shortcut_text() -> str:
    """Return the shortcuts as they are listed in the dock."""
    powers = ", ".join(f"{n}: {p:g}x" for n, p in enumerate(POWERS, start=1))
    rows = [
        ("Ctrl+Enter", "Run"),
        ("Ctrl+.", "Cancel"),
        ("Alt+C, Alt+G, Alt+D", "show or hide the clinic, genomic, difference map"),
        ("Alt+T", "show or hide the tissue outline"),
        ("Alt+→, Alt+←", "next, previous patch of the gallery"),
        ("Alt+0", "whole slide"),
        (f"Alt+1 … Alt+{len(POWERS)}", f"magnification ({powers})"),
        ("Alt+R", "reset what-if"),
        ("Tab, Space, arrows", "reach and use every control"),
    ]
    return (
        "<table>"
        + "".join(f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{w}</td></tr>" for k, w in rows)
        + "</table>"
    )


def make_shortcuts(
    window: QWidget,
    session: Session,
    layers: CaseLayers,
    *,
    slide: SlidePanel,
    run: RunPanel,
    maps: MapsPanel,
    gallery: GalleryPanel,
) -> list[QShortcut]:
    """Return the shortcuts, which hold in the whole window that ``window`` is part of."""

    def start() -> None:
        if run.run_button.isEnabled():
            session.run()

    def magnify(power: float) -> None:
        if session.opened is not None and session.opened.slide.info.mpp is not None:
            layers.camera.magnify(power)

    actions: dict[str, Callable[[], object]] = {
        "Ctrl+Return": start,
        "Ctrl+.": session.cancel,
        "Alt+C": lambda: maps.toggle("clinic"),
        "Alt+G": lambda: maps.toggle("genomic"),
        "Alt+D": lambda: maps.toggle(DIFFERENCE),
        "Alt+T": lambda: slide.show_tissue.toggle(),
        "Alt+Right": lambda: gallery.step(1),
        "Alt+Left": lambda: gallery.step(-1),
        "Alt+0": layers.camera.fit,
        "Alt+R": session.reset_what_if,
    }
    for number, power in enumerate(POWERS, start=1):
        actions[f"Alt+{number}"] = lambda p=power: magnify(p)  # type: ignore[misc]
    made = []
    for keys, action in actions.items():
        shortcut = QShortcut(QKeySequence(keys), window)
        shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
        shortcut.activated.connect(action)
        made.append(shortcut)
    return made
