"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_listing_placeholder.js");

const {placeholder, initials} = globalThis.loraLib;
const hue = (drawn) => Number(drawn.background.match(/hsl\((-?\d+) /)[1]);

test("the same name is drawn the same every time, another name differently", () => {
    assert.deepEqual(placeholder("styles/ink wash", "sd1"), placeholder("styles/ink wash", "sd1"));
    const names = Array.from({length: 500}, (_, n) => `adapter ${n}`);
    assert.equal(new Set(names.map((name) => placeholder(name, "sdxl").background)).size, 500);
});

test("an adapter has the colour of its base model, give or take", () => {
    for (let n = 0; n < 100; n += 1) {
        assert.ok(Math.abs(hue(placeholder(`a${n}`, "sd1")) - 205) <= 22);
        assert.ok(Math.abs(hue(placeholder(`a${n}`, "sdxl_refiner")) - 265) <= 22);
    }
});

test("only gradients and numbers go into the style, whatever the name", () => {
    const names = ["<script>", "url(https://x.example/)", "a;}b{", "水彩", "", "🎨", ...Array.from({length: 200}, (_, n) => `n${n}`)];
    for (const name of names) {
        for (const family of ["sd1", "unknown", "", "flux_dev"]) {
            const {background} = placeholder(name, family);
            assert.match(background, /^[-a-z0-9 .,%()/]+$/);
            assert.doesNotMatch(background.replace(/(repeating-)?(linear|radial|conic)-gradient|circle|ellipse|at|from|transparent|rgb|hsl|deg|px/g, ""), /[a-z]/);
            assert.equal(background.split("(").length, background.split(")").length);
        }
    }
});

test("initials take any script", () => {
    assert.deepEqual(["styles/ink wash", "outline", "水彩", "", "🎨"].map(initials), ["iw", "ou", "水彩", "?", "?"]);
});
