// What the cards of the WebUI's page "Lora" compute without a page: what a click takes out of the prompt, which card fits the
// checkpoint, which families there are, what a filter leaves, and in which order cards stand.
//
// `facts` is what a card tells of its adapter (lib_lora/webui/cards/card.py), `news` what the server tells (GET /lora/v1/cards).

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const BROKEN = "broken";
    const FAVORITE = "favorite";

    // The prompt without the adapter's tags, however they are written, and without the words that a click brought with them;
    // null if there is no such tag. `separator`: what the WebUI puts before a tag.
    function without(text, facts, words, separator) {
        const mine = (tag) => means(facts, tag.name);
        if (!lib.tags.find(text).some(mine)) return null;
        for (let n = lib.tags.find(text).findLastIndex(mine); n >= 0; n = lib.tags.find(text).findLastIndex(mine)) {
            const {start, end} = lib.tags.find(text)[n];
            let rest = text.slice(end);
            if (words && rest.startsWith(words)) rest = rest.slice(words.length);
            const before = text.slice(0, start);
            const isBetweenCommas = /,\s*$/.test(before) && /^\s*,/.test(rest);
            text = before.endsWith(separator) && !isBetweenCommas
                ? before.slice(0, before.length - separator.length) + rest
                : lib.tagEdits.remove(before + text.slice(start, end) + rest, n);
        }
        return text;
    }

    // The negative prompt without `addition`, "(words:1)" at whatever weight.
    function withoutNegative(text, addition, separator) {
        const match = /^\((.*):1\)$/s.exec(addition);
        if (!match) return text;
        const pattern = new RegExp(`\\(${escaped(match[1])}:[\\d.]+\\)`);
        for (let found = pattern.exec(text); found; found = pattern.exec(text)) {
            const before = text.slice(0, found.index);
            const kept = before.endsWith(separator) ? before.slice(0, before.length - separator.length) : before;
            text = kept + text.slice(found.index + found[0].length);
        }
        return text;
    }

    // Whether a tag of that name means the adapter: its path, name, alias or hash, with or without the file's ending.
    function means(facts, name) {
        return meansTyped(facts, name) || lib.tags.unescaped(name) !== name && meansTyped(facts, lib.tags.unescaped(name));
    }

    function meansTyped(facts, name) {
        const typed = plain(name);
        const hash = typed.replace(/^0x/, "");
        return facts.names.some((each) => plain(each) === typed || plain(each) === plain(typed.replace(/\.(safetensors|pt|ckpt|bin)$/, "")))
            || /^[0-9a-f]{8,64}$/.test(hash) && Boolean(facts.hash) && (facts.hash.startsWith(hash) || hash.startsWith(facts.hash));
    }

    function plain(name) {
        const path = name.trim().normalize("NFC").replaceAll("\\", "/").replace(/^(\.\/)+/, "").replace(/^\/+/, "");
        let end = path.length;
        while (end > 0 && path[end - 1] === "/") end -= 1;
        return path.slice(0, end).toLowerCase();
    }

    // Why the adapter cannot be used with this checkpoint; "" if it can, or if that is not known.
    function reason(facts, news) {
        if (facts.broken) return facts.broken;
        const checkpoint = news.checkpoint;
        if (!checkpoint || news.others === "show") return "";
        if (!facts.possible.length) return news.unknown ? say("its base model is not known") : "";
        if (!checkpoint.possible.length || facts.possible.some((family) => checkpoint.possible.includes(family))) return "";
        return say("made for {family}, the checkpoint is {checkpoint}", {family: facts.label, checkpoint: checkpoint.label});
    }

    // Where a card belongs when others stay as they are: favourites first, those that cannot be used last.
    function rank(why, isFavorite) {
        return (why ? 2 : 0) + (isFavorite ? 0 : 1);
    }

    // [{value, label, count}] of the families that there are, the most frequent first, then sub-families, then broken files.
    function families(all) {
        const found = new Map();
        const count = (value, label, order) => {
            const kind = found.get(value) ?? {value, label, order, count: 0};
            kind.count += 1;
            found.set(value, kind);
        };
        for (const facts of all) {
            if (facts.broken) {
                count(BROKEN, say("Broken files"), 2);
                continue;
            }
            count(facts.family, facts.flavour ? facts.label.replace(/^.*\((.*)\)$/, "$1") : facts.label, 0);
            if (facts.flavour) count(facts.flavour, facts.label.replace(/ \(.*\)$/, ""), 1);
        }
        return [...found.values()].sort((a, b) => a.order - b.order || b.count - a.count || (a.label < b.label ? -1 : 1))
            .map(({value, label, count: number}) => ({value, label, count: number}));
    }

    // Whether the filter leaves a card out. `chosen`: families, of which one must fit; "favorite" must fit besides.
    function isOut(facts, isFavorite, chosen) {
        if (chosen.includes(FAVORITE) && !isFavorite) return true;
        const wanted = chosen.filter((each) => each !== FAVORITE);
        if (!wanted.length) return false;
        return !(facts.broken ? [BROKEN] : [facts.family, facts.flavour]).some((each) => wanted.includes(each));
    }

    function say(text, values) {
        return lib.t(text, values);
    }

    function escaped(text) {
        return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    }

    lib.cardRules = {without, withoutNegative, means, reason, rank, families, isOut, FAVORITE};
})();
