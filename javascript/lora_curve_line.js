// The line of a curve: its path in a drawing, and a small drawing with nothing but the line.

(function () {
    "use strict";

    const SAMPLES = 48;  // of a line that is bent because its unit does not go evenly with the steps
    const SMALL = {width: 100, height: 24, edge: 3};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // From which weight to which a drawing reaches: 0 and 1, what is there, and some room to drag to.
    function reach(weights, room = 0.25) {
        return {low: Math.min(0, ...weights) - room, high: Math.max(1, ...weights) + room};
    }

    // What lies at a weight, from the top, in a drawing of that height.
    function heightOf(weight, {low, high}, height) {
        return height * (high - weight) / (high - low);
    }

    // [[part of the way, weight], ...] from its beginning to its end.
    function corners(weight, axis) {
        if (typeof weight === "number") return [[0, weight], [1, weight]];
        const points = weight.points.map((point) => [axis.fraction(point.at), point.weight]);
        const bent = axis.unit === "sigma" ? Array.from({length: SAMPLES}, (_, n) => n / SAMPLES) : [];
        const [start, end] = [points[0], points.at(-1)];
        const between = bent.filter((part) => part > start[0] && part < end[0]).map((part) => [part, lib.curve.at(weight, axis.at(part))]);
        const inner = [...points, ...between].sort(([a], [b]) => a - b);
        return [[0, start[1]], ...inner, [1, end[1]]];
    }

    function path(weight, axis, reached, {width, height}) {
        return corners(weight, axis).map(([part, value], n) => {
            return `${n ? "L" : "M"}${fixed(part * width)} ${fixed(heightOf(value, reached, height))}`;
        }).join("");
    }

    function small(curve) {
        const {width, height, edge} = SMALL;
        const axis = lib.axis.axis(curve.unit, {steps: 0, positions: curve.points.map(({at}) => at)});
        const reached = reach(curve.points.map(({weight}) => weight), 0);
        const room = {width: width - 2 * edge, height: height - 2 * edge};
        const line = lib.dom.drawing("path", {d: path(curve, axis, reached, room), class: "lora-line-of-curve", transform: `translate(${edge} ${edge})`});
        const zero = edge + heightOf(0, reached, room.height);
        return lib.dom.drawing("svg", {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true"},
            lib.dom.drawing("path", {d: `M0 ${zero}H${width}`, class: "lora-zero"}), line);
    }

    function fixed(value) {
        return Number(value.toFixed(2));
    }

    lib.curveLine = {reach, heightOf, path, small};
})();
