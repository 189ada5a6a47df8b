// The panel with everything about one adapter: picture, base model and why, trigger words to switch on and off, what it
// was trained on, notes. It belongs to a listing.

(function () {
    "use strict";

    const MOST_TAGS = 24;
    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Details {
        constructor(listing) {
            this.listing = listing;
            this.card = null;
            this.element = lib.dom.element("aside", {
                class: "lora-details", hidden: true, "aria-label": "Details", tabindex: "-1",
                onkeydown: (event) => event.key === "Escape" && (event.stopPropagation(), this.close()),
            });
        }

        get isOpen() {
            return this.card !== null;
        }

        async open(card) {
            if (this.card?.id === card.id) return;
            this.card = card;
            this.show(card, null);
            this.element.hidden = false;
            this.element.scrollTop = 0;
            this.listing.paintSoon();
            const told = await this.listing.api.entry(card.id).catch((error) => ({...card, problem: error.message}));
            if (this.card?.id === card.id) this.show(told, told);
        }

        close() {
            if (!this.isOpen) return;
            this.card = null;
            this.element.hidden = true;
            this.listing.paintSoon();
            this.listing.window.focus();
        }

        show(card, all) {
            const {element, iconButton, badge} = lib.dom;
            const picture = lib.picture(this.listing.api, card, card.has_preview && all ? "&original=1" : "");
            this.button = element("button", {type: "button", class: "lora-primary", onclick: () => this.listing.toggle(card)});
            const reason = card.reason || all?.problem;
            this.element.replaceChildren(...[
                iconButton("remove", "Close", () => this.close(), "lora-close"),
                picture,
                element("h3", {class: "lora-heading", text: card.title}),
                element("div", {class: "lora-badges"}, badge(card.family), element("span", {class: "lora-meta", text: lib.view.summary(card)})),
                reason ? element("div", {class: "lora-problem"}, element("span", {text: reason})) : null,
                card.broken ? null : this.button,
                this.words(card),
                text("Description", all?.description), text("Notes", all?.notes), text("Negative prompt", card.negative_text),
                all ? histogram(all.trained_tags) : null,
                all ? facts(all) : null,
            ].filter(Boolean));
            this.mark(this.listing.prompt?.value ?? "");
        }

        words(card) {
            const {element} = lib.dom;
            const words = [...new Set([...card.activation_text.split(","), ...card.trigger_words].map((word) => word.trim()).filter(Boolean))];
            if (words.length === 0) return "";
            return section("Trigger words", element("div", {class: "lora-words"}, ...words.map((word) => element("button", {
                type: "button", class: "lora-chip", text: word, "data-lora-word": word,
                onclick: () => this.listing.edit((now) => lib.tags.toggleWord(now, word)),
            }))));
        }

        mark(text) {
            if (!this.card || !this.button) return;
            const isIn = lib.tags.indexOf(text, this.card.names) >= 0;
            this.button.textContent = isIn ? "Take out of the prompt" : "Put into the prompt";
            this.button.setAttribute("aria-pressed", String(isIn));
            for (const chip of this.element.querySelectorAll("[data-lora-word]")) {
                chip.setAttribute("aria-pressed", String(lib.tags.hasWord(text, chip.dataset.loraWord)));
            }
        }
    }

    function section(title, ...children) {
        return lib.dom.element("section", {class: "lora-section"}, lib.dom.element("h4", {text: title}), ...children);
    }

    function text(title, value) {
        return value ? section(title, lib.dom.element("p", {class: "lora-text", text: value})) : "";
    }

    function histogram(tags) {
        if (tags.length === 0) return "";
        const {element} = lib.dom;
        const most = tags[0][1] || 1;
        return section("Trained on", element("div", {class: "lora-histogram"}, ...tags.slice(0, MOST_TAGS).map(([tag, count]) =>
            element("div", {class: "lora-bin", title: `${tag}: ${count}`},
                element("span", {class: "lora-bin-bar", style: {width: `${Math.max(2, 100 * count / most)}%`}}),
                element("span", {class: "lora-bin-tag", text: tag}),
                element("span", {class: "lora-bin-count", text: count})))));
    }

    function facts(all) {
        const {element} = lib.dom;
        const rows = [
            ["Base model", [all.family.label, ...all.evidence].join("; ")],
            ["Modules", all.modules ? `${all.modules} (${all.components.join(", ")})` : ""],
            ["Alias", all.alias === all.title ? "" : all.alias],
            ["Author", all.author], ["Licence", all.license], ["Prediction", all.prediction_type],
            ["Embeddings", all.embeddings.join(", ")],
            ["Not understood", all.unknown.length ? `${all.unknown.length} tensors, such as ${all.unknown[0]}` : ""],
            ...all.training,
            ["File", all.path],
            ["Changed", new Date(all.modified * 1000).toLocaleDateString()],
            ["Hash", all.stated_hashes[0]?.slice(0, 12) ?? ""],
            ["Beside the file", all.warnings.join("; ")],
        ].filter(([, value]) => value);
        return section("File", element("dl", {class: "lora-facts"}, ...rows.flatMap(([name, value]) => [
            element("dt", {text: name}), element("dd", {text: value}),
        ])));
    }

    lib.Details = Details;
})();
