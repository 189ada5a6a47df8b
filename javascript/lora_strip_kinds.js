// What a tag can say beyond its weight: the arguments that belong together, their name, how they are told in a few words, and what
// edits them. Those that are `rare` are offered only where they are there.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    const KINDS = [
        {keys: ["start", "stop", "step"], name: "window", text: windowText, make: (set) => new lib.StripRange(set)},
        {keys: ["hr", "hrte", "hrunet"], name: "hires pass", text: typedText, make: (set) => new lib.StripAmount(captions("hr", "hrte", "hrunet"), set)},
        {keys: ["refiner"], name: "refiner", text: typedText, make: (set) => new lib.StripAmount(captions("refiner"), set)},
        {keys: ["on"], name: "side", text: sideText, make: (set) => new lib.StripSide(set)},
        {keys: ["area"], name: "area", text: areaText, make: (set) => new lib.StripArea(set)},
        rare("lbwe", "elements"), rare("in", "input blocks"), rare("mid", "middle block"), rare("out", "output blocks"), rare("dyn", "ranks"),
    ];

    function rare(key, name) {
        return {keys: [key], name, isRare: true, text: typedText, make: (set) => new lib.StripText(key, lib.t(name), set)};
    }

    function captions(...keys) {
        const all = {hr: lib.t("Hires pass"), hrte: lib.t("Text"), hrunet: lib.t("UNet"), refiner: lib.t("Refiner")};
        return Object.fromEntries(keys.map((key) => [key, all[key]]));
    }

    // The kinds that a tag has, each with its few words: Map(kind, text).
    function told(tag, scene) {
        const found = KINDS.filter(({keys}) => keys.some((key) => tag.values[key]));
        return new Map(found.map((kind) => [kind, kind.text(kind.keys.map((key) => tag.values[key]?.text), scene, tag)]));
    }

    function typedText(texts) {
        return texts.filter(Boolean).map(lib.tagScan.shortened).join(" / ");
    }

    function windowText(texts, scene, tag) {
        const window = lib.stripWindow.read(tag.values);
        if (!window) return typedText(texts);
        const {ends, shown} = lib.stripWindow.axisOf(window, scene.steps);
        return `${shown(window.start ?? ends[0])} – ${shown(window.stop ?? ends[1])}`;
    }

    function sideText([side]) {
        const sides = {both: lib.t("both"), cond: lib.t("prompt"), uncond: lib.t("negative prompt")};
        return Object.hasOwn(sides, side.toLowerCase()) ? sides[side.toLowerCase()] : lib.tagScan.shortened(side);
    }

    function areaText([text]) {
        const area = lib.area.read(text);
        return area ? lib.area.told(area) : lib.tagScan.shortened(text);
    }

    lib.stripKinds = {KINDS, told};
})();
