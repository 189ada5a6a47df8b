// The grammar of <lora:name:0.8:te=1> in the browser: text in, tags out, no page. The same as lib_lora/grammar/tag.py and later.py:
// tests/tag_cases.json is read by both.

(function () {
    "use strict";

    const KEYS = ["te", "unet", "dyn", "force"];
    const POSITIONAL = ["te", "unet", "dyn"];
    const ALL_BLOCKS = "(block weights) has no effect yet: the adapter acts on all blocks alike";  // all as in lib_lora/grammar/later.py
    const ALL_STEPS = "has no effect yet: the adapter acts in all steps";
    const BOTH_PASSES = "has no effect yet: a weight of its own for the hires pass can stand in a tag in the hires prompt";
    const LATER = new Map([
        ["lbw", ALL_BLOCKS], ["lbwe", ALL_BLOCKS], ["start", ALL_STEPS], ["stop", ALL_STEPS], ["step", ALL_STEPS],
        ["hr", BOTH_PASSES], ["hrte", BOTH_PASSES], ["hrunet", BOTH_PASSES],
    ]);
    const FEWEST_BLOCKS = 12;
    const FORCE = {1: true, true: true, yes: true, on: true, 0: false, false: false, no: false, off: false};
    const MOST_TAGS = 128;  // of one prompt
    const MOST_LETTERS = 400;  // of a name
    const MOST_NOTES = 8;  // of one tag

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class TagError extends Error {}

    // Every tag of `text`, in order. A tag that cannot be read has `error`, a sentence, and no weights; one whose end is
    // missing is `isOpen`. Where there are too many, the last one's error says so.
    function find(text) {
        return lib.tagScan.scan(text, MOST_TAGS + 1).map((tag, n) => {
            const shown = lib.tagScan.shortened(tag.source);
            try {
                if (n === MOST_TAGS) throw new TagError(`${shown}: a prompt can have ${MOST_TAGS} tags; this one and those after it were left out`);
                if (tag.fault) throw new TagError(`${shown}: ${tag.fault}`);
                return Object.assign(tag, read(tag.parts, shown), {error: null});
            } catch (error) {
                if (!(error instanceof TagError)) throw error;
                return Object.assign(tag, {te: null, unet: null, dyn: null, force: false, notes: [], error: error.message});
            }
        });
    }

    function read([name, ...given], shown) {
        if (!name.text) throw new TagError(`${shown}: the name is missing; write <lora:name:0.8>`);
        if (name.text.length > MOST_LETTERS && [...name.text].length > MOST_LETTERS) {
            throw new TagError(`${shown}: the name has more than ${MOST_LETTERS} letters; is a > missing?`);
        }
        const {values, notes} = sort(given, shown);
        const te = "te" in values ? weight(values.te.text, shown) : 1;
        const unet = "unet" in values ? weight(values.unet.text, shown) : te;
        const dyn = "dyn" in values ? rank(values.dyn.text, shown) : null;
        const forced = (values.force?.text ?? "0").toLowerCase();
        const isKnown = Object.hasOwn(FORCE, forced);
        if (!isKnown) notes.push(`${shown}: 'force=${lib.tagScan.shortened(values.force.text)}' is not known and was ignored; write force=1`);
        return {te, unet, dyn, force: isKnown && FORCE[forced], notes, values};
    }

    // Which argument says what: {te: {text, start, end, colon, positional}, ...}. A named one counts before a positional one.
    function sort(given, shown) {
        const positional = [];
        const named = {};
        const unknown = new Set();
        for (const part of given) {
            const equals = part.text.indexOf("=");
            const key = lib.tagScan.stripped(part.text.slice(0, Math.max(equals, 0)), 0).text;
            if (equals < 0) {
                positional.push({...part, positional: true});
            } else if (KEYS.includes(key.toLowerCase())) {
                named[key.toLowerCase()] = {...lib.tagScan.stripped(part.text.slice(equals + 1), part.start + equals + 1), colon: part.colon, positional: false};
            } else {
                unknown.add(lib.tagScan.shortened(key));
            }
        }
        const known = `is not known and was ignored; known are ${KEYS.join(", ")}`;
        const notes = [...unknown].map((key) => `${shown}: '${key}=' ${LATER.get(key.toLowerCase()) ?? known}`);
        if (positional.length > POSITIONAL.length) {
            notes.push(`${shown}: only ${POSITIONAL.join(", ")} can stand without a name; the rest was ignored`);
        }
        const values = {...Object.fromEntries(POSITIONAL.map((key, n) => [key, positional[n]]).filter(([, v]) => v)), ...named};
        return {values, notes: notes.slice(0, MOST_NOTES)};
    }

    function weight(text, shown) {
        const number = lib.number.read(text);
        if (number !== null) return number;
        const what = unsupported(text);
        if (what) throw new TagError(`${shown}: '${lib.tagScan.shortened(text)}' is ${what}, which does not work yet; write one number such as 1`);
        throw new TagError(`${shown}: '${lib.tagScan.shortened(text)}' is not a weight; write a number such as ${lib.number.meant(text)}`);
    }

    // What a weight is, if it is not one number but more than that.
    function unsupported(text) {
        if (/[@~]/.test(text)) return "a weight that changes over the steps";
        return text.split(",").length >= FEWEST_BLOCKS ? "block weights" : null;
    }

    function rank(text, shown) {
        const number = lib.number.readWhole(text);
        if (number !== null) return number;
        throw new TagError(`${shown}: '${lib.tagScan.shortened(text)}' is not a rank; dyn takes a whole number from 1 up`);
    }

    // The place of the first tag of that adapter, known by any of its names; -1 if there is none.
    function indexOf(text, names) {
        const wanted = new Set(names.map((name) => name.toLowerCase()));
        return find(text).findIndex((tag) => isOneOf(tag.name, wanted));
    }

    // Whether `name`, as it was typed, is one of `names`, which are in lower case; brackets may be escaped as prompts need them.
    function isOneOf(name, names) {
        return names.has(name.toLowerCase()) || names.has(unescaped(name).toLowerCase());
    }

    function unescaped(text) {
        return text.replace(/\\([()[\]{}])/g, "$1");
    }

    lib.tags = {find, indexOf, isOneOf, unescaped};
})();
