// What a click on a card of the WebUI's page "Lora" does, and a key. The first click is the WebUI's own; the second finds the
// adapter's tag also where it was changed since. The card of a broken file only says why. Elsewhere than in the WebUI this
// does nothing.

(function () {
    "use strict";

    if (typeof cardClicked !== "function") return;

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    addEventListener("DOMContentLoaded", () => lib.served(start));
    function start() {
        takeClicks(globalThis.cardClicked);
        drawCardsAnew(globalThis.extraNetworksRefreshSingleCard);
        addEventListener("click", clicked, true);
        addEventListener("keydown", pressed);
    }

    function takeClicks(builtIn) {
        globalThis.cardClicked = function (tab, text, negative, ...more) {
            if (takeOut(tab, text, negative) || lib.cards.refuse(tab, lib.tags.find(text)[0]?.name ?? "")) return;
            try {
                builtIn(tab, text, negative, ...more);
            } catch (error) {  // the WebUI reads the text as a pattern, and this one is none
                if (!(error instanceof SyntaxError)) throw error;
                add(`#${tab}_prompt textarea`, text);
                if (negative) add(`#${tab}_neg_prompt textarea`, negative);
            }
        };
    }

    // Whether the adapter was in the prompt, and is not any more.
    function takeOut(tab, text, negative) {
        const tag = lib.tags.find(text)[0];
        const area = lib.dom.textarea(`#${tab}_prompt textarea`);
        if (!tag || tag.start !== 0 || !area) return false;
        const known = lib.cards.find(tab, tag.name) ?? {names: [tag.name], hash: ""};
        const separator = opts.extra_networks_add_text_separator ?? " ";
        const left = lib.cardRules.without(area.value, known, text.slice(tag.end), separator);
        if (left === null) return false;
        lib.dom.write(area, left);
        const other = negative && lib.dom.textarea(`#${tab}_neg_prompt textarea`);
        if (other) lib.dom.write(other, lib.cardRules.withoutNegative(other.value, negative, separator));
        return true;
    }

    function add(selector, text) {
        const area = lib.dom.textarea(selector);
        lib.dom.write(area, area.value + (opts.extra_networks_add_text_separator ?? " ") + text);
    }

    // The WebUI looks for the card by a pattern that a name with quotes or backslashes breaks.
    function drawCardsAnew(builtIn) {
        globalThis.extraNetworksRefreshSingleCard = function (page, tab, name) {
            if (page !== "lora") return builtIn(page, tab, name);
            requestGet("./sd_extra_networks/get-single-card", {page, tabname: tab, name}, (answer) => {
                const old = [...gradioApp().querySelectorAll(`#${tab}_lora_cards > .card`)].find((card) => card.dataset.name === name);
                const holder = document.createElement("template");
                holder.innerHTML = answer?.html ?? "";  // the server has escaped what comes from files
                const card = holder.content.firstElementChild;
                if (old && card) old.replaceWith(card);
            }, () => {});
        };
    }

    function clicked(event) {
        const star = event.target.closest?.(".card .lora-star");
        if (!star) return;
        event.stopPropagation();  // the card below does not hear of it
        lib.cards.mark(star);
    }

    // A card, and the WebUI's buttons on it, are reached with Tab and pressed with Enter or Space.
    function pressed(event) {
        if (event.key !== "Enter" && event.key !== " " || event.ctrlKey || event.altKey || event.metaKey) return;
        if (!event.target.matches?.("[data-lora-card], [data-lora-card] [role=button]")) return;
        event.preventDefault();
        event.target.click();
    }
})();
