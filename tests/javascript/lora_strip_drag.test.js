"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_strip_drag.js");

const {landing, shifts} = globalThis.loraLib.drag;
const rows = [{top: 0, height: 40}, {top: 46, height: 40}, {top: 92, height: 80}];  // gaps of 6

test("a row takes another's place when its edge passes the other's middle", () => {
    assert.equal(landing(rows, 0, 0), 0);
    assert.equal(landing(rows, 0, 26), 0);   // exactly on the middle: not yet
    assert.equal(landing(rows, 0, 27), 1);
    assert.equal(landing(rows, 0, 93), 2);
    assert.equal(landing(rows, 2, -27), 1);
    assert.equal(landing(rows, 2, -500), 0);
    assert.equal(landing(rows, 1, 5), 1);
});

test("the rows between make room by the height of the one that is moved", () => {
    assert.deepEqual(shifts(rows, 0, 2), [0, -46, -46]);
    assert.deepEqual(shifts(rows, 2, 0), [86, 86, 0]);
    assert.deepEqual(shifts(rows, 1, 1), [0, 0, 0]);
    assert.deepEqual(shifts([{top: 0, height: 10}], 0, 0), [0]);
});
