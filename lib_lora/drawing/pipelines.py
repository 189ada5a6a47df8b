"""load_pipeline(): the embedded demo model, a diffusers folder, or a single checkpoint file, ready to draw. Offline."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from lib_lora.drawing import checkpoint_layout as layout
from lib_lora.drawing import vocabulary
from lib_lora.drawing.demo_files import MODEL, model_at
from lib_lora.drawing.plain_checkpoint import plain
from lib_lora.errors import AdapterFileError, CheckpointError
from lib_lora.formats.header import read_header
from lib_lora.formats.kinds import TORCH, kind_of
from lib_lora.formats.torch_file import read_listing
from lib_lora.garbage import all_stays
from lib_lora.keys.names import SD2, SDXL_2

CHECKPOINTS = (".safetensors", ".ckpt")
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
LIBRARIES = (
    "diffusers",
    "transformers",
    None,
)  # whose classes a folder may ask for; anything else would be its own code
FAILURES = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, StopIteration, EOFError,
            ArithmeticError, SafetensorError)  # fmt: skip
V_PREDICTION = "v_pred"  # an empty tensor of this name in an SDXL checkpoint says so
ZERO_SNR = "ztsnr"


def load_pipeline(path: str | Path | None = None, *, dtype: torch.dtype | None = None,
                  tokenizer: str | Path | None = None) -> Any:  # fmt: skip
    """A text-to-image pipeline of diffusers on the best device. Raises CheckpointError.

    path       None: the demo model; a diffusers folder; a .safetensors or .ckpt file of SD1, SD2 or SDXL
    dtype      default: float16 on a GPU, float32 on a CPU
    tokenizer  a folder with merges.txt and vocab.json, for a checkpoint with another vocabulary than CLIP's; without it
               the folder that the .yaml beside the file names, then `tokenizer/` beside the file, then CLIP's own
    """
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    dtype = dtype or (torch.float32 if device == "cpu" else torch.float16)
    place = model_at(path)
    _quiet()
    if place.is_dir():
        pipe = _load_folder(place, dtype)
    else:
        pipe = _load_checkpoint(place, dtype, device, None if tokenizer is None else Path(tokenizer))
    pipe.register_to_config(_name_or_path=str(place))
    return pipe.to(device)


def model_name(pipe: Any) -> str:
    """What a picture's text calls the model: the name of its file or folder."""
    place = Path(pipe.name_or_path or "unknown")
    return "lib_lora demo" if place == MODEL else place.stem if place.suffix in CHECKPOINTS else place.name


def _load_folder(folder: Path, dtype: torch.dtype) -> Any:
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        kind = index["_class_name"]
        foreign = [key for key, value in index.items() if isinstance(value, list) and value[0] not in LIBRARIES
                   and key not in ("safety_checker", "image_encoder", "feature_extractor")]  # fmt: skip
    except FAILURES as error:
        raise CheckpointError(f"{folder}: not a diffusers folder; it has no readable model_index.json") from error
    if kind not in PIPELINES or foreign:
        what = f"brings its own code for {', '.join(foreign)}" if foreign else f"is a {kind}"
        raise CheckpointError(
            f"{folder.name}: {what}; only SD1, SD2 and SDXL text-to-image pipelines can be drawn with"
        )
    # Weights in .bin files would be opened by torch, of which older versions run code in them.
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
    if kind == "StableDiffusionPipeline":
        options |= {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    try:
        return _class(kind).from_pretrained(folder, **options)
    except FAILURES as error:
        if next(folder.rglob("*.bin"), None) and not next(folder.rglob("*.safetensors"), None):
            raise CheckpointError(
                f"{folder.name}: its weights are .bin files, which may hold programs; look for it as .safetensors"
            ) from error
        raise CheckpointError(f"{folder.name}: cannot be loaded ({_reason(error)})") from error


def _class(kind: str) -> Any:
    """diffusers imports it now, with a thousand other files."""
    with all_stays():
        return getattr(diffusers, kind)


def _load_checkpoint(path: Path, dtype: torch.dtype, device: str, tokenizer: Path | None) -> Any:
    shapes, metadata = _shapes(path)
    family = layout.family_of(shapes, path.name)
    hints = layout.read_hints(path)
    try:
        with tempfile.TemporaryDirectory(prefix="lib_lora-", ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary)
            _write_configs(folder, shapes, family, hints, _predicts_v(shapes, metadata, hints))
            _write_tokenizers(folder, family, shapes, tokenizer or hints.clip_folder, path)
            pipe = _class(family.pipeline).from_single_file(
                str(plain(path, folder)), config=str(folder), dtype=dtype, local_files_only=True,
                **({"safety_checker": None} if family.pipeline == "StableDiffusionPipeline" else {}),
            )  # fmt: skip
    except CheckpointError:
        raise
    except AdapterFileError as error:
        raise CheckpointError(str(error)) from error
    except FAILURES as error:
        raise CheckpointError(
            f"{path.name}: cannot be loaded as a {family.name} checkpoint ({_reason(error)})"
        ) from error
    _require_complete(pipe, path.name)
    if family is layout.SD2_FAMILY and _predicts_v(shapes, metadata, hints) is None:
        _settle_prediction_type(pipe.to(device))
    return pipe


def _require_complete(pipe: Any, name: str) -> None:
    for component in (part for part in pipe.components.values() if isinstance(part, torch.nn.Module)):
        missing = next((key for key, parameter in component.named_parameters() if parameter.is_meta), None)
        if missing is not None:
            raise CheckpointError(f"{name}: incomplete, it has no {missing} for the {type(component).__name__}")


def _shapes(path: Path) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, str]]:
    """Of every tensor, and the metadata; code in a pickle is not executed."""
    if path.suffix.lower() not in CHECKPOINTS:
        raise CheckpointError(f"{path.name}: not a checkpoint; those end in {' or '.join(CHECKPOINTS)}")
    try:
        if kind_of(path) == TORCH:  # whatever its ending
            return read_listing(path).shapes, {}
        header = read_header(path)
    except AdapterFileError as error:
        raise CheckpointError(str(error)) from error
    return header.shapes, header.metadata


