// The line above the cards of the WebUI's page "Lora": what they are filtered by, and how many are left.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class CardBar {
        // choose(value): a family, or "favorite", goes into the filter or out of it.
        constructor({choose}) {
            this.choose = choose;
            this.chips = lib.dom.element("div", {class: "lora-chips", role: "group", "aria-label": lib.t("Filter")});
            this.line = lib.dom.element("span", {class: "lora-say", role: "status", "aria-live": "polite"});
            this.element = lib.dom.element("div", {class: "lora-card-bar"}, this.chips, this.line);
        }

        say(sentence) {
            this.line.textContent = sentence;
        }

        // `kinds`: the families that there are, as `lib.cardRules.families` has them.
        show({kinds, chosen, cards, news}) {
            const stars = cards.filter((card) => card.isFavorite).length;
            this.showChips([{value: lib.cardRules.FAVORITE, label: `★ ${lib.t("Favourites")}`, count: stars}, ...kinds], chosen);
            const sentence = summary(chosen, cards, news);
            if (this.line.textContent !== sentence) this.say(sentence);
            this.element.hidden = !cards.length;
        }

        showChips(offered, chosen) {
            const now = JSON.stringify([offered, chosen]);
            if (now === this.shown) return;
            this.shown = now;
            const focused = this.chips.contains(document.activeElement) ? document.activeElement.value : null;
            this.chips.replaceChildren(...offered.map((kind) => this.chip(kind, chosen.includes(kind.value))));
            [...this.chips.children].find((each) => each.value === focused)?.focus();
        }

        chip({value, label, count}, isChosen) {
            const {element} = lib.dom;
            return element("button", {
                type: "button", class: "lora-chip", value, "aria-pressed": String(isChosen), onclick: () => this.choose(value),
            }, element("span", {text: label}), element("span", {class: "lora-count", text: count}));
        }
    }

    // "3 of 10 shown · checkpoint: SD 1.5 · 2 for another base model"
    function summary(chosen, cards, news) {
        const inSight = cards.filter((card) => !card.isAway).length;
        const others = cards.filter((card) => card.reason && !card.facts.broken).length;
        const checkpoint = news.checkpoint ? lib.t("checkpoint: {label}", news.checkpoint) : "";
        const sentence = news.others === "hide" ? "{n} for another base model, hidden" : "{n} for another base model";
        const apart = others ? lib.t(sentence, {n: others}) : "";
        const left = chosen.length ? lib.t("{n} of {all} shown", {n: inSight, all: cards.length}) : "";
        return [left, checkpoint, apart].filter(Boolean).join(" · ");
    }

    lib.CardBar = CardBar;
})();
