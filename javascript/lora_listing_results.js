// The adapters that fit: by words, filters and order; counted, and shown as a grid or as a list. The user's order and view are
// there again at the next visit.

(function () {
    "use strict";

    const MEMORY = "lora-listing";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Results {
        // `root`: the listing's element; `cards`: {make, isActive, isPicked}, as the grid takes them. shown(): there are others now;
        // enter(key): from the search down to the cards.
        constructor(api, root, cards, {shown, enter}) {
            Object.assign(this, {root, shown});
            const remembered = lib.remembered.get(MEMORY, {});
            const search = () => this.search();
            this.status = new lib.Status();
            this.feed = new lib.Feed(api, {
                came: () => this.grid.paintSoon(),
                failed: (error) => this.status.say(lib.t("The adapters cannot be listed now: {why}", {why: error.message})),
            });
            this.field = lib.searchField({changed: search, enter});
            this.filters = new lib.Filters(search);
            this.order = new lib.Order(remembered, search);
            this.grid = new lib.Grid(this.feed, cards);
            this.grid.view = remembered.view === "list" ? "list" : "grid";
            this.viewButton = lib.dom.iconButton("list", lib.t("List or grid"), () => this.turn());
            this.showView();
        }

        async search({keepPlace = false} = {}) {
            const answer = await this.feed.ask({q: this.field.value, ...this.order.asked, chosen: this.filters.chosen});
            if (!answer) return;
            if (!keepPlace) {
                this.grid.cursor = -1;
                this.grid.window.scrollTop = 0;
            }
            this.filters.show(answer.facets);
            this.status.count(answer);
            this.grid.showHint(answer);
            this.memorize();
            this.grid.clear();
            this.grid.paint();
            this.shown();
        }

        // How many there are of what.
        async countFacets() {
            this.filters.show((await this.feed.facets()).facets);
        }

        turn() {
            this.grid.view = this.grid.view === "grid" ? "list" : "grid";
            this.showView();
            this.memorize();
            this.grid.clear();
            this.grid.paint();
        }

        showView() {
            const isList = this.grid.view === "list";
            this.root.classList.toggle("lora-as-list", isList);
            this.viewButton.replaceChildren(lib.dom.icon(isList ? "grid" : "list"));
        }

        memorize() {
            lib.remembered.set(MEMORY, {...this.order.asked, view: this.grid.view});
        }

        // Something else is shown in their place, or no longer.
        hide(isHidden) {
            this.grid.window.hidden = this.filters.element.hidden = isHidden;
            if (!isHidden) this.grid.paintSoon();
        }

        // The card of that id, with the cursor on it; null if it is not among those that are here.
        point(id) {
            const n = this.feed.find(id);
            if (n < 0) return null;
            this.grid.point(n);
            return this.feed.card(n);
        }

        // From the search down to the cards; the card, if it is the only one.
        enter() {
            this.grid.window.focus();
            this.grid.point(Math.max(0, this.grid.cursor));
            return this.feed.count === 1 ? this.feed.card(0) : null;
        }
    }

    lib.Results = Results;
})();
