// A slider and a field for one weight, in the strip and in the details. A weight that changes over the steps is shown as its
// curve instead, which opens what can edit it, if anything can.

(function () {
    "use strict";

    const RANGE = 2;     // the slider goes from -2 to 2; beyond that one types
    const STEP = 0.05;   // with the mouse and the arrow keys; Shift: a fifth of it

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Weight {
        constructor(label, caption, changed, opened = null) {
            const {element} = lib.dom;
            this.changed = changed;
            this.usual = 1;
            this.slider = element("input", {
                type: "range", class: "lora-slider", min: -RANGE, max: RANGE, step: 0.01, "aria-label": label,
                title: lib.t("Double click: the usual weight. Arrow keys: ±0.05, with Shift ±0.01"),
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
            this.spark = element("button", {type: "button", class: "lora-spark", disabled: !opened, hidden: true, onclick: opened ?? (() => {})});
            this.element = element("label", {class: "lora-weight"}, element("span", {class: "lora-caption", text: caption}), this.slider, this.field, this.spark);
            this.label = label;
        }

        show(value, adapter) {
            this.value = value;
            this.showCurve(typeof value === "object" ? value : null);
            if (adapter !== undefined) this.usual = adapter?.weight ?? 1;
            const isNumber = typeof value === "number";
            this.slider.disabled = this.field.disabled = !isNumber;
            if (!isNumber) return;
            const shown = Math.max(-RANGE, Math.min(RANGE, value));
            if (Number(this.slider.value) !== shown) this.slider.value = shown;
            const at = (side) => `${50 + 50 * side / RANGE}%`;
            this.slider.style.setProperty("--lora-from", at(Math.min(0, shown)));
            this.slider.style.setProperty("--lora-to", at(Math.max(0, shown)));
            this.element.classList.toggle("lora-beyond", Math.abs(value) > RANGE);
            this.element.classList.toggle("lora-negative", value < 0);
            const isTyping = document.activeElement === this.field;
            const typed = lib.number.readField(this.field.value);
            if (!isTyping || typed !== null && typed !== value) {
                this.field.value = value.toFixed(2) == value ? value.toFixed(2) : lib.number.write(value);
                this.field.removeAttribute("aria-invalid");
            }
        }

        showCurve(curve) {
            this.slider.hidden = this.field.hidden = curve !== null;
            this.spark.hidden = curve === null;
            const text = curve && lib.curve.write(curve);
            if (!curve || this.spark.title === text) return;
            this.spark.title = text;
            this.spark.setAttribute("aria-label", lib.t("{label} over the steps: {curve}", {label: this.label, curve: text}));
            this.spark.replaceChildren(lib.curveLine.small(curve));
        }

        typed() {
            const value = lib.number.readField(this.field.value.replace(",", "."));
            if (value === null) {
                this.field.setAttribute("aria-invalid", "true");
            } else {
                this.field.removeAttribute("aria-invalid");
                this.changed(value);
            }
        }

        key(event, isField = false) {
            const keys = isField ? {ArrowUp: 1, ArrowDown: -1} : {ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1};
            if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in keys) || typeof this.value !== "number") return;
            event.preventDefault();
            const step = event.shiftKey ? STEP / 5 : STEP;
            const moved = Math.round((this.value + keys[event.key] * step) * 1000) / 1000;
            this.changed(moved);
            if (isField) this.field.value = lib.number.write(moved);
        }
    }

    function snap(value) {
        return Math.round(Math.round(value / STEP) * STEP * 100) / 100;
    }

    lib.Weight = Weight;
})();
