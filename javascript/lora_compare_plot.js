// The effect of adapters against their weight as a picture: how much each changes what is drawn without it.

(function () {
    "use strict";

    const COLOURS = ["#4f46e5", "#d9480f", "#0f8a5f", "#c2255c", "#1c7ed6", "#9c6f00", "#7048e8", "#0b7285"];
    const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
    const HEIGHT = 220, LEFT = 36, RIGHT = 14, TOP = 10, BOTTOM = 34, NARROWEST = 240, WIDEST = 720;  // pixels
    const LETTER = 8;  // pixels, about

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Round numbers that part low..high, `most` of them at most.
    function ticks(low, high, most) {
        const rough = (high - low) / most || 1;
        const power = 10 ** Math.floor(Math.log10(rough));
        const step = [1, 2, 5, 10].find((each) => each * power >= rough * (1 - 1e-9)) * power;
        const found = [];
        for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toFixed(10)));
        return found;
    }

    // [{name, points: [[weight, effect]]}] of adapters with two points at least; `effects`: by adapter and weight, in percent.
    function lines({adapters, weights}, effects) {
        return adapters.map(({title, name}, a) => ({
            name: adapters.filter((other) => other.title === title).length > 1 ? `${title} (${name})` : title,
            points: weights.flatMap(({value}, w) => typeof value !== "number" || typeof effects?.[a]?.[w] !== "number" ? [] : [[value, effects[a][w]]])
                .sort(([one], [other]) => one - other),
        })).filter(({points}) => points.length > 1);
    }

    function draw(all, room) {
        const {drawing} = lib.dom;
        const width = Math.min(WIDEST, Math.max(NARROWEST, room));
        const points = all.flatMap((line) => line.points);
        const low = Math.min(...points.map(([x]) => x)), high = Math.max(...points.map(([x]) => x));
        const top = Math.max(0.1, ...points.map(([, y]) => y)) * 1.08;
        const across = (x) => LEFT + (x - low) / (high - low || 1) * (width - LEFT - RIGHT);
        const down = (y) => HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);
        const parts = ticks(0, top, 5).flatMap((y) => [
            drawing("line", {class: "lora-plot-rule", x1: LEFT, x2: width - RIGHT, y1: down(y), y2: down(y)}),
            drawing("text", {x: LEFT - 6, y: down(y) + 4, "text-anchor": "end"}, `${y}`),
        ]);
        const below = ticks(low, high, Math.max(2, Math.min(8, Math.floor(width / (6 * LETTER)))));
        parts.push(...below.map((x) => drawing("text", {x: across(x), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle"}, String(x).replace("-", "−"))),
            drawing("text", {x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 2, "text-anchor": "middle"}, lib.t("weight")));
        all.forEach(({name, points: own}, number) => {
            const path = own.map(([x, y], place) => `${place ? "L" : "M"}${across(x).toFixed(1)} ${down(y).toFixed(1)}`).join("");
            parts.push(drawing("g", {class: "lora-plot-line", style: `--lora-colour: ${COLOURS[number % COLOURS.length]}`},
                drawing("path", {d: path, "stroke-dasharray": dash(number)}),
                ...own.map(([x, y]) => drawing("circle", {cx: across(x), cy: down(y), r: 4}, drawing("title", {}, `${name}, ${x}: ${percent(y)}`)))));
        });
        return drawing("svg", {viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, class: "lora-plot", role: "img", "aria-label": told(all)}, ...parts);
    }

    function dash(number) {
        return DASHES[Math.floor(number / COLOURS.length) % DASHES.length];
    }

    // For those who do not see it.
    function told(all) {
        return all.map(({name, points}) => `${name}: ${points.map(([x, y]) => `${x} ${percent(y)}`).join(", ")}`).join("; ");
    }

    function percent(effect) {
        return `${effect < 10 ? effect.toFixed(1) : Math.round(effect)} %`;
    }

    // A figure for each checkpoint that has something to show.
    function figures(job, effects, room) {
        const {element, drawing} = lib.dom;
        return job.checkpoints.flatMap((checkpoint, c) => {
            const all = lines(job, effects[c]);
            if (!all.length) return [];
            const legend = element("ul", {class: "lora-plot-legend"}, ...all.map(({name}, number) => element("li", {},
                drawing("svg", {viewBox: "0 0 26 8", width: 26, height: 8, class: "lora-plot-line", style: `--lora-colour: ${COLOURS[number % COLOURS.length]}`, "aria-hidden": "true"},
                    drawing("path", {d: "M1 4h24", "stroke-dasharray": dash(number)})), element("span", {text: name}))));
            return [element("figure", {class: "lora-compare-figure"},
                element("figcaption", {}, element("b", {text: [lib.t("Effect against weight"), checkpoint].filter(Boolean).join(" · ")}),
                    element("span", {class: "lora-note", text: lib.t("mean difference to weight 0 at equal seed; 100 % is black against white")})),
                draw(all, room), legend)];
        });
    }

    lib.comparePlot = {ticks, lines, figures};
})();
