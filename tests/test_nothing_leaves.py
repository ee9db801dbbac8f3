"""Nothing leaves the machine by itself: every address that a whole round of page, tools, chat, MCP and collect asks for is recorded.

Python reports each connection and each look-up of a name to an audit hook (PEP 578), whoever makes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, copy_photos

pytestmark = pytest.mark.slow

ROUND = """
import sys
asked = []
EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg", "urllib.Request")

def hook(event, arguments):
    if event in EVENTS:
        asked.append((event, arguments[1] if event in ("socket.connect", "socket.sendto", "socket.sendmsg") else arguments[0]))

sys.addaudithook(hook)
sys.path.insert(0, sys.argv[2] + "/tests")
import json
from pathlib import Path

import fake_encoder
fake_encoder.use()
from starlette.testclient import TestClient
from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.chat.models import make_model
from imgret_tools.chat.talk import Chat
from imgret_tools.cli import app as shell
from imgret_tools.langchain import ImageToolkit
from imgret_tools.ui.app import build_app, mount

folder = Path(sys.argv[1])
with Runtime.open(Settings(data_dir=folder / "data", roots=(folder,), encoder="fake")) as runtime:
    tools = ImageTools(runtime)
    tools.index_folder(str(folder / "photos"), library="lib")
    id_ = tools.search_similar_image(text="a lion", library="lib").hits[0].id
    for tool in ImageToolkit(tools=tools).get_tools():
        given = {"image": id_} if "image" in tool.args else {"folder": str(folder / "photos")} if "folder" in tool.args else {}
        tool.invoke({**given, "library": "lib"} if "library" in tool.args else given)
    list(Chat(tools, make_model("")).ask("find a lion"))
    page = build_app(tools, library="lib", start_talk=lambda: Chat(tools, make_model("")))
    with TestClient(mount(tools, page), base_url="http://127.0.0.1") as client:
        for path in ("/", "/config", "/gradio_api/info", "/gradio_api/startup-events", "/theme.css", f"/thumbnail/lib/{id_}"):
            assert client.get(path).status_code == 200, path
        data = [id_, None, 3, "cosine", "embedding", "lib", "auto", None, None, 0, "best", "auto", None, "weak"]
        begun = client.post("/gradio_api/call/search_similar_image", json={"data": data}).json()
        assert "complete" in client.get("/gradio_api/call/search_similar_image/" + begun["event_id"]).text
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_libraries", "arguments": {}}}
        assert client.post("/mcp", json=body, headers={"Accept": "application/json, text/event-stream"}).status_code == 200
shell(["collect", "clean", str(folder / "photos"), "--dry-run"], standalone_mode=False)
leaves = sorted({repr(one) for one in asked})
import socket
socket.getaddrinfo("localhost", 1)
assert asked, "the hook records nothing"
print("ASKED", json.dumps(leaves))
"""


def test_no_address_is_asked_for(tmp_path: Path) -> None:
    copy_photos(tmp_path / "photos")
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GRADIO_", "HF_", "IMGRET_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", ROUND, str(tmp_path), str(ROOT)],
        env=environment | {"PYTHONPATH": str(ROOT), "HOME": str(home), "IMGRET_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout.rpartition("ASKED ")[2].strip()
    assert told == "[]", told
