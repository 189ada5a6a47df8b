// The view of duplicates: groups of files with the reason why each stands here. Which files have the same content is known
// once their hashes are; computing them goes on in the background and shows how far it is.

(function () {
    "use strict";

    const MOST = 60;     // groups at a time

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Duplicates {
        constructor(api, {open, closed}) {
            const {element} = lib.dom;
            Object.assign(this, {api, open});
            this.progress = new lib.Progress();
            this.status = element("span", {class: "lora-meta", role: "status", "aria-live": "polite"});
            this.hashButton = element("button", {
                type: "button", class: "lora-chip", text: lib.t("Compute hashes"),
                title: lib.t("Reads all files once, in the background: then pictures and copies are recognised by their hashes"),
                onclick: () => this.hash(),
            });
            this.measuring = new lib.Progress();
            this.measureButton = element("button", {
                type: "button", class: "lora-chip", text: lib.t("Measure all"),
                title: lib.t("Reads all files once, in the background: then what they change is known at once, and the listing can be sorted by it"),
                onclick: () => this.measure(),
            });
            this.groups = element("div", {class: "lora-groups"});
            this.element = element("section", {class: "lora-duplicates", hidden: true, "aria-label": lib.t("Duplicates"), tabindex: "-1"},
                element("div", {class: "lora-duplicates-bar"}, this.status, this.hashButton, this.measureButton,
                    element("button", {type: "button", class: "lora-chip", text: lib.t("Back to the listing"), onclick: closed})),
                this.progress.element, this.measuring.element, this.groups);
        }

        get isOpen() {
            return !this.element.hidden;
        }

        show() {
            this.element.hidden = false;
            this.element.focus();
            this.look();
            this.watchHashing();  // perhaps it is going on already
            this.watchMeasuring();
        }

        hide() {
            this.element.hidden = true;
        }

        async look() {
            this.status.textContent = lib.t("Comparing files …");
            try {
                const {groups} = await this.api.duplicates();
                this.fill(groups);
            } catch (error) {
                this.status.textContent = lib.t("Duplicates cannot be looked for now: {why}", {why: error.message});
            }
        }

        fill(groups, most = MOST) {
            const {element} = lib.dom;
            this.status.textContent = groups.length === 0 ? lib.t("No duplicates.")
                : lib.t(groups.length === 1 ? "{n} group of duplicates" : "{n} groups of duplicates", {n: groups.length.toLocaleString()});
            this.groups.replaceChildren(...groups.slice(0, most).map(({kind, reason, items}) => element("section", {class: "lora-group", "data-lora-kind": kind},
                element("h4", {text: reason}),
                ...items.map((card) => lib.card.makeLine(this.api, card, () => this.open(card))))),
            ...(groups.length > most ? [element("button", {
                type: "button", class: "lora-secondary", text: lib.t("Show more"), onclick: () => this.fill(groups, most + MOST),
            })] : []));
        }

        async hash() {
            try {
                await this.api.hash();
            } catch (error) {
                this.status.textContent = error.message;
                return;
            }
            await this.watchHashing();
            this.look();
        }

        async measure() {
            const begun = await this.api.measure().catch((error) => this.status.textContent = error.message);
            if (begun.total === 0) this.status.textContent = lib.t("All files are measured.");
            this.watchMeasuring();
        }

        async watchMeasuring() {
            this.measureButton.disabled = true;
            await this.measuring.follow(() => this.api.measuring(), "Measuring: {done} of {total} files", (state) => !this.isOpen || state && !state.running);
            this.measureButton.disabled = false;
        }

        async watchHashing() {
            this.hashButton.disabled = true;
            await this.progress.follow(() => this.api.hashing(), "Computing hashes: {done} of {total} files", (state) => !this.isOpen || state && !state.running);
            this.hashButton.disabled = false;
        }
    }

    lib.Duplicates = Duplicates;
})();
