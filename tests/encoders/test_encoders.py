"""Every encoder against one contract; OpenCLIP against Chroma's own function; what happens without a hub."""

from __future__ import annotations

import http.server
import importlib.util
import json
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools.encoders import Encoder, choose, make_encoder
from imgret_tools.encoders.torchvision_guard import guard_torchvision
from imgret_tools.encoders.weights import FIRST_CHOICE, fingerprint
from imgret_tools.errors import BadInput, EncoderError, NotFound
from imgret_tools.pictures.pixels import resize_pixels

pytestmark = pytest.mark.slow

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
TEXTS = ["a photo of a cat", "", "😀🍎", "a very long text " * 60, "x"]
SKIMAGE = Path(str(importlib.util.find_spec("skimage").origin)).parent / "data"  # type: ignore[union-attr]


def save(model_name: str, file: Path, *, seed: int) -> Path:
    """Seeded random weights of an OpenCLIP model."""
    guard_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = open_clip.create_model(model_name, load_weights=False)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)
    return file


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with seeded weights of a two-layer model, known to open_clip as imgret-tiny, and its config."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "imgret-tiny.json").write_text(json.dumps(TINY), encoding="utf-8")
    guard_torchvision()
    import open_clip

    open_clip.add_model_config(folder / "imgret-tiny.json")
    home = folder / "model"
    home.mkdir()
    save("imgret-tiny", home / "open_clip_model.safetensors", seed=1)
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    whole = {"model_cfg": TINY, "preprocess_cfg": preprocess}
    (home / "open_clip_config.json").write_text(json.dumps(whole), encoding="utf-8")
    return home


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    names = ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg", "motorcycle_left.png")
    return [Image.open(SKIMAGE / name).convert("RGB") for name in names]


@pytest.fixture(scope="module", params=["mini", "openclip file", "openclip folder"])
def encoder(request: pytest.FixtureRequest, tiny: Path, converted: Path) -> Encoder:
    spec = {
        "mini": "mini",
        "openclip file": f"openclip:imgret-tiny:{tiny / 'open_clip_model.safetensors'}",
        "openclip folder": f"openclip:anything:{tiny}",
    }[request.param]
    return make_encoder(spec, precision="fp32", cache=converted)


class TestContract:
    def test_it_is_an_encoder_that_make_encoder_makes_again(self, encoder: Encoder) -> None:
        assert isinstance(encoder, Encoder)
        again = make_encoder(encoder.name)
        assert (again.name, again.fingerprint, again.dim) == (encoder.name, encoder.fingerprint, encoder.dim)
        assert len(encoder.fingerprint) == 16
        assert int(encoder.fingerprint, 16) >= 0

    def test_rows_are_unit_float32_and_in_order(self, encoder: Encoder, pictures: list[Image.Image]) -> None:
        prepared = [encoder.prepare(picture) for picture in pictures]
        assert {(array.shape, array.dtype) for array in prepared} == {
            ((3, encoder.side, encoder.side), np.dtype(np.float32))
        }
        for rows, one_by_one in (
            (encoder.encode_images(prepared), [encoder.encode_images([array]) for array in prepared]),
            (encoder.encode_texts(TEXTS), [encoder.encode_texts([text]) for text in TEXTS]),
        ):
            assert rows.shape == (5, encoder.dim)
            assert rows.dtype == np.float32
            assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
            assert np.abs(rows - np.vstack(one_by_one)).max() < 1e-5

    def test_more_than_a_batch(self, encoder: Encoder, pictures: list[Image.Image]) -> None:
        prepared = [encoder.prepare(picture) for picture in pictures]
        rows = encoder.encode_images(prepared * 8)
        assert np.allclose(rows, np.vstack([encoder.encode_images(prepared)] * 8), atol=1e-5)
        texts = encoder.encode_texts(TEXTS * 7)
        assert np.allclose(texts, np.vstack([encoder.encode_texts(TEXTS)] * 7), atol=1e-5)

    def test_nothing_in_nothing_out(self, encoder: Encoder) -> None:
        assert encoder.encode_images([]).shape == (0, encoder.dim)
        assert encoder.encode_texts([]).shape == (0, encoder.dim)

    def test_the_same_twice(self, encoder: Encoder, pictures: list[Image.Image]) -> None:
        prepared = [encoder.prepare(picture) for picture in pictures]
        assert np.array_equal(encoder.encode_images(prepared), encoder.encode_images(prepared))
        assert np.array_equal(encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS))

    @pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (64, 64), (224, 224)])
    def test_any_shape_of_picture(self, encoder: Encoder, size: tuple[int, int]) -> None:
        rows = encoder.encode_images([encoder.prepare(Image.new("RGB", size, (200, 30, 30)))])
        assert np.isfinite(rows).all()
        assert np.linalg.norm(rows) == pytest.approx(1, abs=1e-5)

    def test_vietnamese_goes_through_the_glossary(self, encoder: Encoder) -> None:
        assert encoder.translates
        rows = encoder.encode_texts(["con mèo đen", "black cat"])
        assert np.allclose(rows[0], rows[1], atol=1e-5)


