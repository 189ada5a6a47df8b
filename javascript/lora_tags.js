// The grammar of <lora:name:0.8:te=1> in the browser: text in, text out, no page. The same as lib_lora/grammar/: tag.py, scan.py and
// number.py: tests/tag_cases.json is read by both.
//
//   loraLib.tags.find(text)                     every tag: place, name, te, unet, dyn, error
//   loraLib.tags.setWeights(text, n, weights)   rewrite the numbers of the n-th tag, and nothing else of it
//   loraLib.tags.insert / remove / toggle / rename / join / move
//   loraLib.tags.hasWord / toggleWord           trigger words and phrases between the commas of the prompt
//
// Every function takes the whole prompt and returns the whole prompt. What the user typed around a number stays as typed:
// spaces, lyco, the order of the arguments, arguments that are not known here. No expression looks at a sign again and again:
// a prompt of a million signs is read in a fraction of a second, whatever they are.

(function () {
    "use strict";

    const BLANK = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff";  // invisible ones too
    const anyCase = (word) => [...word].map((each) => {
        const both = [each, each.toUpperCase()];
        return `[${both.join("")}${both.map((letter) => String.fromCharCode(letter.charCodeAt(0) + 0xfee0)).join("")}]`;
    }).join("");
    const KEYWORD = `(?:${anyCase("lora")}|${anyCase("lyco")}(?:${anyCase("ris")})?)`;
    const HEAD = new RegExp(`[<＜《〈][${BLANK}]*${KEYWORD}(?:[${BLANK}]*([:：])|(?![0-9A-Za-z_-]))`, "g");
    const BRACKETS = /[<＜>＞]/g;  // a name may hold the others
    const ALL_BRACKETS = /[<＜《〈>＞》〉]/g;
    const UNCLOSED = new RegExp(`[^${BLANK},，<＜《〈>＞》〉]*`, "y");
    // A file may be called "Re：Zero": the full-width colon ends a name only where a number or `key=` follows.
    const ARGUMENT = `(?:[-+－＋]?[.．]?[0-9０-９][0-9０-９.．,，_]*(?:[eE][-+]?[0-9]+)?|[A-Za-z]+[${BLANK}]*[=＝][^:：]*)`;
    const END_OF_NAME = new RegExp(`:|：(?=[${BLANK}]*${ARGUMENT}[${BLANK}]*(?:[:：]|$))`);
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
    const MOST_TAGS = 128;    // of one prompt
    const MOST_LETTERS = 400;  // of a name
    const MOST_NOTES = 8;     // of one tag
    const MOST_CUT = 100;     // places of one word that a click takes out
    const SHOWN = 100;        // letters of a tag in a sentence
    const NUMBER = /^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]-[0-9]{1,3})?$/;
    const MISSING_POINT = /^[+-]?0+[1-9][0-9]*$/;
    const THOUSANDS = /^[+-]?[0-9]{1,6}(?:\.[0-9]{1,6})?[eE]\+?[0-9]$/;
    const WHOLE = /^\+?[0-9]{1,9}$/;
    const ZEROS = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50];  // where the digits of other scripts start
    const POINTS = "_,;'\u3002\u3001\u00b7\u2019\u066b";
    const MINUS = "\u2212\u2010\u2011\u2012\u2013\u2014";

    class TagError extends Error {}

    // Every tag of `text`, in order. A tag that cannot be read has `error`, a sentence, and no weights; one whose end is
    // missing is `isOpen`. Where there are too many, the last one's error says so.
    function find(text) {
        return scan(text, MOST_TAGS + 1).map((tag, n) => {
            const shown = shortened(tag.source);
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

    // The places of the first `most` tags, whatever stands in them.
    function scan(text, most = Infinity) {
        const found = [];
        let place = 0;
        while (found.length < most) {
            HEAD.lastIndex = place;
            const head = HEAD.exec(text);
            if (!head) break;
            place = HEAD.lastIndex;
            const brackets = "《〈".includes(head[0][0]) ? ALL_BRACKETS : BRACKETS;
            brackets.lastIndex = place;
            const closing = brackets.exec(text);
            const isOpen = !closing || !">＞》〉".includes(closing[0]);
            if (isOpen && !head[1]) continue;
            UNCLOSED.lastIndex = place;
            const bodyEnd = isOpen ? place + UNCLOSED.exec(text)[0].length : closing.index;
            const end = isOpen ? bodyEnd : bodyEnd + 1;
            const parts = split(text.slice(place, bodyEnd), place);
            const fault = isOpen ? "the closing > is missing; write <lora:name:0.8>" : head[1] ? "" : "the colon after lora is missing; write <lora:name:0.8>";
            found.push({start: head.index, end, source: text.slice(head.index, end), parts, name: parts[0].text, fault, isOpen});
            place = end;
        }
        return found;
    }

    // [{text, start, end, colon}] of what stands between the colons; start and end leave out the blanks around, `colon` is the
    // place of the one before. The signs of all but the name are ASCII where they can be.
    function split(body, offset) {
        const nameEnd = END_OF_NAME.exec(body);
        if (!nameEnd) return [stripped(body, offset)];
        let start = nameEnd.index + 1;
        const parts = [stripped(body.slice(0, nameEnd.index), offset)];
        for (const raw of body.slice(start).split(/[:：]/)) {
            parts.push({...stripped(narrow(raw), offset + start), colon: offset + start - 1});
            start += raw.length + 1;
        }
        return parts;
    }

    const LEADING = new RegExp(`^[${BLANK}]+`);
    const ALL_BLANK = new RegExp(`[${BLANK}]`);

    function stripped(raw, offset) {
        const from = LEADING.exec(raw)?.[0].length ?? 0;
        let to = raw.length;
        while (to > from && ALL_BLANK.test(raw[to - 1])) to -= 1;
        return {text: raw.slice(from, to), start: offset + from, end: offset + to};
    }

    // Full-width signs as ASCII.
    function narrow(text) {
        return text.replace(/[\uff01-\uff5e]/g, (sign) => String.fromCharCode(sign.charCodeAt(0) - 0xfee0));
    }

    function shortened(text) {
        if (text.length <= SHOWN) return text;
        const letters = [...text.slice(0, 2 * SHOWN + 2)];
        return letters.length <= SHOWN ? text : letters.slice(0, SHOWN).join("") + "…";
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
        if (!isKnown) notes.push(`${shown}: 'force=${shortened(values.force.text)}' is not known and was ignored; write force=1`);
        return {te, unet, dyn, force: isKnown && FORCE[forced], notes, values};
    }

    // Which argument says what: {te: {text, start, end, colon, positional}, ...}. A named one counts before a positional one.
    function sort(given, shown) {
        const positional = [];
        const named = {};
        const unknown = new Set();
        for (const part of given) {
            const equals = part.text.indexOf("=");
            const key = stripped(part.text.slice(0, Math.max(equals, 0)), 0).text;
            if (equals < 0) {
                positional.push({...part, positional: true});
            } else if (KEYS.includes(key.toLowerCase())) {
                named[key.toLowerCase()] = {...stripped(part.text.slice(equals + 1), part.start + equals + 1), colon: part.colon, positional: false};
            } else {
                unknown.add(shortened(key));
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
        const number = readNumber(text);
        if (number !== null) return number;
        const what = unsupported(text);
        if (what) throw new TagError(`${shown}: '${shortened(text)}' is ${what}, which does not work yet; write one number such as 1`);
        throw new TagError(`${shown}: '${shortened(text)}' is not a weight; write a number such as ${meant(text)}`);
    }

    // What a weight is, if it is not one number but more than that.
    function unsupported(text) {
        if (/[@~]/.test(text)) return "a weight that changes over the steps";
        return text.split(",").length >= FEWEST_BLOCKS ? "block weights" : null;
    }

    function rank(text, shown) {
        const number = WHOLE.test(text) ? Number(text) : 0;
        if (number >= 1) return number;
        throw new TagError(`${shown}: '${shortened(text)}' is not a rank; dyn takes a whole number from 1 up`);
    }

    // The finite number that stands in a field, or null.
    function parseWeight(text) {
        return readNumber(text.trim());
    }

    function readNumber(text) {
        const typed = narrow(text);
        const number = NUMBER.test(typed) && !MISSING_POINT.test(typed) ? Number(typed) : NaN;
        return Number.isFinite(number) ? number : null;
    }

    // What somebody who typed `text` for a number probably meant.
    function meant(text) {
        if ([...text.slice(0, 42)].length > 20) return "0.8";
        const signs = [...narrow(text)].map((sign) => {
            if (POINTS.includes(sign)) return ".";
            if (MINUS.includes(sign)) return "-";
            const zero = ZEROS.find((code) => sign.codePointAt(0) >= code && sign.codePointAt(0) < code + 10);
            return zero === undefined ? sign : String(sign.codePointAt(0) - zero);
        });
        let plain = signs.join("").replaceAll(" ", "").replace(/\.+/g, ".").replace(/\.$/, "");
        if (MISSING_POINT.test(plain)) plain = plain.replace("0", "0.");
        if (THOUSANDS.test(plain)) return formatWeight(Number(plain));
        return readNumber(plain) !== null ? plain : "0.8";
    }

    function formatWeight(value) {
        const rounded = Number(value.toPrecision(6));
        const text = String(rounded);
        if (!text.includes("e")) return text === "-0" ? "0" : text;
        return Math.abs(rounded) < 1 ? rounded.toFixed(20).replace(/0+$/, "").replace(/\.$/, "") : BigInt(rounded).toString();
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
        const left = replace(text, [[{start: value.colon, end: value.end}, ""]]);
        return find(left)[n].values.unet ? setWeights(left, n, {unet: tag.te}) : left;  // it was there twice
    }

    function rename(text, n, name) {
        const tag = find(text)[n];
        return tag ? replace(text, [[tag.parts[0], name]]) : text;
    }

    function remove(text, n) {
        const tag = find(text)[n];
        return tag ? without(text, tag) : text;
    }

    function without(text, tag) {
        const before = text.slice(0, tag.start);
        const rest = text.slice(tag.end);
        if (before.trimEnd().endsWith(",") && /^\s*,/.test(rest)) return before.trimEnd() + rest.replace(/^\s*,/, "");
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
        return find(text).findIndex((tag) => isOneOf(tag.name, wanted));
    }

    // Whether `name`, as it was typed, is one of `names`, which are in lower case; brackets may be escaped as prompts need them.
    function isOneOf(name, names) {
        return names.has(name.toLowerCase()) || names.has(unescaped(name).toLowerCase());
    }

    function unescaped(text) {
        return text.replace(/\\([()[\]{}])/g, "$1");
    }

    // Insert `tag`, or take out every tag of the adapter if it is there already, whatever its weights.
    function toggle(text, names, tag) {
        const wanted = new Set(names.map((name) => name.toLowerCase()));
        const mine = find(text).filter((each) => isOneOf(each.name, wanted));
        return mine.length ? mine.reduceRight(without, text) : insert(text, tag);
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
        return places(text, word).length > 0;
    }

    // A trigger word or a phrase with commas goes in front of the tags, or out again wherever it stands as a whole.
    function toggleWord(text, word) {
        const found = places(text, word);
        if (found.length) return found.slice(0, MOST_CUT).reduceRight((left, {start, end}) => cut(left, start, end), text);
        const first = scan(text, 1)[0];
        const head = trimmed(first ? text.slice(0, first.start) : text);
        const tail = first ? text.slice(first.start) : "";
        const addition = trimmed(withoutTags(word)).replace(/^[\s,，]+/, "");
        return addition ? head + (head ? ", " : "") + addition + (tail ? " " + tail : "") : text;
    }

    // [{start, end}] of every place where all pieces of `word` follow each other.
    function places(text, word) {
        const wanted = pieces(withoutTags(word)).map((piece) => piece.key);
        if (!wanted.length) return [];
        const all = pieces(text);
        const found = [];
        for (let n = 0; n + wanted.length <= all.length; n += 1) {
            const last = all[n + wanted.length - 1];
            if (last.chunk !== all[n].chunk || !wanted.every((key, place) => key === all[n + place].key)) continue;
            found.push({start: all[n].start, end: last.end});
            n += wanted.length - 1;
        }
        return found;
    }

    let latest = {text: "", pieces: []};  // many words are looked for in one text

    // What stands between commas, line ends and tags: [{key, start, end, chunk}]; tags separate the chunks.
    function pieces(text) {
        if (latest.text === text) return latest.pieces;
        const found = [];
        let place = 0;
        [...scan(text), {start: text.length, end: text.length}].forEach(({start, end}, chunk) => {
            let offset = place;
            for (const raw of text.slice(place, start).split(/[,，\n]/)) {
                const piece = stripped(raw, offset);
                offset += raw.length + 1;
                if (piece.text) found.push({key: unescaped(piece.text).replace(/\s+/g, " ").toLowerCase(), start: piece.start, end: piece.end, chunk});
            }
            place = end;
        });
        latest = {text, pieces: found};
        return found;
    }

    // The text without a piece of it, and without the comma that led to it, or away from it.
    function cut(text, start, end) {
        const before = text.slice(0, start);
        const rest = text.slice(end);
        const head = before.trimEnd();
        if (/[,，]$/.test(head)) return head.slice(0, -1).trimEnd() + rest;
        if (/^\s*[,，]/.test(rest)) return before + rest.replace(/^\s*[,，]\s*/, "");
        return rest === "" ? head : before + (/^$|\s$/.test(before) ? rest.replace(/^[ \t]+/, "") : rest);
    }

    // Without blanks and commas at the end.
    function trimmed(text) {
        let end = text.length;
        while (end > 0 && /[\s,，]/.test(text[end - 1])) end -= 1;
        return text.slice(0, end);
    }

    function withoutTags(text) {
        const found = scan(text);
        return found.map((tag, n) => text.slice(n ? found[n - 1].end : 0, tag.start)).join("") + text.slice(found.at(-1)?.end ?? 0);
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
        find, setWeights, join, rename, remove, insert, indexOf, isOneOf, toggle, move, hasWord, toggleWord, withoutTags, unescaped,
        parseWeight, formatWeight,
    };
})();
