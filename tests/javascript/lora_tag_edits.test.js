"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_tag_scan.js");
require("../../javascript/lora_tags.js");
require("../../javascript/lora_tag_edits.js");

const {tags, tagEdits: edits} = globalThis.loraLib;

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
        assert.equal(edits.setWeights(before, n, weights), after);
        if (tags.find(before)[n]?.error === null) {
            const tag = tags.find(after)[n];
            assert.ok(Math.abs(tag.te - (weights.te ?? tags.find(before)[n].te)) < 1e-6);
            assert.ok(Math.abs(tag.unet - (weights.unet ?? tags.find(before)[n].unet)) < 1e-6);
        }
    });
}

test("joining drops the UNet's own number where nothing stands behind it", () => {
    assert.equal(edits.join("<lora:ink:0.8:0.5>", 0), "<lora:ink:0.8>");
    assert.equal(edits.join("<lora:ink:0.8:unet=0.5:dyn=4>", 0), "<lora:ink:0.8:dyn=4>");
    assert.equal(edits.join("<lora:ink:0.8:0.5:4>", 0), "<lora:ink:0.8:0.8:4>");
});

test("a tag is put at the end, with one space", () => {
    assert.equal(edits.insert("", "<lora:a:1>"), "<lora:a:1>");
    assert.equal(edits.insert("a castle", "<lora:a:1>"), "a castle <lora:a:1>");
    assert.equal(edits.insert("a castle ", "<lora:a:1>"), "a castle <lora:a:1>");
    assert.equal(edits.insert("a castle, day", "<lora:a:1>", 8), "a castle <lora:a:1>, day");
});

test("removing a tag leaves no double space and no double comma", () => {
    assert.equal(edits.remove("a <lora:x:1> b", 0), "a b");
    assert.equal(edits.remove("a <lora:x:1>", 0), "a");
    assert.equal(edits.remove("<lora:x:1> b", 0), "b");
    assert.equal(edits.remove("a <lora:x:1>, b", 0), "a, b");
    assert.equal(edits.remove("a, <lora:x:1>, b", 0), "a, b");
    assert.equal(edits.remove("a<lora:x:1>b", 0), "ab");
    assert.equal(edits.remove("<lora:x:1><lora:y:1>", 0), "<lora:y:1>");
    assert.equal(edits.remove("a\n<lora:x:1>\nb", 0), "a\n\nb");
});

test("toggling takes out every spelling of the adapter, and puts back one", () => {
    assert.equal(edits.toggle("a", ["ink", "Ink v1"], "<lora:ink:1>"), "a <lora:ink:1>");
    assert.equal(edits.toggle("a <lora:INK:-0.5:unet=2> <lyco:Ink v1>", ["ink", "Ink v1"], "<lora:ink:1>"), "a");
});

test("tags change places, the words between them stay", () => {
    assert.equal(edits.move("<lora:a:1> x <lora:b:2> y <lora:c>", 0, 2), "<lora:b:2> x <lora:c> y <lora:a:1>");
    assert.equal(edits.move("<lora:a:1> <lora:b:2>", 1, 0), "<lora:b:2> <lora:a:1>");
    assert.equal(edits.move("<lora:a:1>", 0, 1), "<lora:a:1>");
});

test("a name is exchanged, the rest of the tag stays", () => {
    assert.equal(edits.rename("x <lora: inc : 0.5>", 0, "styles/ink"), "x <lora: styles/ink : 0.5>");
});

test("a tag typed in full-width signs is edited in place", () => {
    assert.equal(edits.setWeights("a ＜lora：墨：１＞ b", 0, {te: 0.5, unet: 0.5}), "a ＜lora：墨：0.5＞ b");
    assert.equal(edits.setWeights("＜LoRA：墨＞", 0, {te: 0.5, unet: 0.25}), "＜LoRA：墨:0.5:0.25＞");
    assert.equal(edits.join("＜lora：墨：１：０．５＞", 0), "＜lora：墨：１＞");
    assert.equal(edits.rename("< LORA：ink：1>", 0, "wash"), "< LORA：wash：1>");
    assert.equal(edits.remove("a 《lora:ink:1》, b", 0), "a, b");
});
