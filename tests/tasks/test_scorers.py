"""Scorers by name, on tiny random models in the layout of real ones; nothing is downloaded."""

import json
import os

import cloudpickle
import numpy as np
import pytest
import torch
from helpers.pictures import brightness, clip, scribbled
from PIL import Image
from safetensors.torch import load_file, save_file

from m2n2lab import InputError
from m2n2lab.tasks import Prompt, Text2Image, text2image
from m2n2lab.tasks.images.clip_scores import Clip
from m2n2lab.tasks.images.judges import Aesthetic, Photographs, Reward, read_photograph
from m2n2lab.tasks.images.picture_models import PictureModel
from m2n2lab.tasks.images.scorer_names import scorer_of
from m2n2lab.tasks.images.scorers import OfTexts, Weighted

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
PROMPTS = [Prompt("a"), Prompt("b"), Prompt("ab")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("scorers")
    clip(folder / "clip")
    photos = folder / "photos"
    photos.mkdir()
    for name, picture in zip(("a.png", "000042.jpg", "c.png"), PICTURES, strict=True):
        Image.fromarray(picture).save(photos / name, quality=100, subsampling=0)
    return folder


def features(folder):
    """Return the features of the pictures by the model itself."""
    import transformers

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    images = [Image.fromarray(picture) for picture in PICTURES]
    with torch.inference_mode():
        given = processor(
            text=[prompt.text for prompt in PROMPTS],
            images=images,
            return_tensors="pt",
            padding="max_length",
        )
        return model(**given)


def test_names_and_weights_make_a_weighted_mean(home):
    weighted = scorer_of(f"clip:{home}/clip=0.7,reward:{home}/clip=0.1")
    one = scorer_of(f"{home}/clip")
    assert isinstance(one, Clip)
    assert [weight for _, weight in weighted.parts] == [0.7, 0.1]
    np.testing.assert_allclose(weighted.score(PICTURES, PROMPTS), one.score(PICTURES, PROMPTS))
    halves = Weighted([(OfTexts(lambda *_: [1, 0, 0.5]), 3), (OfTexts(lambda *_: [0, 1, 0.5]), 1)])
    np.testing.assert_allclose(halves.score(PICTURES, PROMPTS), [0.75, 0.25, 0.5])
    assert scorer_of(brightness)(PICTURES, ["a"] * 3) == pytest.approx(brightness(PICTURES, None))


def test_clip_scores_are_those_of_the_model_itself(home):
    out = features(home / "clip")
    cosines = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds)
    expected = (2.5 * cosines).clamp(0, 1)
    scorer = scorer_of(f"clip:{home}/clip")
    np.testing.assert_allclose(scorer.score(PICTURES, PROMPTS), expected, atol=1e-5)
    other = cloudpickle.loads(cloudpickle.dumps(scorer))
    np.testing.assert_array_equal(
        other(PICTURES, ["a", "b", "ab"]), scorer.score(PICTURES, PROMPTS)
    )


def test_photographs_are_compared_by_file_name(home):
    scorer = scorer_of(f"reference:{home}/photos@{home}/clip")
    prompts = [Prompt("x", photograph="c.png"), Prompt("y", photograph="000042.jpg"), Prompt("a")]
    vectors = torch.nn.functional.normalize(features(home / "clip").image_embeds).double().numpy()
    expected = (1 + np.einsum("nd,nd->n", vectors, vectors[[2, 1, 0]])) / 2
    found = scorer.score(PICTURES, prompts)
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], atol=1e-5)
    assert found[1] == pytest.approx(1, abs=0.02)  # but for the JPEG
    scorer.check(prompts)
    with pytest.raises(InputError, match=r"none named 'lost\.jpg'; write its file name behind"):
        Text2Image([Prompt("x", photograph="lost.jpg")], scorer=scorer)


