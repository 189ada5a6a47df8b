// Block weights: the numbers of `lbw=1,0,0.5,...` and the presets that go by a name. Which numbers are for which blocks, and
// the presets of the loaded model, come from the server: {usual: 17, whole: 26, vectors: {17: ["BASE", "IN01", ...]}, presets: [{name, numbers}]}.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // As many numbers as there are; null where the text is something else: a name, a letter for chance.
    function read(text) {
        const numbers = lib.number.narrow(text).split(",").map((part) => lib.number.read(part.trim()));
        return numbers.length < 2 || numbers.includes(null) ? null : numbers;
    }

    function write(numbers) {
        return numbers.map((number) => lib.number.write(number)).join(",");
    }

    // {names, numbers, preset} for what is typed; no text: every block counts full, and if they are to be named `isWhole` also those
    // that only convolutions have. Null where the text has no bars.
    function shown(text, known, isWhole = false) {
        if (!known) return null;
        const preset = text ? find(text, known.presets) : null;
        const numbers = text ? preset?.numbers ?? read(text) : Array(isWhole ? known.whole : known.usual).fill(1);
        const names = numbers && known.vectors[numbers.length];
        if (!names) return null;
        return {names, numbers, preset: text ? preset ?? called(numbers, known.presets) : null};
    }

    function find(name, presets) {
        const wanted = name.trim().toUpperCase();
        return presets.find((preset) => preset.name.toUpperCase() === wanted) ?? null;
    }

    // The preset with these numbers.
    function called(numbers, presets) {
        return presets.find((preset) => preset.numbers?.length === numbers.length && preset.numbers.every((number, n) => number === numbers[n])) ?? null;
    }

    // [{label, places}]: blocks that stand together, IN, M and OUT.
    function groups(names) {
        const found = [];
        names.forEach((name, place) => {
            const label = name.replace(/\d+$/, "");
            if (found.at(-1)?.label !== label) found.push({label, places: []});
            found.at(-1).places.push(place);
        });
        return found;
    }

    // What a text was before blocks of it were silenced: one that is brought back has its number again, and all of them the text as typed.
    class Silencer {
        constructor() {
            Object.assign(this, {numbers: new Map(), typed: null, written: undefined});
        }

        // Before anything is shown: `text` as it stands in the tag.
        see(text, shown) {
            if (text === this.written || !shown) return;
            this.typed = {text, numbers: shown.numbers};
            this.written = text;
        }

        // The numbers with one silenced, or back.
        toggled({names, numbers}, name) {
            const n = names.indexOf(name);
            if (numbers[n] !== 0) this.numbers.set(name, numbers[n]);
            return numbers.map((number, place) => place !== n ? number : number === 0 ? this.numbers.get(name) || 1 : 0);
        }

        // What stands in the tag for these numbers; null for nothing.
        text(numbers) {
            const isBack = this.typed?.numbers.length === numbers.length && this.typed.numbers.every((number, n) => number === numbers[n]);
            this.written = isBack ? this.typed.text : write(numbers);
            return this.written || null;
        }
    }

    // The same numbers with a place for `name` too, where they have none: all that they do not name are 0.
    function widened(shown, known, name) {
        if (!shown || shown.names.includes(name)) return shown;
        const names = known.vectors[known.whole];
        if (!names.includes(name)) return null;
        const numbers = names.map((each) => shown.names.includes(each) ? shown.numbers[shown.names.indexOf(each)] : 0);
        return {names, numbers, preset: null};
    }

    lib.Silencer = Silencer;
    lib.blocks = {read, widened, write, shown, find, called, groups};
})();
