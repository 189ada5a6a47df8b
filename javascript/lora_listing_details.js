// The panel with everything about one adapter: picture, weight and prompts, trigger words, tags, notes, what the file says.
// Edits that are not saved are never thrown away without a question.

(function () {
    "use strict";

    const PATIENCE = 90;  // milliseconds: who holds an arrow key does not ask for every card
    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Details {
        constructor(listing) {
            this.listing = listing;
            this.card = null;    // as in the listing
            this.all = null;     // with everything, once the server told
            this.editor = null;
            this.element = lib.dom.element("aside", {
                class: "lora-details", hidden: true, "aria-label": lib.t("Details"), tabindex: "-1",
                onpaste: (event) => this.pasted(event),
            });
            this.question = lib.dom.element("div", {class: "lora-question", role: "alertdialog", "aria-label": lib.t("Unsaved changes"), hidden: true});
            addEventListener("beforeunload", (event) => this.editor?.isDirty && event.preventDefault());
        }

        get isOpen() {
            return this.card !== null;
        }

        // On a narrow page the panel lies over the cards.
        get isOverlaying() {
            return this.element.offsetWidth > this.listing.body.offsetWidth / 2;
        }

        // Coming and going

        async open(card, {isEditing = false, isFocused = false} = {}) {
            if (this.card?.id !== card.id) {
                if (this.editor?.isDirty) return this.ask(() => this.open(card, {isEditing, isFocused}));
                this.card = card;
                this.all = this.editor = null;
                this.build();
                this.element.hidden = false;
                this.element.scrollTop = 0;
                this.listing.grid.paintSoon();
                this.loading = this.load(card.id);
            }
            if (isFocused || this.isOverlaying) this.element.focus();
            if (!isEditing) return;
            await this.loading;
            if (this.card?.id === card.id) this.edit();
        }

        // The keyboard moved on in the grid: come along, unless something is being edited.
        follow(card) {
            if (this.isOpen && card && !this.editor) this.open(card);
        }

        async load(id, more = "") {
            if (!more) await new Promise((go) => setTimeout(go, PATIENCE));
            if (this.card?.id !== id) return;
            const told = await this.listing.api.entry(id, more).catch((error) => ({problem: error.message}));
            if (this.card?.id !== id) return;
            if (told.problem) return this.say(told.problem);
            this.all = told;
            this.card = told;
            this.build();
        }

        close() {
            if (!this.isOpen) return;
            if (this.editor?.isDirty) return this.ask(() => this.close());
            const {id} = this.card;
            this.card = this.all = this.editor = null;
            this.element.hidden = true;
            this.listing.grid.paintSoon();
            this.listing.back(id);
        }

        // Before edits would be lost.
        ask(then) {
            const {element} = lib.dom;
            const button = (text, kind, act) => element("button", {type: "button", class: kind, text: lib.t(text), onclick: async () => {
                this.question.hidden = true;
                await act();
            }});
            this.question.replaceChildren(
                element("span", {text: lib.t("The changes to {name} are not saved.", {name: this.card.title})}),
                element("div", {class: "lora-form-buttons"},
                    button("Save", "lora-primary", async () => await this.editor.save() && then()),
                    button("Discard", "lora-secondary", () => {
                        this.editor = null;
                        then();
                    }),
                    button("Keep editing", "lora-secondary", () => this.editor.focus())));
            this.question.hidden = false;
            this.question.querySelector("button").focus();
        }

        // What it shows

        build() {
            const {element, iconButton, badge} = lib.dom;
            const {section, text, histogram, facts, hashes, duplicates} = lib.facts;
            const {card, all, listing} = this;
            this.picture = this.makePicture();
            this.status = element("div", {class: "lora-status", role: "status", "aria-live": "polite"});
            this.tagsPlace = element("div", {class: "lora-place"});
            this.notesPlace = element("div", {class: "lora-place"});
            this.star = iconButton("star", "", () => listing.star(this.card), "lora-star");
            this.weight = new lib.Weight(lib.t("Weight"), lib.t("Weight"), (value) => this.weigh(value));
            this.weight.show(card.weight ?? 1, card);
            this.buttons = listing.prompts.targets.map(([label, selector]) => element("button", {
                type: "button", class: "lora-primary", "data-lora-target": selector, "data-lora-label": label,
                onclick: () => listing.toggle(this.card, this.weight.value, selector),
            }));
            const reason = card.broken || card.reason;
            this.element.replaceChildren(...[
                element("div", {class: "lora-details-bar"}, element("h3", {class: "lora-heading", text: card.title}), this.star, iconButton("edit", lib.t("Edit the notes"), () => this.edit(), "lora-edit"),
                    iconButton("remove", lib.t("Close"), () => this.close(), "lora-close")),
                this.question,
                this.picture,
                element("div", {class: "lora-badges"}, badge(card.family), element("span", {class: "lora-meta", text: lib.view.summary(card)})),
                card.broken ? null : lib.preview.previewTools(this.picture, {save: (blob) => this.newPreview(blob), say: (sentence) => this.say(sentence)}),
                this.status,
                reason ? element("div", {class: "lora-problem"}, element("span", {text: reason})) : null,
                card.broken ? null : element("div", {class: "lora-use"}, this.weight.element, element("div", {class: "lora-targets"}, ...this.buttons)),
                this.words(),
                this.tagsPlace,
                this.notesPlace,
                ...(all ? [
                    text(lib.t("Licence"), card.license || all.license),
                    duplicates(all, (id) => listing.openId(id)),
                    histogram(all.trained_tags), facts(all),
                    hashes(all, {compute: () => this.load(card.id, "&hashes=1"), say: (sentence) => this.say(sentence)}),
                ] : []),
            ].filter(Boolean));
            this.tagsPlace.replaceChildren(section(lib.t("Tags"), lib.marks.tagChips(card.user_tags ?? [], listing.suggestions,
                (change) => this.changeTags(change))));
            this.showNotes();
            this.mark();
        }

        makePicture() {
            const node = lib.card.picture(this.listing.api, this.card, this.card.has_preview && this.all ? "&original=1" : "");
            node.title = lib.t("Drop or paste a picture here: it becomes the preview");
            return node;
        }

        words() {
            const {element} = lib.dom;
            const words = lib.triggerWords.of(this.card);
            if (words.length === 0 || this.card.broken) return null;
            return lib.facts.section(lib.t("Trigger words"), element("div", {class: "lora-words"}, ...words.map((word) => element("button", {
                type: "button", class: "lora-chip", text: word, "data-lora-word": word,
                onclick: () => this.listing.prompts.edit((now) => lib.triggerWords.toggle(now, word)),
            }))));
        }

        showNotes() {
            const {section, text} = lib.facts;
            if (this.editor) return this.notesPlace.replaceChildren(section(lib.t("Edit the notes"), this.editor.element));
            const {all, card} = this;
            const shown = [text(lib.t("Description"), all?.description), text(lib.t("Notes"), all?.notes), text(lib.t("Negative prompt"), card.negative_text)];
            this.notesPlace.replaceChildren(...shown.filter(Boolean));
        }

        // How the prompts have it: the buttons, the words, the slider.
        mark() {
            if (!this.card || !this.buttons) return;
            for (const button of this.buttons) {
                const isIn = lib.tags.indexOf(lib.dom.textarea(button.dataset.loraTarget)?.value ?? "", this.card.names) >= 0;
                const values = {prompt: button.dataset.loraLabel};
                const isOnly = this.buttons.length === 1;
                const sentence = isIn ? (isOnly ? "Take out of the prompt" : "Take out of {prompt}") : (isOnly ? "Put into the prompt" : "Add to {prompt}");
                button.textContent = lib.t(sentence, values);
                button.setAttribute("aria-pressed", String(isIn));
            }
            const text = this.listing.prompts.text;
            for (const chip of this.element.querySelectorAll("[data-lora-word]")) {
                chip.setAttribute("aria-pressed", String(lib.triggerWords.isIn(text, chip.dataset.loraWord)));
            }
            const tag = lib.tags.find(text)[lib.tags.indexOf(text, this.card.names)];
            if (tag && !tag.error) this.weight.show(tag.unet);
            this.star.setAttribute("aria-pressed", String(Boolean(this.card.favorite)));
            this.star.title = this.card.favorite ? lib.t("No favourite any more") : lib.t("Make it a favourite");
            this.star.setAttribute("aria-label", this.star.title);
        }

        say(sentence) {
            this.status.textContent = sentence;
        }

        // What it changes

        // The slider rewrites the tag where there is one; else it waits for the button.
        weigh(value) {
            this.weight.show(value);
            const text = this.listing.prompts.text;
            if (lib.tags.indexOf(text, this.card.names) < 0) return;
            this.listing.prompts.edit((now) => lib.tagEdits.setWeights(now, lib.tags.indexOf(now, this.card.names), {te: value, unet: value}));
        }

        edit() {
            if (!this.all?.editable) return this.say(lib.t("The notes are not here yet; try again in a moment."));
            if (!this.editor) {
                this.editor = new lib.edit.Editor(this.listing.api, this.all, {
                    saved: (told) => {
                        this.endEdit(told);
                        this.say(lib.t("Saved"));
                    },
                    closed: async (isOld) => {
                        this.endEdit();
                        if (isOld) await this.listing.scan.start();  // the index has not heard of the other's version
                        if (isOld && this.isOpen) this.load(this.card.id);
                    },
                });
                this.showNotes();
            }
            this.editor.focus();
        }

        endEdit(told) {
            this.editor = null;
            if (told) {
                this.all = this.card = told;
                this.listing.changed([told]);
                const {scrollTop} = this.element;
                this.build();
                this.element.scrollTop = scrollTop;
            } else {
                this.showNotes();
            }
            this.element.querySelector(".lora-edit")?.focus();
        }

        async changeTags(change) {
            await this.listing.markAll([this.card.id], change);
            this.tagsPlace.querySelector(".lora-tag-field")?.focus();
        }

        async newPreview(blob) {
            try {
                this.listing.changed([await this.listing.api.preview(this.card.id, blob)]);
                this.say(lib.t("This is the preview now."));
            } catch (error) {
                this.say(lib.t("The picture cannot be used: {why}", {why: error.message}));
            }
        }

        pasted(event) {
            if (!this.card || this.card.broken || event.clipboardData.files.length === 0) return;
            event.preventDefault();
            event.stopPropagation();
            lib.preview.take(event.clipboardData.files, {save: (blob) => this.newPreview(blob), say: (sentence) => this.say(sentence)});
        }

        // Newer states of cards; the one that is shown may be among them.
        update(cards) {
            const newer = cards.find((card) => card.id === this.card?.id);
            if (!newer) return;
            const isNewPicture = newer.thumbnail !== this.card.thumbnail;
            this.card = {...this.card, ...newer};
            if (this.all) this.all = {...this.all, ...newer};
            if (isNewPicture) this.picture.replaceChildren(...this.makePicture().children);
            this.tagsPlace.replaceChildren(lib.facts.section(lib.t("Tags"), lib.marks.tagChips(this.card.user_tags ?? [], this.listing.suggestions,
                (change) => this.changeTags(change))));
            this.mark();
        }
    }

    lib.Details = Details;
})();
