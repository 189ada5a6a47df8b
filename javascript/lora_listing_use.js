// How the prompts have one adapter: its weight, a button for each prompt, its trigger words.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Use {
        // toggle(card, weight, selector): into that prompt, or out of it.
        constructor(card, prompts, {toggle}) {
            const {element} = lib.dom;
            Object.assign(this, {card, prompts});
            this.weight = new lib.Weight(lib.t("Weight"), lib.t("Weight"), (value) => this.weigh(value));
            this.weight.show(card.weight ?? 1, card);
            this.buttons = prompts.targets.map(([label, selector]) => element("button", {
                type: "button", class: "lora-primary", "data-lora-target": selector, "data-lora-label": label,
                onclick: () => toggle(this.card, this.weight.value, selector),
            }));
            this.chips = lib.triggerWords.of(card).map((word) => element("button", {
                type: "button", class: "lora-chip", text: word, "data-lora-word": word,
                onclick: () => prompts.edit((text) => lib.triggerWords.toggle(text, word)),
            }));
        }

        // Weight and buttons, and below them the trigger words; nothing of a file that is broken.
        get elements() {
            const {element} = lib.dom;
            if (this.card.broken) return [];
            const words = this.chips.length ? [lib.facts.section(lib.t("Trigger words"), element("div", {class: "lora-words"}, ...this.chips))] : [];
            return [element("div", {class: "lora-use"}, this.weight.element, element("div", {class: "lora-targets"}, ...this.buttons)), ...words];
        }

        // The slider rewrites the tag where there is one; else it waits for the button.
        weigh(value) {
            this.weight.show(value);
            const {names} = this.card;
            if (lib.tags.indexOf(this.prompts.text, names) < 0) return;
            this.prompts.edit((text) => lib.tagEdits.setWeights(text, lib.tags.indexOf(text, names), {te: value, unet: value}));
        }

        // As the prompts are now, and the card.
        mark(card) {
            this.card = card;
            for (const button of this.buttons) {
                const isIn = lib.tags.indexOf(lib.dom.textarea(button.dataset.loraTarget)?.value ?? "", card.names) >= 0;
                const isOnly = this.buttons.length === 1;
                const sentence = isIn ? (isOnly ? "Take out of the prompt" : "Take out of {prompt}") : (isOnly ? "Put into the prompt" : "Add to {prompt}");
                button.textContent = lib.t(sentence, {prompt: button.dataset.loraLabel});
                button.setAttribute("aria-pressed", String(isIn));
            }
            const {text} = this.prompts;
            for (const chip of this.chips) chip.setAttribute("aria-pressed", String(lib.triggerWords.isIn(text, chip.dataset.loraWord)));
            const tag = lib.tags.find(text)[lib.tags.indexOf(text, card.names)];
            if (tag && !tag.error) this.weight.show(tag.unet);
        }
    }

    lib.Use = Use;
})();
