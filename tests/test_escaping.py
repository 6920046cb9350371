"""Escaping of names for terminals and for cells of CSV files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidlit.escaping import for_cell, for_terminal, from_cell


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\x08", "\r", "\x00", "\x7f", "\x9b", "\u202e", "\ud800", "\t"])
def test_control_characters_are_escaped(letter):
    shown = for_terminal(f"a{letter}b\n人物 é.jpg")
    assert letter not in shown
    assert shown.startswith("a\\")
    assert shown.endswith("b\n人物 é.jpg")


@pytest.mark.parametrize("first", [*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_formulas_become_text(first):
    assert for_cell(f"{first}cmd|x") == f"'{first}cmd|x"
    assert for_cell(f"'{first}cmd|x") == f"''{first}cmd|x"


@pytest.mark.parametrize("value", ["-1", "+0.5", "-1e-4", -1, -0.5, None, True, "a=b", "", "'", "'a"])
def test_numbers_and_other_values_are_unchanged(value):
    assert for_cell(value) is value
    assert not isinstance(value, str) or from_cell(value) == value


@given(st.text(st.sampled_from("'=+-@1.e\t a") | st.characters(codec="utf-8")))
def test_cells_are_read_back_unchanged(text):
    cell = for_cell(text)
    assert from_cell(cell) == text
    assert cell == text or cell.startswith("'")
