"""What of Gradio is replaced: a new version that does it otherwise fails here, and not at a visitor's."""

from __future__ import annotations

import inspect
import tomllib
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import gradio as gr
import pytest
from gradio import blocks, component_meta, processing_utils, route_utils, state_holder, utils
from gradio.queueing import Queue
from gradio.state_holder import SessionState
from packaging.requirements import Requirement

from imgret_tools.ui import patches
from imgret_tools.ui.sessions import Session, Sessions

ROOT = Path(__file__).parent.parent.parent


def test_the_range_of_gradio_is_the_one_that_was_looked_at() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["app"]
    range_ = next(Requirement(one) for one in wanted if Requirement(one).name == "gradio").specifier
    assert range_.contains(version("gradio"))
    assert not range_.contains("7.0")


def test_a_session_has_all_that_gradio_gives_it_but_the_settings() -> None:
    with gr.Blocks() as page:
        box, state = gr.Textbox("a"), gr.State([1])
        gr.Button()
    theirs, ours = SessionState(page), Session(page)
    assert vars(theirs).keys() == vars(ours).keys()
    assert {name: value for name, value in vars(theirs).items() if name not in ("blocks_config", "config_values")} == {
        name: value for name, value in vars(ours).items() if name not in ("blocks_config", "config_values")
    }
    assert ours.blocks_config.blocks == theirs.blocks_config.blocks
    assert theirs.config_values
    for session in (theirs, ours):
        assert session[state._id] == [1]
        session[state._id] = [2]
        session[box._id] = gr.Textbox("b", render=False)
        session._update_config(box._id)
        session._update_value_in_config(box._id, "c")
        assert session[state._id] == [2]
        assert session[box._id].value == "b"
    assert page.default_config.blocks[box._id].value == "a"
    assert ours.config_values == {}
    assert list(ours.components) == []


def test_sessions_are_bounded_and_made_once() -> None:
    with gr.Blocks() as page:
        gr.State(0)
    page.state_session_capacity = 3
    held = Sessions()
    held.set_blocks(page)
    first = held["a"]
    assert isinstance(first, Session)
    assert held["a"] is first
    for name in "bcd":
        held[name]
    assert "a" not in held
    assert len(held.session_data) == 3


@pytest.mark.parametrize(
    ("owner", "name", "used_in"),
    [
        (component_meta, "create_or_modify_pyi", component_meta.ComponentMeta.__new__),
        (processing_utils, "async_ssrf_protected_download", blocks.Block.async_move_resource_to_block_cache),
        (utils, "MatplotlibBackendMananger", route_utils.call_process_api),
        (Queue, "compute_analytics_summary", Queue.process_events),
        (state_holder.StateHolder, "session_data", state_holder.StateHolder.__getitem__),
    ],
)
def test_what_is_replaced_is_still_what_gradio_uses(owner: object, name: str, used_in: object) -> None:
    assert hasattr(owner, name) or name == "session_data"
    assert name in inspect.getsource(used_in)  # type: ignore[arg-type]


def test_gradio_fetches_no_address_and_leaves_matplotlib_alone() -> None:
    assert processing_utils.async_ssrf_protected_download is patches._fetch_nothing
    assert utils.MatplotlibBackendMananger is nullcontext
    with pytest.raises(gr.Error, match="send the picture itself"):
        processing_utils.save_url_to_cache("http://127.0.0.1:1/x.png", "x")


def test_gradio_checks_files_only_where_it_thinks_that_it_was_launched() -> None:
    """Why `mount` says so: else a visitor names any file of the machine as his upload, and gets it back."""
    assert "has_launched" in inspect.getsource(processing_utils._check_allowed)
