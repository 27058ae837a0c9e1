"""Editing the tissue outline: the tools for areas and for the brush, while one of them is in use."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QLabel, QPushButton, QSlider, QWidget

from napari_survpgc.app.canvas.case_layers import CaseLayers
from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import Severity
from napari_survpgc.app.views.widgets.parts import note, panel, primary, push, row

_AREA = "Draw around tissue with the mouse held down; corners can be dragged. Then press Use."
_BRUSH = "Paint tissue with the mouse held down, or erase it. Then press Use."


class TissueEditor(QWidget):
    """See the module's docstring. napari has the same tools in its layer controls, which are put away here."""

    def __init__(self, session: Session, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.layers = session, layers
        layout = panel(self)
        self.hint = note()
        layout.addWidget(self.hint)
        self.tools: dict[str, QPushButton] = {}
        self._modes = QButtonGroup(self)
        for name, text, tip, action in (
            ("draw", "Draw", "Draw around tissue", lambda: layers.tools.draw_area(hole=False)),
            (
                "cut",
                "Cut out",
                "Draw around what is no tissue, inside an area",
                lambda: layers.tools.draw_area(hole=True),
            ),
            ("corners", "Corners", "Drag the corners of an area", layers.tools.move_corners),
            ("select", "Select", "Click an area, to move or to delete it", layers.tools.select_areas),
            ("paint", "Paint", "Paint tissue", lambda: layers.tools.brush_mode(erase=False)),
            ("erase", "Erase", "Erase what is no tissue", lambda: layers.tools.brush_mode(erase=True)),
        ):
            self.tools[name] = self._tool(name, text, tip, action)
        self.delete_button = push(
            "Delete",
            "Delete the selected area (choose it with Select)",
            layers.tools.delete_areas,
            "delete_area",
        )
        self.area_box, self.brush_box = QWidget(), QWidget()
        self.area_box.setLayout(
            row(*(self.tools[n] for n in ("draw", "cut", "corners", "select")), self.delete_button, None)
        )
        self.size = QSlider(Qt.Orientation.Horizontal)
        self.size.setRange(2, 120)
        self.size.setValue(25)
        self.size.setToolTip("Width of the brush")
        self.size.setAccessibleName("Width of the brush")
        self.size.valueChanged.connect(layers.tools.set_brush_size)
        self.brush_box.setLayout(row(self.tools["paint"], self.tools["erase"], QLabel("Width"), self.size))
        layout.addWidget(self.area_box)
        layout.addWidget(self.brush_box)
        self.apply_button = push(
            "Use", "Use the edited outline from the next run on", self.apply, "use_outline"
        )
        primary(self.apply_button)
        self.discard_button = push("Discard", "Keep the outline as it was", self.discard, "discard_outline")
        layout.addLayout(row(self.apply_button, self.discard_button, None))
        session.slide_changed.connect(self.hide)
        session.tissue_changed.connect(self.hide)
        self.hide()

    def _tool(self, name: str, text: str, tip: str, action: Callable[[], object]) -> QPushButton:
        button = push(text, tip, action, f"tissue_{name}")
        button.setCheckable(True)
        self._modes.addButton(button)
        return button

    def begin_outline(self) -> None:
        """Edit the areas as polygons; without any yet, draw the first."""
        if self.layers.tools.edit_outlines():
            self._begin(_AREA, "corners" if self.session.tissue is not None else "draw")

    def begin_brush(self) -> None:
        """Edit the tissue with a brush; without any yet, paint on the empty slide."""
        if self.layers.tools.edit_with_brush():
            self.layers.tools.set_brush_size(self.size.value())
            self._begin(_BRUSH, "paint")

    def _begin(self, hint: str, tool: str) -> None:
        self.hint.setText(hint)
        brush = tool == "paint"
        self.area_box.setVisible(not brush)
        self.brush_box.setVisible(brush)
        self.show()
        self.tools[tool].click()

    def apply(self) -> None:
        """Take what was drawn as the tissue."""
        mask = self.layers.tools.edited_tissue()
        if mask is None:
            self.session.say(
                "No tissue is left in the edited outline; draw some, or press Find tissue.", Severity.ERROR
            )
            return
        self.session.set_tissue(mask)
        self.hide()

    def discard(self) -> None:
        """Forget what was drawn."""
        self.layers.stop_editing()
        self.hide()
