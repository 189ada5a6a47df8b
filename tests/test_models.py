"""A checkpoint file becomes the pipeline that it was made of, offline; what is none is refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_lora.drawing import vocabulary
from lib_lora.drawing.pipelines import load_pipeline, model_name
from lib_lora.errors import CheckpointError
from tests.checkpoints import checkpoint_tensors, small_pipeline, write_checkpoint
from tests.webui.checkpoints import RECIPES
from tests.webui.checkpoints import write_checkpoint as write_random_checkpoint

FAMILIES = ("sd1", "sd2", "sdxl")


def picture(pipe, seed: int = 3) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        "a red circle", num_inference_steps=2, width=32, height=32, generator=generator, output_type="np"
    ).images[0]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    pipe = small_pipeline(request.param, folder)
    return request.param, pipe, write_checkpoint(folder / "model.safetensors", pipe, request.param)


@dataclass(frozen=True)
class Made:
    """A pipeline of SD1, which no test changes."""

    pipe: Any
    tensors: dict[str, torch.Tensor]  # of a checkpoint
    picture: np.ndarray

    def write(self, path: Path) -> Path:
        save_file(self.tensors, path, metadata={"format": "pt"})
        return path


@pytest.fixture(scope="module")
def sd1(tmp_path_factory) -> Made:
    pipe = small_pipeline("sd1", tmp_path_factory.mktemp("sd1"))
    return Made(pipe, checkpoint_tensors(pipe, "sd1"), picture(pipe))


def test_a_checkpoint_draws_the_picture_of_the_pipeline_it_was_made_of(made):
    family, pipe, path = made
    if family == "sd1":
        path.with_suffix(".yaml").write_text("model: {params: {unet_config: {params: {num_heads: 8}}}}")
    loaded = load_pipeline(path)
    assert np.array_equal(picture(loaded), picture(pipe))
    assert model_name(loaded) == "model"


def test_every_weight_of_a_checkpoint_arrives(made):
    _, pipe, path = made
    loaded = load_pipeline(path)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(pipe, name, None) is not None:
            theirs, ours = getattr(pipe, name).state_dict(), getattr(loaded, name).state_dict()
            assert theirs.keys() == ours.keys()
            assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_half_precision_is_loaded_as_the_caller_wants_it(made):
    pipe = load_pipeline(made[2], dtype=torch.bfloat16)
    assert pipe.unet.dtype == pipe.text_encoder.dtype == pipe.vae.dtype == torch.bfloat16


def test_a_ckpt_is_read_without_executing_anything(tmp_path, sd1):
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": sd1.tensors}, path)
    assert np.array_equal(picture(load_pipeline(path)), sd1.picture)

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(CheckpointError, match=r"old\.ckpt: not a plain file of tensors; convert it to \.safetensors"):
        load_pipeline(path)
    assert not (tmp_path / "executed").exists()


def test_a_ckpt_that_is_a_program_is_refused_before_torch_sees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_args, **_kwargs: pytest.fail("torch opens the file"))
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "old.ckpt"))
    with pytest.raises(CheckpointError, match=r"old\.ckpt: a program \(TorchScript\)"):
        load_pipeline(tmp_path / "old.ckpt")


@pytest.mark.parametrize("kind", ["old torch", "new torch", "safetensors"])
def test_the_content_of_a_checkpoint_decides_how_it_is_read_and_torch_never_reads_it(tmp_path, monkeypatch, sd1, kind):
    path = tmp_path / ("model.ckpt" if kind == "safetensors" else "model.safetensors")
    if kind == "safetensors":
        save_file(sd1.tensors, path)
    else:
        torch.save({"state_dict": sd1.tensors}, path, _use_new_zipfile_serialization=kind == "new torch")
    monkeypatch.setattr(torch, "load", lambda *_args, **_kwargs: pytest.fail("torch opens the file"))
    assert np.array_equal(picture(load_pipeline(path)), sd1.picture)


def test_a_folder_whose_weights_may_be_programs_is_refused(tmp_path, sd1):
    sd1.pipe.save_pretrained(tmp_path / "folder", safe_serialization=True)
    for path in (tmp_path / "folder").rglob("*.safetensors"):
        stem = "pytorch_model" if path.parent.name == "text_encoder" else "diffusion_pytorch_model"
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()
    with pytest.raises(CheckpointError, match=r"folder: its weights are \.bin files, which may hold programs"):
        load_pipeline(tmp_path / "folder")


def test_a_layer_of_a_number_without_end_is_not_waited_for(tmp_path, sd1):
    odd = {f"model.diffusion_model.input_blocks.{number}.0.op.weight": torch.ones(1) for number in (10**9, "9" * 1500)}
    save_file({**sd1.tensors, **odd}, tmp_path / "model.safetensors")
    assert np.array_equal(picture(load_pipeline(tmp_path / "model.safetensors")), sd1.picture)


@pytest.mark.parametrize(("family", "metadata", "marker", "expected"), [
    ("sd1", {}, None, "epsilon"),
    ("sd1", {"modelspec.prediction_type": "v"}, None, "v_prediction"),
    ("sdxl", {}, "v_pred", "v_prediction"),
])  # fmt: skip
def test_the_prediction_type_is_what_the_file_states(tmp_path, sd1, family, metadata, marker, expected):
    tensors = sd1.tensors if family == "sd1" else checkpoint_tensors(small_pipeline(family, tmp_path), family)
    if marker:
        tensors |= {marker: torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(tensors, tmp_path / "model.safetensors", metadata=metadata)
    config = load_pipeline(tmp_path / "model.safetensors").scheduler.config
    assert config.prediction_type == expected
    assert config.rescale_betas_zero_snr == (marker is not None)


@pytest.mark.parametrize(("answer", "expected"), [(-6.0, "v_prediction"), (0.5, "epsilon")])
def test_sd2_that_states_nothing_is_asked_what_it_predicts(tmp_path, answer, expected):
    pipe = small_pipeline("sd2", tmp_path)
    with torch.no_grad():  # a UNet that always answers the same
        pipe.unet.conv_out.weight.zero_()
        pipe.unet.conv_out.bias.fill_(answer)
    loaded = load_pipeline(write_checkpoint(tmp_path / "model.safetensors", pipe, "sd2"))
    assert loaded.scheduler.config.prediction_type == expected


def test_a_yaml_beside_the_checkpoint_tells_heads_and_prediction(tmp_path, sd1):
    path = sd1.write(tmp_path / "model.safetensors")
    path.with_suffix(".yaml").write_text(
        "model: {params: {parameterization: v, scale_factor: 0.5, unet_config: {params: {num_head_channels: 16}}}}"
    )
    pipe = load_pipeline(path)
    assert pipe.unet.config.attention_head_dim == [2, 4]
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.vae.config.scaling_factor == 0.5


def test_a_tokenizer_beside_the_checkpoint_is_used(tmp_path, sd1):
    path = sd1.write(tmp_path / "model.safetensors")
    (tmp_path / "tokenizer").mkdir()
    tokens = {"<|startoftext|>": 1, "<|endoftext|>": 2, "a</w>": 0}
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps(tokens))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert load_pipeline(path).tokenizer.get_vocab() == tokens


def test_the_vocabulary_is_clips():
    tokens = vocabulary.vocabulary(__import__("gzip").decompress(vocabulary.MERGES.read_bytes()).decode())
    assert len(tokens) == vocabulary.SIZE
    # what every CLIP tokenizer answers
    assert [tokens[token] for token in ("!", "a</w>", "cat</w>", "<|startoftext|>", "<|endoftext|>")] == [
        0,
        320,
        2368,
        49406,
        49407,
    ]


def without(tensors, start):
    return {key: value for key, value in tensors.items() if not key.startswith(start)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: {"a.lora_up.weight": torch.ones(1)}, "not a Stable Diffusion checkpoint"),
        (lambda t: without(t, "first_stage_model."), r"incomplete, it has no tensor named first_stage_model\."),
        (lambda t: without(t, "cond_stage_model."), "only SD1, SD2 and SDXL checkpoints with their text encoders"),
        (
            lambda t: t | {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(32, 9, 3, 3)},
            "9 channels.*text alone",
        ),
        (
            lambda t: (
                t | {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.ones(99, 64)}
            ),
            "knows 99 tokens, the vocabulary has 49408; put the model's own",
        ),
        (lambda t: without(t, "model.diffusion_model.out.2."), "cannot be loaded as a SD1 checkpoint"),
    ],
)
def test_what_cannot_be_drawn_with_is_refused_in_a_sentence(tmp_path, sd1, change, sentence):
    save_file(change(sd1.tensors), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_pipeline(tmp_path / "model.safetensors")
    assert "model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_model_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10" + bytes(7) + b"{")
    for name, sentence in {
        "missing": "no such file or folder", "folder": "not a diffusers folder", "notes.txt": "not a checkpoint",
        "cut.safetensors": "cut.safetensors",
    }.items():  # fmt: skip
        with pytest.raises(CheckpointError, match=sentence):
            load_pipeline(tmp_path / name)


def test_a_diffusers_folder_draws_alike_and_brings_no_code(tmp_path, sd1):
    sd1.pipe.save_pretrained(tmp_path / "mine")
    loaded = load_pipeline(tmp_path / "mine")
    assert np.array_equal(picture(loaded), sd1.picture)
    assert model_name(loaded) == "mine"
    index = json.loads((tmp_path / "mine" / "model_index.json").read_text())
    (tmp_path / "mine" / "model_index.json").write_text(json.dumps(index | {"unet": ["evil", "Model"]}))
    with pytest.raises(CheckpointError, match="brings its own code for unet"):
        load_pipeline(tmp_path / "mine")
    (tmp_path / "mine" / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(CheckpointError, match="is a FluxPipeline"):
        load_pipeline(tmp_path / "mine")


@pytest.mark.parametrize("name", ["tiny-sd1", "tiny-sd2", "tiny-sdxl"])
def test_the_checkpoints_of_the_webuis_tests_draw(tmp_path, name):
    path = write_random_checkpoint(tmp_path / f"{name}.safetensors", RECIPES[name])
    pipe = load_pipeline(path)
    assert pipe.text_encoder.config.num_attention_heads == 4  # of the folder that the .yaml names
    first = picture(pipe)
    assert first.std() > 0.01
    if name == "tiny-sd1":  # nothing is left to chance; that every weight arrives is shown for all of them above
        assert np.array_equal(first, picture(load_pipeline(path)))
    stored = load_file(path)["model.diffusion_model.input_blocks.1.0.in_layers.2.weight"]
    assert torch.equal(pipe.unet.down_blocks[0].resnets[0].conv1.weight, stored.float())
