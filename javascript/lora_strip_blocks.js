// The blocks of an adapter: bars, and presets by name. What is no numbers and no preset that is known stays as it was typed.

(function () {
    "use strict";

    const AS_TYPED = "";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripBlocks {
        // changed(text): of `lbw=`, null for none; save(name, numbers) and forget(name): a preset of the user; inside(): a promise of
        // what the adapter changes.
        constructor({changed, save, forget, inside}) {
            const {element, iconButton} = lib.dom;
            Object.assign(this, {changed, save, inside, tinted: null});
            this.silencer = new lib.Silencer();
            this.bars = new lib.StripBars((numbers) => changed(this.silencer.text(numbers)), (name) => this.silencer.toggled(this.shown, name));
            this.insideButton = iconButton("info", lib.t("Show what the adapter changes: reads the whole file"), () => this.look());
            this.insideButton.disabled = true;  // nobody has said yet which file it is
            this.select = element("select", {class: "lora-input lora-presets", "aria-label": lib.t("Preset of block weights"), onchange: () => this.choose(this.select.value)});
            this.saveButton = iconButton("save", lib.t("Save as a preset"), () => this.ask(true));
            this.forgetButton = iconButton("minus", lib.t("Forget this preset"), () => forget(this.select.value));
            this.clear = iconButton("remove", lib.t("All blocks alike"), () => changed(null));
            this.name = element("input", {
                type: "text", class: "lora-input", "aria-label": lib.t("Name of the preset"), placeholder: lib.t("Name of the preset"), maxlength: 40,
                onkeydown: (event) => this.key(event),
            });
            this.asked = element("div", {class: "lora-point", hidden: true}, this.name,
                element("button", {type: "button", class: "lora-chip", text: lib.t("Save"), onclick: () => this.keep()}),
                element("button", {type: "button", class: "lora-chip", text: lib.t("Cancel"), onclick: () => this.ask(false)}));
            this.note = element("p", {class: "lora-meta lora-note", role: "status"});
            this.element = element("section", {class: "lora-panel", "aria-label": lib.t("Blocks")},
                element("div", {class: "lora-panel-head"}, element("h4", {text: lib.t("Blocks")}), this.select, this.insideButton, this.saveButton, this.forgetButton, this.clear),
                this.asked, this.bars.element, this.note);
        }

        // `text`: of lbw=, "" for none; `known`: what the server knows of blocks, null until it has said it.
        // isWhole: bars that are begun anew have those too that only convolutions need.
        show(text, known, isWhole) {
            this.shown = lib.blocks.shown(text, known, isWhole);
            this.offer(known?.presets ?? []);
            this.clear.hidden = !text;
            this.bars.element.hidden = !this.shown;
            this.saveButton.disabled = !this.shown;
            this.note.textContent = this.shown || !known ? "" : lib.t("\"{text}\" has no bars here; it stays as it is.", {text: lib.tagScan.shortened(text)});
            if (!this.shown) return;
            this.silencer.see(text, this.shown);
            this.bars.show(this.shown.names, this.shown.numbers);
            this.bars.tint(this.tinted);
        }

        // Another adapter has the row, or none that is known: what it changes was not asked for.
        forgetInside(isKnown) {
            this.tinted = null;
            this.insideButton.disabled = !isKnown;
            this.insideButton.setAttribute("aria-pressed", "false");
        }

        async look() {
            if (this.tinted) {
                this.forgetInside(true);
                return this.bars.tint(null);
            }
            this.insideButton.disabled = true;
            const found = await this.inside().catch((error) => ({problem: error.message}));
            this.insideButton.disabled = false;
            if (found.problem) return this.note.textContent = found.problem;
            this.tinted = lib.changes.byBlock(found);
            this.insideButton.setAttribute("aria-pressed", "true");
            this.bars.tint(this.tinted);
        }

        offer(presets) {
            const {element} = lib.dom;
            const state = JSON.stringify(presets.map(({name, isOwn}) => [name, isOwn]));
            if (state !== this.offered) {
                this.offered = state;
                const group = (label, some) => some.length ? [element("optgroup", {label}, ...some.map(({name}) => element("option", {value: name, text: name})))] : [];
                this.select.replaceChildren(element("option", {value: AS_TYPED, text: lib.t("no preset")}),
                    ...group(lib.t("Yours"), presets.filter(({isOwn}) => isOwn)), ...group(lib.t("Built in"), presets.filter(({isOwn}) => !isOwn)));
            }
            const preset = this.shown?.preset;
            this.select.value = preset?.name ?? AS_TYPED;
            this.forgetButton.hidden = !preset?.isOwn;
            this.presets = presets;
        }

        choose(name) {
            const preset = lib.blocks.find(name, this.presets);
            if (preset) this.changed(preset.text);
        }

        ask(isAsked) {
            this.asked.hidden = !isAsked;
            this.name.value = "";
            (isAsked ? this.name : this.saveButton).focus();
        }

        keep() {
            const name = this.name.value.trim();
            if (!name || !this.shown) return this.name.focus();
            this.save(name, this.shown.numbers);
            this.ask(false);
        }

        key(event) {
            if (event.key === "Enter") this.keep();
            else if (event.key === "Escape") this.ask(false);
            else return;
            event.preventDefault();
            event.stopPropagation();
        }
    }

    lib.StripBlocks = StripBlocks;
})();
