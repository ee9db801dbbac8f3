"""Weights are numbers: a file that would run code when it is unpickled is refused, and nothing of it runs."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_encoders import TINY

from imgret_tools.encoders import make_encoder
from imgret_tools.encoders.torchvision_guard import guard_torchvision
from imgret_tools.errors import EncoderError


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._path,))


def old(path: Path, harm: Touches) -> None:
    path.write_bytes(pickle.dumps({"state_dict": {"visual.proj": harm}}))


def new(path: Path, harm: Touches) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"visual.proj": harm}, protocol=2))
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth"])
@pytest.mark.parametrize("form", [old, new])
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, form: object, suffix: str) -> None:
    guard_torchvision()
    import open_clip

    (tmp_path / "imgret-harm.json").write_text(json.dumps(TINY), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "imgret-harm.json")
    mark, file = tmp_path / "it-ran", tmp_path / f"weights{suffix}"
    form(file, Touches(mark))  # type: ignore[operator]
    encoder = make_encoder(f"openclip:imgret-harm:{file}")
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(EncoderError):
        encoder.encode_images([encoder.prepare(picture)])
    assert not mark.exists()


def test_the_mark_would_be_made(tmp_path: Path) -> None:
    """That the test above can fail."""
    pickle.loads(pickle.dumps(Touches(tmp_path / "it-ran")))
    assert (tmp_path / "it-ran").exists()
