// What is typed into the form of a comparison, read: text in, lists out; and how long something takes, in words.

(function () {
    "use strict";

    const MOST_SEEDS = 1000;
    const NUMBERS = /^[-+]?[\d.]+(,[-+]?[\d.]+)+$/;  // "0,0.5,1"; a curve has an @

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Between spaces: numbers, or whatever can stand in a tag.
    function weights(text) {
        return text.split(/\s+/).flatMap((word) => {
            const bare = word.replace(/[,;]+$/, "");
            return NUMBERS.test(bare) ? bare.split(",") : [bare];
        }).filter(Boolean);
    }

    // "1 2 3", "5-8"; an error says what is none.
    function seeds(text) {
        const found = [];
        for (const word of text.split(/[\s,;]+/).filter(Boolean)) {
            const [, first, last] = word.match(/^(\d{1,10})(?:-(\d{1,10}))?$/) ?? [];
            if (first === undefined) throw new Error(lib.t("“{word}” is no seed; write whole numbers, such as 1 2 3 or 5-8", {word}));
            const end = Number(last ?? first);
            if (end - first >= MOST_SEEDS) throw new Error(lib.t("{word}: that are too many seeds", {word}));
            for (let seed = Number(first); seed <= end; seed += 1) found.push(seed);
        }
        return found;
    }

    // One on each line.
    function prompts(text) {
        return text.split("\n").map((line) => line.trim()).filter(Boolean);
    }

    // [width, height]; null: nothing is written.
    function size(text) {
        if (!text.trim()) return null;
        const sides = text.trim().match(/^(\d{1,5})\s*[x×*]\s*(\d{1,5})$/i);
        if (!sides) throw new Error(lib.t("“{text}” is no size; write 512x768", {text: text.trim()}));
        return [Number(sides[1]), Number(sides[2])];
    }

    function steps(text) {
        if (!text.trim()) return null;
        if (!/^\d{1,4}$/.test(text.trim())) throw new Error(lib.t("“{text}” is no number of steps", {text: text.trim()}));
        return Number(text);
    }

    // A prompt of the page on one line, without the tags of these adapters.
    function bare(text, names) {
        const wanted = new Set(names.map((name) => name.toLowerCase()));
        const places = lib.tags.find(text).flatMap((tag, place) => lib.tags.isOneOf(tag.name, wanted) ? [place] : []);
        return places.reduceRight((left, place) => lib.tagEdits.remove(left, place), text).split(/\s+/).filter(Boolean).join(" ");
    }

    function duration(seconds) {
        if (seconds < 1) return lib.t("a moment");
        if (seconds < 99) return lib.t("{n} s", {n: Math.round(seconds)});
        const minutes = seconds / 60;
        return minutes < 99 ? lib.t("{n} min", {n: Math.round(minutes)}) : lib.t("{n} h", {n: Math.round(minutes / 6) / 10});
    }

    lib.compareRead = {weights, seeds, prompts, size, steps, bare, duration};
})();
