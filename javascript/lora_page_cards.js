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
    let chosen = [];  // families and "favorite": the filter
    let news = null;

    // One page of cards; a new one when the WebUI writes it anew.
    class Pane {
        constructor(box) {
            Object.assign(this, {box, isSeen: false, isStale: true, base: [], records: new Map()});
            this.bar = new lib.CardBar({choose});
            (box.closest(".extra-network-pane") ?? box).prepend(this.bar.element);
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
            this.bar.element.remove();
        }

        see(isSeen) {
            this.isSeen = isSeen;
            if (!isSeen) return;
            if (news.isKnown) this.show();  // else it is known in a moment what fits
            news.ask();
        }

        // The WebUI has written or sorted cards: their order is what ours starts from.
        read() {
            const cards = [...this.box.children].filter((each) => each.classList.contains("card"));
            const fresh = new Map(cards.map((card) => [card, this.records.get(card) ?? record(card)]));
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
            const cards = [...this.records.values()];
            const kinds = lib.cardRules.families(cards.map((card) => card.facts));
            const wanted = chosen.filter((each) => each === lib.cardRules.FAVORITE || kinds.some(({value}) => value === each));
            for (const card of cards) card.show(wanted, news.latest, news.favorites.has(card.facts.id));
            this.sort();
            this.bar.show({kinds, chosen: wanted, cards, news: news.latest});
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

        // The card that a tag's name means.
        find(name) {
            if (this.isStale) this.read();
            this.names ??= new Map([...this.records.values()].flatMap((card) => card.facts.names.map((each) => [each, card])));
            return this.names.get(name) ?? [...this.records.values()].find((card) => lib.cardRules.means(card.facts, name));
        }
    }

    function record(element) {
        const card = new lib.pageCard.PageCard(element);
        if (!news.isKnown && card.isStarred) news.favorites.add(card.facts.id);
        return card;
    }

    function choose(value) {
        chosen = chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value];
        lib.remembered.set(MEMORY, chosen);
        showAll();
    }

    function showAll() {
        for (const pane of panes.values()) pane.show();
    }

    function look() {
        if (!document.hidden && [...panes.values()].some((pane) => pane.isSeen)) news.ask();
    }

    function mark(star) {
        return news.mark(lib.pageCard.factsOf(star.closest(".card")).id);
    }

    // {names, hash, ...} of the adapter that a tag's name means on that tab.
    function find(tab, name) {
        return panes.get(tab)?.find(name)?.facts;
    }

    // Whether the file of that card cannot be used; then it is said why.
    function refuse(tab, name) {
        const broken = find(tab, name)?.broken;
        if (broken) panes.get(tab).bar.say(broken);
        return Boolean(broken);
    }

    lib.cards = {find, mark, refuse};
    addEventListener("DOMContentLoaded", () => lib.served(start));
    function start() {
        chosen = lib.remembered.get(MEMORY, []).filter((each) => typeof each === "string");
        news = new lib.CardNews({
            changed: showAll,
            failed: (sentence) => {
                for (const pane of panes.values()) pane.bar.say(sentence);
            },
        });
        for (const tab of TABS) {
            lib.mount(`#${tab}_lora_cards`, (box) => {
                panes.get(tab)?.leave();
                panes.set(tab, new Pane(box));
            });
        }
        addEventListener("visibilitychange", look);
        onOptionsChanged(look);
        news.ask();
        setInterval(look, PAUSE);
    }
})();