def _write_configs(folder: Path, shapes: layout.Shapes, family: layout.Family, hints: layout.Hints,
                   predicts_v: bool | None) -> None:  # fmt: skip
    unet = layout.unet_config(shapes, family, hints)
    clip = {}
    if hints.clip_folder and (hints.clip_folder / "config.json").is_file():
        clip = json.loads((hints.clip_folder / "config.json").read_text("utf-8"))
        clip = clip.get("text_config", clip) if isinstance(clip, dict) else {}
    configs = {
        "unet": unet,
        "vae": layout.vae_config(shapes, family, hints),
        "scheduler": layout.scheduler_config(bool(predicts_v), ZERO_SNR in shapes),
    }
    index: dict[str, Any] = {"_class_name": family.pipeline, "_diffusers_version": diffusers.__version__}
    index |= {name: ["diffusers", config["_class_name"]] for name, config in configs.items()}
    for name, encoder in family.encoders.items():
        configs[name] = layout.text_config(shapes, encoder, hints, clip)
        index[name] = ["transformers", configs[name]["architectures"][0]]
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    if family is layout.SDXL_FAMILY:
        index["force_zeros_for_empty_prompt"] = False  # as the WebUI and SGM draw
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json")).write_text(
            json.dumps(config)
        )


def _write_tokenizers(
    folder: Path, family: layout.Family, shapes: layout.Shapes, given: Path | None, path: Path
) -> None:
    if given is not None and not (given / "merges.txt").is_file():
        raise CheckpointError(f"{given}: not a tokenizer folder; it has no merges.txt")
    own = given or next((place for place in [path.parent / "tokenizer"] if (place / "merges.txt").is_file()), None)
    for name, encoder in family.encoders.items():
        target = folder / name.replace("text_encoder", "tokenizer")
        is_padded_with_zero = encoder in (SD2, SDXL_2)
        vocabulary.write_tokenizer(target, padding="!" if is_padded_with_zero else vocabulary.END)
        if own is not None:
            for file in ("merges.txt", "vocab.json"):
                (target / file).write_bytes((own / file).read_bytes())
        tokens = max(json.loads((target / "vocab.json").read_text("utf-8")).values()) + 1
        held = next(shape[0] for key, shape in shapes.items()
                    if key.startswith(f"{encoder.checkpoint}.") and key.endswith("token_embedding.weight"))  # fmt: skip
        if tokens > held:
            raise CheckpointError(
                f"{path.name}: its text encoder knows {held} tokens, the vocabulary has {tokens}; put the model's own "
                f"merges.txt and vocab.json into {path.parent / 'tokenizer'}"
            )


def _predicts_v(shapes: layout.Shapes, metadata: Mapping[str, str], hints: layout.Hints) -> bool | None:
    """What the file or its .yaml states; None if neither does."""
    if hints.predicts_v is not None:
        return hints.predicts_v
    stated = metadata.get("modelspec.prediction_type", "").lower()
    return True if V_PREDICTION in shapes or stated.startswith("v") else False if stated else None


@torch.inference_mode()
def _settle_prediction_type(pipe: Any) -> None:
    """SD2 comes in both kinds, alike in every shape; the model is asked, as the WebUI does.

    At full noise one that predicts v returns -x, one that predicts the noise x.
    """
    unet = pipe.unet
    sample = torch.full((1, 4, 8, 8), 0.5, dtype=unet.dtype, device=unet.device)
    text = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, dtype=unet.dtype, device=unet.device)
    difference = (unet(sample, 999, encoder_hidden_states=text).sample - sample).float().mean().item()
    if difference < -1:
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type="v_prediction")
    else:
        pipe.unet.register_to_config(sample_size=64)  # those of SD2 that predict noise were trained at 512


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _quiet() -> None:
    """No advice and no bars of the libraries between our own lines; their errors still come."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
