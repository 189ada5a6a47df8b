// The window of a tag, start= and stop=, or step=5-10: its text and its two ends. An end that is an end of the picture is not
// written.

(function () {
    "use strict";

    const FEWEST = 2;  // step numbers up to 1 would be read as shares

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // {unit, start, stop}: positions, null where nothing is typed. Null if what is typed cannot be read.
    function read({start, stop, step}) {
        const [first, last] = step ? step.text.split("-").map((part) => part.trim()) : [start?.text, stop?.text];
        const found = [first, last].map((text) => text ? lib.curve.readPosition(text) : undefined);
        if (found.includes(null)) return null;
        const unit = lib.curve.unitOf(found.filter(Boolean));
        return {unit, start: found[0]?.at ?? null, stop: found[1]?.at ?? null};
    }

    function axisOf({unit, start, stop}, steps) {
        return lib.axis.axis(unit, {steps, positions: [start ?? 0, stop ?? 0]});
    }

    // The parts of the way between which it is active.
    function parts(window, steps) {
        const axis = axisOf(window, steps);
        return [window.start === null ? 0 : axis.fraction(window.start), window.stop === null ? 1 : axis.fraction(window.stop)];
    }

    // The arguments that say it; null for one that is not needed.
    function written(window, {steps, isRange = false}) {
        const {unit} = window;
        const axis = axisOf(window, steps);
        let {start, stop} = window;
        if (start !== null && axis.fraction(start) === 0) start = null;
        if (stop !== null && axis.fraction(stop) === 1) stop = null;
        if (unit === "step" && stop !== null) stop = Math.max(FEWEST, stop);
        if (unit === "step" && stop === null && start !== null) start = Math.max(FEWEST, start);
        const text = (at) => at === null ? null : lib.curve.writePosition(at, unit);
        if (isRange && start !== null && stop !== null) return {step: `${text(start)}-${text(stop)}`};
        return {...(isRange ? {step: null} : {}), start: text(start), stop: text(stop)};
    }

    lib.stripWindow = {read, axisOf, parts, written};
})();
