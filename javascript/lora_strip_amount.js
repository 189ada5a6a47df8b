// A weight that counts instead of the usual one, in the hires pass or while the refiner runs: a number, a curve, or off.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripAmount {
        // `captions`: {key: caption} of the arguments, the first stands for all; changed({key: text}): null for none.
        constructor(captions, changed) {
            this.changed = changed;
            this.parts = Object.entries(captions).map(([key, caption]) => this.part(key, caption));
            this.element = lib.dom.element("div", {class: "lora-part"}, ...this.parts.map(({element}) => element));
        }

        part(key, caption) {
            const {element} = lib.dom;
            const write = (weight) => this.changed({[key]: lib.curve.write(weight)});
            const weight = new lib.Weight(caption, caption, write);
            const curve = new lib.StripCurve(caption, write);
            const off = element("button", {type: "button", class: "lora-chip", text: lib.t("off"), onclick: () => this.changed({[key]: "off"})});
            const over = element("button", {
                type: "button", class: "lora-chip", text: lib.t("over the steps"),
                onclick: () => write(lib.curve.make("share", [0, 1].map((at) => ({at, weight: weight.value})))),
            });
            const line = element("div", {class: "lora-point"}, weight.element, off, over);
            return {key, weight, curve, off, over, line, element: element("div", {class: "lora-amount"}, line, curve.element)};
        }

        show(tag, scene) {
            this.parts.forEach(({key, weight, curve, off, over, line, element}, n) => {
                const typed = tag.values[key]?.text;
                const isOff = typed?.toLowerCase() === "off";
                const value = isOff ? 0 : typed === undefined ? lib.curve.peak(tag.unet ?? 1) : lib.curve.read(typed);
                element.hidden = value === null || typed === undefined && (n > 0 || this.parts.some((other) => tag.values[other.key]));
                if (element.hidden) return;
                const isCurve = typeof value === "object";
                line.hidden = isCurve;
                curve.element.hidden = !isCurve;
                weight.show(value);
                off.setAttribute("aria-pressed", String(isOff));
                over.disabled = isOff;
                if (isCurve) curve.show(value, {steps: scene.steps});
            });
        }
    }

    lib.StripAmount = StripAmount;
})();
