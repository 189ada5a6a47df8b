// The listing of the installed adapters: search, filters, a grid that holds only the cards in sight, insertion by click or
// key, marks for several at once. The server searches and sorts; pages of cards come when they scroll into sight.

(function () {
    "use strict";

    const PAUSE = 120;     // milliseconds without typing before a search
    const MEMORY = "lora-listing";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Listing {
        constructor(root) {
            this.root = root;
            this.api = lib.api(root.dataset.loraApi);
            this.remembered = lib.remembered.get(MEMORY, {});
            this.feed = new lib.Feed(this.api, {
                came: () => this.grid.paintSoon(),
                failed: (error) => this.say(lib.t("The adapters cannot be listed now: {why}", {why: error.message})),
            });
            this.build();
            this.search();
            addEventListener("lora-checkpoint", () => this.search({keepPlace: true}));
            addEventListener("lora-marked", ({detail}) => this.marked(detail));
        }

        build() {
            const {element} = lib.dom;
            this.suggestions = new lib.marks.Suggestions(this.feed);
            this.selection = new lib.Selection({
                suggestions: this.suggestions, all: () => this.feed.ids(), changed: () => this.selected(), act: (ids, change) => this.markAll(ids, change),
            });
            this.filters = new lib.Filters(() => this.search());
            this.grid = new lib.Grid(this.feed, {
                make: (card, n) => this.makeCard(card, n),
                isActive: (card) => this.prompts.holds(card),
                isPicked: (card) => this.selection.has(card.id),
            });
            this.details = new lib.Details(this);
            this.prompts = new lib.Prompts(this.root, {changed: () => this.mark(), say: (sentence) => this.say(sentence)});
            this.duplicates = new lib.Duplicates(this.api, {open: (card) => this.details.open(card, {isFocused: true}), closed: () => this.showDuplicates(false)});
            this.scan = new lib.Scan(this.api, {
                isVisible: () => this.isVisible, say: (sentence) => this.say(sentence),
                found: async () => {
                    await this.search({keepPlace: true});
                    if (this.duplicates.isOpen) this.duplicates.look();
                },
            });
            this.help = lib.keys.helpDialog();
            this.told = element("div", {class: "lora-told", role: "status", "aria-live": "polite"});
            this.body = element("div", {class: "lora-body"}, this.grid.window, this.duplicates.element, this.details.element);
            lib.keys.listen(this);
            this.root.replaceChildren(this.bar(), this.filters.element, this.told, this.scan.element, this.selection.element, this.body,
                this.suggestions.element, this.help);
            this.showView();
        }

        bar() {
            const {element, iconButton} = lib.dom;
            this.field = element("input", {
                type: "search", class: "lora-search", placeholder: lib.t("Search names, tags, words, notes …"),
                "aria-label": lib.t("Search the adapters"), autocomplete: "off", spellcheck: "false",
                oninput: () => this.searchSoon(), onkeydown: (event) => this.searchKey(event),
            });
            this.order = new lib.Order(this.remembered, () => this.search());
            this.grid.view = this.remembered.view === "list" ? "list" : "grid";
            this.viewButton = iconButton("list", lib.t("List or grid"), () => this.turn());
            this.pickButton = iconButton("pick", lib.t("Select several"), () => this.selection.turn());
            this.copiesButton = iconButton("copies", lib.t("Duplicates"), () => this.showDuplicates(!this.duplicates.isOpen));
            return element("div", {class: "lora-bar"}, this.field, this.prompts.select, this.order.select,
                element("div", {class: "lora-bar-buttons"}, this.order.button, this.viewButton, this.pickButton, this.copiesButton, this.scan.button,
                    iconButton("help", lib.t("Keys"), () => this.help.showModal())));
        }

        makeCard(card, n) {
            return lib.card.makeCard(this.api, card, {
                click: (event) => this.click(event, card, n),
                star: () => this.star(card),
                info: () => {
                    this.grid.point(n);
                    this.details.open(card, {isFocused: true});
                },
            });
        }

        // What is shown

        get isVisible() {
            return this.root.isConnected && this.root.offsetParent !== null;
        }

        searchSoon() {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.search(), PAUSE);
        }

        async search({keepPlace = false} = {}) {
            const told = await this.feed.ask({q: this.field.value, ...this.order.asked, chosen: this.filters.chosen});
            if (!told) return;
            if (!keepPlace) {
                this.grid.cursor = -1;
                this.grid.window.scrollTop = 0;
            }
            this.filters.show(told.facets);
            this.showCount(told);
            this.memorize();
            this.grid.clear();
            this.grid.paint();
            this.prompts.read();
        }

        showCount({total, installed}) {
            const files = (n) => lib.t(n === 1 ? "{n} adapter" : "{n} adapters", {n: n.toLocaleString()});
            const {hint} = this.grid;
            this.told.textContent = total === installed ? files(total)
                : lib.t(installed === 1 ? "{n} of {all} adapter" : "{n} of {all} adapters", {n: total.toLocaleString(), all: installed.toLocaleString()});
            hint.hidden = total > 0;
            hint.textContent = installed === 0
                ? lib.t("No adapters yet. Put .safetensors files into the adapter folder; they appear here by themselves.")
                : lib.t("Nothing fits. Take away a word or a filter.");
        }

        // The cards are others than before in something that leaves their places alone.
        changed(cards) {
            this.feed.replace(cards);
            this.details.update(cards);
            dispatchEvent(new CustomEvent("lora-rescanned"));  // the strips ask again
        }

        // What is in the prompts.
        mark() {
            this.grid.mark();
            this.details.mark();
        }

        selected() {
            this.root.classList.toggle("lora-is-picking", this.selection.isOn);
            this.pickButton.setAttribute("aria-pressed", String(this.selection.isOn));
            this.grid.mark();
        }

        turn() {
            this.grid.view = this.grid.view === "grid" ? "list" : "grid";
            this.showView();
            this.memorize();
            this.grid.clear();
            this.grid.paint();
        }

        showView() {
            this.root.classList.toggle("lora-as-list", this.grid.view === "list");
            this.viewButton.replaceChildren(lib.dom.icon(this.grid.view === "list" ? "grid" : "list"));
        }

        showDuplicates(isShown) {
            this.copiesButton.setAttribute("aria-pressed", String(isShown));
            this.grid.window.hidden = isShown;
            this.filters.element.hidden = isShown;
            if (isShown) return this.duplicates.show();
            this.duplicates.hide();
            this.grid.paintSoon();
            this.copiesButton.focus();
        }

        memorize() {
            lib.remembered.set(MEMORY, {...this.order.asked, view: this.grid.view});
        }

        say(sentence) {
            this.told.textContent = sentence;
            this.told.classList.remove("lora-fresh");
            void this.told.offsetWidth;  // so that the animation begins again
            this.told.classList.add("lora-fresh");
        }

        // What happens to a prompt

        toggle(card, weight, selector) {
            if (card.broken) return this.details.open(card);
            this.prompts.toggle(card, weight, selector);
        }

        click(event, card, n) {
            this.grid.point(n);
            if (event.shiftKey) {
                event.preventDefault();
                return this.selection.reach(n, (place) => this.feed.card(place));
            }
            if (event.ctrlKey || event.metaKey || this.selection.isOn) return this.selection.toggle(card.id, n);
            this.toggle(card);
            if (this.details.isOpen) this.details.open(card);
        }

        // What happens to adapters

        star(card) {
            return this.markAll([card.id], {favorite: !card.favorite});
        }

        async markAll(ids, change) {
            try {
                const {items, changed} = await this.api.marks(ids, change);
                if (items) this.changed(items);
                else await this.search({keepPlace: true});
                if (ids.length > 1) this.say(lib.t(changed === 1 ? "{n} adapter changed" : "{n} adapters changed", {n: changed.toLocaleString()}));
                this.filters.show((await this.feed.facets()).facets);
            } catch (error) {
                this.say(lib.t("That cannot be saved now: {why}", {why: error.message}));
            }
        }

        // The WebUI's own cards have a star, too.
        marked({ids, favorite}) {
            const cards = ids.map((id) => this.feed.find(id)).filter((n) => n >= 0).map((n) => ({...this.feed.card(n), favorite}));
            this.feed.replace(cards);
            this.details.update(cards);
        }

        async openId(id) {
            const n = this.feed.find(id);
            if (n >= 0) this.grid.point(n);
            const card = n >= 0 ? this.feed.card(n) : await this.api.entry(id).catch((error) => this.say(error.message));
            if (card) this.details.open(card, {isFocused: true});
        }

        // The keyboard: what the other keys do is in lora_listing_keys.js

        searchKey(event) {
            if (event.key === "ArrowDown" || event.key === "Enter") {
                event.preventDefault();
                event.stopPropagation();
                this.grid.window.focus();
                this.grid.point(Math.max(0, this.grid.cursor));
                if (event.key === "Enter" && this.feed.count === 1 && this.feed.card(0)) this.toggle(this.feed.card(0));
            } else if (event.key === "Escape" && this.field.value) {
                event.preventDefault();
                event.stopPropagation();
                this.field.value = "";
                this.search();
            }
        }

        // The card that a key is about: the one in the panel if the focus is there, else the one in the grid.
        get current() {
            return this.details.element.contains(document.activeElement) ? this.details.card : this.grid.card;
        }

        // What is open closes, one after the other; false if nothing was.
        leave() {
            if (this.details.isOpen) this.details.close();
            else if (this.selection.isOn) this.selection.clear();
            else if (this.duplicates.isOpen) this.showDuplicates(false);
            else return false;
        }

        // The panel was closed: the keyboard goes back to its card.
        back(id) {
            if (this.duplicates.isOpen) return this.duplicates.element.focus();
            const n = this.feed.find(id);
            this.grid.window.focus();
            if (n >= 0) this.grid.point(n);
        }
    }

    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);  // when all scripts are here
    function start() {
        lib.mount(".lora-listing", (root) => new Listing(root));
    }
})();
