"""Small widgets that several panels use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
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
from superqt import QCollapsible


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


def section(title: str, content: QWidget, *, open_: bool = True) -> QCollapsible:
    """Return a collapsible section of the dock."""
    box = QCollapsible(title)
    box.setDuration(0)
    box.addWidget(content)
    if open_:
        box.expand(animate=False)
    else:
        box.collapse(animate=False)
    font = box.toggleButton().font()
    font.setBold(True)
    box.toggleButton().setFont(font)
    return box


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
