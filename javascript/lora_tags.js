// The tags of a prompt in the browser: text in, tags out, no page. Every argument is kept as it was typed, known or not. Only
// weights are read here, as lib_lora/grammar/tag.py reads them (tests/tag_cases.json is read by both); what else a tag means, and
// what is wrong with it, the server says.

(function () {
    "use strict";

    const POSITIONAL = ["te", "unet", "dyn"];
    const ALIASES = {w: "lbw"};
    const FORCE = ["1", "true", "yes", "on"];
    const NO_NAMES = ["nan", "inf", "infinity", "off"];
    const FEWEST_BLOCKS = 12;
    const LETTER = /^(?:[RU]|X(?:[+-][0-9.]+)?)$/;
    const MOST_TAGS = 128;  // of one prompt
    const MOST_LETTERS = 400;  // of a name

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class TagError extends Error {}

    // Every tag of `text`, in order: {start, end, source, name, given, values, te, unet, dyn, force, error}. `given` has all its
    // arguments, `values` the one that counts for each key; weights are numbers or curves. A tag that cannot be read has no
    // weights: `error` is a sentence where that is known here. One whose end is missing is `isOpen`. Where there are too many
    // tags, the last one's error says so.
    function find(text) {
        return lib.tagScan.scan(text, MOST_TAGS + 1).map((tag, n) => {
            const shown = lib.tagScan.shortened(tag.source);
            const given = joined(tag.parts.slice(1).map(argument), text);
            const values = counting(given);
            try {
                if (n === MOST_TAGS) throw new TagError(`${shown}: a prompt can have ${MOST_TAGS} tags; this one and those after it were left out`);
                if (tag.fault) throw new TagError(`${shown}: ${tag.fault}`);
                return Object.assign(tag, {given, values, ...read(tag.name, values, shown), error: null});
            } catch (error) {
                if (!(error instanceof TagError)) throw error;
                return Object.assign(tag, {given, values, te: null, unet: null, dyn: null, force: false, error: error.message});
            }
        });
    }

    function read(name, values, shown) {
        if (!name) throw new TagError(`${shown}: the name is missing; write <lora:name:0.8>`);
        if (name.length > MOST_LETTERS && [...name].length > MOST_LETTERS) {
            throw new TagError(`${shown}: the name has more than ${MOST_LETTERS} letters; is a > missing?`);
        }
        const te = values.te ? weight(values.te.text, shown) : 1;
        const unet = values.unet ? weight(values.unet.text, shown) : te;
        const dyn = values.dyn ? rank(values.dyn.text, shown) : null;
        const isRead = te !== null && unet !== null;
        return {te: isRead ? te : null, unet: isRead ? unet : null, dyn, force: FORCE.includes(values.force?.text.toLowerCase())};
    }

    // One argument: {key, text, start, end, colon}: the place of its value, and of the colon before it; no key where it has none.
    function argument(part) {
        const equals = part.text.indexOf("=");
        if (equals < 0) return {...part, key: null};
        const typed = lib.tagScan.stripped(part.text.slice(0, equals), 0).text.toLowerCase();
        const key = Object.hasOwn(ALIASES, typed) ? ALIASES[typed] : typed;
        return {...lib.tagScan.stripped(part.text.slice(equals + 1), part.start + equals + 1), colon: part.colon, key};
    }

    // The rules of `lbwe=IN05-OUT05:attn:0` again as one, which the colons between arguments had cut.
    function joined(given, text) {
        const found = [];
        for (let place = 0; place < given.length;) {
            let end = place + 1;
            if (given[place].key === "lbwe") {
                while (end < given.length && given[end].key === null) end += 1;
                end -= (end - place - 1) % 2;  // a rule has two colons; one part more is a weight
            }
            const last = given[end - 1].end;
            found.push(end - place === 1 ? given[place] : {...given[place], text: text.slice(given[place].start, last), end: last});
            place = end;
        }
        return found;
    }

    // {te, unet, lbw, ...}: a named one counts before a positional one, the last of several before those.
    function counting(given) {
        const positional = given.filter(({key}) => key === null);
        const values = Object.create(null);  // whatever a key is called
        POSITIONAL.forEach((key, n) => positional[n] && (values[key] = positional[n]));
        if (values.unet && namesBlocks(values.unet.text)) {  // lora-block-weight's way of before lbw= and x=
            const {te, unet: lbw, dyn: x} = values;
            for (const key of POSITIONAL) delete values[key];
            Object.assign(values, te && {te}, {lbw}, x && {x});
        }
        for (const each of given) if (each.key) values[each.key] = each;
        return values;
    }

    // Whether a weight without a name is a preset, or a list that is long enough to be no slip of the finger.
    function namesBlocks(text) {
        if (NO_NAMES.includes(text.toLowerCase()) || lib.curve.isCurve(text)) return false;
        const parts = text.split(",").map((part) => part.trim());
        if (parts.length === 1) return /^\p{L}[\p{L}\p{N}._]*$/u.test(text);
        return parts.length >= FEWEST_BLOCKS && parts.every((part) => lib.number.read(part) !== null || LETTER.test(part));
    }

    // A number or a curve; null for a curve that cannot be read, of which the server says why.
    function weight(text, shown) {
        const found = lib.curve.read(text);
        if (found !== null || lib.curve.isCurve(text)) return found;
        throw new TagError(`${shown}: '${lib.tagScan.shortened(text)}' is not a weight; write a number such as ${lib.number.meant(text)}`);
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
