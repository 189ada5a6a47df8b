// A bar for each block of a UNet: its weight is drawn with the pointer, over several at once too, or moved by keys. A click
// silences a block, another one brings it back.

(function () {
    "use strict";

    const SMALL = 0.05;  // what an arrow key moves a weight by; the mouse too
    const LARGE = 0.25;  // with Shift
    const NEAR = 40;     // pixels: so far above and below the bars they are still painted
    const MEANT = {BASE: "Text encoder", IN: "Input", M: "Middle", OUT: "Output"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripBars {
        // changed(numbers); toggled(name): the numbers with that block silenced, or back.
        constructor(changed, toggled) {
            Object.assign(this, {changed, toggled, bars: [], numbers: [], names: []});
            this.element = lib.dom.element("div", {class: "lora-bars", role: "group", "aria-label": lib.t("Weights of the blocks")});
            lib.pointer.follow(this.element, {
                begin: (place, target) => this.take(target),
                go: (place) => this.paint(place),
                end: (place, isMoved) => isMoved || this.silence(this.taken),
            });
        }

        show(names, numbers) {
            if (names.join() !== this.names.join()) this.build(names);
            this.numbers = numbers;
            this.top = Math.max(1, ...numbers);
            numbers.forEach((number, n) => {
                const bar = this.bars[n];
                bar.style.setProperty("--lora-share", `${100 * Math.min(1, Math.abs(number) / this.top)}%`);
                bar.classList.toggle("lora-negative", number < 0);
                bar.classList.toggle("lora-silent", number === 0);
                bar.setAttribute("aria-valuenow", String(number));
                bar.querySelector(".lora-bar-value").textContent = lib.number.write(number);
            });
        }

        build(names) {
            const {element} = lib.dom;
            this.names = names;
            this.bars = names.map((name, n) => element("div", {
                class: "lora-bar-block", role: "slider", tabindex: "0", "aria-orientation": "vertical", "aria-label": name, title: name, "data-lora-bar": n,
                "aria-valuemin": "0", "aria-valuemax": "1", onkeydown: (event) => this.key(event, n),
            }, element("span", {class: "lora-bar-value"}), element("span", {class: "lora-bar-well"}, element("span", {class: "lora-bar-level"})),
            element("span", {class: "lora-bar-name", text: name.match(/\d+$/)?.[0] ?? ""})));
            this.element.replaceChildren(...lib.blocks.groups(names).map(({label, places}) => element("div", {class: "lora-bar-group", style: {flexGrow: String(places.length)}},
                element("div", {class: "lora-bar-row"}, ...places.map((place) => this.bars[place])),
                element("span", {class: "lora-bar-label", text: label, title: lib.t(MEANT[label] ?? label)}))));
        }

        set(n, number) {
            if (this.numbers[n] === number) return;
            this.changed(this.numbers.map((old, place) => place === n ? Math.round(number * 1000) / 1000 : old));
        }

        take(target) {
            this.taken = barOf(target);
            if (this.taken === null) return false;
            this.bars[this.taken].focus({preventScroll: true});
        }

        // The bar at a place gets its height.
        paint({x, y}) {
            const row = this.bars[this.taken].getBoundingClientRect();
            const isBetween = y > row.top - NEAR && y < row.bottom + NEAR;
            const over = isBetween ? this.bars.findIndex((bar) => isAbove(bar.getBoundingClientRect(), x, row)) : -1;
            const n = over < 0 ? this.taken : over;
            const well = this.bars[n].querySelector(".lora-bar-well").getBoundingClientRect();
            const share = Math.min(1, Math.max(0, (well.bottom - y) / well.height));
            this.set(n, Math.round(share * this.top / SMALL) * SMALL);
        }

        silence(n) {
            this.changed(this.toggled(this.names[n]));
        }

        // How much an adapter changes each block, {name: {share, title}}, where it is known: the wells are as strong in colour.
        tint(changes) {
            this.bars.forEach((bar, n) => {
                const {share = 0, title = this.names[n]} = changes?.[this.names[n]] ?? {};
                bar.style.setProperty("--lora-change", String(share));
                bar.title = title;
            });
        }

        key(event, n) {
            if (event.altKey || event.ctrlKey || event.metaKey) return;
            const by = event.shiftKey ? LARGE : SMALL;
            const acts = {
                ArrowUp: () => this.set(n, this.numbers[n] + by), ArrowDown: () => this.set(n, this.numbers[n] - by),
                ArrowRight: () => this.bars[Math.min(n + 1, this.bars.length - 1)].focus(), ArrowLeft: () => this.bars[Math.max(n - 1, 0)].focus(),
                Home: () => this.set(n, 0), End: () => this.set(n, 1),
                Enter: () => this.silence(n), " ": () => this.silence(n), Delete: () => this.set(n, 0),
            };
            if (!Object.hasOwn(acts, event.key)) return;
            event.preventDefault();
            acts[event.key]();
        }
    }

    function barOf(target) {
        const bar = target.closest("[data-lora-bar]");
        return bar ? Number(bar.dataset.loraBar) : null;
    }

    // Whether a bar stands below x, in the row of the one that was taken.
    function isAbove(box, x, row) {
        return x >= box.left && x < box.right && Math.abs(box.top - row.top) < 2;
    }

    lib.StripBars = StripBars;
})();