def test_a_file_of_prompts_names_photographs_and_equal_captions_keep_their_own(home, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa cat\tc.png\na cat\t000042.jpg\na\n", encoding="utf-8")
    task = text2image(file, 2, scorer=f"reference:{home}/photos@{home}/clip", steps=1)
    assert [prompt.photograph for prompt in task.prompts] == ["c.png", "000042.jpg"]
    assert task.origin["arguments"]["scorer"] == f"reference:{home}/photos@{home}/clip"
    space = scribbled(tmp_path / "models", ("a", "b"))
    scores = task.evaluate(space.materialise(space.seeds[0]))
    assert scores[0] != scores[1]


def test_any_encoder_of_pictures_can_compare_photographs(home, tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    narrow = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = ViTConfig(**narrow, num_hidden_layers=1, image_size=16, patch_size=8)
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    vectors = PictureModel(tmp_path / "vit").embed(PICTURES)
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1)
    scorer = scorer_of(f"reference:{home}/photos@{tmp_path}/vit")
    assert scorer.score(PICTURES[:1], [Prompt("a")])[0] == pytest.approx(1)
    with pytest.raises(InputError, match="a model of pictures and texts, such as CLIP, got ViT"):
        scorer_of(f"clip:{tmp_path}/vit")


def test_a_japanese_pair_of_encoders_needs_no_code_of_its_own(tmp_path):
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        CLIPImageProcessor,
        CLIPVisionConfig,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        VisionTextDualEncoderProcessor,
    )

    torch.manual_seed(0)
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"赤い円青四角"]
    (tmp_path / "vocab.txt").write_text("\n".join(letters), encoding="utf-8")
    narrow = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        CLIPVisionConfig(**narrow, num_hidden_layers=1, image_size=16, patch_size=8),
        BertConfig(**narrow, num_hidden_layers=1, vocab_size=16, max_position_embeddings=20),
        projection_dim=8,
    )
    model = VisionTextDualEncoderModel(config)
    with torch.no_grad():
        model.visual_projection.weight.neg_()  # by chance, all cosines are negative otherwise
    model.save_pretrained(tmp_path / "pair")
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))  # names no longest text
    sizes = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    VisionTextDualEncoderProcessor(CLIPImageProcessor(**sizes), tokenizer).save_pretrained(
        tmp_path / "pair"
    )
    scorer = scorer_of(f"clip:{tmp_path}/pair")
    pictures = np.repeat(PICTURES[:1], 3, axis=0)
    found = scorer.score(pictures, [Prompt("赤い円"), Prompt("青い四角"), Prompt("赤い円" * 40)])
    alone = scorer.score(pictures[:1], [Prompt("赤い円")])
    assert len(set(found.round(6))) == 3
    np.testing.assert_allclose(found[0], alone[0], atol=1e-6)


def test_a_model_with_code_of_its_own_is_refused_with_others_named(home, tmp_path):
    (tmp_path / "own").mkdir()
    config = json.loads((home / "clip" / "config.json").read_text())
    config |= {"model_type": "clyp", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    (tmp_path / "own" / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InputError, match=r"classes of its own, whose code is not run; .*Japanese"):
        scorer_of(f"clip:{tmp_path}/own")


def test_a_reward_model_in_the_shape_of_pickscore_takes_another_processor(home, tmp_path):
    (tmp_path / "pick").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "pick" / name).write_bytes((home / "clip" / name).read_bytes())
    with pytest.raises(InputError, match="pick could not be loaded"):
        scorer_of(f"reward:{tmp_path}/pick")
    found = scorer_of(f"reward:{tmp_path}/pick@{home}/clip").score(PICTURES, PROMPTS)
    np.testing.assert_allclose(found, Clip(home / "clip").score(PICTURES, PROMPTS))


