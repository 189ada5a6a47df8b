"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_tags.js");

const cases = require("../tag_cases.json");
const tags = globalThis.loraLib.tags;

for (const {text, tags: expected, rest} of cases) {
    test(`reads ${JSON.stringify(text)} as Python does`, () => {
        const found = tags.find(text);
        assert.equal(found.length, expected.length);
        if (rest !== undefined) assert.equal(tags.withoutTags(text), rest);
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

const rewritten = [  // [before, n, weights, after]
    ["a <lora:ink:0.8> b", 0, {te: 0.5, unet: 0.5}, "a <lora:ink:0.5> b"],
    ["<lora:ink>", 0, {te: 0.5, unet: 0.5}, "<lora:ink:0.5>"],
    ["<lora:ink>", 0, {te: 1, unet: 1}, "<lora:ink>"],
    ["<lora:ink>", 0, {unet: 0.5}, "<lora:ink:1:0.5>"],
    ["<lora:ink:0.8>", 0, {unet: 0.5}, "<lora:ink:0.8:0.5>"],
    ["<lora:ink:0.8>", 0, {te: 0.5}, "<lora:ink:0.5:0.8>"],
    ["<lora:ink:0.8:0.5>", 0, {te: 1, unet: 1}, "<lora:ink:1:1>"],
    ["<lora: ink : 0.8 >", 0, {te: -1.5, unet: -1.5}, "<lora: ink : -1.5 >"],
    ["<lora:ink:te= 0.8 :unet=1>", 0, {te: 0.25, unet: 2}, "<lora:ink:te= 0.25 :unet=2>"],
    ["<lora:ink:te=0.8>", 0, {unet: 2}, "<lora:ink:te=0.8:unet=2>"],
    ["<lora:ink:unet=0.5>", 0, {te: 0.3}, "<lora:ink:0.3:unet=0.5>"],
    ["<lora:ink:dyn=4>", 0, {te: 0.3, unet: 0.6}, "<lora:ink:0.3:0.6:dyn=4>"],
    ["<lora:ink:dyn=4:0.5>", 0, {te: 0.3, unet: 0.6}, "<lora:ink:dyn=4:0.3:0.6>"],
    ["<lora:ink:1:start=0.5>", 0, {te: 2, unet: 2}, "<lora:ink:2:start=0.5>"],
    ["<lora:a:1> <lyco:b:1> <lora:a:1>", 1, {te: 0, unet: 0}, "<lora:a:1> <lyco:b:0> <lora:a:1>"],
    ["<lora:a:abc>", 0, {te: 0}, "<lora:a:abc>"],
    ["no tag", 0, {te: 0}, "no tag"],
    ["<lora:ink:1>", 0, {te: 0.1 + 0.2, unet: 0.1 + 0.2}, "<lora:ink:0.3>"],
];
for (const [before, n, weights, after] of rewritten) {
    test(`${before} with ${JSON.stringify(weights)} becomes ${after}`, () => {
        assert.equal(tags.setWeights(before, n, weights), after);
        if (tags.find(before)[n]?.error === null) {
            const tag = tags.find(after)[n];
            assert.ok(Math.abs(tag.te - (weights.te ?? tags.find(before)[n].te)) < 1e-6);
            assert.ok(Math.abs(tag.unet - (weights.unet ?? tags.find(before)[n].unet)) < 1e-6);
        }
    });
}

test("joining drops the UNet's own number where nothing stands behind it", () => {
    assert.equal(tags.join("<lora:ink:0.8:0.5>", 0), "<lora:ink:0.8>");
    assert.equal(tags.join("<lora:ink:0.8:unet=0.5:dyn=4>", 0), "<lora:ink:0.8:dyn=4>");
    assert.equal(tags.join("<lora:ink:0.8:0.5:4>", 0), "<lora:ink:0.8:0.8:4>");
});

test("a tag is put at the end, with one space", () => {
    assert.equal(tags.insert("", "<lora:a:1>"), "<lora:a:1>");
    assert.equal(tags.insert("a castle", "<lora:a:1>"), "a castle <lora:a:1>");
    assert.equal(tags.insert("a castle ", "<lora:a:1>"), "a castle <lora:a:1>");
    assert.equal(tags.insert("a castle, day", "<lora:a:1>", 8), "a castle <lora:a:1>, day");
});

test("removing a tag leaves no double space and no double comma", () => {
    assert.equal(tags.remove("a <lora:x:1> b", 0), "a b");
    assert.equal(tags.remove("a <lora:x:1>", 0), "a");
    assert.equal(tags.remove("<lora:x:1> b", 0), "b");
    assert.equal(tags.remove("a <lora:x:1>, b", 0), "a, b");
    assert.equal(tags.remove("a, <lora:x:1>, b", 0), "a, b");
    assert.equal(tags.remove("a<lora:x:1>b", 0), "ab");
    assert.equal(tags.remove("<lora:x:1><lora:y:1>", 0), "<lora:y:1>");
    assert.equal(tags.remove("a\n<lora:x:1>\nb", 0), "a\n\nb");
});

test("toggling takes out every spelling of the adapter, and puts back one", () => {
    assert.equal(tags.toggle("a", ["ink", "Ink v1"], "<lora:ink:1>"), "a <lora:ink:1>");
    assert.equal(tags.toggle("a <lora:INK:-0.5:unet=2> <lyco:Ink v1>", ["ink", "Ink v1"], "<lora:ink:1>"), "a");
});

test("tags change places, the words between them stay", () => {
    assert.equal(tags.move("<lora:a:1> x <lora:b:2> y <lora:c>", 0, 2), "<lora:b:2> x <lora:c> y <lora:a:1>");
    assert.equal(tags.move("<lora:a:1> <lora:b:2>", 1, 0), "<lora:b:2> <lora:a:1>");
    assert.equal(tags.move("<lora:a:1>", 0, 1), "<lora:a:1>");
});

test("a name is exchanged, the rest of the tag stays", () => {
    assert.equal(tags.rename("x <lora: inc : 0.5>", 0, "styles/ink"), "x <lora: styles/ink : 0.5>");
});

test("trigger words go in before the tags and out again", () => {
    assert.equal(tags.toggleWord("a castle <lora:a:1>", "ink drawing"), "a castle, ink drawing <lora:a:1>");
    assert.equal(tags.toggleWord("a castle, ink drawing <lora:a:1>", "ink drawing"), "a castle <lora:a:1>");
    assert.equal(tags.toggleWord("", "ink"), "ink");
    assert.equal(tags.toggleWord("ink", "ink"), "");
    assert.equal(tags.toggleWord("ink, a castle", "Ink"), "a castle");
    assert.equal(tags.hasWord("a castle, INK <lora:ink:1>", "ink"), true);
    assert.equal(tags.hasWord("a castle <lora:ink:1>", "ink"), false);
    assert.equal(tags.toggleWord("a, f(x)*, b", "f(x)*"), "a, b");
});

test("markup in a tag is only text", () => {
    assert.equal(tags.find("<lora:&lt;img src=x onerror=alert(1)>")[0].name, "&lt;img src=x onerror=alert(1)");
    const [tag, ...more] = tags.find("<lora:<img src=x onerror=alert(1)>");
    assert.deepEqual([tag.source, tag.isOpen, more.length], ["<lora:", true, 0]);
});

test("a tag typed in full-width signs is edited in place", () => {
    assert.equal(tags.setWeights("a ＜lora：墨：１＞ b", 0, {te: 0.5, unet: 0.5}), "a ＜lora：墨：0.5＞ b");
    assert.equal(tags.setWeights("＜LoRA：墨＞", 0, {te: 0.5, unet: 0.25}), "＜LoRA：墨:0.5:0.25＞");
    assert.equal(tags.join("＜lora：墨：１：０．５＞", 0), "＜lora：墨：１＞");
    assert.equal(tags.rename("< LORA：ink：1>", 0, "wash"), "< LORA：wash：1>");
    assert.equal(tags.remove("a 《lora:ink:1》, b", 0), "a, b");
});

test("a name is found with the backslashes that prompts need", () => {
    assert.equal(tags.indexOf("<lora:ink \\(v2\\):1>", ["Ink (v2)"]), 0);
    assert.equal(tags.toggle("a <lora:ink \\(v2\\):1>", ["ink (v2)"], "<lora:ink (v2):1>"), "a");
});

test("weights are written as people write them", () => {
    assert.deepEqual([0.00001, 1e-7, 1e21, -0, 1 / 3].map(tags.formatWeight), ["0.00001", "0.0000001", "1000000000000000000000", "0", "0.333333"]);
    assert.deepEqual(["0.8", "０．８", ".5", "+1", "1e-05", "0_8", "08", "1e3", "inf", "0x1", "٠", ""].map(tags.parseWeight),
        [0.8, 0.8, 0.5, 1, 0.00001, null, null, null, null, null, null, null]);
});

test("a phrase with commas goes in and out as a whole", () => {
    const phrase = "hatsune miku, twintails, blue hair";
    const once = tags.toggleWord("a castle <lora:miku:1>", phrase);
    assert.equal(once, "a castle, hatsune miku, twintails, blue hair <lora:miku:1>");
    assert.equal(tags.hasWord(once, phrase), true);
    assert.equal(tags.toggleWord(once, phrase), "a castle <lora:miku:1>");
    assert.equal(tags.hasWord("hatsune miku,twintails ,\n Blue  Hair", phrase), true);
    assert.equal(tags.hasWord("hatsune miku, blue hair, twintails", phrase), false);
    assert.equal(tags.hasWord("hatsune miku, twintails <lora:miku:1> blue hair", phrase), false);
    assert.equal(tags.toggleWord("day, hatsune miku, twintails, blue hair, night", phrase), "day, night");
    assert.equal(tags.toggleWord("hatsune miku, twintails, blue hair, night", `${phrase},`), "night");
    assert.equal(tags.toggleWord("a, ink, b, ink", "ink"), "a, b");
});

test("a word with brackets is found with and without backslashes", () => {
    const word = "asuka \\(evangelion\\)";
    const once = tags.toggleWord("a castle", word);
    assert.equal(once, "a castle, asuka \\(evangelion\\)");
    assert.equal(tags.hasWord(once, word), true);
    assert.equal(tags.hasWord(once, "asuka (evangelion)"), true);
    assert.equal(tags.hasWord("a castle, Asuka (Evangelion)", word), true);
    assert.equal(tags.toggleWord(once, word), "a castle");
});

test("a tag inside a trigger word does not get into the prompt", () => {
    assert.equal(tags.toggleWord("a castle", "<lora:on-v3:1>, xxxx"), "a castle, xxxx");
    assert.equal(tags.hasWord("a castle, xxxx", "<lora:on-v3:1>, xxxx"), true);
    assert.equal(tags.toggleWord("a castle", "<lora:on-v3:1>"), "a castle");
});

test("taking a word out leaves line ends and other spaces alone", () => {
    assert.equal(tags.toggleWord("a  b,\nink\nc", "ink"), "a  b\nc");
    assert.equal(tags.toggleWord("ink <lora:a:1> ink", "ink"), "<lora:a:1>");
    assert.equal(tags.toggleWord("a castle，ink，b", "ink"), "a castle，b");
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
        tags.hasWord(text, "a, b");
        tags.toggleWord(text, "ink, drawing");
        tags.toggleWord(text, "a");
        tags.toggle(text, ["a"], "<lora:a:1>");
        tags.setWeights(tags.remove(text, 0), 0, {te: 0.5});
        assert.ok(performance.now() - started < 5_000, `${performance.now() - started} ms`);
    });
}
