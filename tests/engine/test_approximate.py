"""A large library's index: nearly all of the exact answer, all of it by filters, and never less when it lags behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fake_encoder
import numpy as np
import pytest
from numpy.typing import NDArray

from imgret_tools import Runtime, Settings
from imgret_tools.engine import approximate, tables
from imgret_tools.engine.query import Query
from imgret_tools.library.filters import parse_where
from imgret_tools.records import Measure, SearchReport

DIM = fake_encoder.FakeEncoder.dim
N = 6000


def clustered(count: int, seed: int = 0, clusters: int = 60) -> NDArray[np.float32]:
    centres = np.random.default_rng(99).standard_normal((clusters, DIM))
    random = np.random.default_rng(seed)
    rows = centres[random.integers(0, clusters, count)] + 0.7 * random.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def put(runtime: Runtime, folder: Path, rows: NDArray[np.float32], first: int = 0) -> None:
    """Rows as pictures: every tenth is a dog, every thousandth a fox, the others cats."""
    numbers = range(first, first + len(rows))
    labels = ["fox" if number % 1000 == 7 else "dog" if number % 10 == 0 else "cat" for number in numbers]
    lines = [f"{number}.jpg,{label}" for number, label in zip(numbers, labels, strict=True)]
    (folder / "meta.csv").write_text("\n".join(["path,label", *lines]))
    np.save(folder / "rows.npy", rows)
    runtime.import_rows(folder / "rows.npy", folder / "meta.csv", library="big", encoder="fake")


def prepare(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("imgret_tools.engine.runtime.make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    patch.setattr("imgret_tools.engine.runtime.spec_of", lambda spec: spec)
    patch.setattr(approximate, "EXACT_UP_TO", 3000)
    patch.setattr("imgret_tools.engine.runtime.EXACT_UP_TO", 3000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a library that has an index, for the tests to copy."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        with Runtime.open(Settings(data_dir=folder / "data")) as opened:
            put(opened, folder, clustered(N))
    return folder / "data"


@pytest.fixture
def runtime(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    prepare(monkeypatch)
    shutil.copytree(made, tmp_path / "data")
    with Runtime.open(Settings(data_dir=tmp_path / "data")) as opened:
        yield opened


def asked(runtime: Runtime, number: int, search: str, **options: object) -> SearchReport:
    """The ten best for the picture of that row number."""
    with runtime.view("big") as view:
        entry = view.entries(view.numbers[number : number + 1])[0]
    return runtime.search(Query(image=entry), library="big", k=10, search=search, refine="off", **options)  # type: ignore[arg-type]


def both(runtime: Runtime, number: int, **options: object) -> tuple[SearchReport, SearchReport]:
    return asked(runtime, number, "auto", **options), asked(runtime, number, "exact", **options)


@pytest.mark.parametrize("measure", ["cosine", "l2", "pearson", "l1"])
def test_nearly_all_of_the_exact_answer_with_exact_values(runtime: Runtime, measure: Measure) -> None:
    shared = 0
    for number in range(0, N, 300):
        quick, exact = both(runtime, number, measure=measure)
        assert (quick.search, exact.search) == ("ivf", "exact")
        assert "% of the ten best" in quick.notice
        assert quick.searched == exact.searched == N - 1
        values = {hit.id: hit.value for hit in exact.hits}
        assert all(hit.value == pytest.approx(values[hit.id], abs=1e-12) for hit in quick.hits if hit.id in values)
        assert [hit.value for hit in quick.hits] == sorted(
            (hit.value for hit in quick.hits), reverse=measure in ("cosine", "pearson")
        )
        shared += len({hit.id for hit in quick.hits} & values.keys())
    assert shared >= 0.98 * 10 * len(range(0, N, 300))


@pytest.mark.parametrize("where", ["label=dog", "label=fox", "label=cat"])
def test_filters_cost_nothing_of_the_answer(runtime: Runtime, where: str) -> None:
    shared = 0
    for number in range(1, N, 500):
        quick, exact = both(runtime, number, where=parse_where(where))
        assert {hit.label for hit in quick.hits} == {where[-3:]}
        assert (quick.search == "ivf") == (where == "label=cat")
        shared += len({hit.id for hit in quick.hits} & {hit.id for hit in exact.hits}) / len(exact.hits)
    assert shared >= (0.99 if where == "label=cat" else 1) * len(range(1, N, 500))


def test_what_came_and_went_since_counts_at_once(runtime: Runtime, tmp_path: Path) -> None:
    card = (runtime.library("big").home / "ivf.json").read_text()
    late = clustered(N)[:200]  # twins of rows that the index covers
    put(runtime, tmp_path, late, first=N)
    assert (runtime.library("big").home / "ivf.json").read_text() == card  # too few to make it anew
    quick = asked(runtime, 3, "auto")
    assert (quick.search, quick.hits[0].path) == ("ivf", str(tmp_path / f"{N + 3}.jpg"))
    runtime.forget([quick.hits[0].id], library="big")
    again, exact = both(runtime, 3)
    assert again.search == "ivf"
    assert [hit.id for hit in again.hits] == [hit.id for hit in exact.hits]
    assert quick.hits[0].id not in {hit.id for hit in again.hits}


def test_the_index_is_made_anew_when_it_covers_too_little(runtime: Runtime, tmp_path: Path) -> None:
    home = runtime.library("big").home
    card = (home / "ivf.json").read_text()
    put(runtime, tmp_path, clustered(1000, seed=5), first=N)
    assert (home / "ivf.json").read_text() != card
    assert len(list(home.glob("ivf-*.faiss"))) == 1
    assert asked(runtime, N + 10, "auto").search == "ivf"


def test_what_it_cannot_find_well_is_scanned(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "_LEAST_RECALL", 1.01)
    assert asked(runtime, 3, "auto").search != "ivf"


@pytest.mark.parametrize("damage", ["card", "file", "gone", "cut"])
def test_a_damaged_index_is_not_used(runtime: Runtime, damage: str) -> None:
    home = runtime.library("big").home
    (file,) = home.glob("ivf-*.faiss")
    if damage == "card":
        (home / "ivf.json").write_text("{")
    elif damage == "file":
        file.write_bytes(b"nonsense" * 100)
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:5000])
    quick, exact = both(runtime, 3)
    assert quick.search != "ivf"
    assert [hit.id for hit in quick.hits] == [hit.id for hit in exact.hits]


def test_many_hits_and_later_pages_are_whole(runtime: Runtime) -> None:
    first, second = (asked(runtime, 3, "auto", offset=offset) for offset in (0, 10))
    exact = asked(runtime, 3, "exact", offset=10)
    assert not {hit.id for hit in first.hits} & {hit.id for hit in second.hits}
    assert [hit.id for hit in second.hits] == [hit.id for hit in exact.hits]
    deep = asked(runtime, 3, "auto", offset=5000)
    assert (deep.search, len(deep.hits)) != ("ivf", 10)


def test_small_libraries_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    monkeypatch.setattr("imgret_tools.engine.runtime.spec_of", lambda spec: spec)
    with Runtime.open(Settings(data_dir=tmp_path / "data")) as opened:
        put(opened, tmp_path, clustered(500))
        assert not list(opened.library("big").home.glob("ivf*"))
        assert asked(opened, 3, "auto").search == "exact"
    assert tables.BLOCK > 500
