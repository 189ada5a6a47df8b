// The way of a picture from noise to its end as a line from 0 to 1, and where positions of curves and windows lie on it:
// {unit, last, small, large, fraction(at), at(fraction), round(at), shown(at), ends}. `small` and `large` are what keys move.

(function () {
    "use strict";

    const NOISE = 14.6;  // sigma with which pictures begin
    const BEND = 3;      // samplers make sigma fall about so: most steps are made at little noise
    const FEWEST = 2;    // steps: positions up to 1 are shares

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    const MAKE = {
        share: () => ({
            last: 1, small: 0.05, large: 0.25, fraction: (at) => at, at: (part) => part, round: (at) => rounded(at, 100),
            shown: (at) => `${lib.number.write(rounded(at * 100, 10))} %`, ends: [0, 1],
        }),
        step: (steps, most) => {
            const last = Math.max(FEWEST, steps, most);
            return {
                last, small: 1, large: 5, fraction: (at) => at / last, at: (part) => part * last, round: Math.round,
                shown: (at) => lib.t("step {n}", {n: lib.number.write(at)}), ends: [0, last],
            };
        },
        sigma: (steps, most) => {
            const last = Math.max(NOISE, most);
            return {
                last, small: 0.5, large: 2, fraction: (at) => 1 - (at / last) ** (1 / BEND), at: (part) => last * (1 - part) ** BEND,
                round: (at) => rounded(at, at < 1 ? 100 : 10), shown: (at) => `σ ${lib.number.write(at)}`, ends: [last, 0],
            };
        },
    };

    // `positions`: what it must reach; `steps`: of the next picture, where that is known.
    function axis(unit, {steps = 20, positions = []} = {}) {
        const most = Math.max(0, ...positions.filter(Number.isFinite));
        const made = MAKE[unit](steps, most);
        const between = (value, low, high) => Math.min(high, Math.max(low, value));
        return {
            ...made, unit,
            fraction: (at) => between(made.fraction(at), 0, 1),
            at: (part) => made.round(made.at(between(part, 0, 1))),
            limited: (at) => between(at, 0, made.last),
        };
    }

    // A position in another unit, at about the same place of the way.
    function converted(at, from, to) {
        return to.at(from.fraction(at));
    }

    function rounded(value, parts) {
        return Math.round(value * parts) / parts;
    }

    lib.axis = {axis, converted};
})();
