"""The offline model's understanding, against tables written before it."""

from __future__ import annotations

import pytest
from request_tables import table, wrong

from imgret_tools.chat.understand import fold, language_of, understand


@pytest.mark.parametrize("name", ["requests_en", "requests_vi", "turns_en", "turns_vi"])
def test_there_are_at_least_120_requests_a_third_of_them_kept_aside(name: str) -> None:
    seen, kept = table(name), table(f"{name}_kept")
    assert len(seen) + len(kept) >= (150 if name.startswith("turns") else 120)
    assert 3 * len(kept) >= 0.9 * (len(seen) + len(kept))
    assert not {sentence for sentence, _ in seen} & {sentence for sentence, _ in kept}


@pytest.mark.parametrize("name", ["requests_en", "requests_vi", "turns_en", "turns_vi"])
def test_requests_are_understood(name: str) -> None:
    missed = wrong(name)
    assert len(missed) <= 0.05 * len(table(name)), missed


@pytest.mark.parametrize("kind", ["requests", "turns"])
def test_those_kept_aside_are_understood_in_both_languages(kind: str) -> None:
    names = [f"{kind}_{language}_kept" for language in ("en", "vi")]
    missed = [row for name in names for row in wrong(name)]
    assert len(missed) <= 0.07 * sum(len(table(name)) for name in names), len(missed)


@pytest.mark.parametrize("language", ["en", "vi"])
def test_every_request_is_taken_for_its_own_language_or_is_in_both(language: str) -> None:
    name = f"requests_{language}"
    rows = [sentence for sentence, fields in table(name) if fields["do"] != "refuse"]
    assert sum(language_of(sentence) == language for sentence in rows) >= 0.9 * len(rows)


def test_folding_keeps_positions() -> None:
    text = "Tìm ảnh đường phố Đà Nẵng ở Việt Nam, İstanbul"
    assert len(fold(text)) == len(text)
    assert fold(text).startswith("tim anh duong pho da nang o viet nam")


@pytest.mark.parametrize(
    "text",
    ["", "   ", "?!", "\0", "#", "#99999", "k=", "find", "tìm", "a" * 100_000, "((((" * 50, "find " + "red " * 20_000],
)
def test_odd_sentences_are_answered_quickly(text: str) -> None:
    assert understand(text).do in ("help", "refuse", "search", "compare", "index")
