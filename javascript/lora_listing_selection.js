// Adapters that are picked to be marked together, and the bar that does it.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Selection {
        // changed(): other cards are picked; all(): a promise of all ids that are shown; act(ids, change): marks them; compare(ids).
        constructor({changed, all, act, compare, suggestions}) {
            const {element} = lib.dom;
            Object.assign(this, {changed, all, act});
            this.ids = new Set();
            this.anchor = -1;     // where a shift-click begins
            this.isMode = false;  // a plain click picks
            this.count = element("span", {class: "lora-picked", role: "status", "aria-live": "polite"});
            this.allButton = this.button(lib.t("Select all shown"), () => this.takeAll());
            this.clearButton = this.button(lib.t("Clear"), () => this.clear());
            this.clearButton.setAttribute("aria-label", lib.t("Clear selection"));
            this.tag = element("input", {
                type: "text", class: "lora-input", placeholder: lib.t("Tag"), "aria-label": lib.t("Tag for the selected adapters"), list: suggestions.id,
                autocomplete: "off", spellcheck: "false", maxlength: "60", onfocus: suggestions.refresh,
                onkeydown: (event) => {
                    if (event.key !== "Enter") return;
                    event.preventDefault();
                    this.mark("add_tags");
                },
            });
            this.acts = [
                this.button(lib.t("Compare"), () => compare(this.list)),
                this.button(lib.t("Favourite"), () => this.act(this.list, {favorite: true})),
                this.button(lib.t("Unfavourite"), () => this.act(this.list, {favorite: false})),
                element("span", {class: "lora-tagging"}, this.tag,
                    this.button(lib.t("Add tag"), () => this.mark("add_tags")),
                    this.button(lib.t("Remove tag"), () => this.mark("remove_tags"))),
            ];
            this.element = element("div", {class: "lora-picking", role: "toolbar", "aria-label": lib.t("Selected adapters"), hidden: true},
                this.count, this.allButton, this.clearButton, ...this.acts);
        }

        button(text, onclick) {
            return lib.dom.element("button", {type: "button", class: "lora-chip", text, onclick});
        }

        get list() {
            return [...this.ids];
        }

        get isOn() {
            return this.isMode || this.ids.size > 0;
        }

        has(id) {
            return this.ids.has(id);
        }

        toggle(id, n) {
            if (!this.ids.delete(id)) this.ids.add(id);
            this.anchor = n;
            this.show();
        }

        // Everything from the last one to the n-th; cards that are not here yet are asked for by their ids.
        async reach(n, card) {
            const places = lib.view.between(Math.max(0, this.anchor), n);
            let ids = places.map((place) => card(place)?.id);
            if (ids.includes(undefined)) {
                const all = await this.all();
                ids = places.map((place) => all[place]).filter((id) => id !== undefined);
            }
            for (const id of ids) this.ids.add(id);
            this.show();
        }

        async takeAll() {
            for (const id of await this.all()) this.ids.add(id);
            this.show();
        }

        clear() {
            this.ids.clear();
            this.anchor = -1;
            this.isMode = false;
            this.show();
        }

        turn() {
            if (this.isOn) return this.clear();
            this.isMode = true;
            this.show();
        }

        mark(what) {
            const tag = this.tag.value.trim();
            if (!tag) return this.tag.focus();
            this.act(this.list, {[what]: [tag]});
            this.tag.value = "";
        }

        show() {
            this.element.hidden = !this.isOn;
            this.count.textContent = lib.t("{n} selected", {n: this.ids.size.toLocaleString()});
            for (const each of this.element.querySelectorAll("button, input")) each.disabled = this.ids.size === 0;
            this.allButton.disabled = this.clearButton.disabled = false;
            this.changed();
        }
    }

    lib.Selection = Selection;
})();
