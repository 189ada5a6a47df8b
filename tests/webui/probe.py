"""An extension of the tests: tells over HTTP what another extension would see from inside the WebUI, and does to it
what the tests cannot do from outside.

`LORA_PROBE` names what is changed from the start, in words between commas:

moves copy    moving a model gives its weights new memory, as it does where there is a GPU
cast          what is computed is computed in float32 by the WebUI's own way for cards without autocast: each layer is
              cast, called, and cast back; half precision works on a CPU that cannot compute in it
"""

import functools
import os
import threading
import zlib

import torch
from fastapi import Body
from modules import (
    devices,
    extra_networks,
    hashes,
    lowvram,
    processing,
    prompt_parser,
    script_callbacks,
    sd_models,
    sd_models_config,
    shared,
    ui_extra_networks,
)
from torch.nn import functional

CHANGES = os.environ.get("LORA_PROBE", "").split(",")
own_calls = []  # one item for each call of the UNet that is made by nobody's leave
noise = []  # what the sampler says of it at each call of the UNet in the last pass
by_call = []  # weights for the UNet, one for each call of it: what the built-in extension's adapter has then
encodings = []  # one item for each prompt that a text encoder has seen
folds = []  # one item for each weight that was made while something was to fail
happening = []  # (step, event) that is still to come; see EVENTS
waiting = []  # threads in which something waits until the picture is made


def encode(*args, _original=prompt_parser.get_learned_conditioning, **options):
    encodings.append(None)
    return _original(*args, **options)


def configuration(info, _original=sd_models_config.find_checkpoint_config_near_filename):
    """A checkpoint without a configuration has that of the first: the WebUI loads it into the same modules."""
    found = _original(info)
    shared_one = os.path.join(os.path.dirname(getattr(info, "filename", "")), "tiny-sd1.yaml")
    return shared_one if found is None and os.path.exists(shared_one) else found


def attend(query, key, value, attn_mask=None, *args, _original=functional.scaled_dot_product_attention, **options):
    """With fp8 on a CPU, SDXL's second text encoder has a mask of another type than torch allows."""
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = attn_mask.to(query.dtype)
    return _original(query, key, value, attn_mask, *args, **options)


def move_and_copy(module, *args, _original=torch.nn.Module.to, **options):
    moved = _original(module, *args, **options)
    if args and isinstance(args[0], (torch.device, str)) and str(args[0]) != "meta":
        moved._apply(torch.clone)
    return moved


def compute_in_float32() -> None:
    from open_clip.transformer import LayerNorm
    from sgm.modules.encoders.modules import FrozenOpenCLIPEmbedder2

    def pool(encoder, *args, _original=FrozenOpenCLIPEmbedder2.pool):
        """It uses a bare parameter, which belongs to no layer that is cast."""
        projection = encoder.model.text_projection
        kept, projection.data = projection.data, projection.data.float()
        try:
            return _original(encoder, *args)
        finally:
            projection.data = kept

    FrozenOpenCLIPEmbedder2.pool = pool
    devices.patch_module_list.insert(0, LayerNorm)  # before the class of torch whose `forward` it replaces
    devices.autocast = lambda disable=False: devices.manual_cast(torch.float32)


prompt_parser.get_learned_conditioning = encode
if functional.scaled_dot_product_attention is not attend:
    functional.scaled_dot_product_attention = attend
sd_models_config.find_checkpoint_config_near_filename = configuration
if "moves copy" in CHANGES and torch.nn.Module.to is not move_and_copy:
    torch.nn.Module.to = move_and_copy
if "cast" in CHANGES:
    compute_in_float32()


def forget_encodings() -> None:
    for owner, names in (
        (processing.StableDiffusionProcessing, ("cached_c", "cached_uc")),
        (processing.StableDiffusionProcessingTxt2Img, ("cached_hr_c", "cached_hr_uc")),
    ):
        for name in names:
            setattr(owner, name, [None, None])


