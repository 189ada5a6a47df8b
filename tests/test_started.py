"""Adapters whose training changed the base first: computed from the weight at hand, or refused; never silent."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from lib_lora.adapters.adapter import read_adapter
from lib_lora.algorithms.base import Origin, PartsError
from lib_lora.algorithms.read import read_module
from lib_lora.engine.active import Active
from lib_lora.engine.fold import fold
from lib_lora.engine.schedule import plan
from lib_lora.errors import AdapterFileError
from lib_lora.grammar.tag import LoraTag
from lib_lora.model.targets import UNET_ROOT, index_checkpoint

NAME = "down_blocks.0.attentions.0.proj_in"


class Net(torch.nn.Module):
    """A UNet of one layer."""

    def __init__(self) -> None:
        super().__init__()
        attention, block = torch.nn.Module(), torch.nn.Module()
        attention.proj_in = torch.nn.Linear(48, 64)
        block.attentions = torch.nn.ModuleList([attention])
        self.down_blocks = torch.nn.ModuleList([block])

    def forward(self, x):
        return self.down_blocks[0].attentions[0].proj_in(x)


OPTIONS = ({}, {"use_rslora": True}, {"use_dora": True})
CASES = [(start, options) for start in ("pissa", "olora", "eva", "orthogonal", "gaussian", True, False)
         for options in OPTIONS]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("start", "options"), [*CASES, *((s, {"converted": True}) for s in ("pissa", "olora"))])
def test_the_result_is_pefts(tmp_path, start, options):
    peft = pytest.importorskip("peft")
    options = dict(options)
    converted = options.pop("converted", False)
    torch.manual_seed(0)
    net = Net()
    before = net.down_blocks[0].attentions[0].proj_in.weight.detach().clone()
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["proj_in"], init_lora_weights=start, **options)
    model = peft.get_peft_model(net, config)
    more = {}
    if converted:
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(tmp_path / "init")
        model.peft_config["default"].init_lora_weights = start
        more["path_initial_model_for_weight_conversion"] = str(tmp_path / "init")
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path, **more)
    wanted = model.merge_and_unload().down_blocks[0].attentions[0].proj_in.weight.detach()

    adapter = read_adapter(tmp_path / "adapter_model.safetensors")
    index = index_checkpoint({f"{UNET_ROOT}.input_blocks.1.1.proj_in.weight": (64, 48)})
    made = plan([Active(LoraTag("x", force=True), adapter)], index)
    found = torch.empty_like(before)
    fold(before, next(iter(made.terms.values())), found)
    assert (found - wanted).abs().max() < 1e-4 * (wanted - before).abs().max()
    assert bool(adapter.notes) == (start in ("pissa", "olora") and not converted)


UP, DOWN = torch.randn(64, 4), torch.randn(4, 48)


def parts(start: str, up=UP, down=DOWN, **origin):
    return read_module({"up": up, "down": down}, Origin(start=start, **origin))


@pytest.mark.parametrize("start", ["corda", "lora_ga", "loftq", "pissa_niter_16"])
def test_what_depended_on_more_than_the_weight_is_refused(start):
    with pytest.raises(PartsError, match=r"changed the base model by .*; save it as a plain LoRA"):
        parts(start)


def test_what_was_made_plain_is_used_whatever_its_header_still_says():
    """[B, -B0] and [A; A0], and the configuration of the training: rank 2, alpha 4."""
    up, down = torch.cat([UP, -UP - 0.01], dim=1), torch.cat([DOWN, DOWN + 0.01])
    found, _, notes = parts("corda", up, down, alpha=8.0, rank=4)
    assert notes == []
    assert torch.allclose(found["weight"].value(torch.zeros(64, 48)), 2.0 * up @ down, atol=1e-4)


def test_an_unknown_start_is_told():
    assert "'something_new'" in parts("something_new")[2][0]


@pytest.mark.parametrize("metadata", [
    {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 4, "unet.init_lora_weights": "corda"})},
    {"ss_network_args": json.dumps({"initialize": "lora-ga"})},
    {"lora_init_type": "loftq"},
], ids=str)  # fmt: skip
def test_the_header_is_believed(tmp_path, metadata):
    tensors = {f"unet.{NAME}.lora_A.weight": DOWN, f"unet.{NAME}.lora_B.weight": UP}
    save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(AdapterFileError, match="changed the base model"):
        read_adapter(tmp_path / "x.safetensors")


# `oft_diag`: a rotation, or a rotation without the identity


@pytest.mark.parametrize("strength", [0.02, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("is_rescaled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rotation_is_known_by_its_rows_however_far_it_turns(strength, size, is_rescaled, dtype):
    torch.manual_seed(1)
    generator = torch.randn(3, size, size, dtype=torch.double) * strength
    generator = generator - generator.mT
    identity = torch.eye(size, dtype=torch.double)
    turn = torch.linalg.solve(identity - generator, identity + generator)
    if is_rescaled:
        turn = turn * (1 + 0.1 * torch.rand(3, size, 1, dtype=torch.double))
    weight = torch.randn(3 * size, 5)
    wanted = torch.bmm(turn.float().mT, weight.reshape(3, size, 5)).reshape(3 * size, 5)
    for stored in (turn, turn - identity):
        delta = read_module({"oft_diag": stored.to(dtype)})[0]["weight"]
        found = weight + delta.value(weight)
        assert torch.allclose(found, wanted, atol=1e-5 if dtype == torch.float32 else 0.1)
