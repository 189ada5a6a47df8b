// The listing of the installed adapters: search, filters, a grid that holds only the cards in sight, insertion by click or
// key, marks for several at once. The server searches and sorts; pages of cards come when they scroll into sight.
//
// Each part is a script of its own, and none knows the listing: here they are put together, and what one asks for another does.

(function () {
    "use strict";

    const MOST_COMPARED = 100;

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Listing {
        constructor(root) {
            this.root = root;
            this.api = lib.api(root.dataset.loraApi);
            this.makeParts();
            const {results, suggestions, selection, details, duplicates, compare, scan, weights, help} = this;
            root.replaceChildren(this.bar(), results.filters.element, results.status.element, scan.element, weights.element, selection.element,
                lib.dom.element("div", {class: "lora-body"}, results.grid.window, duplicates.element, details.element),
                compare.element, suggestions.element, help);
            this.listen();
            results.search();
        }

        makeParts() {
            const say = (sentence) => this.say(sentence);
            const mark = (ids, change) => this.mark(ids, change);
            const star = (card) => this.star(card);
            this.results = new lib.Results(this.api, this.root, {
                make: (card, n) => this.makeCard(card, n),
                isActive: (card) => this.prompts.holds(card),
                isPicked: (card) => this.selection.has(card.id),
            }, {shown: () => this.prompts.read(), enter: (key) => this.enter(key)});
            const {feed, grid} = this.results;
            this.prompts = new lib.Prompts(this.root, {changed: () => this.showPrompts(), say});
            this.suggestions = new lib.marks.Suggestions(feed);
            this.selection = new lib.Selection({suggestions: this.suggestions, all: () => feed.ids(), changed: () => this.showPicked(), act: mark, compare: (ids) => this.compareIds(ids)});
            this.details = new lib.Details(this.api, {prompts: this.prompts, suggestions: this.suggestions}, {
                resized: () => grid.paintSoon(), closed: (id) => this.back(id), open: (id) => this.openId(id), changed: (cards) => this.changed(cards),
                toggle: (card, weight, selector) => this.toggle(card, weight, selector), star, mark, rescan: () => this.scan.start(),
            });
            this.duplicates = new lib.Duplicates(this.api, {open: (card) => this.details.open(card, {isFocused: true}), closed: () => this.showDuplicates(false)});
            this.compare = new lib.Compare(this.api, {prompt: () => this.prompts.text, closed: () => this.showCompare(false)});
            this.scan = new lib.Scan(this.api, {isVisible: () => this.isVisible, found: () => this.found(), say});
            this.weights = new lib.Weights(this.api);
            this.help = lib.keys.helpDialog();
        }

        bar() {
            const {element, iconButton} = lib.dom;
            const {field, order, viewButton} = this.results;
            this.pickButton = iconButton("pick", lib.t("Select several"), () => this.selection.turn());
            this.copiesButton = iconButton("copies", lib.t("Duplicates"), () => this.showDuplicates(!this.duplicates.isOpen));
            this.compareButton = iconButton("compare", lib.t("Compare"), () => this.compareIds(this.selection.list));
            return element("div", {class: "lora-bar"}, field, this.prompts.select, order.select,
                element("div", {class: "lora-bar-buttons"}, order.button, viewButton, this.pickButton, this.compareButton, this.copiesButton, this.weights.button, this.scan.button,
                    iconButton("help", lib.t("Keys"), () => this.help.showModal())));
        }

        makeCard(card, n) {
            return lib.card.makeCard(this.api, card, {
                click: (event) => this.click(event, card, n),
                star: () => this.star(card),
                info: () => {
                    this.results.grid.point(n);
                    this.details.open(card, {isFocused: true});
                },
            });
        }

        listen() {
            const {details, results, selection} = this;
            const pick = (card) => card && selection.toggle(card.id, results.grid.cursor);
            lib.keys.listen(this.root, results.grid, {
                current: () => this.current, isVisible: () => this.isVisible, moved: (card) => details.follow(card),
                acts: {
                    search: () => results.field.focus(),
                    use: (card) => selection.isMode ? pick(card) : card && this.toggle(card),
                    show: (card) => card && details.open(card, {isFocused: details.card?.id === card.id}),
                    edit: (card) => card && details.open(card, {isEditing: true}),
                    star: (card) => card && this.star(card),
                    pick,
                    compare: () => this.compareIds(selection.list),
                    leave: () => this.leave(),
                    help: () => this.help.showModal(),
                },
            });
            this.prompts.watch();
            lib.dom.hear(this.root, "lora-checkpoint", () => results.search({keepPlace: true}));
            lib.dom.hear(this.root, "lora-saved", () => this.found());
            lib.dom.hear(this.root, "lora-marked", ({detail}) => this.marked(detail));
        }

        // What is shown

        get isVisible() {
            return this.root.isConnected && this.root.offsetParent !== null;
        }

        // Files came, went or are others.
        async found() {
            await this.results.search({keepPlace: true});
            if (this.duplicates.isOpen) this.duplicates.look();
        }

        showPrompts() {
            this.results.grid.mark();
            this.details.mark();
        }

        showPicked() {
            this.root.classList.toggle("lora-is-picking", this.selection.isOn);
            this.pickButton.setAttribute("aria-pressed", String(this.selection.isOn));
            this.results.grid.mark();
        }

        showDuplicates(isShown) {
            this.copiesButton.setAttribute("aria-pressed", String(isShown));
            this.results.hide(isShown);
            if (isShown) return this.duplicates.show();
            this.duplicates.hide();
            this.copiesButton.focus();
        }

        // These adapters side by side; none: the comparison that there is.
        async compareIds(ids) {
            const {feed} = this.results;
            if (ids.length > MOST_COMPARED) return this.say(lib.t("{n} adapters are too many to be compared at once; {most} are not.", {n: ids.length.toLocaleString(), most: MOST_COMPARED}));
            try {
                const cards = await Promise.all(ids.map((id) => feed.find(id) < 0 ? this.api.entry(id) : feed.card(feed.find(id))));
                this.showCompare(true);
                await this.compare.open(cards);
            } catch (error) {
                this.say(lib.t("They cannot be compared now: {why}", {why: error.message}));
            }
        }

        showCompare(isShown) {
            this.root.classList.toggle("lora-is-comparing", isShown);
            if (isShown) return;
            this.compare.close();
            this.results.grid.paintSoon();
            this.compareButton.focus();
        }

        say(sentence) {
            this.results.status.say(sentence);
        }

        // What happens to a prompt

        toggle(card, weight, selector) {
            if (card.broken) return this.details.open(card);
            this.prompts.toggle(card, weight, selector);
        }

        click(event, card, n) {
            const {grid, feed} = this.results;
            grid.point(n);
            if (event.shiftKey) {
                event.preventDefault();
                return this.selection.reach(n, (place) => feed.card(place));
            }
            if (event.ctrlKey || event.metaKey || this.selection.isOn) return this.selection.toggle(card.id, n);
            this.toggle(card);
            if (this.details.isOpen) this.details.open(card);
        }

        // What happens to adapters

        star(card) {
            return this.mark([card.id], {favorite: !card.favorite});
        }

        async mark(ids, change) {
            try {
                const {items, changed} = await this.api.marks(ids, change);
                if (items) this.changed(items);
                else await this.results.search({keepPlace: true});
                if (ids.length > 1) this.say(lib.t(changed === 1 ? "{n} adapter changed" : "{n} adapters changed", {n: changed.toLocaleString()}));
                await this.results.countFacets();
            } catch (error) {
                this.say(lib.t("That cannot be saved now: {why}", {why: error.message}));
            }
        }

        // The cards are others than before in something that leaves their places alone.
        changed(cards) {
            this.replace(cards);
            dispatchEvent(new CustomEvent("lora-rescanned"));  // the strips ask again
        }

        // The WebUI's own cards have a star, too.
        marked({ids, favorite}) {
            const {feed} = this.results;
            this.replace(ids.map((id) => feed.find(id)).filter((n) => n >= 0).map((n) => ({...feed.card(n), favorite})));
        }

        replace(cards) {
            this.results.feed.replace(cards);
            this.details.update(cards);
        }

        async openId(id) {
            const card = this.results.point(id) ?? await this.api.entry(id).catch((error) => this.say(error.message));
            if (card) this.details.open(card, {isFocused: true});
        }

        // The keyboard: which key does what is in lora_listing_keys.js

        enter(key) {
            const only = this.results.enter();
            if (key === "Enter" && only) this.toggle(only);
        }

        // The card that a key is about: the one in the panel if the focus is there, else the one in the grid.
        get current() {
            return this.details.element.contains(document.activeElement) ? this.details.card : this.results.grid.card;
        }

        // What is open closes, one after the other; false if nothing was.
        leave() {
            if (this.compare.isOpen) this.showCompare(false);
            else if (this.details.isOpen) this.details.close();
            else if (this.selection.isOn) this.selection.clear();
            else if (this.duplicates.isOpen) this.showDuplicates(false);
            else return false;
        }

        // The panel was closed: the keyboard goes back to its card.
        back(id) {
            if (this.duplicates.isOpen) return this.duplicates.element.focus();
            this.results.grid.window.focus();
            this.results.point(id);
        }
    }

    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);  // when all scripts are here
    function start() {
        lib.mount(".lora-listing", (root) => new Listing(root));
    }
})();
