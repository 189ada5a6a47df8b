// The form of a comparison: which adapters, weights, prompts and seeds; how many pictures that would be, and how long they take.

(function () {
    "use strict";

    const PAUSE = 250;  // milliseconds between a key and the question how much it would be
    const MEMORY = "lora-compare";
    const USUAL = {weights: "0 0.5 1", seeds: "1"};
    const KEPT = ["weights", "seeds", "steps", "size"];  // fields that are there again at the next visit

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class CompareForm {
        // start(wanted): the button was pressed; planned(plan): the server knows how much it would be, or null.
        constructor(api, {start, planned}) {
            const {element} = lib.dom;
            Object.assign(this, {api, start, planned});
            this.cards = [];  // {id, title, names}
            this.given = "";  // the prompt that came from the page
            this.fields = {};
            this.chips = element("div", {class: "lora-compare-adapters"});
            this.checkpoints = element("div", {class: "lora-compare-checkpoints"});
            this.checkpointsPart = element("fieldset", {class: "lora-compare-field", hidden: true},
                element("legend", {class: "lora-label", text: lib.t("Checkpoints")}), this.checkpoints);
            this.said = element("p", {class: "lora-compare-plan", role: "status", "aria-live": "polite"});
            this.button = element("button", {type: "submit", class: "lora-primary", text: lib.t("Start")});
            this.together = element("p", {class: "lora-note"});
            this.element = element("form", {
                class: "lora-compare-form", novalidate: true, oninput: () => this.planSoon(),
                onsubmit: (event) => {
                    event.preventDefault();
                    this.begin();
                },
            },
            element("fieldset", {class: "lora-compare-field lora-compare-wide"}, element("legend", {class: "lora-label", text: lib.t("Adapters")}), this.chips),
            this.field("weights", lib.t("Weights"), {hint: lib.t("numbers, or what can stand in a tag: 0@0,1@1")}),
            this.field("seeds", lib.t("Seeds"), {hint: lib.t("1 2 3, or 5-8")}),
            this.field("prompts", lib.t("Prompts"), {hint: lib.t("one on each line; a word in {braces} gives way to an adapter's trigger words"), lines: 3, more: "lora-compare-wide"}),
            this.field("negative", lib.t("Negative prompt")),
            element("div", {class: "lora-compare-pair"}, this.field("steps", lib.t("Steps"), {inputmode: "numeric"}), this.field("size", lib.t("Size"))),
            this.checkpointsPart,
            element("div", {class: "lora-compare-go lora-compare-wide"}, this.button, this.said), this.together);
            const kept = {...USUAL, ...lib.remembered.get(MEMORY, {})};
            for (const name of KEPT) this.fields[name].value = typeof kept[name] === "string" ? kept[name] : "";
        }

        field(name, label, {hint = "", lines = 0, inputmode = null, more = ""} = {}) {
            const {element} = lib.dom;
            const about = hint ? `lora-compare-${name}-hint` : null;
            this.fields[name] = element(lines ? "textarea" : "input", {
                class: "lora-input", name, rows: lines || null, type: lines ? null : "text", inputmode, autocomplete: "off", spellcheck: "false", "aria-describedby": about,
            });
            return element("label", {class: `lora-compare-field ${more}`}, element("span", {class: "lora-label", text: label}), this.fields[name],
                hint && element("span", {class: "lora-note", id: about, text: hint}));
        }

        // What suits the model, and what there is to choose from.
        tell({usual, checkpoints, together}) {
            const {element} = lib.dom;
            this.fields.steps.placeholder = String(usual.steps);
            this.fields.size.placeholder = usual.size.join("x");
            this.together.textContent = together;
            const chosen = new Set(this.chosenCheckpoints);
            this.checkpointsPart.hidden = checkpoints.length < 2;
            this.checkpoints.replaceChildren(element("span", {class: "lora-note", text: lib.t("none: the one that is loaded")}), ...checkpoints.map((name) => {
                const box = element("input", {type: "checkbox", value: name});
                box.checked = chosen.has(name);
                return element("label", {class: "lora-choice"}, box, element("span", {class: "lora-choice-name", text: name}));
            }));
        }

        get chosenCheckpoints() {
            return [...this.checkpoints.querySelectorAll("input:checked")].map((box) => box.value);
        }

        // These adapters, and the page's prompt where the user has written no other.
        take(cards, prompt) {
            this.cards = cards;
            const {prompts} = this.fields;
            if (!prompts.value.trim() || prompts.value === this.given) {
                this.given = lib.compareRead.bare(prompt, cards.flatMap((card) => card.names));
                prompts.value = this.given;
            }
            this.showCards();
            return this.plan();
        }

        // What was asked for another time.
        fill({ids, weights, prompts, seeds, negative, steps, size, checkpoints}, names) {
            this.cards = ids.flatMap((id, place) => id === null ? [] : [{id, title: names[place], names: []}]);
            const texts = {weights: weights.join(" "), seeds: ranges(seeds), prompts: prompts.join("\n"), negative, steps: steps ?? "", size: size ? size.join("x") : ""};
            for (const [name, text] of Object.entries(texts)) this.fields[name].value = text;
            for (const box of this.checkpoints.querySelectorAll("input")) box.checked = checkpoints.includes(box.value);
            this.showCards();
            return this.plan();
        }

        showCards() {
            const {element, icon} = lib.dom;
            if (!this.cards.length) return this.chips.replaceChildren(element("span", {class: "lora-note", text: lib.t("None yet: mark cards in the listing, then press Compare.")}));
            this.chips.replaceChildren(...this.cards.map((card, place) => element("button", {
                type: "button", class: "lora-chip lora-chosen-chip", title: lib.t("Leave out"), "aria-label": lib.t("Leave {name} out", {name: card.title}),
                onclick: () => this.leaveOut(place),
            }, element("span", {text: card.title}), icon("remove"))));
        }

        leaveOut(place) {
            this.cards = this.cards.filter((_, other) => other !== place);
            this.showCards();
            (this.chips.querySelectorAll("button")[Math.min(place, this.cards.length - 1)] ?? this.fields.weights).focus();
            this.plan();
        }

        // As the server takes it. Throws what cannot be read.
        get wanted() {
            const {weights, seeds, prompts, steps, size} = lib.compareRead;
            const {fields} = this;
            return {
                adapters: this.cards.map((card) => card.id), weights: weights(fields.weights.value), seeds: seeds(fields.seeds.value),
                prompts: prompts(fields.prompts.value), negative: fields.negative.value.trim(), steps: steps(fields.steps.value),
                size: size(fields.size.value), checkpoints: this.chosenCheckpoints,
            };
        }

        planSoon() {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.plan(), PAUSE);
        }

        async plan() {
            clearTimeout(this.timer);
            const asked = this.asked = {};
            let plan = null;
            if (this.cards.length) {
                try {
                    const told = await this.api.plan(this.wanted);
                    plan = told.refused ? null : told;
                    if (asked === this.asked) this.say(plan ? amount(plan) : "", plan?.problems ?? [told.refused]);
                } catch (error) {
                    if (asked === this.asked) this.say("", [error.message]);
                }
            } else {
                this.say("", []);
            }
            if (asked !== this.asked) return;
            this.planned(plan);
        }

        say(text, problems) {
            const {element} = lib.dom;
            this.said.replaceChildren(text, ...problems.map((problem) => element("span", {class: "lora-problem", text: problem})));
        }

        begin() {
            try {
                const {wanted} = this;
                lib.remembered.set(MEMORY, Object.fromEntries(KEPT.map((name) => [name, this.fields[name].value])));
                this.start(wanted);
            } catch (error) {
                this.say("", [error.message]);
            }
        }
    }

    // "24 pictures, about 40 s"
    function amount({pictures, seconds}) {
        const {duration} = lib.compareRead;
        const many = lib.t(pictures === 1 ? "{n} picture" : "{n} pictures", {n: pictures.toLocaleString()});
        return seconds === null ? many : lib.t("{many}, about {time}", {many, time: duration(seconds)});
    }

    // "1-4 9" of [1, 2, 3, 4, 9]
    function ranges(numbers) {
        const parts = [];
        for (const number of numbers) {
            const last = parts.at(-1);
            if (last && number === last[1] + 1) last[1] = number;
            else parts.push([number, number]);
        }
        return parts.map(([first, last]) => first === last ? first : last === first + 1 ? `${first} ${last}` : `${first}-${last}`).join(" ");
    }

    lib.CompareForm = CompareForm;
})();
