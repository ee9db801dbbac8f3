"""The app's start: the page is answered before an encoder is made, and what needs the demo library waits for it."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import get_args

import httpx
import pytest
from conftest import WITH_TESTS, serving

from imgret_tools import Runtime, Settings
from imgret_tools.encoders import NICKNAMES
from imgret_tools.ui.tabs.index import encoder_choices
from imgret_tools.ui.texts.table import Language

pytestmark = pytest.mark.slow

# The encoder is made only once the file `gate` is there; `asked` says that it was asked for.
SERVED = """
import sys, time
from pathlib import Path
from typing import get_args
import fake_encoder
from imgret_tools import Settings
from imgret_tools.engine import runtime
from imgret_tools.ui.app import serve
folder = Path(sys.argv[1])
def late(spec, **_):
    (folder / "asked").touch()
    while not (folder / "gate").exists():
        time.sleep(0.02)
    return fake_encoder.FakeEncoder()
runtime.make_encoder = late
serve(Settings(data_dir=folder / "data", encoder="mini", roots=(folder,)), port=int(sys.argv[-1]))
"""


def test_the_first_page_comes_before_the_encoder_and_a_search_waits_for_it(tmp_path: Path) -> None:
    with serving([sys.executable, "-c", SERVED, str(tmp_path)], tmp_path, seconds=60, PYTHONPATH=WITH_TESTS) as address:
        try:
            assert "gradio" in httpx.get(address).text
            while not (tmp_path / "asked").exists():  # warmed without anyone's asking
                time.sleep(0.05)
            found: list[httpx.Response] = []
            ask = {"data": ["demo"]}
            search = threading.Thread(
                target=lambda: found.append(
                    httpx.post(f"{address}/gradio_api/run/describe_library", json=ask, timeout=60)
                )
            )
            search.start()
            search.join(1)
            assert search.is_alive()
            assert httpx.get(address).status_code == 200
            (tmp_path / "gate").touch()
            search.join(60)
            assert json.loads(found[0].json()["data"][0])["images"] >= 25
        finally:
            (tmp_path / "gate").touch()


def test_a_library_that_could_not_be_made_is_said_to_be_missing(tmp_path: Path) -> None:
    with Runtime.open(Settings(data_dir=tmp_path)) as runtime:
        asked: list[str] = []

        def ask() -> None:
            try:
                runtime.library("demo")
            except Exception as error:
                asked.append(str(error))

        waiting = threading.Thread(target=ask)
        with runtime.arriving("demo"):
            waiting.start()
            waiting.join(0.2)
            assert asked == []
            assert runtime.is_arriving("demo")
        waiting.join(10)
        assert not runtime.is_arriving("demo")
        assert len(asked) == 1
        assert "There is no library 'demo'" in asked[0]


def test_every_encoder_can_be_chosen_in_both_languages() -> None:
    for language in get_args(Language):
        names = [name for _, name in encoder_choices(language)]
        assert names == ["auto", "mini", *(nickname.name for nickname in NICKNAMES)]
    english, vietnamese = (dict(map(reversed, encoder_choices(language))) for language in get_args(Language))
    assert all(english[name] != vietnamese[name] for name in english)
