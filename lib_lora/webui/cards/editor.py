"""The window behind a card's edit button: the user's own notes on an adapter, saved beside its file."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

import gradio as gr
from modules import sysinfo, ui_extra_networks_user_metadata

from lib_lora.describe.family_rules import CHOICES
from lib_lora.errors import LoraError
from lib_lora.grammar.trigger_words import escaped
from lib_lora.library.entry import Entry
from lib_lora.library.sidecar import Notes, SidecarError, read_notes, save_notes
from lib_lora.webui.names.catalogue import Catalogue
from lib_lora.webui.names.protocols import Lister
from lib_lora.webui.names.sd_version import shown_version

VERSIONS = [*CHOICES, "Unknown"]
SHOWN_TAGS = 24

Tags = Sequence[tuple[str, int]]


class EditedPage(Protocol):
    """What the window needs of the page whose adapters it edits."""

    name: str
    lister: Lister
    catalogue: Catalogue


class LoraEditor(ui_extra_networks_user_metadata.UserMetadataEditor):
    """Shows what is known of a file, and edits what the user says about it."""

    page: EditedPage

    def create_editor(self) -> None:
        """The elements, top to bottom."""
        self.create_default_editor_elems()
        taginfo = gr.HighlightedText(label="Training dataset tags")
        activation = gr.Text(label="Activation text", info="Will be added to prompt along with Lora")
        weight = gr.Slider(label="Preferred weight", info="Set to 0 to disable", minimum=-2.0, maximum=2.0, step=0.01)
        negative = gr.Text(label="Negative prompt", info="Will be added to negative prompts")
        with gr.Row() as random_row:
            with gr.Column(scale=8):
                random_prompt = gr.Textbox(label="Random prompt", lines=4, max_lines=4, interactive=False)
            with gr.Column(scale=1, min_width=120):
                again = gr.Button("Generate", size="lg", scale=1)
        self.edit_notes = gr.TextArea(label="Notes", lines=4)
        shown_state = gr.Textbox(visible=False)  # whose notes the window shows, and in which state of the file
        own = (taginfo, activation, weight, negative, random_prompt, again, self.edit_notes, shown_state, self.version)
        for each in own:  # ui-config.json remembers limits by the label, and the built-in has the same labels
            each.do_not_save_to_config = True
        self.create_default_buttons()

        again.click(fn=lambda name: random_words(self._entry(name).trained_tags),
                    inputs=[self.edit_name_input], outputs=[random_prompt], show_progress=False)
        taginfo.select(fn=_toggle, inputs=[activation], outputs=[activation], show_progress=False)
        shown = [self.edit_name, self.edit_description, self.html_filedata, self.html_preview, self.edit_notes,
                 self.version, taginfo, activation, weight, negative, random_row, random_prompt, self.html_status,
                 shown_state]
        name = [self.edit_name_input]
        filled = self.button_edit.click(fn=self.put_values_into_components, inputs=name, outputs=shown)
        filled.success(fn=lambda: gr.update(visible=True), inputs=[], outputs=[self.box])
        edited = [shown_state, self.edit_description, self.version, activation, weight, negative, self.edit_notes]
        self._on_save(edited)

    def create_extra_default_items_in_left_column(self) -> None:
        """Called by the WebUI while it makes the upper part."""
        self.version = gr.Dropdown(VERSIONS, value="Unknown", label="Stable Diffusion version", interactive=True)

    def put_values_into_components(self, name: str) -> list[Any]:
        """What the window shows for this adapter."""
        entry = self._entry(name)
        notes = _read(entry)
        tags = entry.trained_tags
        rows = "".join(f"<tr><th>{html.escape(k)}:</th><td>{html.escape(v)}</td></tr>" for k, v in facts(entry))
        return [
            html.escape(name),
            notes.description or entry.details.description,
            f'<table class="file-metadata">{rows}</table>',
            self.get_card_html(name),
            notes.notes,
            shown_version(entry, notes),
            gr.HighlightedText.update(
                value=[(tag, str(count)) for tag, count in tags[:SHOWN_TAGS]], visible=bool(tags)),
            notes.activation_text,
            notes.preferred_weight,
            notes.negative_text,
            gr.update(visible=bool(tags)),
            gr.update(value=random_words(tags), visible=bool(tags)),
            "",
            _state(entry, notes),
        ]

    def save(self, name: str, *values: Any) -> str:
        """Save what the window holds; unknown keys of the file survive. Returns what to show as status."""
        state, description, version, activation, weight, negative, text = values
        entry = self._entry(name)
        try:
            before = read_notes(entry.path)
            if state != _state(entry, before):
                raise SidecarError(f"the notes on {name} are not those that this window was opened with: open it again")
            if version == shown_version(entry, before):  # shown, not chosen
                version = before.sd_version
            if description == entry.details.description:
                description = before.description
            save_notes(entry.path, replace(
                before, description=description, sd_version=version, activation_text=activation,
                preferred_weight=float(weight or 0), negative_text=negative, notes=text))
        except LoraError as error:
            raise gr.Error(str(error)) from error
        self.page.lister.reset()
        self.page.catalogue.refresh()
        return ""

    def save_preview(self, index: int, gallery: list[Any], name: str) -> tuple[str, str]:
        """The button "Replace preview": the library sees the new picture too."""
        shown = super().save_preview(index, gallery, name)
        self.page.catalogue.refresh()
        return shown

    def _on_save(self, edited: list[gr.components.Component]) -> None:
        """As the WebUI does it, but the window stays open if saving fails."""
        card = f"{json.dumps(self.page.name)}, {json.dumps(self.tabname)}"
        close = f"function(name){{ closePopup(); extraNetworksRefreshSingleCard({card}, name); }}"
        saved = self.button_save.click(fn=self.save, inputs=[self.edit_name_input, *edited], outputs=[self.html_status])
        saved.success(fn=None, _js=close, inputs=[self.edit_name_input], outputs=[])

    def _entry(self, name: str) -> Entry:
        entry = self.page.catalogue.get(name)
        if entry is None:
            raise gr.Error(f"{name} is not there any more: refresh the page")
        return entry


def _read(entry: Entry) -> Notes:
    try:
        return read_notes(entry.path)
    except SidecarError as error:
        raise gr.Error(str(error)) from error


def _state(entry: Entry, notes: Notes) -> str:
    return f"{entry.path} {notes.digest}"


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """(label, value) of everything that the upper part of the window tells."""
    yield "Filename", f"{entry.name}{entry.extension}"
    yield "File size", sysinfo.pretty_bytes(entry.size)
    yield "Hash", entry.shorthash
    yield "Modified", datetime.fromtimestamp(entry.mtime_ns / 1e9).strftime("%Y-%m-%d %H:%M")
    if entry.broken:
        yield "Problem", entry.broken
        return
    if entry.alias != entry.stem:
        yield "Output name", entry.alias
    yield "Base model", entry.family.label
    rank = "" if entry.rank is None else ", rank " + " to ".join(map(str, sorted(set(entry.rank))))
    yield "Algorithm", f"{', '.join(entry.algorithms)}{rank}"
    yield from entry.training_facts


def random_words(tags: Tags) -> str:
    """A prompt out of the tags of the training pictures, each as likely as it was frequent."""
    most = max((count for _, count in tags), default=0)
    chosen = sorted(tag for tag, count in tags if count > random.random() * most)
    return ", ".join(map(escaped, chosen))


def _toggle(activation: str, event: gr.SelectData) -> str:
    """A click on a tag puts it into the activation text, or takes it out."""
    tag = escaped(event.value[0])
    words = [word.strip() for word in activation.split(",") if word.strip()]
    return ", ".join([word for word in words if word != tag] if tag in words else [*words, tag])
