"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_curve.js");
require("../../javascript/lora_tag_scan.js");
require("../../javascript/lora_tags.js");
require("../../javascript/lora_tag_edits.js");

const {tags, tagEdits: edits} = globalThis.loraLib;

const curve = globalThis.loraLib.curve.read;

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
    ["<lora:ink:0.8:lbw=INS>", 0, {unet: curve("0@0,1@1")}, "<lora:ink:0.8:0@0,1@1:lbw=INS>"],
    ["<lora:ink>", 0, {unet: curve("0@0,1@1")}, "<lora:ink:1:0@0,1@1>"],
    ["<lora:ink:0~0;1~1:0.5>", 0, {unet: 1}, "<lora:ink:0~0;1~1:1>"],
    ["<lora:ink:0@0;1@1>", 0, {te: 1, unet: 1}, "<lora:ink:1>"],
    ["<lora:ink:0@0;1@1>", 0, {te: 1}, "<lora:ink:1:0@0;1@1>"],
    ["<lora:ink:te=1:unet=0@0,1@1>", 0, {unet: curve("0@0,0.5@1")}, "<lora:ink:te=1:unet=0@0,0.5@1>"],
    ["<lora:ink:0@x>", 0, {te: 1}, "<lora:ink:0@x>"],
    ["<lora:ink:1>", 0, {te: 0.1 + 0.2, unet: 0.1 + 0.2}, "<lora:ink:0.3>"],
];
for (const [before, n, weights, after] of rewritten) {
    test(`${before} with ${JSON.stringify(weights)} becomes ${after}`, () => {
        assert.equal(edits.setWeights(before, n, weights), after);
        const [was, is] = [before, after].map((text) => tags.find(text)[n]);
        if (was && was.te !== null) {
            const written = globalThis.loraLib.curve.write;
            assert.deepEqual([is.te, is.unet].map(written), [weights.te ?? was.te, weights.unet ?? was.unet].map(written));
        }
    });
}

const argued = [  // [before, arguments, after]
    ["<lora:a:1>", {start: "0.2"}, "<lora:a:1:start=0.2>"],
    ["<lora:a>", {start: "0.2", stop: "0.8"}, "<lora:a:start=0.2:stop=0.8>"],
    ["< lora: a : 1 : START = 0.1 : mine=x >", {start: "0.2"}, "< lora: a : 1 : START = 0.2 : mine=x >"],
    ["<lora:a:w=INS:0.5>", {lbw: "1,0"}, "<lora:a:w=1,0:0.5>"],
    ["<lora:a:lbw=X:0.5:w=INS:b=1>", {lbw: null}, "<lora:a:0.5:b=1>"],
    ["<lora:a:hr=1:0.5:hr=2>", {hr: "3"}, "<lora:a:hr=1:0.5:hr=3>"],
    ["<lora:a:1:area=0,0,1,1>", {area: null, on: "cond"}, "<lora:a:1:on=cond>"],
    ["＜lora：墨：１＞", {on: "cond"}, "＜lora：墨：１:on=cond＞"],
    ["<lora:a:0@0,x:start=1>", {start: "0"}, "<lora:a:0@0,x:start=0>"],
    ["<lora:a:1", {start: "0"}, "<lora:a:1"],
    ["no tag", {start: "0"}, "no tag"],
];
for (const [before, values, after] of argued) {
    test(`${before} with the arguments ${JSON.stringify(values)} becomes ${after}`, () => assert.equal(edits.setArguments(before, 0, values), after));
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

const scaledBy = [  // [before, places, factor, after]
    ["<lora:a:1> x <lora:b:0.8>", [0, 1], 0.5, "<lora:a:0.5> x <lora:b:0.4>"],
    ["<lora:a> <lora:b>", [1], 0.37, "<lora:a> <lora:b:0.37>"],
    ["<lora: a :0.8: 1 :mine=x>", [0], 0.5, "<lora: a :0.4: 0.5 :mine=x>"],
    ["<lora:a:1:hr=0.8:refiner=off:lbw=INS>", [0], 0.5, "<lora:a:0.5:hr=0.4:refiner=off:lbw=INS>"],
    ["<lora:a:0@0,1@0.5:hrunet=1@0,0@1>", [0], 0.5, "<lora:a:0@0,0.5@0.5:hrunet=0.5@0,0@1>"],
    ["<lora:a:-0.33>", [0], 0.59, "<lora:a:-0.19>"],
    ["<lora:a:0.04>", [0], 0.59, "<lora:a:0.024>"],
    ["<lora:a:x> <lora:b:1>", [0, 1, 7], 0.5, "<lora:a:x> <lora:b:0.5>"],
];
for (const [before, places, factor, after] of scaledBy) {
    test(`${before} times ${factor} is ${after}`, () => assert.equal(edits.scale(before, places, factor), after));
}
