"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_tag_scan.js");
require("../../javascript/lora_tags.js");
require("../../javascript/lora_tag_edits.js");
require("../../javascript/lora_trigger_words.js");

const cases = require("../tag_cases.json");
const lib = globalThis.loraLib;
const {tags, tagEdits: edits, triggerWords: words} = lib;

for (const {text, tags: expected, rest} of cases) {
    test(`reads ${JSON.stringify(text)} as Python does`, () => {
        const found = tags.find(text);
        assert.equal(found.length, expected.length);
        if (rest !== undefined) assert.equal(lib.tagScan.without(text), rest);
        expected.forEach((want, n) => {
            const tag = found[n];
            assert.equal(text.slice(tag.start, tag.end), tag.source);
            assert.equal(tag.name, want.name);
            assert.equal(tag.error, want.error ?? null);
            if (want.error) return;
            assert.deepEqual([tag.te, tag.unet, tag.dyn, tag.force, tag.notes.length],
                [want.te, want.unet, want.dyn ?? null, want.force ?? false, want.notes ?? 0]);
        });
    });
}

test("markup in a tag is only text", () => {
    assert.equal(tags.find("<lora:&lt;img src=x onerror=alert(1)>")[0].name, "&lt;img src=x onerror=alert(1)");
    const [tag, ...more] = tags.find("<lora:<img src=x onerror=alert(1)>");
    assert.deepEqual([tag.source, tag.isOpen, more.length], ["<lora:", true, 0]);
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
