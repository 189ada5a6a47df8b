// The cards that fit the question, as the server sends them: page by page, when they are needed. No elements here.

(function () {
    "use strict";

    const PAGE = 100;    // cards a request
    const FLOWN_OVER = 40;  // milliseconds in sight before a page is asked for
    const AHEAD = 40;    // cards below those in sight that are asked for, too

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Feed {
        // came(): cards arrived or changed; failed(error): a page could not be had.
        constructor(api, {came, failed}) {
            Object.assign(this, {api, came, failed});
            this.pages = new Map();  // number -> "asked" or [cards]
            this.count = 0;
            this.generation = 0;     // of the question; answers to older ones are dropped
            this.question = new URLSearchParams();
            this.sight = {first: 0, last: 0};
        }

        // Put another question; what came with its first page, or null if there was a newer question or an error.
        async ask({q = "", sort = "name", reverse = false, chosen = {}}) {
            const question = new URLSearchParams({q, sort});
            if (reverse) question.set("reverse", "1");
            for (const [facet, values] of Object.entries(chosen)) values.forEach((value) => question.append(facet, value));
            const generation = this.generation += 1;
            const answer = await this.fetch(question, 0, generation);
            if (!answer) return null;
            this.question = question;
            this.count = answer.total;
            this.pages = new Map([[0, answer.items]]);
            return answer;
        }

        async fetch(question, number, generation) {
            const query = new URLSearchParams(question);
            query.set("offset", number * PAGE);
            query.set("limit", PAGE);
            try {
                const answer = await this.api.list(query);
                return generation === this.generation ? answer : null;
            } catch (error) {
                if (generation === this.generation) this.failed(error);
                return null;
            }
        }

        // These cards are in sight now.
        look({first, last}) {
            this.sight = {first, last};
            if (!this.pages.has(Math.floor(this.end / PAGE))) this.fetchSoon();
        }

        // The last card that is wanted.
        get end() {
            return Math.max(0, Math.min(this.count, this.sight.last + AHEAD) - 1);
        }

        // The n-th card; null where it is not here yet (then it comes).
        card(n) {
            const cards = this.pages.get(Math.floor(n / PAGE));
            if (Array.isArray(cards)) return cards[n % PAGE] ?? null;
            if (cards === undefined) this.fetchSoon();
            return null;
        }

        fetchSoon() {
            this.waiting ??= setTimeout(() => {
                this.waiting = null;
                for (let page = Math.floor(this.sight.first / PAGE); page * PAGE <= this.end; page += 1) if (!this.pages.has(page)) this.fetchPage(page);
            }, FLOWN_OVER);
        }

        async fetchPage(number) {
            const pages = this.pages;
            pages.set(number, "asked");
            const answer = await this.fetch(this.question, number, this.generation);
            if (answer) pages.set(number, answer.items);
            else pages.delete(number);
            if (answer && pages === this.pages) this.came();
        }

        // Newer states of cards that are here.
        replace(cards) {
            const newer = new Map(cards.map((card) => [card.id, card]));
            for (const [number, page] of this.pages) {
                if (Array.isArray(page)) this.pages.set(number, page.map((card) => newer.get(card.id) ?? card));
            }
            this.came();
        }

        // Where a card is; -1 if it is not among those that are here.
        find(id) {
            for (const [number, page] of this.pages) {
                const place = Array.isArray(page) ? page.findIndex((card) => card.id === id) : -1;
                if (place >= 0) return number * PAGE + place;
            }
            return -1;
        }

        // Ids of all that fit, in order, also of those that are not here.
        async ids() {
            const query = new URLSearchParams(this.question);
            query.set("ids", 1);
            return (await this.api.list(query)).ids;
        }

        // How many there are of what, without any card.
        async facets(question = this.question) {
            const query = new URLSearchParams(question);
            query.set("limit", 0);
            return this.api.list(query);
        }
    }

    lib.Feed = Feed;
})();
