"""Train with the libraries themselves, save with them, load with us: a small UNet then draws the same picture."""

# ruff: noqa: E501  (tables and names that are sentences)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lib_lora.grammar.tag import LoraTag
from tests.support import tiny_pipe
from tests.support_golden import diffusers_session

pytest.importorskip("diffusers")

KINDS = {  # what create_lycoris takes
    "lora": dict(algo="lora", linear_dim=4, linear_alpha=2, conv_dim=2, conv_alpha=1),
    "tucker": dict(algo="lora", linear_dim=4, linear_alpha=2, conv_dim=2, conv_alpha=1, use_tucker=True),
    "rs": dict(algo="lora", linear_dim=4, linear_alpha=2, rs_lora=True),
    "loha": dict(algo="loha", linear_dim=2, linear_alpha=1, conv_dim=2, conv_alpha=1),
    "lokr": dict(algo="lokr", linear_dim=2, linear_alpha=1, conv_dim=2, conv_alpha=1, factor=2),
    "ia3": dict(algo="ia3", linear_dim=2, linear_alpha=1),
    "glora": dict(algo="glora", linear_dim=2, linear_alpha=1, conv_dim=2, conv_alpha=1),
    "oft": dict(algo="diag-oft", linear_dim=4, linear_alpha=0, conv_dim=4, conv_alpha=0),
    "boft": dict(algo="boft", linear_dim=4, linear_alpha=0, conv_dim=4, conv_alpha=0),
    "full": dict(algo="full", linear_dim=4, linear_alpha=1, conv_dim=4, conv_alpha=1),
    "dora": dict(algo="lora", linear_dim=4, linear_alpha=2, conv_dim=2, conv_alpha=1, dora_wd=True),
    "norms": dict(algo="lora", linear_dim=4, linear_alpha=2, train_norm=True),
}  # fmt: skip
PRESET = {"enable_conv": True, "target_module": ["UNetMidBlock2DCrossAttn", "Downsample2D"], "target_name": [],
          "module_algo_map": {}, "name_algo_map": {}, "use_fnmatch": False}  # fmt: skip


class Unet(nn.Module):
    """The UNet under the name that it has in a pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = tiny_pipe("sd1", short=True).unet


def draw(unet: nn.Module) -> Tensor:
    torch.manual_seed(5)
    return unet(torch.randn(1, 4, 8, 8), 10, torch.randn(1, 5, 12), return_dict=False)[0]


def train(unet: nn.Module, parameters) -> None:
    """Two steps towards any picture: everything that can be trained has moved after them."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(2):
        optimiser.zero_grad()
        (draw(unet) - 1).square().mean().backward()
        optimiser.step()


def assert_draws_the_same(path: Path, wanted: Tensor) -> None:
    model = Unet()
    plain = draw(model.unet).detach()
    session = diffusers_session(model, path)  # type: ignore[arg-type]
    report = session.activate([LoraTag("x")])
    assert report.adapters[0].problem is None
    assert not report.adapters[0].misfits
    assert not report.adapters[0].unknown
    with torch.no_grad():
        drawn = draw(model.unet)
    assert (wanted - plain).abs().max() > 0.01
    assert torch.allclose(drawn, wanted, atol=2e-4), (drawn - wanted).abs().max()
    session.clear()
    assert torch.equal(draw(model.unet).detach(), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_lycoris(tmp_path, kind):
    lycoris = pytest.importorskip("lycoris")
    model = Unet()
    lycoris.LycorisNetwork.apply_preset(PRESET)
    network = lycoris.create_lycoris(model.unet, 1.0, **KINDS[kind])
    network.apply_to()
    assert network.loras
    train(model.unet, network.parameters())
    network.eval()
    with torch.no_grad():
        wanted = draw(model.unet)
    network.save_weights(str(tmp_path / "a.safetensors"), torch.float32, {})
    assert_draws_the_same(tmp_path / "a.safetensors", wanted)


def peft_options():
    return {
        "lora": ("LoraConfig", dict(r=4, lora_alpha=2, target_modules=["to_q", "to_v", "to_out.0", "conv1"])),
        "rslora": ("LoraConfig", dict(r=4, lora_alpha=2, use_rslora=True, target_modules=["to_q", "to_v"])),
        "patterns": ("LoraConfig", dict(r=4, lora_alpha=2, rank_pattern={"to_q": 2}, alpha_pattern={"to_q": 8}, target_modules=["to_q", "to_v"])),
        "dora": ("LoraConfig", dict(r=4, lora_alpha=2, use_dora=True, target_modules=["to_q", "to_v", "conv1"])),
        "loha": ("LoHaConfig", dict(r=2, alpha=1, target_modules=["to_q", "conv1"])),
        "lokr": ("LoKrConfig", dict(r=2, alpha=1, target_modules=["to_q", "to_out.0"])),
        "oft": ("OFTConfig", dict(r=0, oft_block_size=4, target_modules=["to_q", "to_v"])),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["lora", "rslora", "patterns", "dora", "loha", "lokr", "oft"])
def test_peft(tmp_path, kind):
    peft = pytest.importorskip("peft")
    name, options = peft_options()[kind]
    torch.manual_seed(1)
    model = peft.get_peft_model(Unet().unet, getattr(peft, name)(**options))
    train(model, model.parameters())
    model.eval()
    with torch.no_grad():
        wanted = draw(model)
    model.save_pretrained(tmp_path)
    assert_draws_the_same(tmp_path / "adapter_model.safetensors", wanted)


@pytest.mark.parametrize(
    "options", [dict(r=4, lora_alpha=4), dict(r=4, lora_alpha=10), dict(r=4, lora_alpha=10, use_rslora=True)]
)
def test_diffusers_with_its_header(tmp_path, options):
    """As its training scripts do: `add_adapter`, then the pipeline writes the layers and the configuration in the header."""
    peft = pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline

    torch.manual_seed(1)
    unet = Unet().unet
    config = peft.LoraConfig(target_modules=["to_q", "to_k", "to_v", "to_out.0"], **options)
    unet.add_adapter(config)
    train(unet, unet.parameters())
    unet.eval()
    with torch.no_grad():
        wanted = draw(unet)
    layers = peft.get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict()
    )
    assert_draws_the_same(tmp_path / "pytorch_lora_weights.safetensors", wanted)
