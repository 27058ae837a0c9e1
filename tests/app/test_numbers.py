"""Numbers that a person types: either decimal sign, in any locale; what is no number is asked for again."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QLocale

from napari_survpgc.app.views.widgets.numbers import NumberField, shown_number, typed_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0,25", 0.25),
        ("0.25", 0.25),
        (" ,5 ", 0.5),
        ("5,", 5.0),
        ("1.234,5", None),
        ("1,234.5", None),
        ("0,2,5", None),
        ("0.25 um", None),
        ("", None),
        ("nan", None),
        ("1e-1", None),
    ],
)
@pytest.mark.parametrize("locale", ["C", "de_DE", "en_US"])
def test_both_decimal_signs_are_read_in_every_locale(text: str, number: float | None, locale: str) -> None:
    before = QLocale()
    QLocale.setDefault(QLocale(locale))
    try:
        assert typed_number(text) == number
        assert shown_number(0.25) == ("0,25" if locale == "de_DE" else "0.25")
        assert typed_number(shown_number(1234.5)) == 1234.5
    finally:
        QLocale.setDefault(before)


def test_a_number_outside_its_range_is_none_and_stays_as_it_was_typed(qtbot) -> None:
    field = NumberField(0.05, 10)
    qtbot.addWidget(field)
    for text, value in (("0,25", 0.25), ("25", None), ("0.01", None), ("10", 10.0), ("1.2.3", None)):
        field.clear()
        qtbot.keyClicks(field, text)
        field.clearFocus()
        assert (field.text(), field.value()) == (text, value)
