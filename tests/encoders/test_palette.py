"""Which colours a picture has: shares by hand, the middle counts most, and packs that differ in colour alone are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from imgret_tools.encoders import palette
from imgret_tools.encoders.palette import BINS, DIM, histogram, palettes


def flat(red: float, green: float, blue: float, side: int = 32) -> np.ndarray:
    return np.tile(np.array([red, green, blue], np.float32)[:, None, None] * 2 - 1, (1, side, side))


def test_a_grey_picture_lies_in_the_middle_of_the_colour_differences() -> None:
    shares = histogram(flat(0, 0, 0)).reshape(BINS) ** 2
    # 0.5 lies half way between the bins 3 and 4 of 0 to 7; black is the first bin of luma.
    assert shares[0, 3:5, 3:5] == pytest.approx(np.full((2, 2), 0.25), abs=1e-5)
    assert shares.sum() == pytest.approx(1, abs=1e-5)


def test_the_middle_of_a_picture_counts_more_than_its_rim() -> None:
    green, red = flat(0, 1, 0), flat(1, 0, 0)
    middle, rim = red.copy(), green.copy()
    middle[:, 8:24, 8:24] = green[:, 8:24, 8:24]
    rim[:, 8:24, 8:24] = red[:, 8:24, 8:24]
    alone = histogram(green)
    assert histogram(middle) @ alone > 0.6  # a quarter of the pixels, and more than .6 squared of the weight
    assert histogram(middle) @ alone > histogram(rim) @ alone


def test_rows_are_unit_and_tell_colours_apart_that_the_common_part_hides() -> None:
    pictures = np.stack(
        [flat(0.8, 0.2, 0.1), flat(0.75, 0.25, 0.15), flat(0.2, 0.3, 0.8), flat(1, 1, 1), flat(0, 0, 0)]
    )
    rows = palettes(pictures)
    assert rows.shape == (5, DIM)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.5 > 0.3 > rows[0] @ rows[2]
    assert np.isfinite(palettes(np.zeros((1, 3, 224, 224), np.float32))).all()


def test_the_common_part_is_that_of_a_mean_of_unit_rows() -> None:
    assert 0.3 < np.linalg.norm(palette.common()) < 1
    assert (palette.common() >= 0).all()


@pytest.mark.parametrize("name", sorted({"red", "green", "yellow", "blue", "black", "white"}))
def test_a_named_colour_is_nearest_to_pictures_of_it(name: str) -> None:
    shown = {
        "red": flat(0.7, 0.1, 0.1),
        "green": flat(0.3, 0.55, 0.2),
        "yellow": flat(0.9, 0.8, 0.2),
        "blue": flat(0.15, 0.3, 0.7),
        "black": flat(0.05, 0.05, 0.05),
        "white": flat(0.95, 0.95, 0.95),
    }
    row = palette.of_words(f"A {name.upper()} thing")
    assert row is not None
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
    likeness = palettes(np.stack(list(shown.values()))) @ row
    assert list(shown)[int(likeness.argmax())] == name


def test_words_without_a_colour_name_none_and_two_colours_are_both_asked_for() -> None:
    assert palette.of_words("a bell pepper, reddish") is None
    both, red, blue = (palette.of_words(text) for text in ("red and blue", "red", "blue"))
    assert both is not None
    assert red is not None
    assert blue is not None
    assert both @ red == pytest.approx(both @ blue, abs=0.02)
    assert both @ red > red @ blue
