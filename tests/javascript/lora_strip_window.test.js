"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
for (const name of ["number", "words", "curve", "axis", "strip_window", "area"]) require(`../../javascript/lora_${name}.js`);

const {stripWindow: windows, area} = globalThis.loraLib;
const values = (given) => Object.fromEntries(Object.entries(given).map(([key, text]) => [key, {text}]));

const read = [  // [arguments, [unit, start, stop], arguments as they are written again]
    [{}, ["share", null, null], {start: null, stop: null}],
    [{start: "0.2"}, ["share", 0.2, null], {start: "0.2", stop: null}],
    [{start: "0", stop: "1"}, ["share", 0, 1], {start: null, stop: null}],
    [{start: "3", stop: "12"}, ["step", 3, 12], {start: "3", stop: "12"}],
    [{start: "s10", stop: "s1.5"}, ["sigma", 10, 1.5], {start: "s10", stop: "s1.5"}],
    [{step: "5-10"}, ["step", 5, 10], {step: "5-10"}],
    [{step: "0.25-0.5"}, ["share", 0.25, 0.5], {step: "0.25-0.5"}],
    [{step: "5-"}, ["step", 5, null], {step: null, start: "5", stop: null}],
    [{step: "5"}, ["step", 5, null], {step: null, start: "5", stop: null}],
];
for (const [given, [unit, start, stop], written] of read) {
    test(`the window ${JSON.stringify(given)} is from ${start} to ${stop}, in ${unit}`, () => {
        const found = windows.read(values(given));
        assert.deepEqual(found, {unit, start, stop});
        assert.deepEqual(windows.written(found, {steps: 20, isRange: "step" in given}), written);
    });
}

test("a window that cannot be read is left alone", () => {
    for (const given of [{start: "x"}, {stop: "-1"}, {step: "a-b"}]) assert.equal(windows.read(values(given)), null);
});

test("step numbers stay step numbers", () => {
    assert.deepEqual(windows.written({unit: "step", start: null, stop: 1}, {steps: 20}), {start: null, stop: "2"});
    assert.deepEqual(windows.written({unit: "step", start: 1, stop: null}, {steps: 20}), {start: "2", stop: null});
    assert.deepEqual(windows.written({unit: "step", start: 1, stop: 9}, {steps: 20}), {start: "1", stop: "9"});
    assert.deepEqual(windows.written({unit: "step", start: 1, stop: 20}, {steps: 20}), {start: "2", stop: null});
});

test("the parts of the way between which it is active", () => {
    assert.deepEqual(windows.parts({unit: "step", start: 5, stop: null}, 20), [0.25, 1]);
    assert.deepEqual(windows.parts({unit: "sigma", start: null, stop: 0}, 20), [0, 1]);
});

test("an area is read, written, moved and resized within the picture", () => {
    assert.deepEqual(area.read("0, 0;0.5,１"), {x: 0, y: 0, w: 0.5, h: 1, feather: 0});
    assert.equal(area.write(area.read("0.25,0,0.5,1,0.1")), "0.25,0,0.5,1,0.1");
    for (const text of ["", "0,0,1", "0,0,0,1", "0,0,-1,1", "0,0,x,1", "0,0,1,1,0,0"]) assert.equal(area.read(text), null, text);
    const left = area.read("0,0,0.5,1");
    assert.equal(area.write(area.moved(left, 0.3, 0.3)), "0.3,0,0.5,1");
    assert.equal(area.write(area.moved(left, 0.9, -1)), "0.5,0,0.5,1");
    assert.equal(area.write(area.resized(left, 0.9, -0.5)), "0,0,1,0.5");
    assert.equal(area.write(area.resized(left, -9, 0)), "0,0,0.05,1");
    assert.equal(area.write(area.between([0.8, 0.9], [0.2, 0.1])), "0.2,0.1,0.6,0.8");
    assert.deepEqual([area.told(left), area.told(area.read("0,0,0.25,0.5"))], ["left half", "25 × 50 %"]);
});
