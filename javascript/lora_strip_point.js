// The chosen point of a curve in numbers, with buttons for one more and one less; and the choice of what positions are.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripPoint {
        // moved({weight} or {at}); add(), remove()
        constructor({moved, add, remove}) {
            const {element, iconButton} = lib.dom;
            this.weight = field(lib.t("Weight of the point"), (value) => moved({weight: value}));
            this.at = field(lib.t("Position of the point"), (value) => value >= 0 && moved({at: value / this.scale}));
            this.percent = element("span", {class: "lora-meta"});
            this.less = iconButton("minus", lib.t("Remove the point (Delete)"), remove);
            this.more = iconButton("plus", lib.t("One more point (Enter, or a double click)"), add);
            this.scale = 1;
            this.element = element("div", {class: "lora-point"},
                element("span", {class: "lora-meta", text: lib.t("Weight")}), this.weight,
                element("span", {class: "lora-meta", text: lib.t("at")}), this.at, this.percent, element("span", {class: "lora-gap"}), this.more, this.less);
        }

        show(curve, n, axis, isFlat) {
            const point = curve.points[n];
            this.scale = axis.unit === "share" ? 100 : 1;  // shares are shown in percent
            this.percent.textContent = {share: "%", step: lib.t("steps"), sigma: "σ"}[axis.unit];
            fill(this.weight, point.weight);
            fill(this.at, Math.round(point.at * this.scale * 1000) / 1000);
            this.less.disabled = isFlat;
        }
    }

    function field(label, changed) {
        const node = lib.dom.element("input", {
            type: "text", inputmode: "decimal", class: "lora-number", "aria-label": label, title: label, autocomplete: "off", spellcheck: "false",
            oninput: () => {
                const value = lib.number.readField(node.value.replace(",", "."));
                node.toggleAttribute("aria-invalid", value === null);
                if (value !== null) changed(value);
            },
            onkeydown: (event) => event.key === "Enter" && node.blur(),
            onblur: () => node.shown !== undefined && fill(node, node.shown),
        });
        return node;
    }

    // Who types into it is left alone.
    function fill(node, value) {
        node.shown = value;
        if (document.activeElement === node && lib.number.readField(node.value.replace(",", ".")) === value) return;
        if (document.activeElement === node && node.hasAttribute("aria-invalid")) return;
        node.value = lib.number.write(value);
        node.removeAttribute("aria-invalid");
    }

    // What positions are: a select.
    function stripUnit(changed) {
        const units = [["share", lib.t("percent")], ["step", lib.t("steps")], ["sigma", lib.t("sigma")]];
        return lib.dom.element("select", {
            class: "lora-input lora-unit", "aria-label": lib.t("Positions are"), title: lib.t("Positions are"), onchange: ({target}) => changed(target.value),
        }, ...units.map(([value, text]) => lib.dom.element("option", {value, text})));
    }

    lib.StripPoint = StripPoint;
    lib.stripUnit = stripUnit;
})();
