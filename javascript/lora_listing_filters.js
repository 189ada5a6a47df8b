// The facets above the listing: a button for each, which opens what can be chosen; what is chosen stands beside and can be
// taken away, on a phone too.

(function () {
    "use strict";

    const FACETS = {family: "Base model", flavour: "Flavour", algorithm: "Algorithm", folder: "Folder", tag: "Tag", state: "Show"};
    const MANY = 10;   // values from which on there is a field to look among them
    const MOST = 300;  // values that are shown

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Filters {
        constructor(changed) {
            const {element} = lib.dom;
            this.changed = changed;
            this.chosen = {};    // facet -> [value]
            this.values = {};    // facet -> [{value, label, count}], as the server told
            this.labels = new Map();
            this.useful = new Set();
            this.open = null;
            this.word = "";
            this.buttons = element("div", {class: "lora-facet-buttons"});
            this.menu = element("div", {class: "lora-menu", hidden: true, role: "group", onkeydown: (event) => this.key(event)});
            this.chips = element("div", {class: "lora-chosen", role: "group", "aria-label": lib.t("Filters")});
            this.element = element("div", {class: "lora-facets"}, this.buttons, this.chips, this.menu);
            document.addEventListener("pointerdown", (event) => this.open && !this.element.contains(event.target) && this.close(false));
        }

        show(facets) {
            this.values = facets;
            for (const [facet, values] of Object.entries(facets)) {
                for (const {value, label} of values) this.labels.set(`${facet} ${value}`, facet === "state" || value === "" ? lib.t(label) : label);
            }
            const {element, icon} = lib.dom;
            const shown = Object.keys(FACETS).filter((facet) => this.isUseful(facet));
            const focused = this.buttons.contains(document.activeElement) ? document.activeElement.dataset.loraFacet : null;
            this.buttons.replaceChildren(...shown.map((facet) => element("button", {
                type: "button", class: "lora-chip lora-facet", "data-lora-facet": facet, "aria-expanded": String(this.open === facet), "aria-haspopup": "true",
                onclick: () => this.open === facet ? this.close() : this.unfold(facet),
            }, element("span", {text: lib.t(FACETS[facet])}), icon("down"))));
            if (focused) this.button(focused)?.focus();
            this.showChips();
            if (this.open) this.fill();
        }

        // A choice of one is none, unless it leaves something out. A button that was there stays.
        isUseful(facet) {
            const values = this.values[facet] ?? [];
            if (values.length > 1 || values.length > 0 && ["tag", "state"].includes(facet)) this.useful.add(facet);
            return this.useful.has(facet);
        }

        button(facet) {
            return this.buttons.querySelector(`[data-lora-facet="${facet}"]`);
        }

        label(facet, value) {
            return this.labels.get(`${facet} ${value}`) ?? value;
        }

        showChips() {
            const {element, icon} = lib.dom;
            const all = Object.entries(this.chosen).flatMap(([facet, values]) => values.map((value) => [facet, value]));
            const state = JSON.stringify(all.map(([facet, value]) => [facet, value, this.label(facet, value)]));
            if (state === this.shownChips) return;  // a chip under the mouse stays the one it was
            this.shownChips = state;
            const chips = all.map(([facet, value]) => {
                const text = this.label(facet, value);
                return element("button", {
                    type: "button", class: "lora-chip lora-chosen-chip", title: lib.t("Take this filter away"),
                    "aria-label": lib.t("Take away the filter {facet}: {value}", {facet: lib.t(FACETS[facet] ?? facet), value: text}),
                    onclick: () => this.choose(facet, value),
                }, element("span", {text}), icon("remove"));
            });
            if (all.length > 1) chips.push(element("button", {type: "button", class: "lora-link", text: lib.t("Clear filters"), onclick: () => this.clear()}));
            this.chips.replaceChildren(...chips);
        }

        // The open facet

        unfold(facet) {
            this.open = facet;
            this.word = "";
            this.menu.setAttribute("aria-label", lib.t(FACETS[facet]));
            this.menu.hidden = false;
            this.fill();
            for (const button of this.buttons.children) button.setAttribute("aria-expanded", String(button.dataset.loraFacet === facet));
            this.menu.style.setProperty("--lora-left", `${Math.min(this.button(facet).offsetLeft, this.element.clientWidth - 260)}px`);
            this.menu.style.top = `${this.button(facet).offsetTop + this.button(facet).offsetHeight + 4}px`;
            this.menu.querySelector("input")?.focus();
        }

        fill() {
            const {element} = lib.dom;
            const facet = this.open;
            const focused = this.menu.contains(document.activeElement) ? document.activeElement : null;
            const [value, caret] = [focused?.value, focused?.type === "search" ? focused.selectionStart : null];
            const chosen = this.chosen[facet] ?? [];
            const values = this.values[facet] ?? [];
            const gone = chosen.filter((each) => !values.some((one) => one.value === each)).map((each) => ({value: each, count: 0}));
            const fits = [...gone, ...values].filter((each) => this.label(facet, each.value).toLowerCase().includes(this.word.toLowerCase()));
            const search = values.length <= MANY ? null : element("input", {
                type: "search", class: "lora-input", placeholder: lib.t("Search …"), "aria-label": lib.t("Search among the values"), value: this.word,
                oninput: (event) => {
                    this.word = event.target.value;
                    this.fill();
                },
            });
            this.menu.replaceChildren(...[search, ...fits.slice(0, MOST).map((each) => element("label", {class: "lora-choice"},
                element("input", {type: "checkbox", value: each.value, checked: chosen.includes(each.value), onchange: () => this.choose(facet, each.value)}),
                element("span", {class: "lora-choice-name", text: this.label(facet, each.value)}),
                element("span", {class: "lora-count", text: each.count.toLocaleString()}))),
            fits.length === 0 ? element("div", {class: "lora-meta", text: lib.t("Nothing fits.")}) : null].filter(Boolean));
            if (caret !== null) {
                this.menu.querySelector("[type=search]")?.focus();
                this.menu.querySelector("[type=search]")?.setSelectionRange(caret, caret);
            } else if (focused) {
                [...this.menu.querySelectorAll("[type=checkbox]")].find((box) => box.value === value)?.focus();
            }
        }

        close(isFocused = true) {
            const facet = this.open;
            this.open = null;
            this.menu.hidden = true;
            this.button(facet)?.setAttribute("aria-expanded", "false");
            if (isFocused) this.button(facet)?.focus();
        }

        key(event) {
            const boxes = [...this.menu.querySelectorAll("input")];
            const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
            if (step) boxes[(boxes.indexOf(event.target) + step + boxes.length) % boxes.length]?.focus();
            else if (event.key === "Escape") this.close();
            else if (event.key === "Enter" && event.target.type === "checkbox") event.target.click();
            else return;
            event.preventDefault();
            event.stopPropagation();
        }

        choose(facet, value) {
            const chosen = this.chosen[facet] ?? [];
            this.chosen[facet] = chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value];
            this.showChips();
            this.changed();
        }

        clear() {
            this.chosen = {};
            this.showChips();
            this.changed();
        }
    }

    lib.Filters = Filters;
})();
