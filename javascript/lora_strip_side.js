// Small parts of the editor: which side of the guidance an adapter acts on, and a field for what has no better editor.

(function () {
    "use strict";

    const SIDES = [["both", "both sides"], ["cond", "prompt only"], ["uncond", "negative prompt only"]];

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripSide {
        // changed({on})
        constructor(changed) {
            const {element} = lib.dom;
            this.chips = SIDES.map(([value, label]) => element("button", {
                type: "button", class: "lora-chip", role: "radio", text: lib.t(label), "data-lora-side": value,
                onclick: () => changed({on: value}), onkeydown: (event) => this.key(event),
            }));
            this.element = element("div", {class: "lora-part lora-words", role: "radiogroup", "aria-label": lib.t("Acts on")}, ...this.chips);
        }

        show({values}, {side: usual}) {
            const side = values.on?.text.toLowerCase() ?? usual;
            const isKnown = SIDES.some(([value]) => value === side);
            for (const chip of this.chips) {
                const isOn = chip.dataset.loraSide === side;
                chip.setAttribute("aria-checked", String(isOn));
                chip.tabIndex = isOn || !isKnown && chip === this.chips[0] ? 0 : -1;
            }
        }

        key(event) {
            const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
            if (!by || event.altKey) return;
            event.preventDefault();
            const next = this.chips.at((this.chips.indexOf(event.target) + by) % this.chips.length);
            next.focus();
            next.click();
        }
    }

    class StripText {
        // changed({key: text})
        constructor(key, label, changed) {
            this.key = key;
            this.field = lib.dom.element("input", {
                type: "text", class: "lora-input", "aria-label": label, spellcheck: "false", autocomplete: "off",
                oninput: () => /[<>:]/.test(this.field.value) || changed({[key]: this.field.value.trim()}),
            });
            this.element = lib.dom.element("div", {class: "lora-part"}, this.field);
        }

        show({values}) {
            const text = values[this.key]?.text ?? "";
            if (this.field.value.trim() !== text) this.field.value = text;
        }
    }

    lib.StripSide = StripSide;
    lib.StripText = StripText;
})();