def assert_equals_chroma(spec: str, model: str, file: Path, pictures: list[Image.Image]) -> None:
    """Images and texts by `spec` and by Chroma's function on the same file: cosine 1 to 1e-4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from chromadb.utils.embedding_functions import OpenCLIPEmbeddingFunction

    chroma = OpenCLIPEmbeddingFunction(model, str(file))
    chroma._model.eval()
    ours = make_encoder(spec, precision="fp32")
    texts = [text for text in TEXTS if text]
    for rows, expected in (
        (ours.encode_images([ours.prepare(picture) for picture in pictures]), chroma([np.array(p) for p in pictures])),
        (ours.encode_texts(texts), chroma(texts)),
    ):
        assert (rows * np.array(expected)).sum(axis=1).min() > 1 - 1e-4


def test_openclip_equals_chroma_on_a_small_model(tiny: Path, pictures: list[Image.Image]) -> None:
    file = tiny / "open_clip_model.safetensors"
    assert_equals_chroma(f"openclip:imgret-tiny:{file}", "imgret-tiny", file, pictures)


def test_openclip_equals_chroma_on_a_full_vit_b_32(tmp_path: Path, pictures: list[Image.Image]) -> None:
    file = save("ViT-B-32", tmp_path / "vit.safetensors", seed=7)
    assert_equals_chroma(f"openclip:ViT-B-32:{file}", "ViT-B-32", file, pictures[:3])
    fast = make_encoder(f"openclip:ViT-B-32:{file}")
    exact = make_encoder(f"openclip:ViT-B-32:{file}", precision="fp32")
    prepared = [exact.prepare(picture) for picture in pictures]
    assert (fast.encode_images(prepared) * exact.encode_images(prepared)).sum(axis=1).min() >= 0.9999
    file.unlink()


def test_a_folder_brings_its_own_preprocessing(tiny: Path, pictures: list[Image.Image]) -> None:
    of_folder = make_encoder(f"openclip:anything:{tiny}").prepare(pictures[0])
    of_file = make_encoder(f"openclip:imgret-tiny:{tiny / 'open_clip_model.safetensors'}").prepare(pictures[0])
    clip_mean, clip_std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for channel in range(3):
        raw = of_file[channel] * clip_std[channel] + clip_mean[channel]
        assert np.allclose(of_folder[channel], (raw - 0.5) / 0.25, atol=1e-4)


def test_bf16_can_be_forced_and_fp32_too(tiny: Path, pictures: list[Image.Image]) -> None:
    spec = f"openclip:anything:{tiny}"
    half, whole = make_encoder(spec, precision="bf16"), make_encoder(spec, precision="fp32")
    prepared = [whole.prepare(picture) for picture in pictures]
    cosines = (half.encode_images(prepared) * whole.encode_images(prepared)).sum(axis=1)
    assert half.precision == "bfloat16"  # type: ignore[attr-defined]
    assert whole.precision == "float32"  # type: ignore[attr-defined]
    assert cosines.min() > 0.99
    with pytest.raises(BadInput, match="int3"):
        make_encoder("mini", precision="int3")  # type: ignore[arg-type]


def test_fingerprints_tell_weights_apart(tiny: Path, tmp_path: Path) -> None:
    file = tiny / "open_clip_model.safetensors"
    other = save("imgret-tiny", tmp_path / "other.safetensors", seed=2)
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(file.read_bytes())
    first, second, third = (make_encoder(f"openclip:imgret-tiny:{f}").fingerprint for f in (file, other, copied))
    assert first != second
    assert first == third
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-1])
    assert fingerprint(cut) != fingerprint(file)


def test_a_relative_path_is_recorded_whole(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    encoder = make_encoder("openclip:imgret-tiny:open_clip_model.safetensors")
    assert encoder.name == f"openclip:imgret-tiny:{tiny / 'open_clip_model.safetensors'}"


class TestRefusals:
    @pytest.mark.parametrize(
        ("spec", "error", "says"),
        [
            ("clip", BadInput, "expected mini"),
            ("", BadInput, "expected mini"),
            ("openclip:", BadInput, "not complete"),
            ("openclip:ViT-B-32", BadInput, "not complete"),
            ("openclip:ViT-B32/laion2b_s34b_b79k", BadInput, "did you mean ViT-B-32"),
            ("openclip:ViT-B-32/laion2b", BadInput, "laion2b_s34b_b79k"),
            ("openclip:hf-hub:name", BadInput, "hf-hub:ORG/NAME"),
            ("openclip:ViT-B-32:/no/such/file.pt", NotFound, "no checkpoint at /no/such/file.pt"),
            ("openclip:ViT-B-32:", NotFound, "no checkpoint"),
        ],
    )
    def test_names(self, spec: str, error: type[Exception], says: str) -> None:
        with pytest.raises(error, match=says):
            make_encoder(spec)

    def test_files(self, tiny: Path, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no weights in"):
            make_encoder(f"openclip:ViT-B-32:{tmp_path}")
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}), encoding="utf-8")
        with pytest.raises(NotFound, match="no weights in"):  # a config alone would run on random weights
            make_encoder(f"openclip:x:{tmp_path}")
        (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
        with pytest.raises(BadInput, match="no checkpoint"):
            make_encoder(f"openclip:imgret-tiny:{tmp_path / 'notes.txt'}")
        with pytest.raises(BadInput, match="no model"):
            make_encoder(f"openclip:ViT-Z:{tiny / 'open_clip_model.safetensors'}")

    @pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04junk" * 100])
    @pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
    def test_broken_checkpoints(self, tmp_path: Path, tiny: Path, content: bytes, name: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EncoderError, match="does not load as imgret-tiny"):
            make_encoder(f"openclip:imgret-tiny:{tmp_path / name}").encode_texts(["x"])

    def test_weights_of_another_model(self, tiny: Path) -> None:
        encoder = make_encoder(f"openclip:ViT-B-32:{tiny / 'open_clip_model.safetensors'}")
        with pytest.raises(EncoderError, match="does not load as ViT-B-32"):
            encoder.encode_texts(["x"])

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(BadInput, match="device 'cuda:99'"):
            make_encoder("mini", device="cuda:99").encode_texts(["x"])


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


@pytest.fixture
def silent_hub() -> Iterator[str]:
    """A hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if "laion" in self.path else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answering_hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class TestHub:
    def test_a_hub_that_never_answers_costs_seconds(
        self, no_cache: Path, silent_hub: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", silent_hub)
        start = time.perf_counter()
        choice = choose(timeout=1)
        assert time.perf_counter() - start < 3
        assert choice.spec == "mini"
        assert silent_hub in choice.notice
        assert FIRST_CHOICE.spec in choice.notice  # how to switch

    def test_make_encoder_gives_up_as_soon(
        self, no_cache: Path, silent_hub: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", silent_hub)
        start = time.perf_counter()
        with pytest.raises(EncoderError, match=r"not on this machine.*mini"):
            make_encoder(FIRST_CHOICE.spec)
        assert time.perf_counter() - start < 6

    def test_a_refused_connection_is_known_at_once(self, no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
        start = time.perf_counter()
        assert choose().spec == "mini"
        assert time.perf_counter() - start < 2

    def test_offline_is_respected_at_once(self, no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        choice = choose()
        assert choice.spec == "mini"
        assert "HF_HUB_OFFLINE" in choice.notice
        with pytest.raises(EncoderError, match="HF_HUB_OFFLINE"):
            make_encoder("openclip:hf-hub:org/name")

    def test_a_hub_that_answers_is_taken(
        self, no_cache: Path, answering_hub: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", answering_hub)
        choice = choose()
        assert choice.spec == FIRST_CHOICE.spec
        assert "once" in choice.notice
        with pytest.raises(EncoderError, match="404"):
            make_encoder("openclip:hf-hub:org/missing")
        assert not no_cache.exists()  # choosing downloads nothing

    def test_weights_in_the_cache_need_no_hub(
        self, no_cache: Path, tiny: Path, silent_hub: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", silent_hub)
        put_in_cache(no_cache, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", tiny)
        put_in_cache(no_cache, "org/tiny", tiny)
        start = time.perf_counter()
        assert choose().spec == FIRST_CHOICE.spec
        assert choose().notice == ""
        rows = make_encoder("openclip:hf-hub:org/tiny").encode_texts(["a cat"])
        expected = make_encoder(f"openclip:x:{tiny}").encode_texts(["a cat"])
        assert np.allclose(rows, expected, atol=1e-6)
        assert time.perf_counter() - start < 4

    def test_the_first_choice_is_what_open_clip_calls_it(self) -> None:
        from open_clip.pretrained import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, get_pretrained_cfg

        from imgret_tools.encoders.weights import _remote

        repository, names, url = _remote(FIRST_CHOICE)
        assert get_pretrained_cfg(FIRST_CHOICE.model, FIRST_CHOICE.tag)["hf_hub"] == f"{repository}/"
        assert (names, url) == ([HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME], "")


def put_in_cache(cache: Path, repository: str, model: Path) -> None:
    """Lay a model's files out as the hub's client caches them."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    for file in model.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())


def test_importing_and_choosing_load_nothing_heavy() -> None:
    code = (
        "import sys; from imgret_tools.encoders import choose, make_encoder; choose(); make_encoder('mini');"
        "print([m for m in ('torch', 'open_clip', 'timm', 'torchvision', 'chromadb', 'gradio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "HOME": "/nonexistent"},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("first", ["", "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"])
def test_the_guard_makes_torchvision_importable_even_after_a_failed_import(first: str) -> None:
    code = first + (
        "from imgret_tools.encoders.torchvision_guard import guard_torchvision\n"
        "guard_torchvision(); guard_torchvision()\n"
        "import torch, torchvision.transforms.v2, timm\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "True", done.stderr


def test_pixels_are_a_plain_bicubic_resize(pictures: list[Image.Image]) -> None:
    row = resize_pixels(pictures[0], 16)
    assert row.shape == (16 * 16 * 3,)
    assert row.dtype == np.uint8
    assert np.array_equal(row.reshape(16, 16, 3), np.array(pictures[0].resize((16, 16))))
    assert (resize_pixels(Image.new("RGB", (5, 9), (1, 2, 3)), 4).reshape(-1, 3) == (1, 2, 3)).all()
