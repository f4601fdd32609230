"""`resnets predict` and the Python interface around it: outputs that are continued, what may be
given, what the terminal shows."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.screen import printable


@given(st.text())
def test_no_character_of_a_name_acts_on_the_terminal(name):
    shown = printable(name)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    shown.encode()  # whatever the name, it can be written


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2Jcat\n", r"\x1b[2Jcat\n"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("raw \udcff", r"raw \udcff"),
        ("내 사진 01.png", "내 사진 01.png"),
        ("C:\\photos", "C:\\photos"),
        ("\N{MAN}\u200d\N{WOMAN}", "\N{MAN}\u200d\N{WOMAN}"),
    ],
)
def test_names_stay_readable_in_the_terminal(name, shown):
    assert printable(name) == shown
