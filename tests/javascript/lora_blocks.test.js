"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_blocks.js");

const {blocks} = globalThis.loraLib;
const known = {
    usual: 4, whole: 5,
    vectors: {4: ["BASE", "IN01", "IN02", "OUT03"], 5: ["BASE", "IN00", "IN01", "IN02", "OUT03"], 2: ["BASE", "M00"]},
    presets: [{name: "ALL", numbers: [1, 1, 1, 1]}, {name: "INS", numbers: [1, 1, 0, 0]}],
};

test("numbers are read and written; a name or a letter is no number", () => {
    assert.deepEqual(blocks.read("1, 0.5,-1,０．２"), [1, 0.5, -1, 0.2]);
    for (const text of ["INS", "1,R,0,1", "1", "", "1,,0"]) assert.equal(blocks.read(text), null, text);
    assert.equal(blocks.write([1, 0.1 + 0.2, -0]), "1,0.3,0");
});

test("what is shown: nothing typed is all of it, a name its numbers, numbers the name that they have", () => {
    assert.deepEqual(blocks.shown("", known), {names: known.vectors[4], numbers: [1, 1, 1, 1], preset: null});
    assert.deepEqual(blocks.shown("", known, true), {names: known.vectors[5], numbers: [1, 1, 1, 1, 1], preset: null});
    assert.deepEqual(blocks.shown("1,1,1,1", known).preset, known.presets[0]);
    assert.deepEqual(blocks.shown("ins", known), {names: known.vectors[4], numbers: [1, 1, 0, 0], preset: known.presets[1]});
    assert.deepEqual(blocks.shown("1,1,0,0", known).preset, known.presets[1]);
    assert.deepEqual(blocks.shown("0.5,1", known), {names: known.vectors[2], numbers: [0.5, 1], preset: null});
    for (const text of ["1,0,1", "nothing", "1,R,1,1"]) assert.equal(blocks.shown(text, known), null, text);
    assert.equal(blocks.shown("INS", null), null);
});

test("blocks of one part stand together", () => {
    assert.deepEqual(blocks.groups(known.vectors[4]).map(({label, places}) => [label, ...places]), [["BASE", 0], ["IN", 1, 2], ["OUT", 3]]);
});

test("a silenced block has its number again, and all together the text as it was typed", () => {
    const {Silencer} = globalThis.loraLib;
    const shown = (text) => blocks.shown(text, known);
    for (const [typed, back] of [["", null], ["ALL", "ALL"], ["1, 0.5,1,1", "1, 0.5,1,1"]]) {
        const silencer = new Silencer();
        silencer.see(typed, shown(typed));
        const silent = silencer.text(silencer.toggled(shown(typed), "IN01"));
        assert.equal(blocks.read(silent)[1], 0);
        silencer.see(silent, shown(silent));
        const other = silencer.text(silencer.toggled(shown(silent), "OUT03"));
        silencer.see(other, shown(other));
        const one = silencer.text(silencer.toggled(shown(other), "IN01"));
        silencer.see(one, shown(one));
        assert.equal(silencer.text(silencer.toggled(shown(one), "OUT03")), back);
    }
});

test("what somebody else has written meanwhile is what one comes back to", () => {
    const silencer = new globalThis.loraLib.Silencer();
    silencer.see("", blocks.shown("", known));
    silencer.text([0, 1, 1, 1]);
    silencer.see("INS", blocks.shown("INS", known));
    assert.equal(silencer.text([1, 1, 0, 0]), "INS");
    assert.equal(silencer.text([1, 1, 1, 1]), "1,1,1,1");
});

test("a list that does not name a block is written for all of them, with 0 for what it did not name", () => {
    const numbers = blocks.widened(blocks.shown("0.5,1,1,0", known), known, "IN00").numbers;
    assert.deepEqual(numbers, [0.5, 0, 1, 1, 0]);
    const same = blocks.shown("INS", known);
    assert.equal(blocks.widened(same, known, "IN01"), same);
    assert.equal(blocks.widened(same, known, "nowhere"), null);
});
