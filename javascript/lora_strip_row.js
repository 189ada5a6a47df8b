// One row of the strip: the sliders of a tag, its buttons, what the tag says beyond its weight, the trigger words of its adapter,
// and what is wrong with it.

(function () {
    "use strict";

    const MOST_WORDS = 24;  // trigger words of a row

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripRow {
        // edit(change): rewrites the prompt; solo(): mutes the other rows; changed(): it is split, joined or opened now;
        // elements(): all rows; presets: see StripEditor; inside(id): a promise of what an adapter changes.
        constructor({edit, solo, changed, elements, presets, inside}) {
            const {element, iconButton} = lib.dom;
            Object.assign(this, {edit, changed});
            this.isSplit = false;
            this.before = null;  // weights before it was muted
            this.fact = null;    // what the server said of it
            const open = () => this.open(true);
            this.name = element("span", {class: "lora-name"});
            this.badges = element("span", {class: "lora-badges"});
            this.both = new lib.Weight("Weight", "", (value) => this.set({te: value, unet: value}), open);
            this.te = new lib.Weight("Weight of the text encoder", lib.t("Text"), (value) => this.set({te: value}), open);
            this.unet = new lib.Weight("Weight of the UNet", lib.t("UNet"), (value) => this.set({unet: value}), open);
            this.weights = element("div", {class: "lora-weights"}, this.both.element, this.te.element, this.unet.element);
            this.editor = new lib.StripEditor({
                weigh: (weights) => this.set(weights),
                set: (values) => edit((text) => lib.tagEdits.setArguments(text, this.place, values)),
                presets,
                inside: () => inside(this.fact?.adapter?.id),
                toggle: (isOpen) => this.open(isOpen),
            });
            this.opener = iconButton("curve", lib.t("Steps, blocks, passes and places"), () => this.open(!this.editor.isOpen), "lora-opener");
            this.splitButton = iconButton("split", lib.t("Text encoder and UNet apart"), () => this.split(!this.isSplit));
            this.muteButton = iconButton("sound", lib.t("Mute"), () => this.mute(!this.isMuted));
            this.soloButton = iconButton("solo", lib.t("Solo: mute all others"), solo, "lora-solo");
            this.words = element("div", {class: "lora-words"});
            this.problem = element("div", {class: "lora-problem", role: "alert"});
            this.notes = element("div", {class: "lora-notes"});
            const remove = iconButton("remove", lib.t("Remove from the prompt"), () => edit((text) => lib.tagEdits.remove(text, this.place)));
            this.handle = iconButton("grip", lib.t("Move: drag, or Alt and an arrow key"), () => {}, "lora-grip");
            this.element = element(
                "div", {class: "lora-row", role: "listitem", tabindex: "-1", onkeydown: (event) => this.key(event)},
                this.handle,
                element("div", {class: "lora-head"}, this.name, this.badges),
                this.weights,
                element("div", {class: "lora-tools"}, this.opener, this.splitButton, this.muteButton, this.soloButton, remove),
                this.editor.element,
                this.words,
                this.problem,
                this.notes,
            );
            this.endDrag = lib.drag.dragBy(this.handle, this.element, {
                elements,
                moved: (from, to) => edit((text) => lib.tagEdits.move(text, from, to)),
            });
        }

        get isMuted() {
            return this.tag.te === 0 && this.tag.unet === 0;
        }

        // Whether it shows blocks.
        get needsBlocks() {
            return this.editor.isOpen || Boolean(this.tag.values.lbw);
        }

        // scene: of the server and of the page, see StripEditor. As long as nothing is known of a new text, the old facts stay.
        show(tag, place, {text, fact: newest, scene}) {
            const before = this.fact?.adapter?.id;
            if (newest || tag.name !== this.tag?.name) this.fact = newest ?? null;
            if (before !== this.fact?.adapter?.id) this.editor.blocks.forgetInside(Boolean(this.fact?.adapter));
            const {fact} = this;
            Object.assign(this, {tag, place});
            const adapter = fact?.adapter ?? null;
            setText(this.name, tag.name || lib.t("(no name)"));
            this.name.title = adapter ? adapter.name : tag.source;
            if (!lib.curve.isSame(tag.te, tag.unet)) this.isSplit = true;
            if (!this.isMuted) this.before = null;
            this.both.show(tag.te, adapter);
            this.te.show(tag.te, adapter);
            this.unet.show(tag.unet, adapter);
            const parts = this.element.classList;
            parts.toggle("lora-split", this.isSplit && tag.te !== null);
            parts.toggle("lora-muted", this.isMuted);
            parts.toggle("lora-unread", tag.te === null);
            parts.toggle("lora-opened", this.editor.isOpen);
            this.opener.setAttribute("aria-expanded", String(this.editor.isOpen));
            this.opener.disabled = Boolean(tag.error);
            this.editor.show(tag, {...scene, isWhole: adapter?.algorithms.some((name) => name !== "LoRA")});
            this.splitButton.setAttribute("aria-pressed", String(this.isSplit));
            this.muteButton.setAttribute("aria-pressed", String(this.isMuted));
            const label = this.isMuted ? lib.t("Unmute") : lib.t("Mute");
            if (this.muteButton.title !== label) {
                this.muteButton.title = label;
                this.muteButton.setAttribute("aria-label", label);
                this.muteButton.replaceChildren(lib.dom.icon(this.isMuted ? "muted" : "sound"));
            }
            this.showFact(tag, fact, adapter, text);
        }

        showFact(tag, fact, adapter, text) {
            const problem = tag.error ?? fact?.problem ?? "";
            const prefix = `${lib.tagScan.shortened(fact?.source ?? "")}: `;
            const ofTag = (fact?.notes ?? []).map((note) => note.startsWith(prefix) ? note.slice(prefix.length) : note);
            const notes = tag.error ? [] : [...ofTag, ...(fact?.also?.length ? [lib.t("also installed under this name: {names}", {names: fact.also.join(", ")})] : [])];
            const state = JSON.stringify([problem, notes, fact?.nearest, adapter?.id, adapter?.family.label]);
            if (state !== this.state) {
                this.state = state;
                this.badges.replaceChildren(...(adapter ? [lib.dom.badge(adapter.family)] : []));
                this.problem.replaceChildren(...(problem ? [lib.dom.element("span", {text: problem})] : []));
                this.notes.replaceChildren(...notes.map((text) => lib.dom.element("span", {text})));
                for (const name of fact?.nearest ?? []) {
                    this.problem.append(lib.dom.element("button", {
                        type: "button", class: "lora-chip", text: name,
                        onclick: () => this.edit((now) => lib.tagEdits.rename(now, this.place, name)),
                    }));
                }
                this.element.classList.toggle("lora-bad", Boolean(problem));
            }
            this.showWords(adapter, text);
        }

        showWords(adapter, text) {
            const wanted = adapter ? lib.triggerWords.of(adapter).slice(0, MOST_WORDS) : [];
            if (JSON.stringify(wanted) !== this.shownWords) {
                this.shownWords = JSON.stringify(wanted);
                this.words.replaceChildren(...wanted.map((word) => lib.dom.element("button", {
                    type: "button", class: "lora-chip", text: word, "data-lora-word": word, title: lib.t("Trigger word: put it into the prompt, or take it out"),
                    onclick: () => this.edit((now) => lib.triggerWords.toggle(now, word)),
                })));
            }
            for (const chip of this.words.children) chip.setAttribute("aria-pressed", String(lib.triggerWords.isIn(text, chip.dataset.loraWord)));
        }

        set(weights) {
            this.edit((text) => lib.tagEdits.setWeights(text, this.place, weights));
        }

        split(isSplit) {
            this.isSplit = isSplit;
            if (!isSplit) this.edit((text) => lib.tagEdits.join(text, this.place));
            this.changed();
        }

        mute(isMuted) {
            if (this.tag.te === null || isMuted === this.isMuted) return;
            const usual = this.both.usual;
            const weights = isMuted ? {te: 0, unet: 0} : this.before ?? {te: usual, unet: usual};
            const before = {te: this.tag.te, unet: this.tag.unet};
            this.set(weights);
            this.before = isMuted ? before : null;
        }

        // What the tag says beyond its weight, or only that it does.
        open(isOpen, isByKey = false) {
            this.editor.open(isOpen);
            this.changed();
            if (isOpen && isByKey) this.editor.focus();
        }

        key(event) {
            if (event.key === "Escape" && this.editor.isOpen && this.editor.element.contains(event.target)) {
                event.preventDefault();
                event.stopPropagation();  // the WebUI would interrupt a picture
                this.open(false);
                return this.opener.focus();
            }
            if (event.key === "ArrowDown" && event.target === this.opener && !event.altKey) {
                event.preventDefault();
                return this.open(true, true);
            }
            const isMove = event.altKey || event.target === this.handle;
            if (!isMove || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
            event.preventDefault();
            const focused = event.target;
            const other = this.place + (event.key === "ArrowUp" ? -1 : 1);
            this.edit((text) => lib.tagEdits.move(text, this.place, other));
            focused.focus();
        }
    }

    function setText(node, text) {
        if (node.textContent !== text) node.textContent = text;
    }

    lib.StripRow = StripRow;
})();
