"""An extension of the tests: tells over HTTP what another extension would see from inside the WebUI."""

from modules import extra_networks, processing, prompt_parser, script_callbacks, shared, ui_extra_networks

encodings = []  # one item for each prompt that a text encoder has seen


def encode(*args, _original=prompt_parser.get_learned_conditioning, **options):
    encodings.append(None)
    return _original(*args, **options)


prompt_parser.get_learned_conditioning = encode


def forget_encodings() -> None:
    for owner, names in (
        (processing.StableDiffusionProcessing, ("cached_c", "cached_uc")),
        (processing.StableDiffusionProcessingTxt2Img, ("cached_hr_c", "cached_hr_uc")),
    ):
        for name in names:
            setattr(owner, name, [None, None])


def look() -> dict:
    import lora
    import networks
    import torch

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
        "session": hasattr(shared.sd_model, "lib_lora_session"),
    }


def app_started(_demo, app) -> None:
    app.add_api_route("/probe", look, methods=["GET"])
    app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])  # the button "Reload UI"
    app.add_api_route("/probe/forget-encodings", forget_encodings, methods=["POST"])


script_callbacks.on_app_started(app_started)
