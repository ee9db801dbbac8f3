"""Ray: a cluster of two workers, one of which is killed in the middle, ends where a local run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import WITH_TESTS, entries_of, free_port, multiply, rows_of, wait_until_listening

from imgret_tools import Runtime, Settings
from imgret_tools.engine import cluster
from imgret_tools.engine.making import Content, Maker
from imgret_tools.errors import BadInput
from imgret_tools.library.survey import SeenFile
from imgret_tools.sources.folder import Folder

RUN = """
import os, signal, sys, json
from pathlib import Path
import fake_encoder, ray
from imgret_tools import Runtime, Settings
from imgret_tools.engine import cluster
from imgret_tools.engine.making import Maker
from imgret_tools.errors import BadInput
from imgret_tools.library.survey import SeenFile
from imgret_tools.sources.folder import Folder

fake_encoder.use()
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, object_store_memory=150 << 20)
killed = []

def kill_one(state):
    if killed or state.done < 40:
        return
    for process in Path("/proc").iterdir():
        try:
            title = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::Worker") and (process / "status").read_text().split("PPid:")[1].split()[0] in raylets():
            os.kill(int(process.name), signal.SIGKILL)
            killed.append(int(process.name))
            return

def raylets():
    own = str(os.getpid())
    return {p.name for p in Path("/proc").glob("[0-9]*") if f"PPid:\\t{own}\\n" in safe(p / "status")}

def safe(path):
    try:
        return path.read_text()
    except OSError:
        return ""

with Runtime.open(Settings(data_dir=sys.argv[1], encoder="fake", roots=())) as runtime:
    report = runtime.index(Path(sys.argv[2]), engine="ray", progress=kill_one)
    again = runtime.index(Path(sys.argv[2]), engine="ray")

class Deadly(Folder):
    def content(self, path, **more):
        if "deadly" in path:
            os._exit(1)
        return super().content(path, **more)

try:
    with cluster.Cluster("ray", Maker(Folder("/"), 64, 16, 200, False), fake_encoder.FakeEncoder, "f9"):
        refused = ""
except BadInput as error:
    refused = str(error)
cluster._RETRIES = 1
paths = [next(Path(sys.argv[2]).rglob("*-3.jpg")), Path("/deadly.jpg"), next(Path(sys.argv[2]).rglob("*-4.jpg"))]
with cluster.Cluster("ray", Maker(Deadly("/"), 64, 16, 200, False), fake_encoder.FakeEncoder, "f0") as some:
    waiting = [some.submit(SeenFile(1, str(path), 9, 0, 0, None)) for path in paths]
    some.wanted(waiting[0])
    crashed = [future.result().failure for future in waiting]
ray.shutdown()
print(json.dumps([report.to_dict(), again.to_dict(), killed, refused, crashed]))
"""


@pytest.mark.slow
def test_a_cluster_with_a_worker_killed_in_the_middle_ends_where_a_local_run_ends(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fake_encoder

    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", fake_encoder.make)
    multiply(photos, 25)
    (photos / "copy.jpg").write_bytes(next(photos.rglob("*-3.jpg")).read_bytes())
    (photos / "broken.jpg").write_bytes(b"no picture")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "cluster"), str(photos)],
        env=os.environ | {"PYTHONPATH": WITH_TESTS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report, again, killed, refused, crashed = json.loads(done.stdout.splitlines()[-1])
    assert "has weights f0, the library was made with f9" in refused
    # A picture that kills whoever opens it is one failure, and costs its neighbours nothing.
    assert [bool(reason) for reason in crashed] == [False, True, False]
    assert "decoder crashed" in crashed[1]
    assert len(killed) == 1, "no worker was found to be killed"
    with Runtime.open(Settings(data_dir=tmp_path / "local", encoder="fake", roots=())) as local:
        expected = local.index(photos).to_dict()
        entries, rows = entries_of(local), rows_of(local)
    timed = ("seconds", "images_per_second", "stages")
    assert {name: value for name, value in report.items() if name not in timed} == {
        name: value for name, value in expected.items() if name not in timed
    }
    assert again["unchanged"] == len(entries)
    assert again["added"] == again["updated"] == 0
    with Runtime.open(Settings(data_dir=tmp_path / "cluster", encoder="fake", roots=())) as clustered:
        assert entries_of(clustered) == entries
        assert np.array_equal(rows_of(clustered), rows)
        assert all(clustered.thumbnail(entry).stat().st_size for entry in entries[:5])


AFAR = """
import json, sys
from pathlib import Path
import fake_encoder
from imgret_tools import Runtime, Settings

fake_encoder.use()
with Runtime.open(Settings(data_dir=sys.argv[1], encoder="fake", roots=())) as runtime:
    print(json.dumps(runtime.index(Path(sys.argv[2]), engine=sys.argv[3]).to_dict()))
"""


@pytest.mark.slow
def test_a_cluster_is_joined_by_its_address(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fake_encoder

    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", fake_encoder.make)
    environment = os.environ | {"PYTHONPATH": WITH_TESTS, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "7" * 32}
    port, log = free_port(), tmp_path / "head.log"
    ray = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={free_port()}"]
    more = ["--num-cpus=2", "--object-store-memory=157286400", "--include-dashboard=false", "--disable-usage-stats"]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as sockets, log.open("wb") as said:
        head = subprocess.Popen(
            [*ray, *more, f"--ray-client-server-port={port}", f"--temp-dir={sockets}"],
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            wait_until_listening(port, head, log, seconds=120)
            done = subprocess.run(
                [sys.executable, "-c", AFAR, str(tmp_path / "cluster"), str(photos), f"ray://127.0.0.1:{port}"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
    assert done.returncode == 0, done.stderr[-3000:]
    with Runtime.open(Settings(data_dir=tmp_path / "local", encoder="fake", roots=())) as local:
        expected = local.index(photos)
        entries, rows = entries_of(local), rows_of(local)
    assert json.loads(done.stdout.splitlines()[-1])["added"] == expected.added
    with Runtime.open(Settings(data_dir=tmp_path / "cluster", encoder="fake", roots=())) as clustered:
        assert entries_of(clustered) == entries
        assert np.array_equal(rows_of(clustered), rows)


def test_an_actor_makes_what_a_thread_makes_and_refuses_other_weights(photos: Path) -> None:
    import fake_encoder

    maker = Maker(Folder(str(photos)), 64, 16, 200, True)
    path = next(photos.rglob("*.jpg"))
    file = SeenFile(1, str(path), path.stat().st_size, path.stat().st_mtime_ns, 0, None)
    worker = cluster.Worker(maker, fake_encoder.FakeEncoder, "f0")
    [made, other] = worker.make([(file, ""), (file, "0" * 64)])
    encoder = fake_encoder.FakeEncoder()
    sha256, content = maker.read(file)
    here: Content = maker.decode(file, sha256, content, encoder.prepare)
    assert made.facts == here.facts
    assert made.row is not None
    assert here.prepared is not None
    assert np.array_equal(made.row, encoder.encode_images([here.prepared])[0])
    assert made.thumbnail == here.thumbnail
    assert other.facts is not None  # a file of this machine is not hashed twice
    with pytest.raises(BadInput, match=r"has weights f0, the library was made with f1"):
        cluster.Worker(maker, fake_encoder.FakeEncoder, "f1")


def test_an_engine_that_nobody_knows_is_refused(runtime: Runtime, photos: Path) -> None:
    with pytest.raises(BadInput, match="'spark' is not known"):
        runtime.index(photos, engine="spark")
