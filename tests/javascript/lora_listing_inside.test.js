// The figures of the map of blocks.

"use strict";

const {test} = require("node:test");
const assert = require("node:assert/strict");
globalThis.loraLib = {t: (text) => text};
require("../../javascript/lora_listing_inside.js");
const {inside} = globalThis.loraLib;

test("layers add up as squares", () => {
    assert.equal(inside.total({attn1: 3, conv: 4}), 5);
    assert.equal(inside.total({}), 0);
});

test("a figure has three digits and no needless zeros", () => {
    assert.deepEqual([0, 1.5, 2, 0.012345, 120.4].map(inside.digits), ["0", "1.5", "2", "0.0123", "120"]);
});

test("the largest kind is named first", () => {
    assert.equal(inside.described({attn1: 0.5, ff: 2}), "feed-forward 2, self-attention 0.5");
});
