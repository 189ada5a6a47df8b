"""Every seam: what of the WebUI is patched, registered, called or read, and the file of each host that defines it.

A test reads the source of these rooms and holds this table to it, both ways; another looks everything up in a checkout
of the WebUI, where there is one. A host that lacks something has an empty place in its column. Not here: identifiers
and classes of elements in the WebUI's pages, its routes, and the modules of torch in a checkpoint (`a1111/host.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib_lora.webui.names import protocols

Use = Literal[
    "patched",  # replaced, or changed: a function, an entry, an attribute
    "registered",  # called to be called back, or to be listed
    "called",
    "derived",  # a class of ours comes from it
    "overridden",  # called by the WebUI on an object of ours
    "read",
]


@dataclass(frozen=True)
class Door:
    """One name."""

    name: str  # with its module, if it is Python's; else as it stands in a template or a script
    use: Use
    a1111: str  # file, or file:Class; "": it is ours, or absent


@dataclass(frozen=True)
class Object:
    """What is handed over, and what is asked of it: the members of `protocol`."""

    protocol: type
    name: str  # its class, or its module
    a1111: str
    ours: frozenset[str] = frozenset()  # members that no such object has before we put them there


def _doors(module: str, use: Use, names: str, *, a1111: str) -> list[Door]:
    return [Door(f"{module}.{name}" if name else module, use, a1111) for name in names.split()]


LORA = "extensions-builtin/Lora/"  # the extension whose place is taken; it may be disabled
PAGE, EDITOR = "ui_extra_networks.ExtraNetworksPage", "ui_extra_networks_user_metadata.UserMetadataEditor"

DOORS: tuple[Door, ...] = (
    Door("modules", "read", "modules"),

    # Start and end.
    *_doors("modules.script_callbacks", "patched", "callback_map ordered_callbacks_map",
            a1111="modules/script_callbacks.py"),
    *_doors("modules.script_callbacks", "registered",
            "on_app_started on_before_ui on_cfg_denoiser on_infotext_pasted on_model_loaded on_script_unloaded "
            "on_ui_tabs",
            a1111="modules/script_callbacks.py"),
    *_doors("modules.patches", "called", "patch undo", a1111="modules/patches.py"),
    *_doors("modules.extensions", "read", "extensions", a1111="modules/extensions.py"),
    *_doors("modules.scripts", "read", "scripts_data scripts_txt2img", a1111="modules/scripts.py"),
    *_doors("modules.scripts.scripts_txt2img", "read", "infotext_fields", a1111="modules/scripts.py:ScriptRunner"),

    # Tags.
    *_doors("modules.extra_networks", "patched", "extra_network_aliases extra_network_registry lookup_extra_networks "
            "parse_prompt parse_prompts", a1111="modules/extra_networks.py"),
    *_doors("modules.extra_networks", "registered", "register_extra_network register_extra_network_alias",
            a1111="modules/extra_networks.py"),
    *_doors("modules.extra_networks", "derived", "ExtraNetwork ExtraNetworkParams", a1111="modules/extra_networks.py"),
    *_doors("modules.extra_networks.ExtraNetworkParams", "read", "items",
            a1111="modules/extra_networks.py:ExtraNetworkParams"),
    *_doors("modules.extra_networks.ExtraNetwork", "overridden", "activate deactivate",
            a1111="modules/extra_networks.py:ExtraNetwork"),

    # Encoded prompts and embeddings.
    *_doors("modules.processing", "read", "StableDiffusionProcessing StableDiffusionProcessingImg2Img",
            a1111="modules/processing.py"),
    *_doors("modules.processing", "called", "StableDiffusionProcessingTxt2Img process_images program_version",
            a1111="modules/processing.py"),
    *_doors("modules.call_queue", "read", "queue_lock", a1111="modules/call_queue.py"),
    *_doors("modules.images", "read", "get_font", a1111="modules/images.py"),
    *_doors("modules.processing.StableDiffusionProcessing", "patched", "get_conds_with_caching",
            a1111="modules/processing.py:StableDiffusionProcessing"),
    *_doors("modules.prompt_parser", "called", "ComposableScheduledPromptConditioning MulticondLearnedConditioning "
            "SdConditioning get_learned_conditioning_prompt_schedules get_multicond_prompt_list",
            a1111="modules/prompt_parser.py"),
    *_doors("modules.sd_hijack", "read", "model_hijack", a1111="modules/sd_hijack.py"),
    *_doors("modules.sd_hijack.model_hijack", "patched", "comments extra_generation_params",
            a1111="modules/sd_hijack.py:StableDiffusionModelHijack"),
    *_doors("modules.sd_hijack.model_hijack", "read", "embedding_db",
            a1111="modules/sd_hijack.py:StableDiffusionModelHijack"),
    *_doors("modules.textual_inversion.textual_inversion", "called", "create_embedding_from_data",
            a1111="modules/textual_inversion/textual_inversion.py"),

    # Passes and their steps.
    *_doors("modules.sd_samplers", "called", "find_sampler_config", a1111="modules/sd_samplers.py"),
    *_doors("modules.sd_samplers_common", "called", "setup_img2img_steps", a1111="modules/sd_samplers_common.py"),
    *_doors("modules.sd_samplers_timesteps", "read", "CFGDenoiserTimesteps", a1111="modules/sd_samplers_timesteps.py"),

    # Checkpoints.
    *_doors("modules.sd_models", "patched", "reload_model_weights", a1111="modules/sd_models.py"),
    *_doors("modules.sd_models", "called", "reload_model_weights", a1111="modules/sd_models.py"),
    *_doors("modules.sd_models", "read", "checkpoint_aliases checkpoints_list model_data",
            a1111="modules/sd_models.py"),
    *_doors("modules.sd_models.model_data", "read", "loaded_sd_models sd_model",
            a1111="modules/sd_models.py:SdModelData"),
    *_doors("modules.sd_models.model_data.sd_model", "read", "sd_checkpoint_info",
            a1111="modules/sd_models_types.py:WebuiSdModel"),
    *_doors("modules.shared", "read", "sd_model state", a1111="modules/shared.py"),
    *_doors("modules.shared", "patched", "total_tqdm", a1111="modules/shared.py"),  # its bar is cleared
    *_doors("modules.shared.sd_model", "read", "alphas_cumprod", a1111=""),  # ldm's, which is not in the WebUI's tree
    *_doors("modules.shared.state", "read", "interrupted job_count skipped stopping_generation",
            a1111="modules/shared_state.py:State"),
    *_doors("modules.shared.state", "called", "begin end interrupt", a1111="modules/shared_state.py:State"),

    # Options, flags, folders.
    *_doors("modules.shared", "read", "cmd_opts opts", a1111="modules/shared.py"),
    *_doors("modules.shared", "called", "OptionInfo", a1111="modules/shared.py"),
    *_doors("modules.shared.opts", "patched", "data_labels", a1111="modules/options.py:Options"),
    *_doors("modules.shared.opts", "read", "CLIP_stop_at_last_layers always_discard_next_to_last_sigma "
            "comma_padding_backtrack disable_all_extensions disabled_extensions eta_noise_seed_delta "
            "extra_networks_default_multiplier outdir_samples outdir_txt2img_samples randn_source samples_format "
            "sd_vae sdxl_clip_l_skip sdxl_refiner_high_aesthetic_score "
            "sdxl_refiner_low_aesthetic_score textual_inversion_add_hashes_to_infotext token_merging_ratio "
            "use_old_emphasis_implementation use_old_scheduling", a1111="modules/shared_options.py"),
    *_doors("modules.shared.opts", "read", "lora_add_hashes_to_infotext lora_bundled_ti_to_infotext lora_functional "
            "lora_hide_unknown_for_versions lora_in_memory_limit lora_not_found_gradio_warning "
            "lora_not_found_warning_console lora_preferred_name lora_show_all sd_lora",
            a1111=f"{LORA}scripts/lora_script.py"),
    *_doors("modules.shared.opts", "read", "lora_block_presets lora_element_presets lora_memory_budget lora_originals "
            "lora_other_base_models lora_together_limit", a1111=""),
    *_doors("modules.shared.cmd_opts", "read", "lora_dir lyco_dir_backcompat", a1111=f"{LORA}preload.py"),
    *_doors("modules.paths", "read", "models_path", a1111="modules/paths.py"),
    *_doors("modules.cache", "read", "cache_dir", a1111="modules/cache.py"),
    *_doors("modules.cache", "called", "cache dump_cache", a1111="modules/cache.py"),

    # The page of cards.
    *_doors("modules.ui_extra_networks", "read", "extra_pages", a1111="modules/ui_extra_networks.py"),
    *_doors("modules.ui_extra_networks", "registered", "register_page", a1111="modules/ui_extra_networks.py"),
    *_doors("modules", "derived", PAGE, a1111="modules/ui_extra_networks.py"),
    *_doors(f"modules.{PAGE}", "overridden", "allowed_directories_for_previews create_item create_item_html "
            "create_tree_dir_item_html create_tree_file_item_html create_user_metadata_editor find_preview list_items "
            "read_user_metadata refresh", a1111="modules/ui_extra_networks.py:ExtraNetworksPage"),
    *_doors(f"modules.{PAGE}", "called", "create_item_html create_tree_dir_item_html create_tree_file_item_html "
            "find_description get_sort_keys link_preview", a1111="modules/ui_extra_networks.py:ExtraNetworksPage"),
    *_doors(f"modules.{PAGE}", "read", "btn_copy_path_tpl items lister",
            a1111="modules/ui_extra_networks.py:ExtraNetworksPage"),
    *_doors(f"modules.{PAGE}.lister", "called", "exists", a1111="modules/util.py:MassFileLister"),
    *_doors("modules", "derived", EDITOR, a1111="modules/ui_extra_networks_user_metadata.py"),
    *_doors(f"modules.{EDITOR}", "overridden", "create_editor create_extra_default_items_in_left_column "
            "put_values_into_components save_preview",
            a1111="modules/ui_extra_networks_user_metadata.py:UserMetadataEditor"),
    *_doors(f"modules.{EDITOR}", "called", "create_default_buttons create_default_editor_elems get_card_html "
            "save_preview", a1111="modules/ui_extra_networks_user_metadata.py:UserMetadataEditor"),
    *_doors(f"modules.{EDITOR}", "read", "box button_edit button_save edit_description edit_name edit_name_input "
            "html_filedata html_preview html_status tabname",
            a1111="modules/ui_extra_networks_user_metadata.py:UserMetadataEditor"),
    *_doors("modules.sysinfo", "called", "pretty_bytes", a1111="modules/sysinfo.py"),

    # The built-in extension, as other extensions know it.
    *_doors("networks", "patched", "available_network_aliases available_network_hash_lookup available_networks "
            "extra_network_lora forbidden_network_aliases list_available_networks loaded_networks "
            "network_apply_weights network_forward network_reset_cached_weight network_restore_weights_from_backup "
            "networks_in_memory update_available_networks_by_names", a1111=f"{LORA}networks.py"),
    *_doors("networks", "patched", "originals", a1111=f"{LORA}scripts/lora_script.py"),
    *_doors("networks", "called", "list_available_networks", a1111=f"{LORA}networks.py"),
    *_doors("networks.originals", "called", "undo", a1111=f"{LORA}lora_patches.py:LoraPatches"),
    *_doors("lora", "patched", "available_lora_aliases available_lora_hash_lookup available_loras "
            "forbidden_lora_aliases list_available_loras loaded_loras", a1111=f"{LORA}lora.py"),
)  # fmt: skip

OBJECTS: tuple[Object, ...] = (
    Object(protocols.Processing, "modules.processing.StableDiffusionProcessing",
           "modules/processing.py:StableDiffusionProcessingTxt2Img", frozenset({"lora_hashes", "lora_pictures"})),
    Object(protocols.Call, "modules.script_callbacks.CFGDenoiserParams",
           "modules/script_callbacks.py:CFGDenoiserParams"),
    Object(protocols.Denoiser, "modules.sd_samplers_cfg_denoiser.CFGDenoiser",
           "modules/sd_samplers_cfg_denoiser.py:CFGDenoiser"),
    Object(protocols.Sampler, "modules.sd_samplers_common.Sampler", "modules/sd_samplers_common.py:Sampler"),
    Object(protocols.Params, "modules.extra_networks.ExtraNetworkParams",
           "modules/extra_networks.py:ExtraNetworkParams"),
    Object(protocols.Network, "modules.extra_networks.ExtraNetwork", "modules/extra_networks.py:ExtraNetwork"),
    Object(protocols.SdModel, "modules.sd_models_types.WebuiSdModel", "modules/sd_models_types.py:WebuiSdModel",
           frozenset({"alphas_cumprod", "model", "network_layer_mapping"})),  # ldm, not in the tree, has the others
    Object(protocols.CheckpointInfo, "modules.sd_models.CheckpointInfo", "modules/sd_models.py:CheckpointInfo"),
    Object(protocols.Embedding, "modules.textual_inversion.textual_inversion.Embedding",
           "modules/textual_inversion/textual_inversion.py:Embedding"),
    Object(protocols.EmbeddingTable, "modules.textual_inversion.textual_inversion.EmbeddingDatabase",
           "modules/textual_inversion/textual_inversion.py:EmbeddingDatabase"),
    Object(protocols.Hijack, "modules.sd_hijack.StableDiffusionModelHijack",
           "modules/sd_hijack.py:StableDiffusionModelHijack"),
    Object(protocols.Plot, "scripts.xyz_grid", "scripts/xyz_grid.py"),
    Object(protocols.Axis, "scripts.xyz_grid.AxisOption", "scripts/xyz_grid.py:AxisOption"),
    Object(protocols.Option, "modules.options.OptionInfo", "modules/options.py:OptionInfo"),
    Object(protocols.Callback, "modules.script_callbacks.ScriptCallback", "modules/script_callbacks.py:ScriptCallback"),
    Object(protocols.Lister, "modules.util.MassFileLister", "modules/util.py:MassFileLister"),
    Object(protocols.Networks, "networks", f"{LORA}networks.py", frozenset({"originals"})),
)  # fmt: skip

# Places in the WebUI's template of a card, which is filled with a dictionary of these names.
TEMPLATES: tuple[Door, ...] = (
    Door('<div class="actions">', "patched", "html/extra-networks-card.html"),
    *(Door(f"{{{name}}}", "patched", "html/extra-networks-card.html")
      for name in ("background_image", "copy_path_button", "edit_button", "metadata_button", "sort_keys")),
)  # fmt: skip

# What `javascript/` and the editor ask of the scripts in the WebUI's page.
SCRIPTS: tuple[Door, ...] = (
    Door("cardClicked", "patched", "javascript/extraNetworks.js"),
    Door("extraNetworksRefreshSingleCard", "patched", "javascript/extraNetworks.js"),
    Door("extraNetworksApplySort", "called", "javascript/extraNetworks.js"),
    Door("requestGet", "called", "javascript/extraNetworks.js"),
    Door("closePopup", "called", "javascript/extraNetworks.js"),
    Door("localization", "read", "modules/localization.py"),  # put into the page by the server
    Door("original_lines", "patched", "javascript/localization.js"),
    Door("translated_lines", "patched", "javascript/localization.js"),
    Door("uiAfterScriptsCallbacks", "patched", "javascript/extraNetworks.js"),
    Door("onOptionsAvailable", "registered", "script.js"),
    Door("onOptionsChanged", "registered", "script.js"),
    Door("gradioApp", "called", "script.js"),
    Door("opts", "read", "javascript/ui.js"),
)
