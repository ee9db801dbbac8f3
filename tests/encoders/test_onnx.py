"""Converting networks to ONNX: whole or absent, checked against torch, and torch where it cannot be had."""

from __future__ import annotations

import builtins
import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from imgret_tools.encoders import onnx
from imgret_tools.encoders.device import cores
from imgret_tools.encoders.onnx import Graph, open_tower

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def network(*, wrong_by: float = 0.0, missing_operator: bool = False) -> object:
    """A layer of 4 to 400 numbers; `wrong_by` is added when torch runs it, not when it is traced."""
    import torch

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weights = torch.arange(1600, dtype=torch.float32).reshape(400, 4)
            self.register_buffer("weights", weights / 1600)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if missing_operator:
                x = torch.linalg.matrix_exp(x[:, :3].T @ x[:, :3])
            y = torch.nn.functional.linear(x, self.weights)
            return y if torch.jit.is_tracing() else y + wrong_by

    return Layer()


def graph(
    *, name: str = "layer", key: str = "k1", build: Callable[[], object] = network, count: list[int] | None = None
) -> Graph:
    def counted() -> object:
        if count is not None:
            count.append(1)
        return build()

    return Graph(
        name=name,
        key=key,
        inputs={"x": {0: "n"}},
        outputs=("y",),
        build=counted,  # type: ignore[arg-type]
        examples=lambda: [(X[:2],), (X[:1],)],
    )


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process remembers is forgotten, as if each test were one."""
    for name in ("_in_memory", "_refused", "_open", "_on_torch", "_unwritable"):
        monkeypatch.setattr(onnx, name, type(getattr(onnx, name))())


def expected() -> np.ndarray:
    return X @ (np.arange(1600, dtype=np.float32).reshape(400, 4) / 1600).T


def home(cache: Path) -> Path:
    (found,) = (cache / "onnx").glob("layer-*/")
    return found


def test_a_network_is_converted_once_and_gives_the_same_numbers_for_any_batch(tmp_path: Path) -> None:
    count: list[int] = []
    for _ in range(2):
        onnx._open.clear()
        tower = open_tower(graph(count=count), tmp_path)
        assert tower.backend == "onnxruntime"
        assert np.allclose(tower(X)[0], expected(), atol=1e-6)
        assert tower(X[:1])[0].shape == (1, 400)
    assert len(count) == 1  # nothing the second time
    assert {path.name for path in home(tmp_path).iterdir()} == {"model.onnx", "weights.bin", "card.json"}
    assert (home(tmp_path) / "weights.bin").stat().st_size >= 6400  # apart, so that they can be mapped
    assert not [path for path in (tmp_path / "onnx").iterdir() if path.is_dir() and path.name.startswith(".")]


def test_other_weights_are_another_conversion(tmp_path: Path) -> None:
    open_tower(graph(key="k1"), tmp_path)
    open_tower(graph(key="k2"), tmp_path)
    assert len(list((tmp_path / "onnx").glob("layer-*/"))) == 2


def test_one_session_serves_all_who_ask_for_it(tmp_path: Path) -> None:
    assert open_tower(graph(), tmp_path) is open_tower(graph(), tmp_path)
    assert open_tower(graph(key="m"), None) is open_tower(graph(key="m"), None)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "card.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_a_damaged_conversion_is_made_again(tmp_path: Path, name: str, damage: str) -> None:
    open_tower(graph(), tmp_path)
    file = home(tmp_path) / name
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(whole) // 2
        broken = {"cut": whole[:middle], "empty": b""}.get(
            damage, whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        )
        file.write_bytes(broken)
    onnx._open.clear()
    tower = open_tower(graph(), tmp_path)
    assert tower.backend == "onnxruntime"
    assert np.allclose(tower(X)[0], expected(), atol=1e-6)
    made = file.read_bytes()
    assert made == whole or (name == "card.json" and json.loads(made)["sha256"] == json.loads(whole)["sha256"])


def test_a_conversion_is_read_through_only_where_it_may_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tower(graph(), tmp_path)
    hashed: list[str] = []
    monkeypatch.setattr(onnx, "_sha256", lambda file, own=onnx._sha256: (hashed.append(file.name), own(file))[1])
    onnx._open.clear()
    open_tower(graph(), tmp_path)
    assert hashed == []
    os.utime(home(tmp_path) / "weights.bin", (1, 1))  # as a copy may have it
    onnx._open.clear()
    count: list[int] = []
    open_tower(graph(count=count), tmp_path)
    assert sorted(hashed) == ["model.onnx", "weights.bin"]
    assert count == []  # it was used as it is


def test_a_conversion_that_another_onnx_runtime_cannot_load_is_made_again(tmp_path: Path) -> None:
    open_tower(graph(), tmp_path)
    model, card = home(tmp_path) / "model.onnx", home(tmp_path) / "card.json"
    model.write_bytes(b"\x08\x7f")  # an IR version of the future
    found = json.loads(card.read_text())
    found["sha256"]["model.onnx"] = onnx._sha256(model)
    card.write_text(json.dumps(found))
    onnx._open.clear()
    assert open_tower(graph(), tmp_path).backend == "onnxruntime"
    assert model.stat().st_size > 2


@pytest.mark.parametrize("cache", ["a file", "below a file", "read only"])
def test_a_cache_that_cannot_be_written_is_said_once(
    tmp_path: Path, cache: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache"}.get(cache, tmp_path / "ro")
    if cache == "read only":  # the tests may run as root, who may write anywhere

        def refuse(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
    count: list[int] = []
    with caplog.at_level(logging.WARNING, "imgret_tools"):
        for name in ("layer", "layer", "other"):
            tower = open_tower(graph(name=name, count=count), folder)
            assert tower.backend == "onnxruntime"
            assert np.allclose(tower(X)[0], expected(), atol=1e-6)
    assert len(count) == 2  # two networks, each converted once
    (record,) = caplog.records
    assert str(folder) in record.getMessage()


def test_answers_that_differ_from_torch_are_refused_and_torch_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count: list[int] = []
    wrong = graph(build=lambda: network(wrong_by=2e-3), count=count)
    with caplog.at_level(logging.WARNING, "imgret_tools"):
        for _ in range(2):
            tower = open_tower(wrong, tmp_path)
            assert tower.backend == "torch cpu"
            assert np.allclose(tower(X)[0], expected() + 2e-3, atol=1e-6)
        onnx._refused.clear()  # the next process
        assert open_tower(wrong, tmp_path).backend == "torch cpu"
    assert len(count) == 1 + 3  # tried once in all; each tower then builds its own
    assert "differ from torch's by 0.002" in caplog.text
    assert not list((tmp_path / "onnx").glob("layer-*/"))
    assert open_tower(graph(key="close", build=lambda: network(wrong_by=5e-4)), tmp_path).backend == "onnxruntime"


def test_a_refusal_is_tried_again_with_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_tower(graph(build=lambda: network(wrong_by=1.0)), tmp_path)
    onnx._refused.clear()
    monkeypatch.setattr(onnx, "versions", lambda *_: {"onnxruntime": "another"})
    assert open_tower(graph(), tmp_path).backend == "onnxruntime"


def test_not_a_number_is_a_difference() -> None:
    assert not onnx.difference(np.array([np.nan], np.float32), np.zeros(1, np.float32)) <= onnx.TOLERANCE
    assert onnx.difference(np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32)) == np.inf


def test_an_operator_that_onnx_lacks_means_torch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    square = replace(
        graph(build=lambda: network(missing_operator=True)), examples=lambda: [(np.ones((2, 4), np.float32),)]
    )
    with caplog.at_level(logging.WARNING, "imgret_tools"):
        tower = open_tower(square, tmp_path)
    assert tower.backend == "torch cpu"
    assert "torch cannot convert it" in caplog.text


def test_an_onnx_runtime_that_lacks_the_operator_means_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime

    def refuse(*_: object, **__: object) -> None:
        raise onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented("no kernel for Gemm(18)")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with caplog.at_level(logging.WARNING, "imgret_tools"):
        tower = open_tower(graph(), tmp_path)
    assert tower.backend == "torch cpu"
    assert np.allclose(tower(X)[0], expected(), atol=1e-6)
    assert "no kernel for Gemm(18)" in caplog.text


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_means_torch_and_is_named(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: object) -> ModuleType:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING, "imgret_tools"):
        tower = open_tower(graph(), tmp_path)
    assert tower.backend == "torch cpu"
    assert np.allclose(tower(X)[0], expected(), atol=1e-6)
    assert package in caplog.text


def _convert(folder: str, start: object, answers: object) -> None:
    count: list[int] = []
    start.wait()  # type: ignore[attr-defined]
    tower = open_tower(graph(count=count), Path(folder))
    answers.put((tower.backend, len(count), float(tower(X)[0].sum())))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_processes_that_convert_at_once_do_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.Queue()
    children = [context.Process(target=_convert, args=(str(tmp_path), start, answers)) for _ in range(3)]
    for child in children:
        child.start()
    found = sorted(answers.get(timeout=120) for _ in children)
    for child in children:
        child.join()
    assert {backend for backend, _, _ in found} == {"onnxruntime"}
    assert sorted(count for _, count, _ in found) == [0, 0, 1]
    assert [total for _, _, total in found] == pytest.approx([float(expected().sum())] * 3)


def test_what_a_killed_conversion_left_is_not_used(tmp_path: Path) -> None:
    open_tower(graph(), tmp_path)
    whole = home(tmp_path)
    half = whole.with_name(f".{whole.name}.abc123")
    whole.rename(half)  # killed before the rename
    onnx._open.clear()
    count: list[int] = []
    assert open_tower(graph(count=count), tmp_path).backend == "onnxruntime"
    assert len(count) == 1


@pytest.mark.parametrize(
    ("text", "most"), [("max 100000", 10**6), ("150000 100000", 2), ("50000 100000", 1), ("", 10**6), ("x y", 10**6)]
)
def test_a_quota_limits_the_threads(tmp_path: Path, text: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    unlimited = cores(tmp_path / "none")
    assert cores(tmp_path / "cpu.max") == min(unlimited, most)
    assert unlimited >= 1