def test_a_classifier_of_pairs_gives_the_probability_of_a_match(home, tmp_path):
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForImageTextRetrieval,
        BlipImageProcessor,
        BlipProcessor,
    )

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "ab"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    narrow = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={**narrow, "num_hidden_layers": 1, "vocab_size": 16, "encoder_hidden_size": 8,
                     "max_position_embeddings": 16, "bos_token_id": 2, "sep_token_id": 3},
        vision_config={**narrow, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8},
        image_text_hidden_size=8,
    )  # fmt: skip
    model = BlipForImageTextRetrieval(config).eval()
    model.save_pretrained(tmp_path / "blip")
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=16)
    image = BlipImageProcessor(size={"height": 16, "width": 16})
    BlipProcessor(image, tokenizer).save_pretrained(tmp_path / "blip")
    found = Reward(tmp_path / "blip").score(PICTURES, PROMPTS)
    given = BlipProcessor.from_pretrained(tmp_path / "blip")(
        text=["a", "b", "ab"],
        images=[Image.fromarray(picture) for picture in PICTURES],
        padding="max_length",
        return_tensors="pt",
    )
    with torch.inference_mode():
        logits = model(**given).itm_score
    np.testing.assert_allclose(found, logits.softmax(dim=1)[:, 1], atol=1e-6)


@pytest.mark.parametrize("deep", [False, True])
def test_an_aesthetic_head_rates_features(home, tmp_path, deep):
    rng = np.random.default_rng(1)
    shapes = [(4, 8), (1, 4)] if deep else [(1, 8)]
    layers = [(rng.normal(size=shape), rng.normal(size=shape[:1])) for shape in shapes]
    layers[-1][1][:] = 5
    names = ["layers.0.", "layers.10."] if deep else [""]  # numbers, not letters, are the order
    save_file(
        {
            f"{name}{part}": torch.tensor(values, dtype=torch.float32)
            for name, layer in zip(names, layers, strict=True)
            for part, values in zip(("weight", "bias"), layer, strict=True)
        },
        tmp_path / "head.safetensors",
    )
    values = torch.nn.functional.normalize(features(home / "clip").image_embeds).double().numpy()
    for weight, bias in layers:
        values = values @ weight.T + bias
    scorer = scorer_of(f"aesthetic:{tmp_path}/head.safetensors@{home}/clip")
    expected = ((values[:, 0] - 1) / 9).clip(0, 1)
    np.testing.assert_allclose(scorer.score(PICTURES, PROMPTS), expected, atol=1e-5)
    assert len(load_file(tmp_path / "head.safetensors")) == 2 * len(shapes)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pick:{home}/clip", "no scorer named 'pick'; .*choose one of: clip, reference"),
        ("reference:{home}/photos", "written as reference:FOLDER@MODEL"),
        ("clip:", "written as clip:MODEL"),
        ("clip:{home}/clip=-1,reward:{home}/clip", "The weight of clip:.* must be"),
        ("reference:{home}/none@{home}/clip", "none must be a folder of photographs"),
        ("aesthetic:{home}/clip/config.json@{home}/clip", "must be a head in a .safetensors file"),
        ("aesthetic:{home}/clip@{home}/clip", "must hold linear layers down to one number"),
    ],
)
def test_scorers_that_cannot_be_meant_are_refused(home, spec, words):
    with pytest.raises(InputError, match=words):
        scorer_of(spec.format(home=home))


def test_a_head_for_another_clip_is_refused(home, tmp_path):
    save_file({"weight": torch.ones(1, 768)}, tmp_path / "head.safetensors")
    scorer = Aesthetic(tmp_path / "head.safetensors", home / "clip")
    with pytest.raises(InputError, match="8 numbers, got one for 768; use the CLIP"):
        scorer.score(PICTURES, PROMPTS)
    assert isinstance(cloudpickle.loads(cloudpickle.dumps(scorer)), Aesthetic)
    photos = Photographs(home / "photos", home / "clip")
    other = cloudpickle.loads(cloudpickle.dumps(photos))
    assert other.score(PICTURES[:1], [Prompt("a")]) == photos.score(PICTURES[:1], [Prompt("a")])


def test_photographs_that_are_no_files_or_too_large_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png must be a picture, but it cannot be read"):
        read_photograph(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)  # an error from twice as many on
    with pytest.raises(InputError, match=r"b\.png must be a picture.*decompression bomb"):
        read_photograph(tmp_path / "b.png")
