"""Words that adapters bring: known to a diffusers pipeline while the adapter is active, and the pipeline untouched after."""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support import Folder, fingerprint, tiny_encoder, tiny_unet

pytest.importorskip("diffusers")

NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def tokenizer(folder: Path):
    """CLIP's tokenizer, knowing letters and nothing longer."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "c a",
        "ca",
        "ca</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nc a</w>\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def pipeline(folder: Path, family: str = "sd1"):
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    torch.manual_seed(0)
    parts = dict(unet=tiny_unet(family, short=True), scheduler=DDIMScheduler(), vae=AutoencoderKL(
        block_out_channels=(4,), norm_num_groups=2, layers_per_block=1, down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",)))  # fmt: skip
    encoder = tiny_encoder(12)
    encoder.config.eos_token_id = 2
    for module in encoder.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = 2  # as in the configurations of SD 1.5
    parts |= dict(text_encoder=encoder.eval(), tokenizer=tokenizer(folder / "vocabulary"))
    if family == "sdxl":
        second = tiny_encoder(12, projection=True).eval()
        return StableDiffusionXLPipeline(**parts, text_encoder_2=second, tokenizer_2=tokenizer(folder / "vocabulary"))
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def attached(folder: Path, pipe, tensors, *, name=NAME, width=8):
    from lib_lora.hosts.diffusers import Attached

    save_file({f"{name}.lora_up.weight": torch.zeros(width, 1), f"{name}.lora_down.weight": torch.zeros(1, width), **tensors},
              folder / "a.safetensors")  # fmt: skip
    return Attached(pipe, Folder(folder))


def state(pipe):
    parts = {name: part for name, part in pipe.components.items() if hasattr(part, "parameters")}
    own = {name: fingerprint(part.named_parameters()) for name, part in parts.items()}
    eos = [module.eos_token_id for module in pipe.text_encoder.modules() if hasattr(module, "eos_token_id")]
    return own, pipe.tokenizer, getattr(pipe, "tokenizer_2", None), len(pipe.tokenizer), eos


def text(pipe, prompt):
    with torch.no_grad():
        return pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[0]


def test_a_word_means_its_vectors_while_the_adapter_is_active_and_the_pipeline_is_untouched_after(tmp_path):
    pipe = pipeline(tmp_path)
    before, plain = state(pipe), text(pipe, "a zyx")
    vectors = torch.randn(3, 12)
    draw = attached(tmp_path, pipe, {"bundle_emb.zyx.string_to_param.*": vectors})
    assert draw.activate("a zyx <lora:a:1>") == "a zyx"
    assert draw.report.sentences() == []
    numbers = pipe.tokenizer(pipe.maybe_convert_prompt("a zyx b", pipe.tokenizer)).input_ids[2:5]
    table = pipe.text_encoder.get_input_embeddings().weight
    assert torch.equal(table[numbers], vectors)
    assert not torch.equal(text(pipe, "a zyx"), plain)
    assert torch.equal(text(pipe, "a b c"), text(pipe, "a b c"))
    draw.activate("a zyx")
    after = state(pipe)
    assert after[0] == before[0]
    assert after[1] is before[1]
    assert after[3:] == before[3:]
    assert torch.equal(text(pipe, "a zyx"), plain)


def test_a_prompt_without_the_word_reads_as_before(tmp_path):
    pipe = pipeline(tmp_path)
    plain = text(pipe, "a b c")
    draw = attached(tmp_path, pipe, {"bundle_emb.zyx.clip_l": torch.randn(2, 12)})
    draw.activate("<lora:a:1>")
    assert torch.equal(text(pipe, "a b c"), plain)


def test_at_weight_zero_the_word_is_an_ordinary_one(tmp_path):
    pipe = pipeline(tmp_path)
    plain = text(pipe, "a zyx")
    draw = attached(tmp_path, pipe, {"bundle_emb.zyx.clip_l": torch.randn(2, 12)})
    draw.activate("a zyx <lora:a:0>")
    assert torch.equal(text(pipe, "a zyx"), plain)
    draw.activate("a zyx <lora:a:0:1>")
    assert not torch.equal(text(pipe, "a zyx"), plain)


def test_the_end_of_the_text_is_found_also_after_a_new_word(tmp_path):
    pipe = pipeline(tmp_path, "sdxl")
    words = {f"bundle_emb.zyx.{encoder}": torch.randn(1, 12) for encoder in ("clip_l", "clip_g")}
    draw = attached(tmp_path, pipe, words, name=NAME.replace("blocks_0", "blocks_1", 1), width=16)
    draw.activate("<lora:a:1>")
    assert draw.report.sentences() == []
    ids = torch.tensor([pipe.tokenizer("zyx a", padding="max_length").input_ids])
    with torch.no_grad():
        encoded = pipe.text_encoder(ids)
    end = ids[0].tolist().index(pipe.tokenizer.eos_token_id)
    assert torch.equal(encoded.pooler_output[0], encoded.last_hidden_state[0, end])


@pytest.mark.parametrize(("tensors", "reason"), [
    ({"bundle_emb.zyx.clip_l": torch.randn(2, 13)}, "other text encoders"),
    ({"bundle_emb.zyx.clip_g": torch.randn(2, 12)}, "other text encoders"),
    ({"bundle_emb.ca.clip_l": torch.randn(2, 12)}, "an ordinary word"),
])  # fmt: skip
def test_a_word_that_cannot_be_is_left_out_and_told(tmp_path, tensors, reason):
    pipe = pipeline(tmp_path)
    before = state(pipe)
    draw = attached(tmp_path, pipe, tensors)
    draw.activate("<lora:a:1>")
    assert reason in draw.report.sentences()[0]
    assert state(pipe) == before
    draw.activate("no tag, so nothing to tell")
    assert draw.report.sentences() == []


def test_words_of_an_adapter_that_is_not_applied_stay_unknown(tmp_path):
    pipe = pipeline(tmp_path)
    before = state(pipe)
    draw = attached(tmp_path, pipe, {"bundle_emb.zyx.clip_l": torch.randn(2, 12)})
    save_file({"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.zeros(8, 1),
               "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(1, 8),
               "bundle_emb.zyx.clip_l": torch.randn(2, 12)}, tmp_path / "a.safetensors")  # fmt: skip
    draw.activate("<lora:a:1>")
    assert state(pipe) == before


def test_a_file_of_words_alone_is_an_adapter(tmp_path):
    pipe = pipeline(tmp_path)
    draw = attached(tmp_path, pipe, {})
    save_file({"bundle_emb.zyx.clip_l": torch.randn(2, 12)}, tmp_path / "a.safetensors")
    draw.activate("<lora:a:1>")
    assert draw.report.sentences() == []
    assert pipe.tokenizer.convert_tokens_to_ids("zyx") >= 57


def test_an_adapter_of_the_token_embedding_and_a_word_do_not_disturb_each_other(tmp_path):
    pipe = pipeline(tmp_path)
    before = state(pipe)
    vectors, rows = torch.randn(2, 12), pipe.text_encoder.get_input_embeddings().weight.detach().clone()
    draw = attached(
        tmp_path,
        pipe,
        {"bundle_emb.zyx.clip_l": vectors, "lora_te_text_model_embeddings_token_embedding.diff": torch.ones(99, 12)},
    )
    for weight in (1, 1, 2):
        draw.activate(f"<lora:a:{weight}>")
        table = pipe.text_encoder.get_input_embeddings().weight
        assert torch.allclose(table[:50], rows[:50] + weight)
        assert torch.equal(table[pipe.tokenizer.convert_tokens_to_ids(["zyx", "zyx_1"])], vectors)
    draw.clear()
    assert state(pipe)[0] == before[0]
