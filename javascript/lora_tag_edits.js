// What changes the tags of a prompt. Every function takes the whole prompt and returns the whole prompt. What the user typed
// around a number stays as typed: spaces, lyco, the order of the arguments, arguments that are not known here.

(function () {
    "use strict";

    const WEIGHTS = ["hr", "hrte", "hrunet", "refiner"];  // those of other passes

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // The n-th tag with other weights, numbers or curves. `weights` has te, unet or both; one that is left out keeps its value.
    function setWeights(text, n, weights) {
        const tag = lib.tags.find(text)[n];
        if (!tag || tag.te === null) return text;
        const {write, isSame} = lib.curve;
        const wanted = {te: tag.te, unet: tag.unet, ...weights};
        const edits = [];
        let after = tag.parts[0].end;  // where an argument without a place goes in
        if (tag.values.te) {
            edits.push([tag.values.te, write(wanted.te), !isSame(tag.te, wanted.te)]);
            after = tag.values.te.end;
        }
        const isUnetNeeded = !isSame(wanted.unet, wanted.te);
        let inserted = "";
        if (!tag.values.te && (wanted.te !== 1 || isUnetNeeded && !tag.values.unet)) inserted += ":" + write(wanted.te);
        if (tag.values.unet) {
            edits.push([tag.values.unet, write(wanted.unet), !isSame(tag.unet, wanted.unet)]);
        } else if (isUnetNeeded) {
            const isNamed = Boolean(tag.values.te?.key || tag.values.lbw && !tag.values.lbw.key);  // block weights in its place
            inserted += (isNamed ? ":unet=" : ":") + write(wanted.unet);
        }
        if (inserted) edits.push([{start: after, end: after}, inserted, true]);
        return replace(text, edits.filter(([, , isNew]) => isNew));
    }

    // One weight for both again: the UNet's own number goes away where it can.
    function join(text, n) {
        const tag = lib.tags.find(text)[n];
        if (!tag || tag.te === null || !tag.values.unet) return text;
        const value = tag.values.unet;
        const isLast = !tag.values.dyn || Boolean(tag.values.dyn.key);
        if (!value.key && !isLast) return setWeights(text, n, {unet: tag.te});
        const left = replace(text, [[{start: value.colon, end: value.end}, ""]]);
        return lib.tags.find(left)[n].values.unet ? setWeights(left, n, {unet: tag.te}) : left;  // it was there twice
    }

    // The n-th tag with other named arguments: {start: "0.2", stop: null}. One that is there keeps its place and its key as
    // typed, a new one goes to the end, null takes it out wherever it stands. All others stay as typed.
    function setArguments(text, n, values) {
        const tag = lib.tags.find(text)[n];
        if (!tag || tag.isOpen) return text;
        const end = tag.parts.at(-1).end;
        const edits = [];
        let added = "";
        for (const [key, value] of Object.entries(values)) {
            const counts = tag.values[key];
            const isGone = (each) => each.key === key || counts && !counts.key && !each.key && each.start >= counts.start;  // what followed would move up
            if (value === null) edits.push(...tag.given.filter(isGone).map(({colon, end: last}) => [{start: colon, end: last}, ""]));
            else if (!counts) added += `:${key}=${value}`;
            else if (counts.text !== value) edits.push([counts, value]);
        }
        if (added) edits.push([{start: end, end}, added]);
        return replace(text, edits);
    }

    // The tags at `places` with all their weights times `factor`, in as many digits as one types.
    function scale(text, places, factor) {
        for (const n of places) {
            const {te, unet, values} = lib.tags.find(text)[n] ?? {te: null};
            if (te === null) continue;
            text = setWeights(text, n, {te: scaled(te, factor), unet: scaled(unet, factor)});
            const others = WEIGHTS.filter((key) => values[key]).map((key) => [key, lib.curve.read(values[key].text)]);
            text = setArguments(text, n, Object.fromEntries(others.filter(([, weight]) => weight !== null).map(([key, weight]) => [key, lib.curve.write(scaled(weight, factor))])));
        }
        return text;
    }

    function scaled(weight, factor) {
        const times = (number) => Math.abs(number * factor) < 0.1 ? Number((number * factor).toPrecision(2)) : Math.round(number * factor * 100) / 100;
        if (typeof weight === "number") return times(weight);
        return {unit: weight.unit, points: weight.points.map((point) => ({...point, weight: times(point.weight)}))};
    }

    function rename(text, n, name) {
        const tag = lib.tags.find(text)[n];
        return tag ? replace(text, [[tag.parts[0], name]]) : text;
    }

    function remove(text, n) {
        const tag = lib.tags.find(text)[n];
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

    // Insert `tag`, or take out every tag of the adapter if it is there already, whatever its weights.
    function toggle(text, names, tag) {
        const wanted = new Set(names.map((name) => name.toLowerCase()));
        const mine = lib.tags.find(text).filter((each) => lib.tags.isOneOf(each.name, wanted));
        return mine.length ? mine.reduceRight(without, text) : insert(text, tag);
    }

    // The n-th tag takes the place of the m-th, and those between move on by one; the text between the tags stays.
    function move(text, n, m) {
        const tags = lib.tags.find(text);
        if (!tags[n] || !tags[m] || n === m) return text;
        const sources = tags.map((tag) => tag.source);
        sources.splice(m, 0, ...sources.splice(n, 1));
        return replace(text, tags.map((tag, place) => [tag, sources[place]]));
    }

    // `edits`: [{start, end}, replacement] that do not overlap.
    function replace(text, edits) {
        for (const [{start, end}, by] of [...edits].sort(([a], [b]) => b.start - a.start)) {
            text = text.slice(0, start) + by + text.slice(end);
        }
        return text;
    }

    lib.tagEdits = {setWeights, join, setArguments, scale, rename, remove, insert, toggle, move};
})();
