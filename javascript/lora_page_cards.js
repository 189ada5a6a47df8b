// The cards of the WebUI's page "Lora", in txt2img and img2img: a filter above them, dimmed where they do not fit the
// checkpoint, favourites first, and a click that finds its tag again. The WebUI makes the cards, sorts and searches them;
// this stays beside it and touches only what has changed. Elsewhere than in the WebUI it does nothing.

(function () {
    "use strict";

    if (typeof cardClicked !== "function") return;

    const TABS = ["txt2img", "img2img"];
    const PAUSE = 3000;  // milliseconds between two looks at the checkpoint, while cards are in sight
    const MEMORY = "lora-cards-filter";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const panes = new Map();  // tab -> Pane
    let chosen = remembered();  // families and "favorite": the filter
    const api = () => lib.api("/lora/v1");
    let told = {checkpoint: null, others: "dim", unknown: false, favorites: []};
    let favorites = new Set();

    // One page of cards; a new one when the WebUI writes it anew.
    class Pane {
        constructor(tab, box) {
            Object.assign(this, {tab, box, isSeen: false, isStale: true, base: [], records: new Map()});
            this.chips = lib.dom.element("div", {class: "lora-chips", role: "group", "aria-label": lib.t("Filter")});
            this.say = lib.dom.element("span", {class: "lora-say", role: "status", "aria-live": "polite"});
            this.bar = lib.dom.element("div", {class: "lora-card-bar"}, this.chips, this.say);
            (box.closest(".extra-network-pane") ?? box).prepend(this.bar);
            this.changes = new MutationObserver(() => {
                this.isStale = true;
                if (this.isSeen) this.show();
            });
            this.sight = new IntersectionObserver(([each]) => this.see(each.isIntersecting));
            this.sight.observe(box);
            this.changes.observe(box, {childList: true});
        }

        leave() {
            this.changes.disconnect();
            this.sight.disconnect();
            this.bar.remove();
        }

        see(isSeen) {
            this.isSeen = isSeen;
            if (!isSeen) return;
            if (last) this.show();  // else it is known in a moment what fits
            ask();
        }

        // The WebUI has written or sorted cards: their order is what ours starts from.
        read() {
            const cards = [...this.box.children].filter((each) => each.classList.contains("card"));
            const fresh = new Map(cards.map((card) => [card, this.records.get(card) ?? new Card(card)]));
            const one = cards.length === this.base.length && cards.filter((card) => !this.records.has(card));
            if (one && one.length === 1) {  // one card drawn anew, in the place of the old one
                const place = this.base.findIndex((card) => !fresh.has(card));
                this.base[place] = one[0];
            } else {
                this.base = cards;
            }
            this.records = fresh;
            this.names = null;
            this.isStale = false;
        }

        show() {
            if (!this.isSeen) return;
            if (this.isStale) this.read();
            const all = [...this.records.values()];
            const kinds = lib.cardRules.families(all.map((card) => card.facts));
            const wanted = chosen.filter((each) => each === lib.cardRules.FAVORITE || kinds.some(({value}) => value === each));
            for (const card of all) card.show(wanted);
            this.sort();
            this.showFilter(kinds, wanted, all);
        }

        // Stable: within a rank cards stay as the WebUI has sorted them.
        sort() {
            const ranks = [[], [], [], []];
            for (const card of this.base) ranks[this.records.get(card).rank].push(card);
            const wanted = ranks.flat();
            const now = this.box.children;
            if (now.length === wanted.length && wanted.every((card, n) => now[n] === card)) return;
            const focused = this.box.contains(document.activeElement) ? document.activeElement : null;
            this.box.append(...wanted);
            this.changes.takeRecords();
            focused?.focus({preventScroll: true});
        }

        showFilter(kinds, wanted, all) {
            const stars = all.filter((card) => card.isFavorite).length;
            const offered = [{value: lib.cardRules.FAVORITE, label: `★ ${lib.t("Favourites")}`, count: stars}, ...kinds];
            const now = JSON.stringify([offered, wanted]);
            if (now !== this.shown) {
                this.shown = now;
                const focused = this.chips.contains(document.activeElement) ? document.activeElement.value : null;
                this.chips.replaceChildren(...offered.map((kind) => chip(kind, wanted.includes(kind.value))));
                [...this.chips.children].find((each) => each.value === focused)?.focus();
            }
            const inSight = all.filter((card) => !card.isAway).length;
            const others = all.filter((card) => card.reason && !card.facts.broken).length;
            const checkpoint = told.checkpoint ? lib.t("checkpoint: {label}", told.checkpoint) : "";
            const sentence = told.others === "hide" ? "{n} for another base model, hidden" : "{n} for another base model";
            const apart = others ? lib.t(sentence, {n: others}) : "";
            const left = wanted.length ? lib.t("{n} of {all} shown", {n: inSight, all: all.length}) : "";
            const line = [left, checkpoint, apart].filter(Boolean).join(" · ");
            if (this.say.textContent !== line) this.say.textContent = line;
            this.bar.hidden = !all.length;
        }

        // The card that a tag's name means.
        find(name) {
            if (this.isStale) this.read();
            this.names ??= new Map([...this.records.values()].flatMap((card) => card.facts.names.map((each) => [each, card])));
            return this.names.get(name) ?? [...this.records.values()].find((card) => lib.cardRules.means(card.facts, name));
        }
    }

    // One card. Nothing of the page is touched that is already as it should be.
    class Card {
        constructor(element) {
            this.element = element;
            this.facts = facts(element);
            this.star = element.querySelector(".lora-star");
            this.reason = "";
            this.isAway = false;
            if (!last && this.star?.getAttribute("aria-pressed") === "true") favorites.add(this.facts.id);
        }

        show(wanted) {
            const why = lib.cardRules.reason(this.facts, told);
            this.isFavorite = favorites.has(this.facts.id);
            this.rank = lib.cardRules.rank(why, this.isFavorite);
            const isHidden = told.others === "hide" && why && !this.facts.broken;
            const isAway = Boolean(isHidden) || lib.cardRules.isOut(this.facts, this.isFavorite, wanted);
            if (why !== this.reason) this.tell(why);
            if (isAway !== this.isAway) this.element.classList.toggle("lora-away", isAway);
            const pressed = String(this.isFavorite);
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

    function facts(element) {
        try {
            return JSON.parse(element.dataset.loraCard);
        } catch {  // another extension's card
            return {id: null, names: [element.dataset.name ?? ""], hash: "", family: "unknown", flavour: "", label: "unknown", possible: [], broken: ""};
        }
    }

    function chip({value, label, count}, isChosen) {
        return lib.dom.element("button", {
            type: "button", class: "lora-chip", value, "aria-pressed": String(isChosen), onclick: () => choose(value),
        }, lib.dom.element("span", {text: label}), lib.dom.element("span", {class: "lora-count", text: count}));
    }

    function choose(value) {
        chosen = chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value];
        try {
            localStorage.setItem(MEMORY, JSON.stringify(chosen));
        } catch {
            // a private window, or no room: then it lasts as long as the page
        }
        showAll();
    }

    function remembered() {
        try {
            const value = JSON.parse(localStorage.getItem(MEMORY));
            return Array.isArray(value) ? value.filter((each) => typeof each === "string") : [];
        } catch {
            return [];
        }
    }

    function showAll() {
        for (const pane of panes.values()) pane.show();
    }

    // what the server knows

    let asking = false;
    let changes = 0;  // favourites set or taken here
    async function ask() {
        if (asking) return;
        asking = true;
        const before = changes;
        try {
            const answer = await api().cards();
            if (changes === before) take(answer);  // else it is older than what the user did meanwhile
        } catch {
            if (!last) showAll();  // else what is shown stays; the next look comes soon
        } finally {
            asking = false;
        }
    }

    let last = "";
    function take(answer) {
        const now = JSON.stringify(answer);
        if (now === last) return;
        last = now;
        const isOther = told.checkpoint && answer.checkpoint && told.checkpoint.label !== answer.checkpoint.label;
        told = {...answer, checkpoint: answer.checkpoint ?? told.checkpoint};  // none: one is just being exchanged
        favorites = new Set(answer.favorites);
        showAll();
        if (!isOther) return;
        dispatchEvent(new CustomEvent("lora-checkpoint"));  // strips and listing say what fits, too
        dispatchEvent(new CustomEvent("lora-rescanned"));
    }

    function look() {
        if (!document.hidden && [...panes.values()].some((pane) => pane.isSeen)) ask();
    }

    async function mark(star) {
        const id = facts(star.closest(".card")).id;
        const favorite = !favorites.has(id);
        const set = (isOn) => {
            isOn ? favorites.add(id) : favorites.delete(id);
            changes += 1;
            last = "";
            showAll();
        };
        set(favorite);
        try {
            await api().marks([id], {favorite});
            changes += 1;
            dispatchEvent(new CustomEvent("lora-marked", {detail: {ids: [id], favorite}}));  // the listing shows it, too
        } catch (error) {
            set(!favorite);
            for (const pane of panes.values()) pane.say.textContent = lib.t("That cannot be saved now: {why}", {why: error.message});
        }
    }

    // {names, hash, ...} of the adapter that a tag's name means on that tab.
    function find(tab, name) {
        return panes.get(tab)?.find(name)?.facts;
    }

    // Whether the file of that card cannot be used; then it is said why.
    function refuse(tab, name) {
        const broken = find(tab, name)?.broken;
        if (broken) panes.get(tab).say.textContent = broken;
        return Boolean(broken);
    }

    lib.cards = {find, mark, refuse};
    addEventListener("DOMContentLoaded", () => lib.served(start));
    function start() {
        for (const tab of TABS) {
            lib.mount(`#${tab}_lora_cards`, (box) => {
                panes.get(tab)?.leave();
                panes.set(tab, new Pane(tab, box));
            });
        }
        addEventListener("visibilitychange", look);
        onOptionsChanged(look);
        ask();
        setInterval(look, PAUSE);
    }
})();
