"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_words.js");
require("../../javascript/lora_axis.js");

const {axis, converted} = globalThis.loraLib.axis;

test("shares, steps and noise lie on one line from the beginning of a picture to its end", () => {
    assert.deepEqual([0, 0.25, 1].map(axis("share").fraction), [0, 0.25, 1]);
    assert.deepEqual([0, 5, 20].map(axis("step", {steps: 20}).fraction), [0, 0.25, 1]);
    assert.deepEqual([14.6, 0].map(axis("sigma").fraction), [0, 1]);
    assert.ok(axis("sigma").fraction(1) > 0.5);  // most steps are made at little noise
});

test("it reaches what is typed, and a place on it is a round number", () => {
    assert.equal(axis("step", {steps: 20, positions: [35]}).last, 35);
    assert.equal(axis("step", {steps: 0, positions: [1]}).last, 2);
    assert.equal(axis("sigma", {positions: [80, Infinity]}).last, 80);
    assert.equal(axis("share").at(0.123456), 0.12);
    assert.equal(axis("step", {steps: 30}).at(0.5), 15);
    assert.equal(axis("share").at(7), 1);
});

test("another unit means about the same places", () => {
    assert.equal(converted(0.5, axis("share"), axis("step", {steps: 20})), 10);
    assert.equal(converted(10, axis("step", {steps: 20}), axis("share")), 0.5);
    const sigma = converted(0.5, axis("share"), axis("sigma"));
    assert.equal(converted(sigma, axis("sigma"), axis("share")), 0.5);
});

test("a position is told in words", () => {
    assert.deepEqual([axis("share").shown(0.25), axis("step").shown(3), axis("sigma").shown(2.5)], ["25 %", "step 3", "σ 2.5"]);
});
