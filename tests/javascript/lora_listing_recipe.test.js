// A recipe in the place of the adapter that was made of it.

"use strict";

const {test} = require("node:test");
const assert = require("node:assert/strict");
for (const name of ["number", "curve", "tag_scan", "tags", "tag_edits", "listing_recipe"]) require(`../../javascript/lora_${name}.js`);
const {recipe} = globalThis.loraLib;

const PROMPT = "<lora:a:0.8><lora:b:-0.3>";

test("the tags take the place of the adapter's own, at its weight", () => {
    assert.equal(recipe.opened("a <lora:mix:1> b", ["mix"], PROMPT), `a ${PROMPT} b`);
    assert.equal(recipe.opened("a <lora:Mix:0.5> b", ["mix"], PROMPT), "a <lora:a:0.4><lora:b:-0.15> b");
    assert.equal(recipe.opened("a <lora:mix:0.5:1> b", ["mix"], PROMPT), `a ${PROMPT} b`);  // two weights are no factor
});

test("without a tag of its own they go to the end", () => {
    assert.equal(recipe.opened("a cat", ["mix"], PROMPT), `a cat ${PROMPT}`);
});
