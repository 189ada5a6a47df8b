// The strip below a prompt: one row for each <lora:...> tag of the text, with sliders. Two-way: moving a slider rewrites
// the number in the text, typing moves the slider. The text is the truth; the strip keeps only what a text cannot hold:
// whether a row is split into text encoder and UNet, and what a muted tag's weights were.

(function () {
    "use strict";

    const PAUSE = 220;      // milliseconds without typing before the server is asked
    const MOST_WORDS = 24;  // trigger words of a row

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Strip {
        constructor(root) {
            this.root = root;
            this.prompt = root.dataset.loraPrompt;
            this.api = lib.api(root.dataset.loraApi);
            this.rows = new Map();   // "name#2" -> Row: the second tag of that name
            this.facts = new Map();  // name and "force" -> what the server said
            this.list = lib.dom.element("div", {class: "lora-rows", role: "list"});
            this.say = lib.dom.element("div", {class: "lora-said", role: "status", "aria-live": "polite"});
            root.replaceChildren(this.list, this.say);
            lib.dom.watch(root, this.prompt, (text) => this.read(text));
            addEventListener("lora-rescanned", () => this.forget());
            addEventListener("focusout", ({target}) => target === lib.dom.textarea(this.prompt) && this.read(this.text));
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
            if (text !== this.lastRead) for (const row of this.rows.values()) row.endDrag();
            this.lastRead = text;
            const seen = new Map();
            const rows = new Map();
            tags.forEach((tag, n) => {
                const name = tag.name.toLowerCase();
                seen.set(name, (seen.get(name) ?? 0) + 1);
                const key = `${name}#${seen.get(name)}`;
                const row = this.rows.get(key) ?? new Row(this);
                rows.set(key, row);
                row.show(tag, n, text, this.facts.get(factKey(tag)));
                row.element.hidden = tag.isOpen && this.isTyping(text, tag);
                if (this.list.children[n] !== row.element) this.list.insertBefore(row.element, this.list.children[n] ?? null);
            });
            for (const [key, row] of this.rows) if (rows.get(key) !== row) row.element.remove();
            this.rows = rows;
            this.root.classList.toggle("lora-empty", [...rows.values()].every((row) => row.element.hidden));
            this.root.classList.toggle("lora-several", tags.length > 1);
            clearTimeout(this.timer);
            if (tags.some((tag) => !tag.error && !this.facts.has(factKey(tag)))) this.timer = setTimeout(() => this.ask(), PAUSE);
        }

        // A tag that is just being typed has no end yet: nobody needs to be told.
        isTyping(text, tag) {
            const area = lib.dom.textarea(this.prompt);
            if (!area || document.activeElement !== area || area.selectionStart < tag.end) return false;
            return !/[<>,\n]/.test(text.slice(tag.end, area.selectionStart));
        }

        async ask() {
            const asked = this.text;
            let told;
            try {
                told = await this.api.prompt(asked);
            } catch (error) {
                this.say.textContent = lib.t("The adapters cannot be looked up now: {why}", {why: error.message});
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
            this.both = new lib.Weight("Weight", "", (value) => this.set({te: value, unet: value}));
            this.te = new lib.Weight("Weight of the text encoder", lib.t("Text"), (value) => this.set({te: value}));
            this.unet = new lib.Weight("Weight of the UNet", lib.t("UNet"), (value) => this.set({unet: value}));
            this.weights = element("div", {class: "lora-weights"}, this.both.element, this.te.element, this.unet.element);
            this.splitButton = iconButton("split", lib.t("Text encoder and UNet apart"), () => this.split(!this.isSplit));
            this.muteButton = iconButton("sound", lib.t("Mute"), () => this.mute(!this.isMuted));
            this.soloButton = iconButton("solo", lib.t("Solo: mute all others"), () => strip.solo(this), "lora-solo");
            this.words = element("div", {class: "lora-words"});
            this.problem = element("div", {class: "lora-problem", role: "alert"});
            const remove = iconButton("remove", lib.t("Remove from the prompt"), () => strip.edit((text) => lib.tagEdits.remove(text, this.place)));
            this.handle = iconButton("grip", lib.t("Move: drag, or Alt and an arrow key"), () => {}, "lora-grip");
            this.element = element(
                "div", {class: "lora-row", role: "listitem", tabindex: "-1", onkeydown: (event) => this.key(event)},
                this.handle,
                element("div", {class: "lora-head"}, this.name, this.badges),
                this.weights,
                element("div", {class: "lora-tools"}, this.splitButton, this.muteButton, this.soloButton, remove),
                this.words,
                this.problem,
            );
            this.endDrag = lib.drag.dragBy(this.handle, this.element, {
                elements: () => [...strip.list.children],
                moved: (from, to) => strip.edit((text) => lib.tagEdits.move(text, from, to)),
            });
        }

        get isMuted() {
            return !this.tag.error && this.tag.te === 0 && this.tag.unet === 0;
        }

        show(tag, place, text, fact) {
            this.tag = tag;
            this.place = place;
            const adapter = fact?.adapter ?? null;
            setText(this.name, tag.name || lib.t("(no name)"));
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
            const notes = tag.error ? [] : [...tag.notes, ...(fact?.also?.length ? [lib.t("also installed under this name: {names}", {names: fact.also.join(", ")})] : [])];
            const state = JSON.stringify([problem, notes, fact?.nearest, adapter?.id, adapter?.family.label]);
            if (state !== this.state) {
                this.state = state;
                this.badges.replaceChildren(...(adapter ? [lib.dom.badge(adapter.family)] : []));
                this.problem.replaceChildren(...[problem, ...notes].filter(Boolean).map((line) => lib.dom.element("span", {text: line})));
                for (const name of fact?.nearest ?? []) {
                    this.problem.append(lib.dom.element("button", {
                        type: "button", class: "lora-chip", text: name,
                        onclick: () => this.strip.edit((now) => lib.tagEdits.rename(now, this.place, name)),
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
                    onclick: () => this.strip.edit((now) => lib.triggerWords.toggle(now, word)),
                })));
            }
            for (const chip of this.words.children) chip.setAttribute("aria-pressed", String(lib.triggerWords.isIn(text, chip.dataset.loraWord)));
        }

        set(weights) {
            this.strip.edit((text) => lib.tagEdits.setWeights(text, this.place, weights));
        }

        split(isSplit) {
            this.isSplit = isSplit;
            if (!isSplit) this.strip.edit((text) => lib.tagEdits.join(text, this.place));
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
            const isMove = event.altKey || event.target === this.handle;
            if (!isMove || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
            event.preventDefault();
            const focused = event.target;
            const other = this.place + (event.key === "ArrowUp" ? -1 : 1);
            this.strip.edit((text) => lib.tagEdits.move(text, this.place, other));
            focused.focus();
        }
    }

    function setText(node, text) {
        if (node.textContent !== text) node.textContent = text;
    }

    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);  // when all scripts are here
    function start() {
        lib.mount(".lora-strip", (root) => new Strip(root));
    }
})();
