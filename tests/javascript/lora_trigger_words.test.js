"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_curve.js");
require("../../javascript/lora_tag_scan.js");
require("../../javascript/lora_tags.js");
require("../../javascript/lora_trigger_words.js");

const words = globalThis.loraLib.triggerWords;

test("trigger words come one by one, the user's own first, none twice", () => {
    assert.deepEqual(words.of({activation_text: "ink, wash ,", trigger_words: ["brush", "ink"]}), ["ink", "wash", "brush"]);
    assert.deepEqual(words.of({activation_text: "", trigger_words: []}), []);
});

test("trigger words go in before the tags and out again", () => {
    assert.equal(words.toggle("a castle <lora:a:1>", "ink drawing"), "a castle, ink drawing <lora:a:1>");
    assert.equal(words.toggle("a castle, ink drawing <lora:a:1>", "ink drawing"), "a castle <lora:a:1>");
    assert.equal(words.toggle("", "ink"), "ink");
    assert.equal(words.toggle("ink", "ink"), "");
    assert.equal(words.toggle("ink, a castle", "Ink"), "a castle");
    assert.equal(words.isIn("a castle, INK <lora:ink:1>", "ink"), true);
    assert.equal(words.isIn("a castle <lora:ink:1>", "ink"), false);
    assert.equal(words.toggle("a, f(x)*, b", "f(x)*"), "a, b");
});

test("a phrase with commas goes in and out as a whole", () => {
    const phrase = "hatsune miku, twintails, blue hair";
    const once = words.toggle("a castle <lora:miku:1>", phrase);
    assert.equal(once, "a castle, hatsune miku, twintails, blue hair <lora:miku:1>");
    assert.equal(words.isIn(once, phrase), true);
    assert.equal(words.toggle(once, phrase), "a castle <lora:miku:1>");
    assert.equal(words.isIn("hatsune miku,twintails ,\n Blue  Hair", phrase), true);
    assert.equal(words.isIn("hatsune miku, blue hair, twintails", phrase), false);
    assert.equal(words.isIn("hatsune miku, twintails <lora:miku:1> blue hair", phrase), false);
    assert.equal(words.toggle("day, hatsune miku, twintails, blue hair, night", phrase), "day, night");
    assert.equal(words.toggle("hatsune miku, twintails, blue hair, night", `${phrase},`), "night");
    assert.equal(words.toggle("a, ink, b, ink", "ink"), "a, b");
});

test("a word with brackets is found with and without backslashes", () => {
    const word = "asuka \\(evangelion\\)";
    const once = words.toggle("a castle", word);
    assert.equal(once, "a castle, asuka \\(evangelion\\)");
    assert.equal(words.isIn(once, word), true);
    assert.equal(words.isIn(once, "asuka (evangelion)"), true);
    assert.equal(words.isIn("a castle, Asuka (Evangelion)", word), true);
    assert.equal(words.toggle(once, word), "a castle");
});

test("a tag inside a trigger word does not get into the prompt", () => {
    assert.equal(words.toggle("a castle", "<lora:on-v3:1>, xxxx"), "a castle, xxxx");
    assert.equal(words.isIn("a castle, xxxx", "<lora:on-v3:1>, xxxx"), true);
    assert.equal(words.toggle("a castle", "<lora:on-v3:1>"), "a castle");
});

test("taking a word out leaves line ends and other spaces alone", () => {
    assert.equal(words.toggle("a  b,\nink\nc", "ink"), "a  b\nc");
    assert.equal(words.toggle("ink <lora:a:1> ink", "ink"), "<lora:a:1>");
    assert.equal(words.toggle("a castle，ink，b", "ink"), "a castle，b");
});
