// The line below the rows of a strip with several adapters: what they do together, which pull apart, a click that brings all back to
// what one does, and one that keeps them as one file. It opens.

(function () {
    "use strict";

    const AGAIN = 4000;  // until the weights of a model that was just loaded are measured
    const PAUSE = 350;  // milliseconds without a change before the server is asked
    const NEAR = 1.05;  // times: so much more than one is not worth a click
    const WHERE = {BASE: "the text encoder", IN: "the input blocks", M: "the middle block", OUT: "the output blocks"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripTogether {
        // edit(change): rewrites the prompt as one step of undo; canSave: whether they can be kept as one file; steps(): of a picture.
        constructor(api, {edit, canSave, steps}) {
            const {element, icon} = lib.dom;
            Object.assign(this, {api, edit, told: null, asked: null, isAsking: false});
            this.heat = new lib.StripHeat();
            this.warning = element("span", {class: "lora-together-warning", hidden: true}, icon("warn"));
            this.line = element("span", {class: "lora-together-text"});
            this.opener = element("button", {type: "button", class: "lora-together-open", "aria-expanded": "false", onclick: () => this.open(this.more.hidden)}, this.warning, this.line, icon("down"));
            this.scaleButton = element("button", {type: "button", class: "lora-chip", title: lib.t("All weights by the same factor, so that together they do what the strongest does alone at weight 1"), onclick: () => this.scale()});
            this.save = canSave ? new lib.StripSave(api, {text: () => this.text, steps}) : null;
            this.note = element("p", {class: "lora-meta lora-note"});
            this.explained = element("p", {class: "lora-meta lora-note"});
            this.more = element("div", {class: "lora-together-more", hidden: true}, this.heat.element, this.explained, this.note);
            this.element = element("section", {class: "lora-together", hidden: true, "aria-label": lib.t("Together"), onkeydown: (event) => this.key(event)},
                element("div", {class: "lora-together-line"}, this.opener, element("span", {class: "lora-words"}, this.scaleButton, ...(this.save ? [this.save.button] : []))),
                ...(this.save ? [this.save.element] : []), this.more);
        }

        // Another text: ask anew, once nothing has moved for a moment.
        show(text, tags) {
            this.text = text;
            const names = new Set(tags.filter(({error, te, unet}) => !error && !(te === 0 && unet === 0)).map(({name}) => name.toLowerCase()));
            const isOne = names.size < 2;
            if (isOne) this.element.hidden = true;
            const asked = isOne ? null : tags.map(({source}) => source).join("");
            if (asked === this.asked) return;
            this.asked = asked;
            this.isSecond = false;
            clearTimeout(this.timer);
            if (!isOne) this.timer = setTimeout(() => this.ask(), PAUSE);
        }

        // Files are others: the same text is asked again.
        forget() {
            this.asked = null;
        }

        // One question at a time: a slider asks many.
        async ask() {
            if (this.isAsking) return this.isLate = true;
            this.isAsking = true;
            const {asked, text} = this;
            const told = await this.api.together(text).catch((error) => ({adapters: [], note: error.message}));
            this.isAsking = false;
            if (asked === this.asked) this.fill(told);
            if (this.isLate || asked !== this.asked && this.asked !== null) {
                this.isLate = false;
                this.ask();
            }
        }

        fill(told) {
            this.told = told.adapters.length > 1 ? told : null;
            this.element.hidden = !this.told && !told.note;
            this.note.textContent = told.note ?? "";
            this.opener.disabled = !this.told;
            this.heat.element.hidden = !this.told;
            this.scaleButton.hidden = !this.told || told.times < NEAR;
            if (!this.told) {
                this.line.textContent = told.note ?? "";
                this.warning.hidden = true;
                return;
            }
            if (!told.is_measured && !this.isSecond) {
                this.isSecond = true;
                this.timer = setTimeout(() => this.ask(), AGAIN);
            }
            const isMuch = told.limit > 0 && told.times >= told.limit;
            this.element.classList.toggle("lora-is-much", isMuch);
            this.warning.hidden = !isMuch;
            this.line.textContent = sentence(told, isMuch);
            this.scaleButton.textContent = lib.t("Scale all by {factor}", {factor: lib.number.write(factorOf(told))});
            this.explained.textContent = explained(told);
            this.heat.show(told);
        }

        scale() {
            const {told} = this;
            this.edit((text) => lib.tagEdits.scale(text, told.adapters.flatMap(({tags}) => tags), factorOf(told)));
            this.opener.focus();
        }

        open(isOpen) {
            this.more.hidden = !isOpen;
            this.opener.setAttribute("aria-expanded", String(isOpen));
            this.element.classList.toggle("lora-opened", isOpen);
        }

        key(event) {
            if (event.key !== "Escape" || this.more.hidden) return;
            event.preventDefault();
            event.stopPropagation();  // the WebUI would interrupt a picture
            this.open(false);
            this.opener.focus();
        }
    }

    function factorOf({times}) {
        return Math.floor(100 / times) / 100;
    }

    function sentence({times, limit, pulls, adapters}, isMuch) {
        const amount = lib.t("Together {times} times what one does", {times: times.toFixed(times < 10 ? 1 : 0)});
        const much = isMuch ? [lib.t("from {limit} on pictures tend to be overdrawn", {limit: lib.number.write(limit)})] : [];
        return [amount, ...much, ...pulls.map((pull) => pulled(pull, adapters))].join("; ");
    }

    function pulled({a, b, groups, apart}, adapters) {
        const where = groups.map((group) => lib.t(WHERE[group])).join(", ");
        const names = {a: adapters[a].name, b: adapters[b].name, where};
        if (apart) return lib.t(where ? "{a} and {b} pull apart in {where}" : "{a} and {b} pull apart", names);
        return lib.t(where ? "{a} and {b} pull the same way in {where}" : "{a} and {b} pull the same way", names);
    }

    function explained({is_measured: isMeasured}) {
        return lib.t("Times: how far all of them move the model, beside what the strongest does alone at weight 1, each block in proportion to its own weights. Weights that change over the steps count at their strongest.")
            + (isMeasured ? "" : ` ${lib.t("The blocks' weights are those of a usual checkpoint.")}`);
    }

    lib.StripTogether = StripTogether;
})();
