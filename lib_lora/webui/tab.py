"""The tab "LoRA": the listing that the standalone page has too, writing into the prompts of txt2img and img2img."""

from __future__ import annotations

import gradio as gr

from lib_lora.browser.markup import listing_html

PROMPTS = {"txt2img": "#txt2img_prompt textarea", "img2img": "#img2img_prompt textarea"}


def make_tab() -> list[tuple[gr.Blocks, str, str]]:
    """(what is in it, its title, its id), as the WebUI asks for tabs. The page's scripts fill the container."""
    with gr.Blocks(analytics_enabled=False) as tab:
        gr.HTML(listing_html(PROMPTS), elem_id="lib_lora_listing")
    return [(tab, "LoRA", "lib_lora")]
