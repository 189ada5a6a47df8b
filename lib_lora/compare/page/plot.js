// A plot: effect against weight, or against the epoch of a training. Numbers in, an SVG out; nothing of the page is known here.

(function () {
    "use strict";

    const report = (globalThis.report = globalThis.report || {});
    const COLOURS = ["#4f46e5", "#d9480f", "#0f8a5f", "#c2255c", "#1c7ed6", "#9c6f00", "#7048e8", "#0b7285"];
    const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
    const WIDTH = 520, NARROWEST = 240, HEIGHT = 250, LEFT = 40, RIGHT = 14, TOP = 12, BOTTOM = 30;

    function svg(name, attributes = {}, ...children) {
        const made = document.createElementNS("http://www.w3.org/2000/svg", name);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        made.append(...children);
        return made;
    }

    function style(number) {
        const dark = document.documentElement.dataset.theme === "dark";
        const colour = COLOURS[number % COLOURS.length];
        return {
            stroke: dark ? `color-mix(in srgb, ${colour} 62%, white)` : colour,
            dash: DASHES[Math.floor(number / COLOURS.length) % DASHES.length],
        };
    }

    function steps(low, high, most) {  // round numbers that part low..high
        const rough = (high - low) / most || 1;
        const power = 10 ** Math.floor(Math.log10(rough));
        const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
        const found = [];
        for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toFixed(10)));
        return found;
    }

    function shown(number) {
        return String(Number(number.toPrecision(3))).replace("-", "−");
    }

    // lines: [{name, points: [{x, y, label, choose}]}]; x: what stands below; ticks: {x: text}, else round numbers; width: in pixels,
    // so that its letters are as large as those around it
    function plot({lines, x, ticks, width = WIDTH}) {
        const wide = Math.max(width, NARROWEST);
        const points = lines.flatMap((line) => line.points);
        const low = Math.min(...points.map((point) => point.x)), high = Math.max(...points.map((point) => point.x));
        const top = Math.max(...points.map((point) => point.y), 0.1) * 1.08;
        const across = (value) => LEFT + (value - low) / (high - low || 1) * (wide - LEFT - RIGHT);
        const down = (value) => HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        const drawing = svg("svg", {viewBox: `0 0 ${wide} ${HEIGHT}`, width: wide, role: "group", "aria-label": `effect in percent against ${x}`});
        for (const value of steps(0, top, 5)) {
            drawing.append(svg("line", {class: "axis", x1: LEFT, x2: wide - RIGHT, y1: down(value), y2: down(value)}),
                svg("text", {x: LEFT - 6, y: down(value) + 4, "text-anchor": "end"}, shown(value)));
        }
        const below = ticks ? [...ticks] : steps(low, high, 7).map((value) => [value, shown(value)]);
        let last = -Infinity;
        for (const [value, text] of below.sort((one, other) => one[0] - other[0])) {
            if (across(value) - last < 8 * text.length + 4) continue;
            last = across(value);
            drawing.append(svg("text", {x: last, y: HEIGHT - BOTTOM + 16, "text-anchor": "middle"}, text));
        }
        drawing.append(svg("text", {x: (LEFT + wide - RIGHT) / 2, y: HEIGHT - 1, "text-anchor": "middle"}, x));

        const groups = lines.map((line, number) => {
            const {stroke, dash} = style(number);
            const sorted = [...line.points].sort((one, other) => one.x - other.x);
            const path = sorted.map((point, place) => `${place ? "L" : "M"}${across(point.x).toFixed(1)} ${down(point.y).toFixed(1)}`).join("");
            const group = svg("g", {}, svg("path", {class: "line", d: path, style: `stroke:${stroke}`, "stroke-dasharray": dash}));
            for (const point of sorted) {
                const dot = svg("circle", {
                    class: "point", cx: across(point.x), cy: down(point.y), r: 5, style: `fill:${stroke}`,
                    tabindex: 0, role: "button", "aria-label": point.label,
                }, svg("title", {}, point.label));
                dot.addEventListener("click", point.choose);
                dot.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); point.choose(); } });
                group.append(dot);
            }
            drawing.append(group);
            return group;
        });

        const legend = document.createElement("ul");
        legend.className = "legend";
        lines.forEach((line, number) => {
            const {stroke, dash} = style(number);
            const item = document.createElement("li");
            item.append(svg("svg", {viewBox: "0 0 26 8", "aria-hidden": "true"},
                svg("line", {x1: 1, x2: 25, y1: 4, y2: 4, style: `stroke:${stroke};stroke-width:3`, "stroke-dasharray": dash})), line.name);
            item.addEventListener("pointerenter", () => groups.forEach((group, other) => group.classList.toggle("faded", other !== number)));
            item.addEventListener("pointerleave", () => groups.forEach((group) => group.classList.remove("faded")));
            legend.append(item);
        });
        return [drawing, legend];
    }

    Object.assign(report, {plot, steps, shown});
})();
