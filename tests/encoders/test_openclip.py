"""OpenCLIP without open_clip: tokens, towers on ONNX Runtime, and the way that was the fastest, remembered."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_encoders import TINY, save

from imgret_tools.encoders import clip_tokens, make_encoder, openclip, weights
from imgret_tools.encoders.glossary.vietnamese import in_english
from imgret_tools.encoders.installed import open_clip_module
from imgret_tools.encoders.openclip import OpenClip
from imgret_tools.encoders.rows import unit
from imgret_tools.encoders.torchvision_guard import guard_torchvision

pytestmark = pytest.mark.slow

TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "  Two   DOGS,\trunning!\n on the beach ",
    "it's we've I'll don't 'd",
    "a1b22c333 4.5% $6 #7",
    "<start_of_text> and <end_of_text>",
    "rock & roll &amp; &lt;b&gt;",
    "naïve café, crème brûlée",
    "con mèo đen trên ghế",
    "日本の写真 한국 ảnh",
    "😀🍎 emoji 👩‍👩‍👧",
    "â€œmojibakeâ€\x9d",
    "\x1b[31mred\x1b[0m \x00 zero",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "word " * 100,
    "x" * 500,
    "~`!@#$%^*()_+-={}[]|\\:;\"'<>,.?/",
]


def prepared_for(
    model: str, pictures: list[Image.Image], cache: Path | None = None
) -> tuple[OpenClip, np.ndarray, dict[str, openclip._Way]]:
    """A model, the pictures as it takes them, and the ways to run its image tower by name."""
    encoder = make_encoder(model, cache=cache)
    assert isinstance(encoder, OpenClip)
    return encoder, np.stack([encoder.prepare(picture) for picture in pictures]), {w.name: w for w in openclip._WAYS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spec of a two-layer model with seeded weights; its config is known to this process only."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "imgret-small.json").write_text(json.dumps(TINY), encoding="utf-8")
    guard_torchvision()
    import open_clip

    open_clip.add_model_config(folder / "imgret-small.json")
    home = folder / "model"
    home.mkdir()
    save("imgret-small", home / "open_clip_model.safetensors", seed=3)
    whole = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}}
    (home / "open_clip_config.json").write_text(json.dumps(whole), encoding="utf-8")
    return f"openclip:any:{home}"


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (80, 90, 3), dtype=np.uint8).astype(np.uint8)) for _ in range(9)]


def torch_rows(model: str, texts: list[str]) -> np.ndarray:
    """What open_clip itself makes of texts, the whole context long."""
    import open_clip
    import torch

    folder = weights.parse(model).path
    whole, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    with torch.inference_mode():
        return whole.eval().encode_text(tokens, normalize=True).numpy()


class TestTokens:
    @pytest.mark.parametrize("context", [77, 16])
    def test_they_are_open_clips(self, context: int) -> None:
        guard_torchvision()
        from open_clip.tokenizer import SimpleTokenizer

        theirs = SimpleTokenizer(context_length=context)
        for text in TEXTS:
            assert np.array_equal(clip_tokens.tokenize([text], context=context), theirs([text]).numpy()), text
        assert np.array_equal(clip_tokens.tokenize(TEXTS, context=context), theirs(TEXTS).numpy())

    def test_empty_columns_are_left_out(self) -> None:
        tokens = clip_tokens.tokenize(["a cat", "two black cats"])
        short = clip_tokens.trimmed(tokens)
        assert short.shape == (2, 5)
        assert np.array_equal(short, tokens[:, :5])
        assert clip_tokens.trimmed(clip_tokens.tokenize([])).shape == (0, 1)


class TestTexts:
    def test_onnx_gives_the_rows_of_open_clip_at_any_length(self, model: str, converted: Path) -> None:
        encoder = make_encoder(model, cache=converted)
        texts = [text for text in TEXTS if in_english(text) == text]  # others are translated first
        found = np.vstack([encoder.encode_texts([text]) for text in texts])
        assert encoder._texts.backend == "onnxruntime"  # type: ignore[attr-defined]
        expected = torch_rows(model, texts)
        assert np.abs(found - expected).max() < 1e-4
        assert np.abs(encoder.encode_texts(texts) - expected).max() < 1e-4

    def test_a_search_by_words_imports_neither_torch_nor_open_clip(self, model: str, converted: Path) -> None:
        make_encoder(model, cache=converted).encode_texts(["converted now"])
        heavy = (
            "torch open_clip torchvision timm transformers huggingface_hub httpx ftfy regex onnx PIL.JpegImagePlugin"
        )
        code = (
            "import sys; from pathlib import Path; from imgret_tools.encoders import make_encoder\n"
            "encoder = make_encoder(sys.argv[1], cache=Path(sys.argv[2])); encoder.fingerprint\n"
            "rows = encoder.encode_texts(['a cat'])\n"
            f"print([m for m in '{heavy}'.split() if m in sys.modules], rows.shape, encoder._images)"
        )
        command = [sys.executable, "-c", code, model, str(converted)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert (done.stdout.strip(), done.stderr) == ("[] (1, 48) None", "")

    def test_a_model_with_another_text_tower_keeps_its_whole_context(self, model: str) -> None:
        encoder = make_encoder(model)
        assert isinstance(encoder, OpenClip)
        assert encoder._tokenize(["a cat"]).shape == (1, 4)
        encoder.__dict__["_config"] = {**TINY, "custom_text": True}
        assert encoder._tokenize(["a cat"]).shape == (1, 77)

    def test_tags_are_known_without_torch(self) -> None:
        code = (
            "import sys; from imgret_tools.encoders import weights\n"
            "source = weights.parse('openclip:ViT-B-32/openai'); weights.on_this_machine(source)\n"
            "card = weights.pretrained_card(source)\n"
            "print('torch' in sys.modules, 'safetensors.torch' in sys.modules, card['quick_gelu'])\n"
            "import safetensors.torch; print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split() == ["False", "False", "True", "True"]

    def test_the_table_of_tags_still_prefers_safetensors(self) -> None:
        guard_torchvision()
        from open_clip import pretrained

        name = pretrained.HF_WEIGHTS_NAME
        ours = open_clip_module("pretrained")
        assert list(ours._get_safe_alternatives(name)) == list(pretrained._get_safe_alternatives(name))
        assert ours._has_safetensors == pretrained._has_safetensors


class TestPictures:
    def test_preparing_loads_no_model_and_equals_open_clips(self, model: str, pictures: list[Image.Image]) -> None:
        import open_clip

        encoder = make_encoder(model)
        found = encoder.prepare(pictures[0])
        assert encoder._images is None  # type: ignore[attr-defined]
        _, _, theirs = open_clip.create_model_and_transforms(f"local-dir:{weights.parse(model).path}")
        assert np.abs(found - theirs(pictures[0]).numpy()).max() < 1e-3

    @pytest.mark.parametrize(("tag", "mode"), [("openai", "shortest"), ("datacomp_xl_s13b_b90k", "shortest")])
    def test_a_tag_brings_its_preprocessing(self, tag: str, mode: str) -> None:
        config = weights.preprocess_config(weights.parse(f"openclip:ViT-B-16/{tag}"))
        assert (config["resize_mode"] or "shortest") == mode
        siglip = weights.preprocess_config(weights.parse("openclip:ViT-B-16-SigLIP/webli"))
        assert (siglip["resize_mode"], siglip["mean"]) == ("squash", (0.5, 0.5, 0.5))

    def test_the_fastest_way_is_measured_once_and_remembered(
        self, model: str, pictures: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openclip, "_WORTH_IT", 8)
        seconds = {"torch cpu": 1.0, "onnxruntime": 0.5, "openvino": 0.7}
        trials = []

        def timed(tower: openclip.Tower, batch: np.ndarray) -> tuple[np.ndarray, float]:
            trials.append(tower.backend)
            return unit(tower(batch)[0]), seconds[tower.backend]

        monkeypatch.setattr(openclip, "_timed", timed)
        first = make_encoder(model, cache=tmp_path)
        exact = make_encoder(model, precision="fp32")
        prepared = [first.prepare(picture) for picture in pictures]
        expected = exact.encode_images(prepared)
        assert exact.backend == "torch float32"  # type: ignore[attr-defined]
        assert np.abs(first.encode_images(prepared[:3]) - expected[:3]).max() < 1e-5
        assert trials == []  # three pictures are no reason
        assert (first.encode_images(prepared) * expected).sum(axis=1).min() >= 0.999
        assert first.backend == "onnxruntime float32"  # type: ignore[attr-defined]
        assert len(trials) >= 3
        trials.clear()
        second = make_encoder(model, cache=tmp_path)
        assert (second.encode_images(prepared) * expected).sum(axis=1).min() >= 0.999
        assert second.backend == "onnxruntime float32"  # type: ignore[attr-defined]
        assert trials == []

        monkeypatch.setattr(openclip, "_this_machine", lambda: {"processor": "another one"})
        moved = make_encoder(model, cache=tmp_path)
        assert moved.precision == "float32"  # type: ignore[attr-defined]
        assert moved.backend == "torch float32"  # type: ignore[attr-defined]
        moved.encode_images(prepared)
        assert trials  # measured again
        (card,) = (tmp_path / "openclip").iterdir()
        assert json.loads(card.read_text())["machine"] == {"processor": "another one"}

    def test_a_way_with_other_rows_is_never_taken(
        self, model: str, pictures: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openclip, "_WORTH_IT", 8)

        def timed(tower: openclip.Tower, batch: np.ndarray) -> tuple[np.ndarray, float]:
            rows = unit(tower(batch)[0])
            if tower.backend == "torch cpu":
                return rows, 1.0
            rows[-1] = np.roll(rows[-1], 1)  # one wrong picture of eight
            return rows, 0.01

        monkeypatch.setattr(openclip, "_timed", timed)
        encoder = make_encoder(model, cache=tmp_path)
        encoder.encode_images([encoder.prepare(picture) for picture in pictures])
        assert encoder.backend.startswith("torch")  # type: ignore[attr-defined]

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"way": 3}', '{"way": "by hand", "machine": {}}'])
    def test_a_broken_memory_is_measured_again(self, model: str, tmp_path: Path, content: str) -> None:
        encoder = make_encoder(model, cache=tmp_path)
        (tmp_path / "openclip").mkdir()
        (tmp_path / "openclip" / f"{encoder.fingerprint}.json").write_text(content)
        assert encoder.backend == "torch float32"  # type: ignore[attr-defined]

    def test_int8_is_a_quarter_of_the_weights_and_nearly_the_same_rows(
        self, model: str, pictures: list[Image.Image], tmp_path: Path
    ) -> None:
        encoder, batch, ways = prepared_for(model, pictures, tmp_path)
        rows = {
            name: unit(encoder._run(ways[name])(batch)[0])
            for name in ("torch float32", "onnxruntime float32", "onnxruntime int8")
        }
        assert np.abs(rows["onnxruntime float32"] - rows["torch float32"]).max() < 1e-4
        assert (rows["onnxruntime int8"] * rows["torch float32"]).sum(axis=1).min() > 0.99
        assert np.abs(rows["onnxruntime int8"] - rows["torch float32"]).max() > 0
        size = {
            home.name.rpartition("image-")[2][:4]: sum(f.stat().st_size for f in home.iterdir())
            for home in (tmp_path / "onnx").glob("openclip-image*/")
        }
        assert size["int8"] < 0.6 * min(value for name, value in size.items() if name != "int8")

    def test_openvino_gives_the_rows_of_torch_and_needs_the_converted_files(
        self, model: str, pictures: list[Image.Image], tmp_path: Path
    ) -> None:
        encoder, batch, ways = prepared_for(model, pictures, tmp_path)
        exact = unit(encoder._run(ways["torch float32"])(batch)[0])
        tower = encoder._run(ways["openvino"])
        assert tower.backend == "openvino"
        with ThreadPoolExecutor(3) as threads:
            for rows in threads.map(lambda _: unit(tower(batch)[0]), range(6)):
                assert (rows * exact).sum(axis=1).min() > 0.999
        homeless = make_encoder(model)
        assert isinstance(homeless, OpenClip)
        with pytest.raises(openclip.Unusable, match="no folder holds"):
            homeless._run(ways["openvino"])

    def test_half_precision_gives_the_rows_of_float32(self, model: str, pictures: list[Image.Image]) -> None:
        """The way a card runs it, on the processor, which can compute in float16 too."""
        encoder, batch, ways = prepared_for(model, pictures)
        assert ways["torch float16"].suits("cuda")
        assert not ways["torch float16"].suits("cpu")
        assert not ways["onnxruntime int8"].suits("cuda")
        half, whole = (unit(encoder._run(ways[f"torch {kind}"])(batch)[0]) for kind in ("float16", "float32"))
        assert half.dtype == np.float32
        assert (half * whole).sum(axis=1).min() >= 0.999

    def test_emulated_bfloat16_is_not_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        (way,) = (way for way in openclip._WAYS if way.name == "torch bfloat16")
        monkeypatch.setattr(openclip, "processor", lambda: ("old", frozenset({"avx2"})))
        assert not way.suits("cpu")
        assert way.suits("cuda")
        monkeypatch.setattr(openclip, "processor", lambda: ("new", frozenset({"avx2", "amx_bf16"})))
        assert way.suits("cpu")
        monkeypatch.setattr(openclip, "processor", lambda: ("unknown", frozenset()))
        assert way.suits("cpu")
