// The grammar of <lora:name:0.8:te=1> in the browser: text in, text out, no page. The same as lib_lora/tag.py.
//
//   loraLib.tags.find(text)                     every tag: place, name, te, unet, dyn, error
//   loraLib.tags.setWeights(text, n, weights)   rewrite the numbers of the n-th tag, and nothing else of it
//   loraLib.tags.insert / remove / toggle / rename / join / move
//   loraLib.tags.hasWord / toggleWord           trigger words between the commas of the prompt
//
// Every function takes the whole prompt and returns the whole prompt. What the user typed around a number stays as typed:
// spaces, lyco, the order of the arguments, arguments that are not known here.

(function () {
    "use strict";

    const TAG = /<(lora|lyco):([^>]+)>/g;
    const KEYS = ["te", "unet", "dyn", "force"];
    const POSITIONAL = ["te", "unet", "dyn"];
    const FLOAT = /^[+-]?(?:\d+(?:_\d+)*\.?(?:\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:e[+-]?\d+(?:_\d+)*)?$/i;
    const INT = /^[+-]?\d+(?:_\d+)*$/;

    class TagError extends Error {}

    // Every tag of `text`, in order. A tag that cannot be read has `error`, a sentence, and no weights.
    function find(text) {
        return [...text.matchAll(TAG)].map((match) => {
            const start = match.index;
            const bodyStart = start + match[1].length + 2;
            const tag = {start, end: start + match[0].length, source: match[0], parts: split(match[2], bodyStart)};
            tag.name = tag.parts[0].text;
            try {
                return Object.assign(tag, read(tag.parts, `<lora:${match[2]}>`), {error: null});
            } catch (error) {
                if (!(error instanceof TagError)) throw error;
                return Object.assign(tag, {te: null, unet: null, dyn: null, force: false, notes: [], error: error.message});
            }
        });
    }

    // [{text, start, end}] of what stands between the colons; start and end leave out the spaces around.
    function split(body, offset) {
        return body.split(":").map((raw) => {
            const start = offset + raw.length - raw.trimStart().length;
            offset += raw.length + 1;
            const text = raw.trim();
            return {text, start, end: start + text.length};
        });
    }

    function read([name, ...given], shown) {
        if (!name.text) throw new TagError(`${shown}: the name is missing; write <lora:name:0.8>`);
        const {values, notes} = sort(given, shown);
        const te = "te" in values ? weight(values.te.text, shown) : 1;
        const unet = "unet" in values ? weight(values.unet.text, shown) : te;
        const dyn = "dyn" in values ? rank(values.dyn.text, shown) : null;
        const force = ["1", "true", "yes"].includes((values.force?.text ?? "0").toLowerCase());
        return {te, unet, dyn, force, notes, values};
    }

    // Which argument says what: {te: {text, start, end, positional}, ...}. A named one counts before a positional one.
    function sort(given, shown) {
        const positional = [];
        const named = {};
        const notes = [];
        for (const part of given) {
            const equals = part.text.indexOf("=");
            const key = part.text.slice(0, equals).trim();
            if (equals < 0) {
                positional.push({...part, positional: true});
            } else if (KEYS.includes(key)) {
                const [value] = split(part.text.slice(equals + 1), part.start + equals + 1).slice(0, 1);
                named[key] = {...value, positional: false};
            } else {
                notes.push(`${shown}: '${key}=' is not known and was ignored; known are ${KEYS.join(", ")}`);
            }
        }
        if (positional.length > POSITIONAL.length) {
            notes.push(`${shown}: only ${POSITIONAL.join(", ")} can stand without a name; the rest was ignored`);
        }
        const values = {...Object.fromEntries(POSITIONAL.map((key, n) => [key, positional[n]]).filter(([, v]) => v)), ...named};
        return {values, notes};
    }

    function weight(text, shown) {
        const number = parseWeight(text);
        if (number !== null) return number;
        const better = text.split(",").length === 2 ? text.replace(",", ".") : "0.8";
        throw new TagError(`${shown}: '${text}' is not a weight; write a number such as ${better}`);
    }

    function rank(text, shown) {
        const number = INT.test(text) ? Number(text.replaceAll("_", "")) : 0;
        if (number >= 1) return number;
        throw new TagError(`${shown}: '${text}' is not a rank; dyn takes a whole number from 1 up`);
    }

    // A finite number, or null.
    function parseWeight(text) {
        const number = FLOAT.test(text.trim()) ? Number(text.trim().replaceAll("_", "")) : NaN;
        return Number.isFinite(number) ? number : null;
    }

    function formatWeight(value) {
        const text = String(Number(value.toPrecision(6)));
        return text === "-0" ? "0" : text;
    }

    // The n-th tag with other numbers. `weights` has te, unet or both; one that is left out keeps its value.
    function setWeights(text, n, weights) {
        const tag = find(text)[n];
        if (!tag || tag.error) return text;
        const wanted = {te: tag.te, unet: tag.unet, ...weights};
        const edits = [];
        let after = tag.parts[0].end;  // where an argument without a place goes in
        if (tag.values.te) {
            edits.push([tag.values.te, formatWeight(wanted.te), tag.te !== wanted.te]);
            after = tag.values.te.end;
        }
        const isUnetNeeded = wanted.unet !== wanted.te;
        let inserted = "";
        if (!tag.values.te && (wanted.te !== 1 || isUnetNeeded && !tag.values.unet)) inserted += ":" + formatWeight(wanted.te);
        if (tag.values.unet) {
            edits.push([tag.values.unet, formatWeight(wanted.unet), tag.unet !== wanted.unet]);
        } else if (isUnetNeeded) {
            const isNamed = tag.values.te ? !tag.values.te.positional : false;
            inserted += (isNamed ? ":unet=" : ":") + formatWeight(wanted.unet);
        }
        if (inserted) edits.push([{start: after, end: after}, inserted, true]);
        return replace(text, edits.filter(([, , isNew]) => isNew));
    }

    // One weight for both again: the UNet's own number goes away where it can.
    function join(text, n) {
        const tag = find(text)[n];
        if (!tag || tag.error || !tag.values.unet) return text;
        const value = tag.values.unet;
        const isLast = !tag.values.dyn?.positional;
        if (value.positional && !isLast) return setWeights(text, n, {unet: tag.te});
        const colon = text.lastIndexOf(":", value.start);
        return replace(text, [[{start: colon, end: value.end}, ""]]);
    }

    function rename(text, n, name) {
        const tag = find(text)[n];
        return tag ? replace(text, [[tag.parts[0], name]]) : text;
    }

    function remove(text, n) {
        const tag = find(text)[n];
        if (!tag) return text;
        const before = text.slice(0, tag.start);
        const rest = text.slice(tag.end);
        if (/,\s*$/.test(before) && /^\s*,/.test(rest)) return before.trimEnd() + rest.replace(/^\s*,/, "");
        if (/^[ \t]/.test(rest) && /^$|\s$/.test(before)) return before + rest.slice(1);
        return (/^$|^[,\s]/.test(rest) ? before.replace(/[ \t]$/, "") : before) + rest;
    }

    // `addition` (a tag, perhaps with trigger words) at the end of the prompt, or where `at` says.
    function insert(text, addition, at = text.length) {
        const before = text.slice(0, at);
        const rest = text.slice(at);
        const gap = before === "" || /\s$/.test(before) ? "" : " ";
        return before + gap + addition + (rest === "" || /^[\s,]/.test(rest) ? "" : " ") + rest;
    }

    // The place of the first tag of that adapter, known by any of its names; -1 if there is none.
    function indexOf(text, names) {
        const wanted = new Set(names.map((name) => name.toLowerCase()));
        return find(text).findIndex((tag) => wanted.has(tag.name.toLowerCase()));
    }

    // Insert `tag`, or take out every tag of the adapter if it is there already, whatever its weights.
    function toggle(text, names, tag) {
        if (indexOf(text, names) < 0) return insert(text, tag);
        for (let n = indexOf(text, names); n >= 0; n = indexOf(text, names)) text = remove(text, n);
        return text;
    }

    // The n-th tag takes the place of the m-th, and those between move on by one; the text between the tags stays.
    function move(text, n, m) {
        const tags = find(text);
        if (!tags[n] || !tags[m] || n === m) return text;
        const sources = tags.map((tag) => tag.source);
        sources.splice(m, 0, ...sources.splice(n, 1));
        return replace(text, tags.map((tag, place) => [tag, sources[place]]));
    }

    function hasWord(text, word) {
        return withoutTags(text).split(",").some((part) => part.trim().toLowerCase() === word.trim().toLowerCase());
    }

    // A trigger word ("ink drawing, black and white" is two) goes in front of the tags, or out again.
    function toggleWord(text, word) {
        if (!hasWord(text, word)) {
            const first = find(text)[0];
            const head = (first ? text.slice(0, first.start) : text).replace(/[\s,]+$/, "");
            const tail = first ? text.slice(first.start) : "";
            return head + (head ? ", " : "") + word.trim() + (tail ? " " + tail : "");
        }
        const escaped = word.trim().replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
        const cut = text.replace(new RegExp(`(^|,)\\s*${escaped}\\s*(?=,|$|<(?:lora|lyco):)`, "i"), (all, comma) => comma ? " " : "");
        return cut.replace(/^\s*,\s*/, "").replace(/ {2,}/g, " ").replace(/ ,/g, ",").replace(/\s+$/, "");
    }

    function withoutTags(text) {
        return text.replace(TAG, ",");
    }

    // `edits`: [{start, end}, replacement] that do not overlap.
    function replace(text, edits) {
        for (const [{start, end}, by] of [...edits].sort(([a], [b]) => b.start - a.start)) {
            text = text.slice(0, start) + by + text.slice(end);
        }
        return text;
    }

    globalThis.loraLib = globalThis.loraLib || {};
    globalThis.loraLib.tags = {
        find, setWeights, join, rename, remove, insert, indexOf, toggle, move, hasWord, toggleWord, parseWeight, formatWeight,
    };
})();
