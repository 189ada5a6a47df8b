// What an adapter changes, for the details: the UNet as its blocks, each as strong in colour as it is changed; the energy by rank.

(function () {
    "use strict";

    const SVG = "http://www.w3.org/2000/svg";
    const KINDS = {attn1: "self-attention", attn2: "cross-attention", ff: "feed-forward", conv: "convolutions", other: "other"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // The change of a block: layers add up as squares.
    function total(kinds) {
        return Math.hypot(...Object.values(kinds));
    }

    function digits(value) {
        return value === 0 ? "0" : value.toPrecision(3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
    }

    // "attn1 1.2, conv 0.3": the largest first.
    function described(kinds) {
        const parts = Object.entries(kinds).sort((one, other) => other[1] - one[1]);
        return parts.map(([kind, value]) => `${lib.t(KINDS[kind] ?? kind)} ${digits(value)}`).join(", ");
    }

    function block({block: name, kinds, column, row}, most) {
        const {element} = lib.dom;
        const value = total(kinds);
        const place = {gridColumn: String(column + 1), gridRow: String(row + 1)};
        const node = element("div", {
            class: "lora-inside-block", role: "listitem", style: place, "data-lora-empty": value === 0, "data-lora-block": name,
            title: value ? `${name}: ${described(kinds)}` : lib.t("{name}: not changed", {name}),
        }, element("span", {text: name}), element("span", {class: "lora-inside-value", text: value ? digits(value) : ""}));
        node.style.setProperty("--share", String(most ? value / most : 0));
        return node;
    }

    function energy(shares) {
        const svg = document.createElementNS(SVG, "svg");
        svg.setAttribute("viewBox", "0 0 100 100");
        svg.setAttribute("preserveAspectRatio", "none");
        svg.setAttribute("class", "lora-inside-energy");
        svg.setAttribute("role", "img");
        const half = shares.findIndex((share) => share >= 0.9) + 1;
        svg.setAttribute("aria-label", lib.t("Energy by rank: nine tenths are within rank {n} of {all}", {n: half, all: shares.length}));
        const frame = document.createElementNS(SVG, "rect");
        Object.entries({width: 100, height: 100}).forEach(([name, value]) => frame.setAttribute(name, value));
        const line = document.createElementNS(SVG, "polyline");
        line.setAttribute("points", [0, ...shares].map((share, rank) => `${100 * rank / shares.length},${100 - 100 * share}`).join(" "));
        svg.append(frame, line);
        return {svg, half};
    }

    function shown(found) {
        const {element} = lib.dom;
        const most = Math.max(0, ...found.blocks.map(({kinds}) => total(kinds)));
        const parts = [
            element("p", {class: "lora-meta", text: lib.t("Change of each block at weight 1, {n} in all", {n: digits(found.delta)})}),
            element("div", {class: "lora-inside", role: "list", "aria-label": lib.t("Blocks")}, ...found.blocks.map((each) => block(each, most))),
        ];
        if (found.energy.length > 1) {
            const {svg, half} = energy(found.energy);
            parts.push(svg, element("p", {class: "lora-meta", text: lib.t("Nine tenths of it are within rank {n} of {all}", {n: half, all: found.energy.length})}));
        }
        if (found.untold) {
            parts.push(element("p", {class: "lora-meta", text: lib.t("{n} layers depend on the checkpoint and are not counted", {n: found.untold})}));
        }
        return [...parts, ...found.notes.map((note) => element("p", {class: "lora-meta", text: note}))];
    }

    // `ask()`: the server's figures, or an error with its sentence.
    function section(ask) {
        const {element} = lib.dom;
        const place = element("div", {class: "lora-inside-place", "aria-live": "polite"});
        const button = element("button", {
            type: "button", class: "lora-chip", text: lib.t("See inside"), title: lib.t("Reads the whole file"),
            onclick: async () => {
                button.disabled = true;
                place.textContent = lib.t("Reading…");
                const found = await ask().catch((error) => ({problem: error.message}));
                button.hidden = !found.problem;
                button.disabled = false;
                if (found.problem) place.textContent = found.problem;
                else place.replaceChildren(...shown(found));
            },
        });
        return lib.facts.section(lib.t("What it changes"), button, place);
    }

    lib.inside = {section, total, digits, described};
})();
