// The prompts that the listing writes into: which one is chosen, which adapters are in it, and how tags get in and out.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Prompts {
        // `root`: the listing, which names the prompts; changed(): another one is chosen, or its text is another; say(sentence).
        constructor(root, {changed, say}) {
            const {element} = lib.dom;
            Object.assign(this, {root, changed, say});
            this.targets = Object.entries(JSON.parse(root.dataset.loraTargets || "{}"));  // [label, selector]
            this.names = new Set();  // of the tags in the chosen one
            this.select = element("select", {class: "lora-select", "aria-label": lib.t("Prompt to write into"), onchange: () => this.read()},
                ...this.targets.map(([text, value]) => element("option", {value, text: lib.t(text)})));
            this.select.hidden = this.targets.length < 2;
        }

        // From now on, whoever writes into them.
        watch() {
            for (const [, selector] of this.targets) lib.dom.watch(this.root, selector, () => this.read());
        }

        // The chosen one's element; null if it is not on the page.
        get area() {
            return lib.dom.textarea(this.select.value || this.targets[0]?.[1] || "textarea");
        }

        get text() {
            return this.area?.value ?? "";
        }

        read() {
            this.names = new Set(lib.tags.find(this.text).flatMap(({name}) => [name.toLowerCase(), lib.tags.unescaped(name).toLowerCase()]));
            this.changed();
        }

        holds(card) {
            return card.names.some((name) => this.names.has(name.toLowerCase()));
        }

        // `selector`: another one than the chosen.
        edit(change, selector) {
            const area = selector ? lib.dom.textarea(selector) : this.area;
            if (!area) return this.say(lib.t("There is no prompt on this page to write into."));
            lib.dom.write(area, change(area.value));
            this.root.dispatchEvent(new CustomEvent("lora-edited", {bubbles: true}));
            this.read();
        }

        toggle(card, weight, selector) {
            const isIn = lib.tags.indexOf((selector ? lib.dom.textarea(selector) : this.area)?.value ?? "", card.names) >= 0;
            this.edit((text) => lib.tagEdits.toggle(text, card.names, lib.view.promptText(card, weight)), selector);
            const values = {name: card.title, reason: card.reason};
            if (isIn) this.say(lib.t("{name}: out of the prompt", values));
            else this.say(card.reason ? lib.t("{name}: in the prompt, but {reason}", values) : lib.t("{name}: in the prompt", values));
        }
    }

    lib.Prompts = Prompts;
})();
