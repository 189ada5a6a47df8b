// Trigger words: those of an adapter, and how they and phrases with commas get in between the commas of a prompt, and out.

(function () {
    "use strict";

    const MOST_CUT = 100;  // places of one word that a click takes out

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Trigger words one by one: the user's own first. An author's phrase stays whole, commas and all.
    function of(card) {
        const own = split(lib.tagScan.without(card.activation_text));
        return [...new Set([...own, ...card.trigger_words].map((word) => word.trim()).filter(Boolean))];
    }

    // At the commas that do not stand in brackets; at all of them where a bracket is missing.
    function split(text) {
        const parts = [""];
        let depth = 0;
        for (const [sign] of text.matchAll(/\\?[^]/g)) {
            if ("([".includes(sign)) depth += 1;
            if (")]".includes(sign)) depth -= 1;
            if (depth < 0) break;
            if (sign === "," && depth === 0) parts.push("");
            else parts[parts.length - 1] += sign;
        }
        return depth === 0 ? parts : text.split(",");
    }

    function isIn(text, word) {
        return places(text, word).length > 0;
    }

    // A trigger word or a phrase with commas goes in front of the tags, or out again wherever it stands as a whole.
    function toggle(text, word) {
        const found = places(text, word);
        if (found.length) return found.slice(0, MOST_CUT).reduceRight((left, {start, end}) => cut(left, start, end), text);
        const first = lib.tagScan.scan(text, 1)[0];
        const head = trimmed(first ? text.slice(0, first.start) : text);
        const tail = first ? text.slice(first.start) : "";
        const addition = trimmed(lib.tagScan.without(word)).replace(/^[\s,，]+/, "");
        return addition ? head + (head ? ", " : "") + addition + (tail ? " " + tail : "") : text;
    }

    // [{start, end}] of every place where all pieces of `word` follow each other.
    function places(text, word) {
        const wanted = pieces(lib.tagScan.without(word)).map((piece) => piece.key);
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
        [...lib.tagScan.scan(text), {start: text.length, end: text.length}].forEach(({start, end}, chunk) => {
            let offset = place;
            for (const raw of text.slice(place, start).split(/[,，\n]/)) {
                const piece = lib.tagScan.stripped(raw, offset);
                offset += raw.length + 1;
                if (piece.text) found.push({key: lib.tags.unescaped(piece.text).replace(/\s+/g, " ").toLowerCase(), start: piece.start, end: piece.end, chunk});
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

    lib.triggerWords = {of, isIn, toggle};
})();
