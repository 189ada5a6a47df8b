// One card of the WebUI's page "Lora": what it is of, and how it looks beside this checkpoint. Nothing of the page is touched
// that is already as it should be.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class PageCard {
        constructor(element) {
            this.element = element;
            this.facts = factsOf(element);
            this.star = element.querySelector(".lora-star");
            this.reason = "";
            this.isAway = false;
        }

        // Whether its star is on, as the server wrote the card.
        get isStarred() {
            return this.star?.getAttribute("aria-pressed") === "true";
        }

        // `chosen`: the filter; `news`: what the server tells.
        show(chosen, news, isFavorite) {
            const why = lib.cardRules.reason(this.facts, news);
            this.isFavorite = isFavorite;
            this.rank = lib.cardRules.rank(why, isFavorite);
            const isHidden = news.others === "hide" && why && !this.facts.broken;
            const isAway = Boolean(isHidden) || lib.cardRules.isOut(this.facts, isFavorite, chosen);
            if (why !== this.reason) this.tell(why);
            if (isAway !== this.isAway) this.element.classList.toggle("lora-away", isAway);
            const pressed = String(isFavorite);
            if (this.star && this.star.getAttribute("aria-pressed") !== pressed) this.star.setAttribute("aria-pressed", pressed);
            this.isAway = isAway;
        }

        tell(why) {
            this.reason = why;
            this.element.classList.toggle("lora-other", Boolean(why));
            why ? this.element.setAttribute("title", why) : this.element.removeAttribute("title");
            this.element.querySelector(".lora-reason")?.remove();
            if (why) this.element.querySelector(".lora-card-facts")?.append(lib.dom.element("span", {class: "lora-reason", text: why}));
        }
    }

    // What lib_lora/webui/cards.py has written into a card.
    function factsOf(element) {
        try {
            return JSON.parse(element.dataset.loraCard);
        } catch {  // another extension's card
            return {id: null, names: [element.dataset.name ?? ""], hash: "", family: "unknown", flavour: "", label: "unknown", possible: [], broken: ""};
        }
    }

    lib.pageCard = {PageCard, factsOf};
})();
