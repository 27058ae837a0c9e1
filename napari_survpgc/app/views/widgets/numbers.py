"""Numbers typed by a person: shown as the locale writes them, read with either decimal sign."""

from __future__ import annotations

import math
import re

from qtpy.QtCore import QLocale
from qtpy.QtWidgets import QLineEdit


def shown_number(value: float, digits: int = 6) -> str:
    """Return a number with the decimal sign of the locale, without signs between thousands."""
    locale = QLocale()
    return f"{value:.{digits}g}".replace(".", str(locale.decimalPoint()))


def typed_number(text: str) -> float | None:
    """Return what was typed with a decimal point or comma; None for anything else, also for both signs at once."""
    text = text.strip().replace("\u066b", ",")
    if not re.fullmatch(r"[-+]?\d*[.,]?\d+|[-+]?\d+[.,]", text):
        return None
    value = float(text.replace(",", "."))
    return value if math.isfinite(value) else None


class NumberField(QLineEdit):
    """A field for one number, which keeps what was typed until somebody asks for it: nothing is corrected in silence.

    Parameters
    ----------
    lowest, highest : what :meth:`value` gives back; other numbers are None.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self._lowest, self._highest = lowest, highest

    def setValue(self, value: float) -> None:  # noqa: N802  as of Qt's own fields
        self.setText(shown_number(value))

    def value(self) -> float | None:
        """Return the number, or None for a text that is none or lies outside the range."""
        number = typed_number(self.text())
        return number if number is not None and self._lowest <= number <= self._highest else None
