// The window onto the cards: only those in sight are elements. It knows where the keyboard is and which cards are in the
// prompt; what a card looks like and what a click does is the listing's.

(function () {
    "use strict";

    const PLACES = ["count", "columns", "width", "height"];  // of a shape: where one differs, every card has another place

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Grid {
        // make(card, n): an element; isActive(card), isPicked(card): how it is marked.
        constructor(feed, {make, isActive, isPicked, ...events}) {
            const {element} = lib.dom;
            Object.assign(this, {feed, make, isActive, isPicked});
            this.view = "grid";
            this.cursor = -1;
            this.nodes = new Map();  // place -> element
            this.shape = null;
            this.spacer = element("div", {class: "lora-spacer", role: "presentation"});
            this.hint = element("div", {class: "lora-hint", role: "presentation"});
            this.window = element("div", {
                class: "lora-window", tabindex: "0", role: "listbox", "aria-label": lib.t("Adapters"), "aria-multiselectable": "true",
                onscroll: () => this.paintSoon(), onfocus: () => this.focused(), ...events,
            }, this.spacer, this.hint);
            new ResizeObserver(() => this.paintSoon()).observe(this.window);
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
                view: this.view, count: this.feed.count, width, top: this.window.scrollTop, visible: this.window.clientHeight,
            });
            const isOther = !this.shape || PLACES.some((name) => shape[name] !== this.shape[name]);
            this.shape = shape;
            this.feed.look(shape);
            for (const [n, node] of this.nodes) {
                if (n < shape.first || n >= shape.last) {
                    node.remove();
                    this.nodes.delete(n);
                }
            }
            if (isOther) {  // else a frame of scrolling touches only what it brings into sight
                this.spacer.style.height = `${shape.total}px`;
                for (const [n, node] of this.nodes) this.place(n, node);
            }
            for (let n = shape.first; n < shape.last; n += 1) this.put(n);
            this.showCursor();
        }

        put(n) {
            const card = this.feed.card(n);
            const old = this.nodes.get(n);
            if (old && old.loraCard === card) return;
            old?.remove();
            const node = card ? this.make(card, n) : lib.dom.element("div", {class: "lora-card lora-ghost", role: "presentation"});
            node.loraCard = card;
            this.nodes.set(n, node);
            this.place(n, node);
            if (card) {
                node.setAttribute("aria-posinset", n + 1);
                this.markNode(node);
            }
            this.spacer.append(node);
        }

        place(n, node) {
            const {left, top} = lib.view.place(n, this.shape);
            node.style.transform = `translate(${left}px, ${top}px)`;
            node.style.width = `${this.shape.width}px`;
            node.style.height = `${this.shape.height}px`;
            node.setAttribute("aria-setsize", this.feed.count);
        }

        clear() {
            for (const node of this.nodes.values()) node.remove();
            this.nodes.clear();
        }

        // What stands where no card does.
        showHint({total, installed}) {
            this.hint.hidden = total > 0;
            this.hint.textContent = installed === 0
                ? lib.t("No adapters yet. Put .safetensors files into the adapter folder; they appear here by themselves.")
                : lib.t("Nothing fits. Take away a word or a filter.");
        }

        // Which cards are in the prompt, and which are picked.
        mark() {
            for (const node of this.nodes.values()) if (node.loraCard) this.markNode(node);
        }

        markNode(node) {
            node.setAttribute("aria-selected", String(this.isActive(node.loraCard)));
            const isPicked = this.isPicked(node.loraCard);
            if (isPicked) node.setAttribute("aria-checked", "true");
            else node.removeAttribute("aria-checked");
        }

        // Where the keyboard is

        get card() {
            return this.cursor >= 0 ? this.feed.card(this.cursor) : null;
        }

        showCursor() {
            for (const [n, node] of this.nodes) node.classList.toggle("lora-cursor", n === this.cursor);
            const current = this.nodes.get(this.cursor);
            if (current?.id) this.window.setAttribute("aria-activedescendant", current.id);
            else this.window.removeAttribute("aria-activedescendant");
        }

        focused() {
            if (this.cursor < 0 && this.feed.count > 0 && this.window.matches(":focus-visible")) this.point(0);
        }

        point(n) {
            if (n < 0 || n >= this.feed.count || !this.shape) return;
            this.cursor = n;
            const {top} = lib.view.place(n, this.shape);
            const bottom = top + this.shape.height;
            const {scrollTop, clientHeight} = this.window;
            if (top < scrollTop) this.window.scrollTop = top;
            else if (bottom > scrollTop + clientHeight) this.window.scrollTop = bottom - clientHeight;
            this.paint();
        }

        // Where that key leads from the cursor; null if it leads nowhere.
        reach(key) {
            if (!this.shape || !/^(Arrow|Page|Home|End)/.test(key)) return null;
            const page = Math.max(1, Math.floor(this.window.clientHeight / this.shape.step));
            return lib.view.neighbour(Math.max(0, this.cursor), key, {columns: this.shape.columns, count: this.feed.count, page});
        }
    }

    lib.Grid = Grid;
})();
