// The strip below a prompt: one row for each <lora:...> tag of the text, with sliders. Two-way: moving a slider rewrites
// the number in the text, typing moves the slider. The text is the truth; the strip keeps only what a text cannot hold:
// whether a row is split into text encoder and UNet, and what a muted tag's weights were.

(function () {
    "use strict";

    const RANGE = 2;     // the slider goes from -2 to 2; beyond that one types
    const STEP = 0.05;   // with the mouse and the arrow keys; Shift: a fifth of it
    const PAUSE = 220;   // milliseconds without typing before the server is asked

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Strip {
        constructor(root) {
            this.root = root;
            this.prompt = root.dataset.loraPrompt;
            this.api = lib.dom.api(root.dataset.loraApi);
            this.rows = new Map();   // "name#2" -> Row: the second tag of that name
            this.facts = new Map();  // name and "force" -> what the server said
            this.list = lib.dom.element("div", {class: "lora-rows", role: "list"});
            this.say = lib.dom.element("div", {class: "lora-said", role: "status", "aria-live": "polite"});
            root.replaceChildren(this.list, this.say);
            lib.dom.watch(root, this.prompt, (text) => this.read(text));
            addEventListener("lora-rescanned", () => this.forget());
        }

        get text() {
            return lib.dom.textarea(this.prompt)?.value ?? "";
        }

        // Rewrite the prompt; whoever wants to redraw hears of it.
        edit(change) {
            const area = lib.dom.textarea(this.prompt);
            if (!area) return;
            lib.dom.write(area, change(area.value));
            this.root.dispatchEvent(new CustomEvent("lora-edited", {bubbles: true}));
        }

        read(text) {
            const tags = lib.tags.find(text);
            const seen = new Map();
            const rows = new Map();
            tags.forEach((tag, n) => {
                const name = tag.name.toLowerCase();
                seen.set(name, (seen.get(name) ?? 0) + 1);
                const key = `${name}#${seen.get(name)}`;
                const row = this.rows.get(key) ?? new Row(this);
                rows.set(key, row);
                row.show(tag, n, text, this.facts.get(factKey(tag)));
                if (this.list.children[n] !== row.element) this.list.insertBefore(row.element, this.list.children[n] ?? null);
            });
            for (const [key, row] of this.rows) if (rows.get(key) !== row) row.element.remove();
            this.rows = rows;
            this.root.classList.toggle("lora-empty", tags.length === 0);
            this.root.classList.toggle("lora-several", tags.length > 1);
            clearTimeout(this.timer);
            if (tags.some((tag) => !this.facts.has(factKey(tag)))) this.timer = setTimeout(() => this.ask(), PAUSE);
        }

        async ask() {
            const asked = this.text;
            let told;
            try {
                told = await this.api.prompt(asked);
            } catch (error) {
                this.say.textContent = `The adapters cannot be looked up now: ${error.message}`;
                return;
            }
            this.say.textContent = "";
            const tags = lib.tags.find(asked);
            told.tags.forEach((fact, n) => tags[n] && !tags[n].error && this.facts.set(factKey(tags[n]), fact));
            this.read(this.text);
        }

        forget() {
            this.facts.clear();
            this.read(this.text);
        }

        // Only this row sounds; once more, and all that were muted so come back.
        solo(chosen) {
            const others = [...this.rows.values()].filter((row) => row !== chosen && !row.tag.error);
            const areOut = others.length > 0 && others.every((row) => row.isMuted);
            if (chosen.isMuted) chosen.mute(false);
            for (const row of others) row.mute(!areOut);
        }
    }

    function factKey(tag) {
        return `${tag.force ? "force" : ""}:${tag.error ? "" : tag.name}`;
    }

    class Row {
        constructor(strip) {
            const {element, iconButton} = lib.dom;
            this.strip = strip;
            this.isSplit = false;
            this.before = null;  // weights before it was muted
            this.name = element("span", {class: "lora-name"});
            this.badges = element("span", {class: "lora-badges"});
            this.both = new Weight("Weight", "", (value) => this.set({te: value, unet: value}));
            this.te = new Weight("Weight of the text encoder", "Text", (value) => this.set({te: value}));
            this.unet = new Weight("Weight of the UNet", "UNet", (value) => this.set({unet: value}));
            this.weights = element("div", {class: "lora-weights"}, this.both.element, this.te.element, this.unet.element);
            this.splitButton = iconButton("split", "Text encoder and UNet apart", () => this.split(!this.isSplit));
            this.muteButton = iconButton("sound", "Mute", () => this.mute(!this.isMuted));
            this.soloButton = iconButton("solo", "Solo: mute all others", () => strip.solo(this), "lora-solo");
            this.words = element("div", {class: "lora-words"});
            this.problem = element("div", {class: "lora-problem", role: "alert"});
            const remove = iconButton("remove", "Remove from the prompt", () => strip.edit((text) => lib.tags.remove(text, this.place)));
            this.element = element(
                "div", {class: "lora-row", role: "listitem", tabindex: "-1", onkeydown: (event) => this.key(event)},
                element("div", {class: "lora-head"}, this.name, this.badges),
                this.weights,
                element("div", {class: "lora-tools"}, this.splitButton, this.muteButton, this.soloButton, remove),
                this.words,
                this.problem,
            );
        }

        get isMuted() {
            return !this.tag.error && this.tag.te === 0 && this.tag.unet === 0;
        }

        show(tag, place, text, fact) {
            this.tag = tag;
            this.place = place;
            const adapter = fact?.adapter ?? null;
            setText(this.name, tag.name || "(no name)");
            this.name.title = adapter ? adapter.name : tag.source;
            if (!tag.error && tag.te !== tag.unet) this.isSplit = true;
            if (!this.isMuted) this.before = null;
            this.both.show(tag.error ? null : tag.te, adapter);
            this.te.show(tag.te, adapter);
            this.unet.show(tag.unet, adapter);
            const parts = this.element.classList;
            parts.toggle("lora-split", this.isSplit && !tag.error);
            parts.toggle("lora-muted", this.isMuted);
            parts.toggle("lora-unread", Boolean(tag.error));
            this.splitButton.setAttribute("aria-pressed", String(this.isSplit));
            this.muteButton.setAttribute("aria-pressed", String(this.isMuted));
            const label = this.isMuted ? "Unmute" : "Mute";
            if (this.muteButton.title !== label) {
                this.muteButton.title = label;
                this.muteButton.setAttribute("aria-label", label);
                this.muteButton.replaceChildren(lib.dom.icon(this.isMuted ? "muted" : "sound"));
            }
            this.showFact(tag, fact, adapter, text);
        }

        showFact(tag, fact, adapter, text) {
            const problem = tag.error ?? fact?.problem ?? "";
            const notes = tag.error ? [] : [...tag.notes, ...(fact?.also?.length ? [`also installed under this name: ${fact.also.join(", ")}`] : [])];
            const state = JSON.stringify([problem, notes, fact?.nearest, adapter?.id, adapter?.family.label]);
            if (state !== this.state) {
                this.state = state;
                this.badges.replaceChildren(...(adapter ? [lib.dom.badge(adapter.family)] : []));
                this.problem.replaceChildren(...[problem, ...notes].filter(Boolean).map((line) => lib.dom.element("span", {text: line})));
                for (const name of fact?.nearest ?? []) {
                    this.problem.append(lib.dom.element("button", {
                        type: "button", class: "lora-chip", text: name,
                        onclick: () => this.strip.edit((now) => lib.tags.rename(now, this.place, name)),
                    }));
                }
                this.element.classList.toggle("lora-bad", Boolean(problem));
            }
            this.showWords(adapter, text);
        }

        showWords(adapter, text) {
            const words = adapter ? [...new Set([...adapter.activation_text.split(",").map((word) => word.trim()), ...adapter.trigger_words])] : [];
            const wanted = words.filter(Boolean).slice(0, 24);
            const chips = [...this.words.children];
            if (chips.map((chip) => chip.textContent).join("\n") !== wanted.join("\n")) {
                this.words.replaceChildren(...wanted.map((word) => lib.dom.element("button", {
                    type: "button", class: "lora-chip", text: word, title: "Trigger word: put it into the prompt, or take it out",
                    onclick: () => this.strip.edit((now) => lib.tags.toggleWord(now, word)),
                })));
            }
            for (const chip of this.words.children) chip.setAttribute("aria-pressed", String(lib.tags.hasWord(text, chip.textContent)));
        }

        set(weights) {
            this.strip.edit((text) => lib.tags.setWeights(text, this.place, weights));
        }

        split(isSplit) {
            this.isSplit = isSplit;
            if (!isSplit) this.strip.edit((text) => lib.tags.join(text, this.place));
            this.strip.read(this.strip.text);
        }

        mute(isMuted) {
            if (this.tag.error || isMuted === this.isMuted) return;
            const usual = this.both.usual;
            const weights = isMuted ? {te: 0, unet: 0} : this.before ?? {te: usual, unet: usual};
            const before = {te: this.tag.te, unet: this.tag.unet};
            this.set(weights);
            this.before = isMuted ? before : null;
        }

        key(event) {
            if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
            event.preventDefault();
            const focused = event.target;
            const other = this.place + (event.key === "ArrowUp" ? -1 : 1);
            this.strip.edit((text) => lib.tags.move(text, this.place, other));
            focused.focus();
        }
    }

    // A slider and a field for one number.
    class Weight {
        constructor(label, caption, changed) {
            const {element} = lib.dom;
            this.changed = changed;
            this.usual = 1;
            this.slider = element("input", {
                type: "range", class: "lora-slider", min: -RANGE, max: RANGE, step: 0.01, "aria-label": label,
                title: "Double click: the usual weight. Arrow keys: ±0.05, with Shift ±0.01",
                oninput: () => changed(snap(Number(this.slider.value))),
                ondblclick: () => changed(this.usual),
                onkeydown: (event) => this.key(event),
            });
            this.field = element("input", {
                type: "text", inputmode: "decimal", class: "lora-number", "aria-label": label, autocomplete: "off", spellcheck: "false",
                oninput: () => this.typed(),
                onblur: () => this.show(this.value),
                onkeydown: (event) => {
                    if (event.key === "Enter") this.field.blur();
                    else this.key(event, true);
                },
            });
            this.element = element("label", {class: "lora-weight"}, element("span", {class: "lora-caption", text: caption}), this.slider, this.field);
        }

        show(value, adapter) {
            this.value = value;
            if (adapter !== undefined) this.usual = adapter?.weight ?? 1;
            this.slider.disabled = this.field.disabled = value === null;
            if (value === null) return;
            const shown = Math.max(-RANGE, Math.min(RANGE, value));
            if (Number(this.slider.value) !== shown) this.slider.value = shown;
            const at = (side) => `${50 + 50 * side / RANGE}%`;
            this.slider.style.setProperty("--lora-from", at(Math.min(0, shown)));
            this.slider.style.setProperty("--lora-to", at(Math.max(0, shown)));
            this.element.classList.toggle("lora-beyond", Math.abs(value) > RANGE);
            this.element.classList.toggle("lora-negative", value < 0);
            const isTyping = document.activeElement === this.field;
            if (!isTyping || lib.tags.parseWeight(this.field.value) !== null && lib.tags.parseWeight(this.field.value) !== value) {
                this.field.value = value.toFixed(2) == value ? value.toFixed(2) : lib.tags.formatWeight(value);
                this.field.removeAttribute("aria-invalid");
            }
        }

        typed() {
            const value = lib.tags.parseWeight(this.field.value.replace(",", "."));
            if (value === null) {
                this.field.setAttribute("aria-invalid", "true");
            } else {
                this.field.removeAttribute("aria-invalid");
                this.changed(value);
            }
        }

        key(event, isField = false) {
            const keys = isField ? {ArrowUp: 1, ArrowDown: -1} : {ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1};
            if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in keys) || this.value === null) return;
            event.preventDefault();
            const step = event.shiftKey ? STEP / 5 : STEP;
            const moved = Math.round((this.value + keys[event.key] * step) * 1000) / 1000;
            this.changed(moved);
            if (isField) this.field.value = lib.tags.formatWeight(moved);
        }
    }

    function snap(value) {
        return Math.round(Math.round(value / STEP) * STEP * 100) / 100;
    }

    function setText(node, text) {
        if (node.textContent !== text) node.textContent = text;
    }

    lib.dom ? start() : addEventListener("DOMContentLoaded", start);
    function start() {
        lib.dom.mount(".lora-strip", (root) => new Strip(root));
    }
})();
