// How adapters pull at each other: a small heat map of cosines, of all blocks or of one, and how much of the sum each one is.

(function () {
    "use strict";

    const APART = -0.1;  // from there on a block is marked

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripHeat {
        constructor() {
            const {element} = lib.dom;
            this.block = null;  // that is shown; null: all
            this.blocks = element("div", {class: "lora-heat-blocks", role: "group", "aria-label": lib.t("Blocks")});
            this.table = element("table", {class: "lora-heat"});
            this.element = element("div", {class: "lora-heat-place"}, element("div", {class: "lora-heat-scroll"}, this.table), this.blocks);
        }

        // told: the server's figures.
        show(told) {
            this.told = told;
            if (!told.blocks.some(({block}) => block === this.block)) this.block = null;
            this.showBlocks();
            this.showTable();
        }

        showBlocks() {
            const {element} = lib.dom;
            const {blocks} = this.told;
            const most = Math.max(...blocks.map(({load}) => load), 1e-12);
            const chip = (block, text, {load = 0, cosine = [[]], title}) => {
                const node = element("button", {
                    type: "button", class: "lora-heat-block", text, title, "aria-pressed": String(this.block === block), "data-lora-block": text,
                    onclick: () => this.choose(block),
                });
                node.style.setProperty("--share", String(load / most));
                node.classList.toggle("lora-apart", Math.min(...cosine.flat(), 1) < APART);
                return node;
            };
            this.blocks.replaceChildren(chip(null, lib.t("all"), {title: lib.t("All blocks together")}), ...blocks.map((each) => chip(each.block, each.block || lib.t("other"), {
                ...each, title: lib.t("{block}: moved by {percent} % of its weights", {block: each.block || lib.t("other"), percent: (100 * each.load).toPrecision(2)}),
            })));
        }

        choose(block) {
            this.block = block;
            this.showBlocks();
            this.showTable();
            this.blocks.querySelector("[aria-pressed=true]").focus();
        }

        showTable() {
            const {element} = lib.dom;
            const {adapters, cosine, shares, blocks} = this.told;
            const matrix = this.block === null ? cosine : blocks.find(({block}) => block === this.block).cosine;
            const names = adapters.map(({name}) => name);
            const cell = (value, a, b) => {
                const node = element("td", {
                    class: value < 0 ? "lora-against" : "lora-alike", text: a === b ? "" : value.toFixed(2),
                    title: a === b ? "" : lib.t("{a} and {b}: 1 the same way, 0 each its own, -1 one undoes the other", {a: names[a], b: names[b]}),
                });
                node.style.setProperty("--share", String(a === b ? 0 : Math.min(1, Math.abs(value))));
                return node;
            };
            const head = element("tr", {}, element("td", {}), ...names.map((name) => element("th", {scope: "col", text: name, title: name})),
                element("th", {scope: "col", text: lib.t("share"), title: lib.t("Of the sum; below 0: it works against the others")}));
            const rows = matrix.map((row, a) => element("tr", {}, element("th", {scope: "row", text: names[a], title: names[a]}),
                ...row.map((value, b) => cell(value, a, b)), element("td", {class: "lora-heat-share", text: `${Math.round(100 * shares[a])} %`})));
            this.table.setAttribute("aria-label", lib.t("How they pull at each other"));
            this.table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
        }
    }

    lib.StripHeat = StripHeat;
})();