def weights() -> dict:
    """What the UNet and the text encoders hold, down to the bit, and how."""
    model = shared.sd_model
    total, kinds = 0, set()
    for name, parameter in sorted(model.named_parameters()):
        if not name.startswith("first_stage_model"):
            kinds.add(str(parameter.dtype))
            total = zlib.crc32(parameter.detach().contiguous().view(-1).view(torch.uint8).numpy(), total)
    convolution = model.model.diffusion_model.out[2].weight
    return {
        "bits": total,
        "checkpoint": model.sd_checkpoint_info.model_name,
        "types": sorted(kinds),
        "low VRAM": model.lowvram,
        "channels last": convolution.is_contiguous(memory_format=torch.channels_last),
        "finer copies": sum(hasattr(module, "fp16_weight") for module in model.modules()),
        "hooks": sum(len(module._forward_hooks) for module in model.modules()),
        "pre-hooks": sum(len(module._forward_pre_hooks) for module in model.modules()),
        "loaded": len(sd_models.model_data.loaded_sd_models),
        "cached": len(sd_models.checkpoints_loaded),
    }


def cached() -> int:
    """The bits of everything that the WebUI's cache of checkpoints holds."""
    total = 0
    for state in sd_models.checkpoints_loaded.values():
        for _, tensor in sorted(state.items()):
            total = zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy(), total)
    return total


def forget_models() -> None:
    """No checkpoint is loaded; the next one becomes a new model object."""
    data = sd_models.model_data
    lowvram.send_everything_to_cpu()
    for model in {id(each): each for each in (*data.loaded_sd_models, data.sd_model) if each is not None}.values():
        sd_models.send_model_to_trash(model)
    data.loaded_sd_models.clear()
    data.sd_model = None
    sd_models.checkpoints_loaded.clear()
    sd_models.load_model()


ERRORS = {
    "out of memory": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "no memory for the CPU": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    "an accident": lambda: RuntimeError("an accident"),
    "a mistake": lambda: TypeError("a mistake of a programmer"),
}


def fail(at: int = Body(), error: str = Body()) -> None:
    """The weight number `at` from now fails when it is half written."""
    from lib_lora.engine import hooks, merged

    fail_no_more()

    def count(*args, _original=None) -> None:
        folds.append(None)
        result = _original(*args)
        if len(folds) == at:
            if len(args) == 3 and torch.is_tensor(args[2]):
                args[2][: args[2].shape[0] // 2 + 1] = 9
            raise ERRORS[error]()
        return result

    for module, name in ((merged, "fold"), (hooks, "addition")):
        setattr(module, name, functools.partial(count, _original=getattr(module, name)))


def fail_no_more() -> int:
    """Returns how many weights were made since `fail`."""
    from lib_lora.engine import hooks, merged

    for module, name in ((merged, "fold"), (hooks, "addition")):
        function = getattr(module, name)
        setattr(module, name, getattr(function, "keywords", {}).get("_original", function))
    count = len(folds)
    folds.clear()
    return count


def caches() -> list:
    """The WebUI's lists of an encoded prompt and its key, as long as they are."""
    owners = (
        (processing.StableDiffusionProcessing, ("cached_c", "cached_uc")),
        (processing.StableDiffusionProcessingTxt2Img, ("cached_hr_c", "cached_hr_uc")),
    )
    return [len(getattr(owner, name)) for owner, names in owners for name in names]


def look() -> dict:
    import lora
    import networks

    classes = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.MultiheadAttention)
    homes = {function.__module__ for each in classes for function in (each.forward, each._load_from_state_dict)}
    return {
        "available": list(networks.available_networks),
        "aliases": list(networks.available_network_aliases),
        "loaded": [[each.name, each.te_multiplier, each.unet_multiplier] for each in networks.loaded_networks],
        "same objects": lora.available_loras is networks.available_networks
        and lora.loaded_loras is networks.loaded_networks,
        "torch is patched": bool(homes & {"networks", "lora_patches"}),
        "registry": type(extra_networks.extra_network_registry["lora"]).__module__,
        "pages": [type(page).__module__ for page in ui_extra_networks.extra_pages if page.name == "lora"],
        "layers": len(shared.sd_model.network_layer_mapping),
        "encodings": len(encodings),
        "caches": caches(),
        "session": hasattr(shared.sd_model, "lib_lora_session"),
    }


def weigh_by_call(weights: list = Body(embed=True)) -> None:  # noqa: B008
    by_call[:] = weights


def call_the_unet(times: int = Body(embed=True)) -> None:
    own_calls[:] = [None] * times


