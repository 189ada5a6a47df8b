"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
for (const name of ["words", "number", "curve", "tag_scan", "tags", "tag_edits", "compare_read", "compare_plot"]) require(`../../javascript/lora_${name}.js`);

const {compareRead: read, comparePlot: plot} = globalThis.loraLib;

test("weights stand between spaces, and commas between numbers part them too", () => {
    assert.deepEqual(read.weights("0 0.5, 1"), ["0", "0.5", "1"]);
    assert.deepEqual(read.weights("0,0.5,-1"), ["0", "0.5", "-1"]);
    assert.deepEqual(read.weights(" 0@0,1@1  te=0:unet=1 "), ["0@0,1@1", "te=0:unet=1"]);
    assert.deepEqual(read.weights(""), []);
});

test("seeds are numbers or go from one to another", () => {
    assert.deepEqual(read.seeds("3, 1 5-7"), [3, 1, 5, 6, 7]);
    assert.throws(() => read.seeds("-1"), /“-1” is no seed/);
    assert.throws(() => read.seeds("1-5000"), /too many seeds/);
});

test("sizes and steps may be left open", () => {
    assert.deepEqual(read.size("512 x 768"), [512, 768]);
    assert.equal(read.size(" "), null);
    assert.throws(() => read.size("512"), /is no size/);
    assert.equal(read.steps(""), null);
    assert.equal(read.steps("16"), 16);
    assert.throws(() => read.steps("many"), /is no number of steps/);
});

test("the page's prompt comes without the tags of what is compared, on one line", () => {
    assert.equal(read.bare("a castle <lora:Ink:0.8>,\n<lora:wash:1> dusk <lora:ink:1>", ["ink"]), "a castle, <lora:wash:1> dusk");
});

test("how long it takes is said in words", () => {
    assert.deepEqual([0.2, 40, 150, 5400, 9000].map(read.duration), ["a moment", "40 s", "3 min", "90 min", "2.5 h"]);
});

test("a line of the plot has what is a number, in the order of weights", () => {
    const job = {
        adapters: [{name: "a", title: "Ink"}, {name: "b", title: "Ink"}, {name: "c", title: "Wash"}],
        weights: [{value: 1}, {value: 0}, {value: "0@0,1@1"}],
    };
    assert.deepEqual(plot.lines(job, [[8, 0, 3], [4, 0, 2], [null, 0, 1]]), [
        {name: "Ink (a)", points: [[0, 0], [1, 8]]}, {name: "Ink (b)", points: [[0, 0], [1, 4]]}]);
    assert.deepEqual(plot.ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
});
