// What an adapter changes, for the details: the UNet as its blocks, each as strong in colour as it is changed; the energy by rank. Where
// the prompt has the adapter, a click on a block silences it there, and another one brings it back.

(function () {
    "use strict";

    const SVG = "http://www.w3.org/2000/svg";
    const MOVES = {ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0]};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Inside {
        // ask(): a promise of the server's figures; known(): of the blocks of the loaded model; prompts; card: the adapter.
        constructor(card, prompts, {ask, known}) {
            const {element} = lib.dom;
            Object.assign(this, {card, prompts, ask, known, grammar: null, nodes: null, silencer: new lib.Silencer()});
            this.place = element("div", {class: "lora-inside-place", "aria-live": "polite"});
            this.button = element("button", {type: "button", class: "lora-chip", text: lib.t("See inside"), title: lib.t("Reads the whole file"), onclick: () => this.look()});
            this.hint = element("p", {class: "lora-meta", role: "status"});
            this.element = lib.facts.section(lib.t("What it changes"), this.button, this.place);
        }

        async look() {
            this.button.disabled = true;
            this.place.textContent = lib.t("Reading…");
            const [found, grammar] = await Promise.all([this.ask(), this.known()]).catch((error) => [{problem: error.message}]);
            this.button.hidden = !found.problem;
            this.button.disabled = false;
            if (found.problem) return this.place.textContent = found.problem;
            this.grammar = grammar;
            this.place.replaceChildren(...this.shown(found));
            this.mark(this.card);
            this.nodes[0]?.focus();
        }

        shown(found) {
            const {element} = lib.dom;
            const {digits} = lib.changes;
            const changes = lib.changes.byBlock(found);
            this.nodes = found.blocks.map((each) => this.block(each, changes[each.block]));
            this.isWhole = !this.card.algorithms.every((name) => name === "LoRA");
            const parts = [
                element("p", {class: "lora-meta", text: lib.t("Change of each block at weight 1, {n} in all", {n: digits(found.delta)})}),
                element("div", {class: "lora-inside", role: "group", "aria-label": lib.t("Blocks"), onkeydown: (event) => this.key(event)}, ...this.nodes),
                this.hint,
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

        block({block: name, column, row}, {value, share, title}) {
            const {element} = lib.dom;
            const node = element("button", {
                type: "button", class: "lora-inside-block", style: {gridColumn: String(column + 1), gridRow: String(row + 1)}, title, tabindex: "-1",
                "data-lora-empty": value === 0, "data-lora-block": name, "data-lora-place": `${column},${row}`, onclick: () => this.toggle(name),
            }, element("span", {text: name}), element("span", {class: "lora-inside-value", text: value ? lib.changes.digits(value) : ""}));
            node.style.setProperty("--share", String(share));
            return node;
        }

        // The adapter's tag in the chosen prompt, its place, and the weights of its blocks; null without a tag, or where it says
        // something of blocks that is no list of numbers.
        get now() {
            const {text} = this.prompts;
            const n = lib.tags.indexOf(text, this.card.names);
            const tag = n < 0 ? null : lib.tags.find(text)[n];
            if (!tag || tag.error || !this.grammar) return null;
            const typed = tag.values.lbw?.text ?? "";
            return {n, typed, shown: lib.blocks.shown(typed, this.grammar, this.isWhole)};
        }

        // How the prompt has it.
        mark(card) {
            this.card = card;
            if (!this.nodes || !this.grammar) return;
            const {now} = this;
            if (now?.shown) this.silencer.see(now.typed, now.shown);
            for (const node of this.nodes) {
                const name = node.dataset.loraBlock;
                const n = now?.shown?.names.indexOf(name) ?? -1;
                const isSilent = Boolean(now?.shown) && !node.hasAttribute("data-lora-empty") && (n < 0 ? name in weighed(this.grammar) : now.shown.numbers[n] === 0);
                node.disabled = !now?.shown || !(name in weighed(this.grammar));
                node.setAttribute("aria-pressed", String(!isSilent));
                node.classList.toggle("lora-silent", isSilent);
            }
            const chosen = this.nodes.find((node) => node.tabIndex === 0 && !node.disabled) ?? this.nodes.find((node) => !node.disabled);
            for (const node of this.nodes) node.tabIndex = node === chosen ? 0 : -1;
            this.hint.textContent = now?.shown ? lib.t("A click on a block silences it in the prompt, another one brings it back.")
                : now ? lib.t("What the tag says of blocks stays as it is.") : lib.t("Put it into the prompt, and a click on a block silences it there.");
        }

        toggle(name) {
            const {now} = this;
            const shown = now?.shown && lib.blocks.widened(now.shown, this.grammar, name);
            if (!shown) return;
            const lbw = this.silencer.text(this.silencer.toggled(shown, name));
            this.prompts.edit((text) => lib.tagEdits.setArguments(text, now.n, {lbw}));
        }

        // Arrow keys go from block to block.
        key(event) {
            const move = MOVES[event.key];
            const node = event.target.closest("[data-lora-place]");
            if (!move || !node || event.altKey || event.ctrlKey || event.metaKey) return;
            event.preventDefault();
            event.stopPropagation();
            const next = nearest(this.nodes.filter((each) => !each.disabled), node, move);
            if (!next) return;
            node.tabIndex = -1;
            next.tabIndex = 0;
            next.focus();
        }
    }

    // The blocks that numbers can be said of, by name.
    function weighed({vectors, whole}) {
        return Object.fromEntries(vectors[whole].map((name) => [name, true]));
    }

    // The next block in that direction.
    function nearest(nodes, from, [dx, dy]) {
        const place = (node) => node.dataset.loraPlace.split(",").map(Number);
        const [x, y] = place(from);
        const ahead = nodes.map((node) => [node, ...place(node)]).filter(([, column, row]) => dx ? Math.sign(column - x) === dx : column === x && Math.sign(row - y) === dy);
        const far = ([, column, row]) => Math.abs(column - x) * 100 + Math.abs(row - y);
        return ahead.sort((one, other) => far(one) - far(other))[0]?.[0];
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

    lib.Inside = Inside;
})();
