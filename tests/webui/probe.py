"""An extension of the tests: tells over HTTP what another extension would see from inside the WebUI."""

from modules import extra_networks, script_callbacks, shared, ui_extra_networks


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
        "session": hasattr(shared.sd_model, "lib_lora_session"),
    }


def app_started(_demo, app) -> None:
    app.add_api_route("/probe", look, methods=["GET"])
    app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])  # the button "Reload UI"


script_callbacks.on_app_started(app_started)
