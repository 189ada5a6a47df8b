"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_curve.js");
require("../../javascript/lora_tag_scan.js");
require("../../javascript/lora_tags.js");
require("../../javascript/lora_tag_edits.js");
require("../../javascript/lora_trigger_words.js");

const cases = require("../tag_cases.json");
const lib = globalThis.loraLib;
const {tags, tagEdits: edits, triggerWords: words} = lib;

lib.curve.told = (weight) => typeof weight === "number" ? weight : lib.curve.write({...weight, source: undefined});

// What is wrong with a curve, or with an argument that is no weight, the server says alone.
function isForServer(tag) {
    return [tag.values.te, tag.values.unet].some((value) => value && lib.curve.isCurve(value.text))
        || tag.given.some(({key}) => key && !["te", "unet", "dyn", "force"].includes(key));
}

for (const {text, tags: expected, rest} of cases) {
    test(`reads ${JSON.stringify(text)} as Python does`, () => {
        const found = tags.find(text);
        assert.equal(found.length, expected.length);
        if (rest !== undefined) assert.equal(lib.tagScan.without(text), rest);
        expected.forEach((want, n) => {
            const tag = found[n];
            assert.equal(text.slice(tag.start, tag.end), tag.source);
            assert.equal(tag.name, want.name);
            if (want.error && isForServer(tag)) return assert.equal(tag.error, null);
            assert.equal(tag.error, want.error ?? null);
            if (want.error) return;
            assert.deepEqual([tag.te, tag.unet].map(lib.curve.told), [want.te, want.unet]);
            assert.deepEqual([tag.dyn, tag.force], [want.dyn ?? null, want.force ?? false]);
        });
    });
}

test("markup in a tag is only text", () => {
    assert.equal(tags.find("<lora:&lt;img src=x onerror=alert(1)>")[0].name, "&lt;img src=x onerror=alert(1)");
    const [tag, ...more] = tags.find("<lora:<img src=x onerror=alert(1)>");
    assert.deepEqual([tag.source, tag.isOpen, more.length], ["<lora:", true, 0]);
});

test("every argument is kept as typed, whatever its order and its key", () => {
    const text = "a <lora: ink : 0.8 : W= 1,0,1 :start=0.2:0@0;1~1:te = 0.5:__proto__=1:4: thing=x y :start=0.3>";
    const [tag] = tags.find(text);
    assert.deepEqual(tag.given.map(({key, text: value}) => [key, value]), [
        [null, "0.8"], ["lbw", "1,0,1"], ["start", "0.2"], [null, "0@0;1~1"], ["te", "0.5"], ["__proto__", "1"], [null, "4"], ["thing", "x y"],
        ["start", "0.3"],
    ]);
    for (const {start, end, text: value, colon} of tag.given) {
        assert.equal(text.slice(start, end), value);
        assert.ok(":：".includes(text[colon]));
    }
    assert.deepEqual([tag.te, lib.curve.write(tag.unet), tag.values.lbw.text, tag.values.start.text], [0.5, "0@0;1~1", "1,0,1", "0.3"]);
});

test("a name is found with the backslashes that prompts need", () => {
    assert.equal(tags.indexOf("<lora:ink \\(v2\\):1>", ["Ink (v2)"]), 0);
    assert.equal(edits.toggle("a <lora:ink \\(v2\\):1>", ["ink (v2)"], "<lora:ink (v2):1>"), "a");
});

const n = 30_000;
const long = {
    "<lora: without an end": "<lora:".repeat(n), "tags": "<lora:a:1>".repeat(n), "opening brackets": "《lora:".repeat(n) + "<".repeat(n),
    "blanks": " ".repeat(n) + "x", "blanks in a tag": `<${" ".repeat(n)}lora${" ".repeat(n)}`, "line ends": "\n".repeat(n) + "x <lora:a:1>",
    "colons": `<lora:${"：".repeat(n)}>`, "digits": `<lora:a：${"1".repeat(n)}x>`, "arguments": `<lora:a${"：te=1".repeat(n)}>`,
    "commas": ", ".repeat(n) + "x", "words": "a, ".repeat(n), "one long name": `<lora:${"a".repeat(n)}`, "slashes": `<lora:${"/".repeat(n)}x:1>`,
};
for (const [what, text] of Object.entries(long)) {
    test(`a prompt of ${n} times ${what} is read at once`, () => {
        const started = performance.now();
        assert.ok(tags.find(text).length <= 129);
        words.isIn(text, "a, b");
        words.toggle(text, "ink, drawing");
        words.toggle(text, "a");
        edits.toggle(text, ["a"], "<lora:a:1>");
        edits.setWeights(edits.remove(text, 0), 0, {te: 0.5});
        assert.ok(performance.now() - started < 5_000, `${performance.now() - started} ms`);
    });
}
