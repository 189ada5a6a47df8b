"""Train, export and check the demo: `python -m lib_lora.demo.training <what>`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from lib_lora.demo.training import adapters, autoencoder, captions, check, export, polish, tokenizer, unet
from lib_lora.demo.training.adapter_files import write_adapter

DEMO = Path(__file__).resolve().parent.parent


def train_model(options: argparse.Namespace) -> None:
    """UNet and text encoder; resumes from the work folder."""
    unet.train_unet(options.work / "unet.pt", own_tokenizer(options))


def train_autoencoder(options: argparse.Namespace) -> None:
    """The autoencoder; independent of the UNet, resumes from the work folder."""
    autoencoder.train_autoencoder(options.work / "autoencoder.pt")


def polish_decoder(options: argparse.Namespace) -> None:
    """The decoder's last lesson: latents as the trained UNet makes them. Needs model and autoencoder."""
    words = own_tokenizer(options)
    model = unet.load_trained(options.work / "unet.pt", words)
    polish.polish_decoder(options.work / "autoencoder.pt", options.work / "polished.pt", model, words)


def export_model(options: argparse.Namespace) -> None:
    """The trained parts as a diffusers folder."""
    words = own_tokenizer(options)
    model = unet.load_trained(options.work / "unet.pt", words)
    export.export_model(options.model, model, autoencoder.load_autoencoder(options.work / "polished.pt"), words)


def train_adapters(options: argparse.Namespace) -> None:
    """Adapters on the exported model: all, or those named."""
    for name in options.names or adapters.ADAPTERS:
        recipe = adapters.ADAPTERS[name]
        tensors, pictures = adapters.train_adapter(recipe, options.model)
        print("wrote", write_adapter(options.adapters, recipe, tensors, pictures), flush=True)


def run_check(options: argparse.Namespace) -> None:
    """Contact sheets of prompts and adapters, and the count of what is right."""
    print(check.check_prompts(options.model, options.work / "prompts.png", options.count))
    check.check_adapters(options.model, options.adapters, options.work / "adapters.png")


COMMANDS = {
    "model": train_model,
    "autoencoder": train_autoencoder,
    "polish": polish_decoder,
    "export": export_model,
    "adapters": train_adapters,
    "check": run_check,
}


def own_tokenizer(options: argparse.Namespace) -> CLIPTokenizer:
    """Written anew each time: it is made of the captions' words and nothing else."""
    folder = options.model / "tokenizer"
    tokenizer.write_tokenizer(folder, captions.words())
    return tokenizer.load_tokenizer(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib_lora.demo.training",
        description=__doc__,
        epilog="In this order: model and autoencoder (either first, or both at once), polish, export, adapters, check.",
    )
    parser.add_argument("--work", type=Path, default=Path("demo-train"), help="for checkpoints and sheets: %(default)s")
    parser.add_argument("--model", type=Path, default=DEMO / "model", help="the exported pipeline")
    parser.add_argument("--adapters", type=Path, default=DEMO / "adapters", help="the exported adapters")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    commands = parser.add_subparsers(dest="what", required=True)
    for name, run in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        if name == "adapters":
            command.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(adapters.ADAPTERS)}")
        if name == "check":
            command.add_argument("--count", type=int, default=24, help="how many prompts (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.run(options)


if __name__ == "__main__":
    main()
