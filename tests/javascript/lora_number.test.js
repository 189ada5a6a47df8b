"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");

const lib = globalThis.loraLib;

test("weights are written as people write them", () => {
    assert.deepEqual([0.00001, 1e-7, 1e21, -0, 1 / 3].map(lib.number.write), ["0.00001", "0.0000001", "1000000000000000000000", "0", "0.333333"]);
    assert.deepEqual(["0.8", "０．８", ".5", "+1", "1e-05", "0_8", "08", "1e3", "inf", "0x1", "٠", ""].map(lib.number.readField),
        [0.8, 0.8, 0.5, 1, 0.00001, null, null, null, null, null, null, null]);
});
