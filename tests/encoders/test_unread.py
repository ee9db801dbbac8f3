"""What an encoder does not read of a text is named, and nothing that it reads."""

from __future__ import annotations

import pytest

from imgret_tools.encoders.class_meanings import class_names
from imgret_tools.encoders.glossary.vietnamese import translate
from imgret_tools.encoders.minilm import MiniLM
from imgret_tools.encoders.unread import Reading, Unread, is_unicode, shows_nothing, unread
from imgret_tools.records import visible


@pytest.fixture(scope="module")
def mini() -> Reading:
    """The reading of mini's sentence model."""
    return MiniLM().reading


BYTES = Reading(longest=5, pieces=lambda text: list(text), scripts=frozenset())
"""Reads every script, a letter a piece."""


def found(text: str, reading: Reading) -> Unread:
    translation = translate(text)
    if translation is None:
        return unread(text, reading)
    return unread(text, reading, english=translation.english or None, unknown=translation.unknown)


@pytest.mark.parametrize(
    "text",
    [
        "a dog on grass", "Pineapple", "an axolotl and a quokka", "a toucan, a stork and a hyena", "naïve café, l'été",
        "R&B (1998), no. 12", "NIKON D90", "con mèo đen", "quả xoài", "x", "2024",
    ],
)  # fmt: skip
def test_plain_words_are_read(text: str, mini: Reading) -> None:
    assert not found(text, mini)
    assert str(found(text, mini)) == ""


def test_no_class_that_the_network_knows_is_called_unknown(mini: Reading) -> None:
    assert [name for name in class_names() if found(name, mini)] == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("🍍", "Not read: emoji 🍍 (write pineapple). Nothing is left of the text"),
        ("👍🏽", "emoji 👍🏽 (write thumbs up sign)."),
        ("👨\u200d👩\u200d👧", "emoji 👨👩👧 (write man woman girl)."),
        ("🇻🇳", "emoji 🇻🇳. Nothing"),
        ("鳳梨", "words in a script that the encoder was not trained on: 鳳梨. Nothing is left"),
        ("Собака", "not trained on: собака. Nothing is left"),
        ("แมว", "not trained on: แมว. Nothing is left"),
        ("مرحبا", "not trained on: مرحبا. Nothing is left"),
        ("xqzvw", "unknown words: xqzvw. Nothing is left"),
        ("\u200b", "characters that show nothing: U+200B. Nothing is left"),
        ("???", "Not read: the text holds no word. Nothing is left"),
        ("", "the text holds no word"),
    ],
)
def test_a_text_of_which_nothing_is_read_says_so(text: str, sentence: str, mini: Reading) -> None:
    assert found(text, mini).nothing
    assert sentence in str(found(text, mini))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a dog 🐶 on grass 🐶", "Not read: emoji 🐶 (write dog face)."),
        ("a 犬 and a dog", "Not read: words in a script that the encoder was not trained on: 犬."),
        ("a pine\u200bapple", "Not read: characters that show nothing: U+200B."),
        ("a \u202edog", "Not read: characters that show nothing: U+202E."),
        ("con mèo 🐶 ngủ xyzđ", "Not read: emoji 🐶 (write dog face); unknown words: xyzđ."),
        (
            "a 鳳 xqzvw 🍍 dog",
            "Not read: emoji 🍍 (write pineapple); words in a script that the encoder was not trained on: 鳳; unknown",
        ),
        ("1️⃣ dog", ""),
    ],
)
def test_what_is_left_out_is_named_and_the_rest_is_read(text: str, sentence: str, mini: Reading) -> None:
    assert not found(text, mini).nothing
    assert str(found(text, mini)).startswith(sentence)


def test_one_line_whatever_the_text_holds(mini: Reading) -> None:
    text = "\n".join(chr(code) for code in [*range(0x80, 0xA0), *range(0x2000, 0x2070), *range(0x1F300, 0x1F340)])
    sentence = str(unread(text, mini))
    assert sentence
    assert visible(sentence) == sentence


def test_the_end_of_a_long_text_is_said(mini: Reading) -> None:
    words = " ".join(["one", "two", "three"] * 100)
    assert not unread(" ".join(words.split()[:254]), mini)
    long = unread(words, mini)
    assert (long.pieces, long.behind, long.nothing) == (300, "three one two", False)
    assert str(long) == "Not read: all behind “three one two” (300 word pieces, 254 are read)."
    assert unread("con mèo " * 400, mini, english="cat " * 400).pieces == 400


def test_an_encoder_of_all_scripts_is_told_of_length_alone() -> None:
    assert not unread("鳳梨🍍", BYTES)
    assert unread("鳳梨 鳳梨鳳梨", BYTES).behind == "鳳梨"


def test_halves_of_letters_are_no_unicode() -> None:
    assert not is_unicode("a\udcffb")
    assert is_unicode("🍍")


@pytest.mark.parametrize(
    ("text", "nothing"), [(" \u200b\ufeff\n", True), ("", True), ("\u2060a", False), ("🍍", False)]
)
def test_what_shows_nothing(text: str, nothing: bool) -> None:
    assert shows_nothing(text) is nothing
