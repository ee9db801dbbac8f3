"""Vietnamese names of the network's classes: all there, in order, found with and without diacritics."""

from __future__ import annotations

import pytest

from imgret_tools.encoders.class_meanings import class_names
from imgret_tools.encoders.glossary.vietnamese import CLASSES_FILE, in_english, translate


def class_lines() -> list[tuple[str, list[str]]]:
    lines = [line for line in CLASSES_FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [(line.split("\t")[0], [name.strip() for name in line.split("\t")[1].split(";")]) for line in lines]


def test_every_class_has_a_vietnamese_name_in_the_networks_order() -> None:
    lines = class_lines()
    assert tuple(english for english, _ in lines) == class_names()  # a line too many would shift all after it
    assert all(name for _, names in lines for name in names)


def test_the_usual_name_of_nearly_every_class_is_understood_whole() -> None:
    unknown = [name for _, (name, *_) in class_lines() if (found := translate(name)) is not None and found.unknown]
    assert unknown == []


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("con tatu", "armadillo"),
        ("đàn mộc cầm", "marimba"),
        ("dan moc cam", "marimba"),
        ("thú mỏ vịt", "platypus"),
        ("thu mo vit", "platypus"),
        ("khải hoàn môn", "triumphal arch"),
        ("khai hoan mon", "triumphal arch"),
        ("cừu đực", "ram"),
        ("con mèo đen", "black cat"),  # the older entries stay
        ("con meo den", "black cat"),
    ],
)
def test_class_names_are_found_and_take_nothing_from_the_glossary(text: str, english: str) -> None:
    assert in_english(text) == english
