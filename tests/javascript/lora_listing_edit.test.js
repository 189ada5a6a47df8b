"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_listing_edit.js");

const {changes, conflicts, readWeight} = globalThis.loraLib.edit;
const base = {activation_text: "ink", preferred_weight: 0.8, negative_text: "", notes: "old", description: ""};

test("only what was changed is sent", () => {
    assert.deepEqual(changes(base, {...base}), {});
    assert.deepEqual(changes(base, {...base, notes: "new", preferred_weight: 1}), {notes: "new", preferred_weight: 1});
});

test("it is a conflict only where both changed the same field, to different values", () => {
    const mine = {notes: "mine", negative_text: "blur"};
    assert.deepEqual(conflicts(base, {...base, notes: "theirs"}, mine), [{field: "notes", mine: "mine", theirs: "theirs"}]);
    assert.deepEqual(conflicts(base, {...base, description: "theirs"}, mine), []);
    assert.deepEqual(conflicts(base, {...base, notes: "mine"}, mine), []);
    assert.equal(conflicts(base, {...base, notes: "theirs", negative_text: "grain"}, mine).length, 2);
});

test("a weight may have a comma; nothing means not set; anything else is no number", () => {
    assert.deepEqual(["", " ", "0,8", "-1.5", "1e9999", "much", "nan"].map(readWeight), [0, 0, 0.8, -1.5, null, null, null]);
});
