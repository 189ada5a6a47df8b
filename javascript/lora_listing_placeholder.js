// The picture of an adapter that has none: colours of its base model, a pattern and initials from its name. Gradients
// only, so a thousand of them cost nothing; the same name looks the same everywhere and always.

(function () {
    "use strict";

    const HUES = {sd1: 205, sd2: 165, sdxl: 265, sd3: 325, flux: 30};  // as the badges have them
    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Each gets a source of numbers from 0 to 1 and returns layers of a CSS background, the first on top.
    const PATTERNS = [
        function bubbles(random) {
            return times(5, () => {
                const size = 8 + 26 * random();
                return `radial-gradient(circle at ${percent(random())} ${percent(random())}, ${white(0.1 + 0.16 * random())} ${size}%, transparent ${size + 0.6}%)`;
            });
        },
        function rings(random) {
            const step = 7 + 7 * random();
            return [`repeating-radial-gradient(circle at ${percent(random())} ${percent(0.9 + 0.3 * random())}, `
                + `${white(0.16)} 0 ${step / 2}%, transparent ${step / 2 + 0.4}% ${step}%)`];
        },
        function stripes(random) {
            const width = 14 + 22 * random();
            const angle = Math.round(20 + 140 * random());
            return [`repeating-linear-gradient(${angle}deg, ${white(0.13)} 0 ${width / 2}px, transparent ${width / 2 + 0.7}px ${width}px)`,
                `linear-gradient(${angle + 90}deg, transparent 30%, ${white(0.16)})`];
        },
        function dunes(random) {
            return times(3, (n) => {
                const height = 62 - 18 * n + 10 * random();
                return `radial-gradient(ellipse ${70 + 50 * random()}% ${height}% at ${percent(random())} 104%, ${white(0.17)} 99%, transparent 100%)`;
            });
        },
        function facets(random) {
            return times(2, () => `conic-gradient(from ${Math.round(360 * random())}deg at ${percent(0.2 + 0.6 * random())} ${percent(0.2 + 0.6 * random())}, `
                + `${white(0.2)} 0 12%, transparent 0 37%, ${white(0.11)} 0 58%, transparent 0 81%, ${white(0.16)} 0)`);
        },
        function beams(random) {
            const step = 12 + 12 * random();
            return [`repeating-conic-gradient(from ${Math.round(360 * random())}deg at ${percent(random())} ${percent(1.05 + 0.2 * random())}, `
                + `${white(0.15)} 0 ${step / 2}deg, transparent ${step / 2 + 0.3}deg ${step}deg)`];
        },
    ];

    // {background: CSS, initials}
    function placeholder(name, family = "") {
        const random = numbers(name);
        const near = HUES[family.split("_")[0].replace(/^(sdxl|flux).*/, "$1")];
        const hue = Math.round(near === undefined ? 360 * random() : near + 44 * random() - 22);
        const other = hue + Math.round((random() < 0.5 ? -1 : 1) * (28 + 44 * random()));
        const [dark, light] = [34 + 8 * random(), 52 + 10 * random()].map(Math.round);
        const saturation = near === undefined && family ? 14 : 50;  // unknown base models are greyish
        const pattern = PATTERNS[Math.floor(PATTERNS.length * random())];
        const ground = `linear-gradient(${Math.round(20 + 140 * random())}deg, hsl(${hue} ${saturation}% ${dark}%), hsl(${other} ${saturation + 6}% ${light}%))`;
        return {background: [...pattern(random), ground].join(", "), initials: initials(name)};
    }

    function initials(name) {
        const words = name.slice(name.lastIndexOf("/") + 1).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
        const letters = words.length > 1 ? [...words[0]].slice(0, 1).concat([...words[1]].slice(0, 1)) : [...(words[0] ?? "?")].slice(0, 2);
        return letters.join("");
    }

    // The numbers of a name: FNV-1a as the seed, then mulberry32.
    function numbers(name) {
        let state = 2166136261;
        for (const sign of name) state = Math.imul(state ^ sign.codePointAt(0), 16777619) >>> 0;
        return () => {
            state = (state + 0x6d2b79f5) >>> 0;
            let mixed = Math.imul(state ^ (state >>> 15), state | 1);
            mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
            return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
        };
    }

    function times(count, make) {
        return Array.from({length: count}, (_, n) => make(n));
    }

    function percent(part) {
        return `${Math.round(100 * part)}%`;
    }

    function white(opacity) {
        return `rgb(255 255 255 / ${opacity.toFixed(2)})`;
    }

    lib.placeholder = placeholder;
    lib.initials = initials;
})();
