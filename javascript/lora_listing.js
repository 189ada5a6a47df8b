// The listing of the installed adapters: search, facets, a grid that holds only the cards in sight, insertion by click or
// key. The server searches and sorts; pages of cards come when they scroll into sight.

(function () {
    "use strict";

    const PAGE = 100;      // cards a request
    const PAUSE = 120;     // milliseconds without typing before a search
    const FRESH = 15000;   // the folders are looked at again when the window comes back, this often at most
    const FACETS = {family: "Base model", flavour: "Flavour", algorithm: "Algorithm", state: "Show", folder: "Folder"};
    const MOST = 14;       // values of a facet that are shown
    const SORTS = {name: "Name", newest: "Newest first", family: "Base model", size: "Largest first", rank: "Highest rank", path: "Folder"};
    const MEMORY = "lora-listing";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Listing {
        constructor(root) {
            this.root = root;
            this.api = lib.dom.api(root.dataset.loraApi);
            this.targets = Object.entries(JSON.parse(root.dataset.loraTargets || "{}"));
            this.pages = new Map();  // number -> "asked" or [cards]
            this.count = 0;
            this.cursor = -1;
            this.generation = 0;
            this.chosen = {};
            this.nodes = new Map();  // place -> node
            this.remembered = remember();
            this.build();
            this.search();
            for (const [, selector] of this.targets) lib.dom.watch(root, selector, () => this.mark());
            addEventListener("focus", () => this.refresh());
        }

        build() {
            const {element, iconButton} = lib.dom;
            this.field = element("input", {
                type: "search", class: "lora-search", placeholder: "Search by name, trigger word, folder, hash …", "aria-label": "Search the adapters",
                autocomplete: "off", spellcheck: "false", oninput: () => this.searchSoon(), onkeydown: (event) => this.searchKey(event),
            });
            this.sort = element("select", {class: "lora-select", "aria-label": "Order", onchange: () => this.search()},
                ...Object.entries(SORTS).map(([value, text]) => element("option", {value, text})));
            this.sort.value = this.remembered.sort in SORTS ? this.remembered.sort : "name";
            this.target = element("select", {class: "lora-select", "aria-label": "Prompt to write into", onchange: () => this.mark()},
                ...this.targets.map(([text, value]) => element("option", {value, text})));
            this.target.hidden = this.targets.length < 2;
            this.view = this.remembered.view === "list" ? "list" : "grid";
            this.viewButton = iconButton("list", "List or grid", () => this.turn());
            this.rescanButton = iconButton("refresh", "Look for new files", () => this.rescan());
            this.facets = element("div", {class: "lora-facets"});
            this.told = element("div", {class: "lora-told", role: "status", "aria-live": "polite"});
            this.spacer = element("div", {class: "lora-spacer"});
            this.hint = element("div", {class: "lora-hint"});
            this.window = element("div", {
                class: "lora-window", tabindex: "0", role: "listbox", "aria-label": "Adapters", "aria-multiselectable": "true",
                onscroll: () => this.paintSoon(), onkeydown: (event) => this.key(event), onfocus: () => this.focused(),
            }, this.spacer, this.hint);
            this.details = new lib.Details(this);
            this.root.replaceChildren(
                element("div", {class: "lora-bar"}, this.field, this.target, this.sort, this.viewButton, this.rescanButton),
                this.facets, this.told,
                element("div", {class: "lora-body"}, this.window, this.details.element),
            );
            new ResizeObserver(() => this.paintSoon()).observe(this.window);
            this.showView();
        }

        // What is shown

        searchSoon() {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.search(), PAUSE);
        }

        get query() {
            return {q: this.field.value, sort: this.sort.value, ...this.chosen};
        }

        async search({keepPlace = false} = {}) {
            this.generation += 1;
            const told = await this.fetchPage(0, this.generation, true);
            if (!told) return;
            if (!keepPlace) {
                this.cursor = -1;
                this.window.scrollTop = 0;
            }
            this.showFacets(told.facets);
            this.showCount(told);
            this.memorize();
            this.paint();
        }

        async fetchPage(number, generation, isFirst = false) {
            if (!isFirst) this.pages.set(number, "asked");
            const query = new URLSearchParams({q: this.query.q, sort: this.query.sort, offset: number * PAGE, limit: PAGE});
            for (const [facet, values] of Object.entries(this.chosen)) values.forEach((value) => query.append(facet, value));
            let told;
            try {
                told = await this.api.list(query);
            } catch (error) {
                if (generation === this.generation) {
                    this.pages.delete(number);
                    this.say(`The adapters cannot be listed now: ${error.message}`);
                }
                return null;
            }
            if (generation !== this.generation) return null;  // an older question's answer
            if (isFirst) {
                this.pages.clear();
                this.clearNodes();
            }
            this.pages.set(number, told.items);
            this.count = told.total;
            return told;
        }

        card(n) {
            const page = Math.floor(n / PAGE);
            const cards = this.pages.get(page);
            if (Array.isArray(cards)) return cards[n % PAGE] ?? null;
            if (cards === undefined) this.fetchSoon();
            return null;
        }

        // Pages that were only flown over are not asked for.
        fetchSoon() {
            this.fetching ??= setTimeout(() => {
                this.fetching = null;
                const {first, last} = this.shape;
                for (let page = Math.floor(first / PAGE); page * PAGE < last; page += 1) {
                    if (this.pages.has(page)) continue;
                    this.fetchPage(page, this.generation).then((told) => told && this.paintSoon());
                }
            }, 40);
        }

        paintSoon() {
            this.frame ??= requestAnimationFrame(() => {
                this.frame = null;
                this.paint();
            });
        }

        paint() {
            const width = this.spacer.clientWidth;
            if (width === 0) return;  // in a tab that is not open
            const shape = lib.view.geometry({
                view: this.view, count: this.count, width, top: this.window.scrollTop, visible: this.window.clientHeight,
            });
            this.shape = shape;
            this.spacer.style.height = `${shape.total}px`;
            for (const [n, node] of this.nodes) {
                if (n < shape.first || n >= shape.last) {
                    node.remove();
                    this.nodes.delete(n);
                }
            }
            for (let n = shape.first; n < shape.last; n += 1) {
                const card = this.card(n);
                let node = this.nodes.get(n);
                if (!node || node.loraCard !== card) {
                    node?.remove();
                    node = card ? this.makeCard(card, n) : lib.dom.element("div", {class: "lora-card lora-ghost"});
                    node.loraCard = card;
                    this.nodes.set(n, node);
                    this.spacer.append(node);
                }
                const {left, top} = lib.view.place(n, shape);
                node.style.transform = `translate(${left}px, ${top}px)`;
                node.style.width = `${shape.width}px`;
                node.style.height = `${shape.height}px`;
            }
            this.mark();
        }

        clearNodes() {
            for (const node of this.nodes.values()) node.remove();
            this.nodes.clear();
        }

        makeCard(card, n) {
            const {element, icon, badge, iconButton} = lib.dom;
            const state = card.reason ? "lora-dim" : "";
            const words = card.trigger_words.join(", ") || card.activation_text;
            const node = element("div", {
                class: `lora-card ${state}`, role: "option", id: `lora-card-${card.id}`, title: card.reason || card.name, "aria-selected": "false",
                "data-lora-id": card.id, onclick: () => this.toggle(card, n),
            },
            picture(this.api, card),
            element("div", {class: "lora-caption-block"},
                element("div", {class: "lora-title", text: card.title}),
                element("div", {class: "lora-meta", text: card.broken ? card.broken : lib.view.summary(card)}),
                element("div", {class: "lora-trigger", text: words || (card.folder ? `in ${card.folder}` : "")})),
            element("div", {class: "lora-over"}, card.broken ? element("span", {class: "lora-badge lora-broken", text: "broken"}) : badge(card.family)),
            element("span", {class: "lora-check"}, icon("check")),
            iconButton("info", `Details of ${card.title}`, (event) => {
                event.stopPropagation();
                this.point(n);
                this.details.open(card);
            }, "lora-open"));
            node.querySelector(".lora-open").tabIndex = -1;  // the keyboard has its own way: "i"
            return node;
        }

        // Which cards are in the prompt, and where the keyboard is.
        mark() {
            const text = this.prompt?.value ?? "";
            for (const [n, node] of this.nodes) {
                if (!node.loraCard) continue;
                const isActive = text.includes("<") && lib.tags.indexOf(text, node.loraCard.names) >= 0;
                node.setAttribute("aria-selected", String(isActive));
                node.classList.toggle("lora-cursor", n === this.cursor);
            }
            const current = this.nodes.get(this.cursor);
            if (current) this.window.setAttribute("aria-activedescendant", current.id);
            else this.window.removeAttribute("aria-activedescendant");
            this.details.mark(text);
        }

        showCount(told) {
            const files = (n) => `${n.toLocaleString()} adapter${n === 1 ? "" : "s"}`;
            this.told.textContent = told.total === told.installed ? files(told.total) : `${told.total.toLocaleString()} of ${files(told.installed)}`;
            this.hint.hidden = told.total > 0;
            this.hint.textContent = told.installed === 0
                ? "No adapters yet. Put .safetensors files into the adapter folder; they appear here by themselves."
                : "Nothing fits. Take away a word or a filter.";
        }

        showFacets(facets) {
            const {element} = lib.dom;
            const groups = Object.entries(FACETS).map(([facet, title]) => {
                const chosen = this.chosen[facet] ?? [];
                const values = facets[facet] ?? [];
                const gone = chosen.filter((value) => !values.some((each) => each.value === value));
                const shown = [...values.slice(0, MOST), ...gone.map((value) => ({value, label: value, count: 0}))];
                if (shown.length < 2 && chosen.length === 0 && facet !== "state") return null;
                if (shown.length === 0) return null;
                return element("div", {class: "lora-facet", role: "group", "aria-label": title},
                    element("span", {class: "lora-facet-title", text: title}),
                    ...shown.map(({value, label, count}) => element("button", {
                        type: "button", class: "lora-chip", "aria-pressed": String(chosen.includes(value)),
                        onclick: () => this.choose(facet, value),
                    }, element("span", {text: label}), element("span", {class: "lora-count", text: count}))));
            });
            this.facets.replaceChildren(...groups.filter(Boolean));
        }

        choose(facet, value) {
            const chosen = this.chosen[facet] ?? [];
            this.chosen[facet] = chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value];
            this.search();
        }

        turn() {
            this.view = this.view === "grid" ? "list" : "grid";
            this.showView();
            this.memorize();
            this.clearNodes();
            this.paint();
        }

        showView() {
            this.root.classList.toggle("lora-as-list", this.view === "list");
            this.viewButton.replaceChildren(lib.dom.icon(this.view === "list" ? "grid" : "list"));
        }

        memorize() {
            remember({sort: this.sort.value, view: this.view});
        }

        // What happens

        get prompt() {
            return lib.dom.textarea(this.target.value || this.targets[0]?.[1] || "textarea");
        }

        edit(change) {
            const area = this.prompt;
            if (!area) return this.say("There is no prompt on this page to write into.");
            lib.dom.write(area, change(area.value));
            this.root.dispatchEvent(new CustomEvent("lora-edited", {bubbles: true}));
            this.mark();
        }

        toggle(card, n, weight) {
            if (n !== undefined) this.point(n);
            if (card.broken) return this.details.open(card);
            const area = this.prompt;
            if (!area) return this.say("There is no prompt on this page to write into.");
            const isIn = lib.tags.indexOf(area.value, card.names) >= 0;
            this.edit((text) => lib.tags.toggle(text, card.names, lib.view.promptText(card, weight)));
            this.say(isIn ? `${card.title}: out of the prompt` : `${card.title}: in the prompt${card.reason ? `, but ${card.reason}` : ""}`);
        }

        say(sentence) {
            this.told.textContent = sentence;
            this.told.classList.remove("lora-fresh");
            void this.told.offsetWidth;  // so that the animation begins again
            this.told.classList.add("lora-fresh");
        }

        async rescan() {
            this.rescanButton.classList.add("lora-turning");
            this.looked = Date.now();
            try {
                const found = await this.api.rescan();
                const changes = found.added + found.changed + found.removed;
                if (changes > 0) {
                    dispatchEvent(new CustomEvent("lora-rescanned"));
                    await this.search({keepPlace: true});
                }
                this.say([`${found.added} new, ${found.changed} changed, ${found.removed} gone`, ...found.problems].join(". "));
            } catch (error) {
                this.say(`The folders cannot be searched now: ${error.message}`);
            }
            this.rescanButton.classList.remove("lora-turning");
        }

        // The window comes back: perhaps a download has ended meanwhile.
        async refresh() {
            if (!this.root.isConnected || this.root.offsetParent === null || Date.now() - (this.looked ?? 0) < FRESH) return;
            this.looked = Date.now();
            const found = await this.api.rescan().catch(() => null);
            if (found && found.added + found.changed + found.removed > 0) {
                dispatchEvent(new CustomEvent("lora-rescanned"));
                this.search({keepPlace: true});
            }
        }

        // Keys: arrows, Home, End, Page; Enter inserts, "i" opens the details, Escape closes them, "/" goes to the search

        searchKey(event) {
            if (event.key === "ArrowDown" || event.key === "Enter") {
                event.preventDefault();
                this.window.focus();
                this.point(Math.max(0, this.cursor));
                if (event.key === "Enter" && this.count === 1 && this.card(0)) this.toggle(this.card(0), 0);
            } else if (event.key === "Escape" && this.field.value) {
                event.preventDefault();
                this.field.value = "";
                this.search();
            }
        }

        key(event) {
            if (event.ctrlKey || event.metaKey || event.altKey || !this.shape) return;
            const card = this.cursor >= 0 ? this.card(this.cursor) : null;
            const page = Math.max(1, Math.floor(this.window.clientHeight / this.shape.step));
            const moved = lib.view.neighbour(Math.max(0, this.cursor), event.key, {columns: this.shape.columns, count: this.count, page});
            const actions = {
                Enter: () => card && this.toggle(card, this.cursor),
                " ": () => card && this.toggle(card, this.cursor),
                i: () => card && this.details.open(card),
                Escape: () => this.details.close(),
                "/": () => this.field.focus(),
            };
            if (event.key in actions) actions[event.key]();
            else if (/^(Arrow|Page|Home|End)/.test(event.key)) this.point(moved);
            else return;
            event.preventDefault();
        }

        focused() {
            if (this.cursor < 0 && this.count > 0 && this.window.matches(":focus-visible")) this.point(0);
        }

        point(n) {
            if (n < 0 || n >= this.count || !this.shape) return;
            this.cursor = n;
            const {top} = lib.view.place(n, this.shape);
            const bottom = top + this.shape.height;
            if (top < this.window.scrollTop) this.window.scrollTop = top;
            else if (bottom > this.window.scrollTop + this.window.clientHeight) this.window.scrollTop = bottom - this.window.clientHeight;
            this.paint();
            if (this.details.isOpen && this.card(n)) this.details.open(this.card(n));
        }
    }

    // The preview over a placeholder; where there is none, the placeholder stays.
    function picture(api, card, more = "") {
        const {element} = lib.dom;
        const {background, initials} = lib.view.placeholder(card.name);
        const image = element("img", {class: "lora-picture", alt: "", decoding: "async", draggable: "false"});
        image.addEventListener("load", () => image.classList.add("lora-loaded"));
        image.src = api.picture(card.thumbnail, more);
        return element("div", {class: "lora-thumb", style: {background}}, element("span", {class: "lora-initials", text: initials}), image);
    }

    function remember(value) {
        try {
            if (value) localStorage.setItem(MEMORY, JSON.stringify(value));
            return JSON.parse(localStorage.getItem(MEMORY)) ?? {};
        } catch {
            return {};  // storage is forbidden or holds something else
        }
    }

    lib.picture = picture;
    lib.dom ? start() : addEventListener("DOMContentLoaded", start);
    function start() {
        lib.dom.mount(".lora-listing", (root) => new Listing(root));
    }
})();
