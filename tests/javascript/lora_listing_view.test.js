"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_words.js");
require("../../javascript/lora_number.js");
require("../../javascript/lora_listing_view.js");

const view = globalThis.loraLib.view;
const grid = (more) => view.geometry({view: "grid", count: 10000, width: 1044, top: 0, visible: 600, ...more});

test("as many columns as fit, at least two", () => {
    assert.equal(grid().columns, 6);  // 6 * 164 + 5 * 12 = 1044
    assert.equal(grid({width: 1043}).columns, 5);
    assert.equal(grid({width: 200}).columns, 2);
    assert.equal(view.geometry({view: "list", count: 3, width: 1044, top: 0, visible: 600}).columns, 1);
});

test("only the cards in sight and two rows around them are made", () => {
    const start = grid();
    assert.equal(start.first, 0);
    assert.ok(start.last <= 36);
    const middle = grid({top: start.total / 2});
    assert.ok(middle.first > 4900 && middle.last < 5100);
    const end = grid({top: start.total - 600});
    assert.equal(end.last, 10000);
});

test("an empty listing has no height and no cards", () => {
    const none = grid({count: 0});
    assert.deepEqual([none.total, none.first, none.last], [0, 0, 0]);
});

test("cards lie in rows", () => {
    const shape = {columns: 3, width: 100, step: 200};
    assert.deepEqual(view.place(0, shape), {left: 0, top: 0});
    assert.deepEqual(view.place(5, shape), {left: 224, top: 200});
});

test("the arrow keys go where they point and stop at the borders", () => {
    const shape = {columns: 3, count: 8, page: 2};
    assert.equal(view.neighbour(4, "ArrowLeft", shape), 3);
    assert.equal(view.neighbour(0, "ArrowLeft", shape), 0);
    assert.equal(view.neighbour(1, "ArrowUp", shape), 1);
    assert.equal(view.neighbour(4, "ArrowUp", shape), 1);
    assert.equal(view.neighbour(4, "ArrowDown", shape), 7);
    assert.equal(view.neighbour(5, "ArrowDown", shape), 5);
    assert.equal(view.neighbour(4, "End", shape), 7);
    assert.equal(view.neighbour(4, "Home", shape), 0);
    assert.equal(view.neighbour(0, "PageDown", shape), 6);
    assert.equal(view.neighbour(3, "x", shape), 3);
    assert.equal(view.neighbour(0, "End", {columns: 3, count: 0, page: 1}), 0);
});

test("sizes are short", () => {
    assert.deepEqual([5, 1500, 97000, 144e6, 999.6e6, 2.5e9].map(view.fileSize), ["5 B", "1.5 kB", "97 kB", "144 MB", "1.0 GB", "2.5 GB"]);
});

test("a card says algorithm, rank and size", () => {
    const card = {algorithms: ["LoCon", "DoRA"], rank: [4, 16], size: 9.1e6};
    assert.equal(view.summary(card), "LoCon + DoRA · rank 4–16 · 9.1 MB");
    assert.equal(view.summary({algorithms: [], rank: null, size: 5}), "5 B");
});

test("a range has both its ends, in whichever direction", () => {
    assert.deepEqual(view.between(2, 5), [2, 3, 4, 5]);
    assert.deepEqual(view.between(5, 3), [3, 4, 5]);
    assert.deepEqual(view.between(4, 4), [4]);
});

test("a click inserts the tag at the preferred weight with the user's words", () => {
    assert.equal(view.promptText({tag_name: "ink", weight: null, activation_text: ""}), "<lora:ink:1>");
    assert.equal(view.promptText({tag_name: "ink", weight: 0.7, activation_text: "ink, wash"}), "<lora:ink:0.7> ink, wash");
    assert.equal(view.promptText({tag_name: "ink", weight: 0.7, activation_text: ""}, -0.5), "<lora:ink:-0.5>");
});
