// A weight over time: its text and its points. `0@0,1@0.5,0@1` is weight@position, linear between, flat outside; the same as
// lib_lora/grammar/curve.py. The unit belongs to the whole: sigma if a position is written s14.6, else shares of the steps if
// the largest is at most 1, else step numbers.

(function () {
    "use strict";

    const SIGN = /[@~]/;
    const NEXT = /[,;]/;
    const MOST_POINTS = 64;
    const DIGITS = 3;  // behind the point of a position

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Whether a text has positions. `0,8` has none: that is a slip of the finger.
    function isCurve(text) {
        return SIGN.test(lib.number.narrow(text));
    }

    // What stands in a tag for a weight: a number; {points: [{at, weight}], unit, source}; or null where it is neither.
    function read(text) {
        if (!isCurve(text)) return lib.number.read(text);
        const typed = lib.number.narrow(text).replace(/[,;]+$/, "").split(NEXT).map((point) => point.split(SIGN).map((part) => part.trim()));
        if (typed.length > MOST_POINTS || typed.some((parts) => parts.length > 2)) return null;
        const weights = typed.map(([weight]) => lib.number.read(weight));
        const places = typed.map(([, at]) => at === undefined ? undefined : readPosition(at));
        if (weights.includes(null) || places.includes(null)) return null;
        if (places[0] === undefined) return weights[0];  // the whole is a constant
        const given = places.filter((place) => place !== undefined);
        const unit = unitOf(given);
        const end = unit === "sigma" ? 0 : 1;
        return {points: inTime(unit, weights.map((weight, n) => ({at: places[n]?.at ?? end, weight}))), unit, source: text};
    }

    // As time goes on: sigma falls.
    function inTime(unit, points) {
        return [...points].sort((a, b) => time(unit, a.at) - time(unit, b.at));
    }

    function time(unit, at) {
        return unit === "sigma" ? -at : at;
    }

    // 0.5, 12, s14.6 as {at, isSigma}; null for what is none.
    function readPosition(text) {
        const isSigma = /^s/i.test(text);
        const at = lib.number.read(isSigma ? text.slice(1) : text);
        return at === null || at < 0 ? null : {at, isSigma};
    }

    function unitOf(positions) {
        if (positions.some(({isSigma}) => isSigma)) return "sigma";
        return positions.every(({at}) => at <= 1) ? "share" : "step";
    }

    // As it was typed, if it was; else as short as it can be.
    function write(weight) {
        if (typeof weight === "number") return lib.number.write(weight);
        return weight.source ?? weight.points.map((point) => `${lib.number.write(point.weight)}@${writePosition(point.at, weight.unit)}`).join(",");
    }

    function writePosition(at, unit) {
        return (unit === "sigma" ? "s" : "") + lib.number.write(Number(at.toFixed(DIGITS)));
    }

    function isSame(a, b) {
        return a === b || a !== null && b !== null && write(a) === write(b);
    }

    // The weight at a position; of two points at one place the later counts from there on.
    function at(weight, position) {
        if (typeof weight === "number") return weight;
        let before = weight.points[0];
        const now = time(weight.unit, position);
        if (now < time(weight.unit, before.at)) return before.weight;
        for (const after of weight.points.slice(1)) {
            if (now < time(weight.unit, after.at)) return before.weight + (position - before.at) / (after.at - before.at) * (after.weight - before.weight);
            before = after;
        }
        return before.weight;
    }

    // What it begins with: text encoders run before there is any step.
    function first(weight) {
        return typeof weight === "number" ? weight : weight.points[0].weight;
    }

    // The number that stands best for the whole: its highest, or its lowest where that is farther from 0.
    function peak(weight) {
        if (typeof weight === "number") return weight;
        return weight.points.reduce((most, point) => Math.abs(point.weight) > Math.abs(most) ? point.weight : most, 0);
    }

    // What follows makes another curve of one; points keep their order.

    function moved(curve, n, to) {
        const [before, after] = [curve.points[n - 1]?.at, curve.points[n + 1]?.at];
        const [low, high] = curve.unit === "sigma" ? [after, before] : [before, after];
        const point = {at: Math.min(high ?? Infinity, Math.max(low ?? 0, to.at ?? curve.points[n].at)), weight: to.weight ?? curve.points[n].weight};
        return kept({unit: curve.unit, points: spliced(curve.points, n, 1, point)});
    }

    // With one more point at `position`, on the line if no weight is given; and its place among the points.
    function added(curve, position, weight = at(curve, position)) {
        const found = curve.points.findIndex((point) => time(curve.unit, point.at) > time(curve.unit, position));
        const n = found < 0 ? curve.points.length : found;
        if (curve.points.length >= MOST_POINTS) return {curve, n: Math.min(n, MOST_POINTS - 1)};
        return {curve: kept({unit: curve.unit, points: spliced(curve.points, n, 0, {at: position, weight})}), n};
    }

    // Without a point; the last one of all is a number.
    function removed(curve, n) {
        if (curve.points.length <= 1) return curve.points[0].weight;
        return kept({unit: curve.unit, points: spliced(curve.points, n, 1)});
    }

    function make(unit, points) {
        return kept({unit, points: inTime(unit, points)});
    }

    // The largest of step numbers is beyond 1, or they would be read as shares.
    function kept(curve) {
        const last = curve.points.at(-1);
        if (curve.unit !== "step" || last.at > 1) return curve;
        return {...curve, points: spliced(curve.points, curve.points.length - 1, 1, {...last, at: 2})};
    }

    function spliced(points, n, count, ...by) {
        return [...points.slice(0, n), ...by, ...points.slice(n + count)];
    }

    lib.curve = {isCurve, read, readPosition, unitOf, write, writePosition, isSame, at, first, peak, make, moved, added, removed};
})();
