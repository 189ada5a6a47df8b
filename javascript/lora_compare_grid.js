// The pictures of a comparison while they are drawn: a row for each adapter, a column for each weight, one below the other for
// each checkpoint, prompt and seed. Cells have numbers, in the server's order.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class CompareGrid {
        // address(n, version): {small, large} of a picture.
        constructor({address}) {
            this.address = address;
            this.cells = [];
            this.element = lib.dom.element("div", {class: "lora-compare-sections"});
        }

        // Empty places for all of them.
        lay({adapters, weights, prompts, seeds, checkpoints, size}) {
            const {element} = lib.dom;
            this.cells = new Array(checkpoints.length * adapters.length * weights.length * prompts.length * seeds.length);
            const sections = [];
            checkpoints.forEach((checkpoint, c) => prompts.forEach((prompt, p) => seeds.forEach((seed, s) => {
                const head = element("tr", {}, element("td"), ...weights.map(({value}) => element("th", {scope: "col", text: shown(value)})));
                const rows = adapters.map((adapter, a) => element("tr", {},
                    element("th", {scope: "row"}, element("span", {class: "lora-compare-name", text: adapter.title, title: adapter.name}),
                        adapter.rung && element("span", {class: "lora-meta", text: adapter.rung === "last" ? lib.t("last epoch") : lib.t("epoch {n}", {n: adapter.rung})})),
                    ...weights.map(({value}, w) => {
                        const n = (((c * adapters.length + a) * weights.length + w) * prompts.length + p) * seeds.length + s;
                        const name = lib.t("{name} at {weight}", {name: adapter.title, weight: shown(value)});
                        const place = this.cells[n] = element("td", {class: "lora-compare-cell", "aria-label": name}, element("div", {class: "lora-compare-waiting"}));
                        return place;
                    })));
                sections.push(element("section", {class: "lora-compare-section"},
                    element("h4", {text: [checkpoint, prompt, lib.t("seed {n}", {n: seed})].filter(Boolean).join(" · ")}),
                    element("div", {class: "lora-compare-scroll", tabindex: "0", role: "region", "aria-label": prompt},
                        element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)))));
            })));
            for (const section of sections) section.style.setProperty("--lora-shape", size.join(" / "));
            this.element.replaceChildren(...sections);
        }

        show({n, version, problem}) {
            const {element} = lib.dom;
            const place = this.cells[n];
            if (!place) return;
            if (!version) return place.replaceChildren(element("div", {class: "lora-compare-why", text: problem}));
            const {small, large} = this.address(n, version);
            const name = place.getAttribute("aria-label");
            place.replaceChildren(element("a", {href: large, target: "_blank", rel: "noopener", title: problem || name},
                element("img", {src: small, alt: name, loading: "lazy", decoding: "async"})));
            place.classList.toggle("lora-compare-noted", Boolean(problem));
        }
    }

    function shown(weight) {
        return typeof weight === "number" ? String(weight).replace("-", "−") : weight;
    }

    lib.CompareGrid = CompareGrid;
})();
