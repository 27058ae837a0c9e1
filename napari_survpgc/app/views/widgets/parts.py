"""Small widgets that several panels use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtGui import QFontMetrics, QPalette
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_survpgc.core.output.plots import GROUP_TEXT, ON_DARK

# Grays with an alpha lie well on napari's dark and light theme alike; the text keeps the theme's color.
_HEADING = (
    "QPushButton { text-align: left; font-weight: bold; border: none; border-radius: 3px; padding: 5px 6px;"
    " background: rgba(128, 128, 128, 60); }"
    "QPushButton:hover { background: rgba(128, 128, 128, 110); }"
    "QPushButton:focus { border-left: 3px solid #56b4e9; }"
    "QPushButton:checked { background: rgba(128, 128, 128, 60); }"
    "QPushButton:checked:hover { background: rgba(128, 128, 128, 110); }"
)
_PRIMARY = (
    "QPushButton:enabled { background: #0072b2; color: white; font-weight: bold; border-radius: 3px; }"
    "QPushButton:enabled:hover { background: #1a86c2; }"
    "QPushButton:enabled:focus { border: 2px solid #56b4e9; }"
    "QPushButton:disabled { font-weight: bold; }"
)


def group_color(group: str, palette: QPalette) -> str:
    """Return the color of a risk group for text on this palette."""
    color = GROUP_TEXT.get(group, "#888888")
    dark = palette.color(QPalette.ColorRole.Window).lightness() < 128
    return ON_DARK.get(color, color) if dark else color


def title_overlap(widget: QWidget) -> int:
    """Return how far napari's title bar of a dock reaches into it, in px.

    Its minimum height grows with the font, its size hint does not (QtCustomTitleBar of napari 0.9).
    """
    return max(0, QFontMetrics(widget.font()).height() + 10 - 20)


def primary(button: QPushButton) -> None:
    """Mark a button as the main one of the dock."""
    button.setStyleSheet(_PRIMARY)
    button.setCursor(Qt.CursorShape.PointingHandCursor)


def note(text: str = "") -> QLabel:
    """Return a label for a sentence: wraps, can be selected, takes no more height than it needs."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return label


def push(text: str, tip: str, action: Callable[[], object], name: str = "") -> QPushButton:
    """Return a button with a tooltip that can be reached by Tab."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setAccessibleName(name or text)
    if name:
        button.setObjectName(name)
    button.clicked.connect(lambda: action())
    return button


def row(*widgets: QWidget | None) -> QHBoxLayout:
    """Return the widgets side by side; None is a stretch."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        if widget is None:
            layout.addStretch()
        else:
            layout.addWidget(widget)
    return layout


def panel(widget: QWidget) -> QVBoxLayout:
    """Give a widget the panel's vertical layout."""
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(4, 2, 4, 6)
    layout.setSpacing(5)
    return layout


class Section(QWidget):
    """A part of the dock under a heading that folds it away; folded, the heading may say what is inside."""

    def __init__(self, title: str, content: QWidget, *, open_: bool = True) -> None:
        super().__init__()
        self._title, self._hint, self._content = title, "", content
        self.heading = QPushButton()
        self.heading.setCheckable(True)
        self.heading.setChecked(open_)
        self.heading.setAccessibleName(title)
        self.heading.setToolTip("Fold or unfold this part")
        self.heading.setStyleSheet(_HEADING)
        # A long hint is cut rather than that the dock grows.
        self.heading.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.heading.toggled.connect(self._fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.heading)
        layout.addWidget(content)
        self._fold(open_)

    def _fold(self, open_: bool) -> None:
        self._content.setVisible(open_)
        hint = f"   {self._hint}" if self._hint and not open_ else ""
        self.heading.setText(f"{'▾' if open_ else '▸'}  {self._title}{hint}".replace("&", "&&"))

    def set_hint(self, text: str) -> None:
        """Say in the heading what is inside while it is folded."""
        self._hint = text
        self._fold(self.heading.isChecked())

    def content(self) -> QWidget:
        return self._content

    @property
    def is_open(self) -> bool:
        return self.heading.isChecked()

    def expand(self) -> None:
        self.heading.setChecked(True)

    def fold(self) -> None:
        self.heading.setChecked(False)


class PathField(QWidget):
    """A file or folder with a Browse button."""

    def __init__(self, label: str, tip: str, *, folder: bool = False, filters: str = "") -> None:
        super().__init__()
        self._folder, self._filters, self._label = folder, filters, label
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(label)
        self.edit.setToolTip(tip)
        self.edit.setAccessibleName(label)
        browse = push("Browse…", f"Choose: {label}", self._browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit)
        layout.addWidget(browse)

    def _browse(self) -> None:
        if self._folder:
            name = QFileDialog.getExistingDirectory(self, self._label)
        else:
            name, _ = QFileDialog.getOpenFileName(self, self._label, "", self._filters)
        if name:
            self.edit.setText(name)

    @property
    def path(self) -> Path | None:
        text = self.edit.text().strip()
        return Path(text) if text else None
