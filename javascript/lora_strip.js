// The strip below a prompt: one row for each <lora:...> tag of the text, with sliders. Two-way: moving a slider rewrites
// the number in the text, typing moves the slider. The text is the truth; the strip keeps only what a text cannot hold:
// whether a row is split into text encoder and UNet, whether it is open, and what a muted tag's weights were.

(function () {
    "use strict";

    const PAUSE = 220;  // milliseconds without typing before the server is asked
    const MOST_FACTS = 400;
    const USUAL = {steps: 20, width: 512, height: 512};  // where the page does not say it

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Strip {
        constructor(root) {
            this.root = root;
            this.prompt = root.dataset.loraPrompt;
            this.api = lib.api(root.dataset.loraApi);
            this.rows = new Map();   // "name#2" -> StripRow: the second tag of that name
            this.facts = new Map();  // a tag but for its numbers -> what the server said
            this.blocks = new lib.StripKnown(this.api, () => this.read(this.text));
            this.list = lib.dom.element("div", {class: "lora-rows", role: "list"});
            this.together = new lib.StripTogether(this.api, {edit: (change) => this.edit(change, lib.dom.type), canSave: root.dataset.loraSide !== "uncond", steps: () => this.scene.steps});
            this.say = lib.dom.element("div", {class: "lora-said", role: "status", "aria-live": "polite"});
            root.replaceChildren(this.list, this.together.element, this.say);
            lib.dom.watch(root, this.prompt, (text) => this.read(text));
            for (const name of Object.keys(USUAL)) if (root.dataset[fieldOf(name)]) lib.dom.watch(root, root.dataset[fieldOf(name)], () => this.read(this.text));
            lib.dom.hear(root, "lora-rescanned", () => this.forget());
            lib.dom.hear(root, "focusout", ({target}) => target === lib.dom.textarea(this.prompt) && this.read(this.text));
        }

        get text() {
            return lib.dom.textarea(this.prompt)?.value ?? "";
        }

        // What the editors of rows need to know of the server and of the page: how many steps, the picture's shape, where the prompt counts.
        get scene() {
            const number = (name) => Number(lib.dom.textarea(this.root.dataset[fieldOf(name)] ?? "none")?.value) || USUAL[name];
            return {known: this.blocks.known, side: this.root.dataset.loraSide ?? "both", ...Object.fromEntries(Object.keys(USUAL).map((name) => [name, number(name)]))};
        }

        // Rewrite the prompt; whoever wants to redraw hears of it. `write`: how.
        edit(change, write = lib.dom.write) {
            const area = lib.dom.textarea(this.prompt);
            if (!area) return;
            write(area, change(area.value));
            this.root.dispatchEvent(new CustomEvent("lora-edited", {bubbles: true}));
        }

        read(text) {
            const tags = lib.tags.find(text);
            if (text !== this.lastRead) for (const row of this.rows.values()) row.endDrag();
            this.lastRead = text;
            const {scene} = this;
            const seen = new Map();
            const rows = new Map();
            tags.forEach((tag, n) => {
                const name = tag.name.toLowerCase();
                seen.set(name, (seen.get(name) ?? 0) + 1);
                const key = `${name}#${seen.get(name)}`;
                const row = this.rows.get(key) ?? this.makeRow();
                rows.set(key, row);
                row.show(tag, n, {text, fact: this.facts.get(factKey(tag)), scene});
                row.element.hidden = tag.isOpen && this.isTyping(text, tag);
                if (this.list.children[n] !== row.element) this.list.insertBefore(row.element, this.list.children[n] ?? null);
            });
            for (const [key, row] of this.rows) if (rows.get(key) !== row) row.element.remove();
            this.rows = rows;
            this.root.classList.toggle("lora-empty", [...rows.values()].every((row) => row.element.hidden));
            this.root.classList.toggle("lora-several", tags.length > 1);
            this.together.show(text, tags);
            if ([...rows.values()].some((row) => row.needsBlocks)) this.blocks.ask();
            clearTimeout(this.timer);
            if (tags.some((tag) => !tag.error && !this.facts.has(factKey(tag)))) this.timer = setTimeout(() => this.ask(), PAUSE);
        }

        makeRow() {
            const row = new lib.StripRow({
                edit: (change) => this.edit(change),
                solo: () => this.solo(row),
                changed: () => this.read(this.text),
                elements: () => [...this.list.children],
                inside: (id) => this.api.inside(id),
                presets: {save: (name, numbers) => this.blocks.save(name, numbers), forget: (name) => this.blocks.forget(name)},
            });
            return row;
        }

        // A tag that is just being typed has no end yet: nobody needs to be told.
        isTyping(text, tag) {
            const area = lib.dom.textarea(this.prompt);
            if (!area || document.activeElement !== area || area.selectionStart < tag.end) return false;
            return !/[<>,\n]/.test(text.slice(tag.end, area.selectionStart));
        }

        async ask() {
            const asked = this.text;
            let answer;
            try {
                answer = await this.api.prompt(asked);
            } catch (error) {
                this.say.textContent = lib.t("The adapters cannot be looked up now: {why}", {why: error.message});
                return;
            }
            this.say.textContent = "";
            const tags = lib.tags.find(asked);
            if (this.facts.size > MOST_FACTS) this.facts.clear();
            answer.tags.forEach((fact, n) => tags[n] && !tags[n].error && this.facts.set(factKey(tags[n]), fact));
            this.read(this.text);
        }

        forget() {
            this.facts.clear();
            this.blocks.forgetAll();
            this.together.forget();
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

    // What plain numbers a tag has makes no difference to what is said of it.
    function factKey(tag) {
        const rest = tag.given.filter(({key, text}) => ![null, "te", "unet"].includes(key) || lib.number.read(text) === null);
        return [tag.error ? "" : tag.name, ...rest.map(({key, text}) => `${key}=${text}`)].join(":");
    }

    function fieldOf(name) {
        return `lora${name[0].toUpperCase()}${name.slice(1)}`;
    }

    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);  // when all scripts are here
    function start() {
        lib.mount(".lora-strip", (root) => new Strip(root));
    }
})();
