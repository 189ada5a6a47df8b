// Every sentence that we show passes through `loraLib.t`: English is the key, the WebUI's localization dictionary
// (Settings, User interface, Localization) has the translation. Numbers and names stand in braces:
//
//   loraLib.t("{n} of {all} adapters", {n: 3, all: 10})      localization: {"{n} of {all} adapters": "{n} von {all} Adaptern"}

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    function t(text, values = {}) {
        const found = Object.hasOwn(globalThis.localization ?? {}, text) ? globalThis.localization[text] : null;
        const sentence = typeof found === "string" && found ? found : text;
        note(text, sentence);
        return sentence.replace(/\{(\w+)\}/g, (all, name) => Object.hasOwn(values, name) ? String(values[name]) : all);
    }

    // The WebUI's "Download localization template" saves what stands in these two dictionaries of its page.
    function note(text, sentence) {
        const {original_lines: seen, translated_lines: translated} = globalThis;
        if (seen) seen[text] = 1;
        if (translated && sentence !== text) translated[sentence] = 1;
    }

    lib.t = t;
})();
