// "Save as one adapter": what the tags of a prompt do, as one file in the first folder of adapters. The server writes it in the
// background, and says in a sentence why it does not.

(function () {
    "use strict";

    const WAYS = {exact: "Exact", rank: "At most so many ranks", error: "At most so much error (%)"};
    const USUAL = {rank: "32", error: "2"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripSave {
        // text(): the prompt; steps(): of the next picture.
        constructor(api, {text, steps}) {
            const {element} = lib.dom;
            Object.assign(this, {api, text, steps});
            this.button = element("button", {type: "button", class: "lora-chip lora-save", text: lib.t("Save as one adapter"), "aria-expanded": "false", onclick: () => this.open(this.form.hidden)});
            this.name = element("input", {type: "text", class: "lora-input", "aria-label": lib.t("Name of the new adapter"), placeholder: lib.t("Name of the new adapter"), maxlength: 100, spellcheck: "false", autocomplete: "off"});
            this.way = element("select", {class: "lora-input lora-presets", "aria-label": lib.t("How it is kept"), onchange: () => this.showWay()},
                ...Object.entries(WAYS).map(([value, text]) => element("option", {value, text: lib.t(text)})));
            this.amount = element("input", {type: "text", inputmode: "decimal", class: "lora-number", "aria-label": lib.t("How much"), hidden: true});
            this.half = element("input", {type: "checkbox"});
            this.at = element("input", {type: "text", inputmode: "decimal", class: "lora-number", value: "0.5", "aria-label": lib.t("Moment that is kept, from 0 to 1")});
            this.atLabel = element("label", {class: "lora-save-option", hidden: true}, element("span", {text: lib.t("Weights as they are at")}), this.at);
            this.saveButton = element("button", {type: "submit", class: "lora-primary", text: lib.t("Save")});
            this.progress = new lib.Progress();
            this.status = element("div", {class: "lora-status", role: "status", "aria-live": "polite"});
            this.form = element("form", {class: "lora-save-form", hidden: true, onsubmit: (event) => this.submit(event)},
                this.name, this.way, this.amount,
                element("label", {class: "lora-save-option", title: lib.t("Numbers of 16 bits; else of 32")}, this.half, element("span", {text: lib.t("half the size")})),
                this.atLabel, this.saveButton);
            this.element = element("div", {class: "lora-save-place", onkeydown: (event) => this.key(event)}, this.form, this.progress.element, this.status);
        }

        open(isOpen) {
            this.form.hidden = !isOpen;
            this.button.setAttribute("aria-expanded", String(isOpen));
            this.status.textContent = "";
            this.atLabel.hidden = !lib.tags.find(this.text()).some(changes);
            if (isOpen) this.name.focus();
        }

        showWay() {
            this.amount.hidden = this.way.value === "exact";
            this.amount.value = USUAL[this.way.value] ?? "";
        }

        async submit(event) {
            event.preventDefault();
            const asked = this.asked;
            if (typeof asked === "string") return this.say(asked);
            this.saveButton.disabled = true;
            this.say(lib.t("Saving …"));
            try {
                await this.api.save(asked);
                const {result, problem} = await lib.finished(() => this.api.saving(), (state) => this.progress.show(state, "{done} of {total} layers"));
                if (problem) throw new Error(problem);
                this.tell(result);
            } catch (error) {
                this.say(error.message);
            }
            this.progress.hide();
            this.saveButton.disabled = false;
        }

        // What the server is asked; a sentence where something is missing.
        get asked() {
            const amount = lib.number.readField(this.amount.value);
            const way = this.way.value;
            if (!this.name.value.trim()) return lib.t("The new adapter needs a name.");
            if (way !== "exact" && !(amount > 0)) return lib.t("How much? Write a number.");
            const limit = way === "rank" ? {rank: Math.round(amount)} : way === "error" ? {error: amount / 100} : {};
            return {prompt: this.text(), name: this.name.value, dtype: this.half.checked ? "fp16" : "fp32", ...limit, ...(this.atLabel.hidden ? {} : {at: this.at.value.trim(), steps: this.steps()})};
        }

        tell({name, tag, error, size, notes}) {
            const exact = error < 1e-6 ? lib.t("exact") : lib.t("error {percent} %", {percent: Number((100 * error).toPrecision(2))});
            this.open(false);
            this.name.value = "";
            this.say([lib.t("{name} is saved: {tag}, {size} MB, {exact}", {name, tag, size: Number((size / 1e6).toPrecision(2)), exact}), ...notes].join("; "));
            dispatchEvent(new CustomEvent("lora-rescanned"));
            dispatchEvent(new CustomEvent("lora-saved"));
        }

        say(sentence) {
            this.status.textContent = sentence;
        }

        key(event) {
            if (event.key !== "Escape" || this.form.hidden) return;
            event.preventDefault();
            event.stopPropagation();
            this.open(false);
            this.button.focus();
        }
    }

    // Whether a tag says something else at other moments.
    function changes({te, unet, values}) {
        return [te, unet].some((weight) => typeof weight === "object" && weight !== null) || ["start", "stop", "step", "when"].some((key) => values[key]);
    }

    lib.StripSave = StripSave;
})();
