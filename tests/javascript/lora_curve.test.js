"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_curve.js");

const {curve} = globalThis.loraLib;
const told = (weight) => weight && weight.points ? [weight.unit, ...weight.points.map(({at, weight: value}) => [at, value])] : weight;

const read = [  // [text, number or [unit, [position, weight], ...] or null]
    ["0.8", 0.8],
    ["0,8", null],
    ["0@0,1@0.5,0@1", ["share", [0, 0], [0.5, 1], [1, 0]]],
    ["0~0;1~0.5;0~1", ["share", [0, 0], [0.5, 1], [1, 0]]],
    ["0.25@0.5,1@1", ["share", [0.5, 0.25], [1, 1]]],
    ["0@5,1@6", ["step", [5, 0], [6, 1]]],
    ["1@6 , 0@5", ["step", [5, 0], [6, 1]]],
    ["1@S2,0@s14.6,0.5", ["sigma", [14.6, 0], [2, 1], [0, 0.5]]],
    ["0@0,1", ["share", [0, 0], [1, 1]]],
    ["0@3,1@8,0.5", ["step", [1, 0.5], [3, 0], [8, 1]]],
    ["1@0.5,", ["share", [0.5, 1]]],
    ["0.5,1@1", 0.5],
    ["０＠０，１＠１", ["share", [0, 0], [1, 1]]],
    ["x@0,1@1", null],
    ["0@0@1", null],
    ["0@-1,1@1", null],
    ["0@,1@1", null],
    [Array(65).fill("1@1").join(","), null],
];
for (const [text, wanted] of read) {
    test(`${text.slice(0, 40)} is ${JSON.stringify(wanted)}`, () => assert.deepEqual(told(curve.read(text)), wanted));
}

test("a curve that nobody changed is written as it was typed, another one as short as can be", () => {
    const typed = curve.read("0~0 ; 1~0.50;0~1");
    assert.equal(curve.write(typed), "0~0 ; 1~0.50;0~1");
    assert.equal(curve.write(curve.moved(typed, 1, {weight: 0.75, at: 0.4})), "0@0,0.75@0.4,0@1");
    assert.equal(curve.write(curve.moved(curve.read("0@s14.6,1@s0"), 1, {at: 10})), "0@s14.6,1@s10");
    assert.equal(curve.write(0.1 + 0.2), "0.3");
});

test("between two points the way is straight, outside it is flat, a jump counts from its place on", () => {
    const typed = curve.read("0@0.2,1@0.6,0.5@0.6");
    assert.deepEqual([0, 0.2, 0.3, 0.59999, 0.6, 1].map((at) => Number(curve.at(typed, at).toFixed(3))), [0, 0, 0.25, 1, 0.5, 0.5]);
    assert.equal(curve.at(0.7, 0.3), 0.7);
});

test("text encoders get what a curve begins with", () => {
    assert.equal(curve.first(curve.read("0.2@0,1@1")), 0.2);
    assert.equal(curve.first(curve.read("0.2@s14,1@s0")), 0.2);
    assert.equal(curve.first(0.7), 0.7);
});

test("points keep their order, and steps stay steps", () => {
    const share = curve.read("0@0,1@0.5,0@1");
    assert.deepEqual(told(curve.moved(share, 1, {at: 2})), ["share", [0, 0], [1, 1], [1, 0]]);
    assert.deepEqual(told(curve.moved(share, 1, {at: -2})), ["share", [0, 0], [0, 1], [1, 0]]);
    assert.equal(curve.write(curve.moved(curve.read("0@0,1@5"), 1, {at: 1})), "0@0,1@2");
});

test("sigma falls as time goes on", () => {
    const sigma = curve.read("0@s14,1@s4");
    assert.deepEqual([20, 14, 9, 4, 0].map((at) => curve.at(sigma, at)), [0, 0, 0.5, 1, 1]);
    assert.equal(curve.write(curve.added(sigma, 9).curve), "0@s14,0.5@s9,1@s4");
    assert.equal(curve.write(curve.moved(sigma, 1, {at: 15})), "0@s14,1@s14");
    assert.equal(curve.write(curve.moved(sigma, 0, {at: 3})), "0@s4,1@s4");
});

test("a point is added on the line and taken away again; the last one is a number", () => {
    const {curve: more, n} = curve.added(curve.read("0@0,1@1"), 0.25);
    assert.equal(n, 1);
    assert.equal(curve.write(more), "0@0,0.25@0.25,1@1");
    assert.equal(curve.write(curve.removed(more, 1)), "0@0,1@1");
    assert.equal(curve.removed(curve.read("0.4@0.5"), 0), 0.4);
    assert.equal(curve.peak(curve.read("0@0,-1@0.5,0.5@1")), -1);
});
