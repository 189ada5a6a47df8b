// The panel with everything about one adapter: picture, weight and prompts, trigger words, tags, notes, what the file says.
// Edits that are not saved are never thrown away without a question.

(function () {
    "use strict";

    const PATIENCE = 90;  // milliseconds: who holds an arrow key does not ask for every card
    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Details {
        // What it asks for, `on`: resized(): it takes another place on the page now; closed(id); star(card); toggle(card, weight, selector):
        // into a prompt or out of it; open(id): of another adapter; changed(cards); mark(ids, change); rescan().
        constructor(api, {prompts, suggestions}, on) {
            Object.assign(this, {api, prompts, suggestions, on});
            this.card = null;    // as in the listing
            this.all = null;     // with everything, once the server told
            this.editor = null;
            this.element = lib.dom.element("aside", {
                class: "lora-details", hidden: true, "aria-label": lib.t("Details"), tabindex: "-1",
                onpaste: (event) => this.card && this.preview.paste(event),
            });
            this.question = new lib.Question();
            lib.dom.hear(this.element, "beforeunload", (event) => this.editor?.isDirty && event.preventDefault());
        }

        get isOpen() {
            return this.card !== null;
        }

        // Whether the preview is shown as it was made: not before the rest is there.
        get isLarge() {
            return Boolean(this.card.has_preview && this.all);
        }

        // On a narrow page the panel lies over the cards.
        get isOverlaying() {
            return this.element.offsetWidth > this.element.parentElement.offsetWidth / 2;
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
                this.on.resized();
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
            const all = await this.api.entry(id, more).catch((error) => ({problem: error.message}));
            if (this.card?.id !== id) return;
            if (all.problem) return this.say(all.problem);
            this.all = this.card = all;
            this.build();
        }

        close() {
            if (!this.isOpen) return;
            if (this.editor?.isDirty) return this.ask(() => this.close());
            const {id} = this.card;
            this.card = this.all = this.editor = null;
            this.element.hidden = true;
            this.on.resized();
            this.on.closed(id);
        }

        // Before edits would be lost.
        ask(then) {
            this.question.ask(this.card.title, {
                save: async () => await this.editor.save() && then(),
                discard: () => {
                    this.editor = null;
                    then();
                },
                stay: () => this.editor.focus(),
            });
        }

        // What it shows

        build() {
            const {element, iconButton, badge} = lib.dom;
            const {text, histogram, facts, hashes, duplicates} = lib.facts;
            const {card, all} = this;
            this.status = element("div", {class: "lora-status", role: "status", "aria-live": "polite"});
            this.tagsPlace = element("div", {class: "lora-place"});
            this.notesPlace = element("div", {class: "lora-place"});
            this.preview = new lib.Preview(this.api, card, this.isLarge, {
                changed: (newer) => this.on.changed([newer]), say: (sentence) => this.say(sentence),
            });
            this.star = iconButton("star", "", () => this.on.star(this.card), "lora-star");
            this.use = new lib.Use(card, this.prompts, {toggle: this.on.toggle});
            this.inside = all && !card.broken ? new lib.Inside(all, this.prompts, {ask: () => this.api.inside(card.id), known: () => this.api.strength()}) : null;
            const reason = card.broken || card.reason;
            this.element.replaceChildren(...[
                element("div", {class: "lora-details-bar"}, element("h3", {class: "lora-heading", text: card.title}), this.star, iconButton("edit", lib.t("Edit the notes"), () => this.edit(), "lora-edit"),
                    iconButton("remove", lib.t("Close"), () => this.close(), "lora-close")),
                this.question.element,
                this.preview.picture,
                element("div", {class: "lora-badges"}, badge(card.family), element("span", {class: "lora-meta", text: lib.view.summary(card)})),
                this.preview.tools,
                this.status,
                reason ? element("div", {class: "lora-problem"}, element("span", {text: reason})) : null,
                ...this.use.elements,
                this.tagsPlace,
                this.notesPlace,
                ...(all ? [
                    text(lib.t("Licence"), card.license || all.license),
                    duplicates(all, this.on.open),
                    lib.recipe.section(all.recipe, () => this.prompts.edit((text) => lib.recipe.opened(text, card.names, all.recipe.prompt))),
                    histogram(all.trained_tags),
                    this.inside?.element,
                    facts(all),
                    hashes(all, {compute: () => this.load(card.id, "&hashes=1"), say: (sentence) => this.say(sentence)}),
                ] : []),
            ].filter(Boolean));
            this.showTags();
            this.showNotes();
            this.mark();
        }

        showTags() {
            const chips = lib.marks.tagChips(this.card.user_tags ?? [], this.suggestions, (change) => this.changeTags(change));
            this.tagsPlace.replaceChildren(lib.facts.section(lib.t("Tags"), chips));
        }

        showNotes() {
            const {section, text} = lib.facts;
            if (this.editor) return this.notesPlace.replaceChildren(section(lib.t("Edit the notes"), this.editor.element));
            const {all, card} = this;
            const shown = [text(lib.t("Description"), all?.description), text(lib.t("Notes"), all?.notes), text(lib.t("Negative prompt"), card.negative_text)];
            this.notesPlace.replaceChildren(...shown.filter(Boolean));
        }

        // How the prompts have it, and the user.
        mark() {
            if (!this.card || !this.use) return;
            this.use.mark(this.card);
            this.inside?.mark(this.card);
            this.star.setAttribute("aria-pressed", String(Boolean(this.card.favorite)));
            this.star.title = this.card.favorite ? lib.t("No favourite any more") : lib.t("Make it a favourite");
            this.star.setAttribute("aria-label", this.star.title);
        }

        say(sentence) {
            this.status.textContent = sentence;
        }

        // What it changes

        edit() {
            if (!this.all?.editable) return this.say(lib.t("The notes are not here yet; try again in a moment."));
            if (!this.editor) {
                this.editor = new lib.edit.Editor(this.api, this.all, {
                    saved: (all) => {
                        this.endEdit(all);
                        this.say(lib.t("Saved"));
                    },
                    closed: async (isOld) => {
                        this.endEdit();
                        if (isOld) await this.on.rescan();  // the index has not heard of the other's version
                        if (isOld && this.isOpen) this.load(this.card.id);
                    },
                });
                this.showNotes();
            }
            this.editor.focus();
        }

        endEdit(all) {
            this.editor = null;
            if (all) {
                this.all = this.card = all;
                this.on.changed([all]);
                const {scrollTop} = this.element;
                this.build();
                this.element.scrollTop = scrollTop;
            } else {
                this.showNotes();
            }
            this.element.querySelector(".lora-edit")?.focus();
        }

        async changeTags(change) {
            await this.on.mark([this.card.id], change);
            this.tagsPlace.querySelector(".lora-tag-field")?.focus();
        }

        // Newer states of cards; the one that is shown may be among them.
        update(cards) {
            const newer = cards.find((card) => card.id === this.card?.id);
            if (!newer) return;
            this.card = {...this.card, ...newer};
            if (this.all) this.all = {...this.all, ...newer};
            this.preview.update(this.card, this.isLarge);
            this.showTags();
            this.mark();
        }
    }

    lib.Details = Details;
})();
