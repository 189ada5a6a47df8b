// The figures of what an adapter changes.

"use strict";

const {test} = require("node:test");
const assert = require("node:assert/strict");
globalThis.loraLib = {t: (text) => text};
require("../../javascript/lora_changes.js");
const {changes} = globalThis.loraLib;

test("layers add up as squares", () => {
    assert.equal(changes.total({attn1: 3, conv: 4}), 5);
    assert.equal(changes.total({}), 0);
});

test("a figure has three digits and no needless zeros", () => {
    assert.deepEqual([0, 1.5, 2, 0.012345, 120.4].map(changes.digits), ["0", "1.5", "2", "0.0123", "120"]);
});

test("the largest kind is named first", () => {
    assert.equal(changes.described({attn1: 0.5, ff: 2}), "feed-forward 2, self-attention 0.5");
});