def before_call(params) -> None:
    """Calls the UNet where that is asked for; the rows of such a call are nobody's. Weighs the built-in's adapter:
    as slow as it is independent, each weight is put in anew."""
    if params.denoiser.step == 0:
        noise.clear()
    noise.append(float(params.sigma[0]))
    if happening and happening[0][0] == params.denoiser.step:
        EVENTS[happening.pop()[1]]()
    if own_calls:
        own_calls.pop()
        context = torch.cat([params.text_cond, params.text_uncond])
        shared.sd_model.model.diffusion_model(params.x, torch.ones(len(params.x)), context=context)
    if by_call:
        import networks

        networks.loaded_networks[0].unet_multiplier = by_call[min(params.denoiser.step, len(by_call) - 1)]


def break_off(error: str) -> None:
    """The sampler ends in this error when it calls the model next."""
    def fail_once(*_args) -> None:
        hook.remove()
        raise ERRORS[error]()

    hook = shared.sd_model.model.diffusion_model.register_forward_pre_hook(fail_once)


def move() -> None:
    sd_models.send_model_to_cpu(shared.sd_model)
    sd_models.send_model_to_device(shared.sd_model)


def ask_for(**options) -> None:
    """What the page's settings do meanwhile, one after another; they wait in the WebUI's queue."""
    def ask() -> None:
        for name, values in options.items():
            for value in values:
                shared.opts.set(name, value, is_api=True)

    waiting.append(threading.Thread(target=ask))
    waiting[-1].start()


EVENTS = {  # that come between two steps of a picture
    "interrupted": shared.state.interrupt,
    "skipped": shared.state.skip,
    "an accident": lambda: break_off("an accident"),
    "out of memory": lambda: break_off("out of memory"),
    "moved": move,
    "loaded again": lambda: ask_for(cache_fp16_weight=[not (now := shared.opts.cache_fp16_weight), now]),
    "another checkpoint": lambda: ask_for(sd_model_checkpoint=["other-sd1", "tiny-sd1"]),
    "another attention": lambda: ask_for(cross_attention_optimization=["Doggettx", "Automatic"]),
}


def happen(step: int = Body(), event: str = Body()) -> None:
    happening[:] = [(step, event)]


def what_is_to_come() -> list:
    """After everything that waits for the picture's end."""
    while waiting:
        waiting.pop().join()
    return happening


def damage() -> None:
    """One number of a loaded weight is another one."""
    with torch.no_grad():
        shared.sd_model.model.diffusion_model.time_embed[0].weight.view(-1)[0] += 1


def axes() -> list:
    """Of the X/Y/Z plot: what each line is called, and what stands at a picture of it."""
    from modules import scripts

    plots = [script for script in scripts.scripts_txt2img.scripts if script.title() == "X/Y/Z plot"]
    return [[option.label, option.format_value(None, option, "0.5")] for option in plots[0].current_axis_options]


def cached_hash(path: str = Body(), title: str = Body()) -> str | None:
    return hashes.sha256_from_cache(path, title, use_addnet_hash=path.endswith(".safetensors"))


def app_started(_demo, app) -> None:
    app.add_api_route("/probe", look, methods=["GET"])
    app.add_api_route("/probe/weights", weights, methods=["GET"])
    app.add_api_route("/probe/hash", cached_hash, methods=["POST"])
    app.add_api_route("/probe/axes", axes, methods=["GET"])
    app.add_api_route("/probe/call-the-unet", call_the_unet, methods=["POST"])
    app.add_api_route("/probe/damage", damage, methods=["POST"])
    app.add_api_route("/probe/noise", lambda: list(noise), methods=["GET"])
    app.add_api_route("/probe/by-call", weigh_by_call, methods=["POST"])
    app.add_api_route("/probe/happen", happen, methods=["POST"])
    app.add_api_route("/probe/happen", what_is_to_come, methods=["GET"])
    app.add_api_route("/probe/cached", cached, methods=["GET"])
    app.add_api_route("/probe/forget-models", forget_models, methods=["POST"])
    app.add_api_route("/probe/fail", fail, methods=["POST"])
    app.add_api_route("/probe/fail-no-more", fail_no_more, methods=["POST"])
    app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])  # the button "Reload UI"
    app.add_api_route("/probe/forget-encodings", forget_encodings, methods=["POST"])


script_callbacks.on_app_started(app_started)
script_callbacks.on_cfg_denoiser(before_call)
