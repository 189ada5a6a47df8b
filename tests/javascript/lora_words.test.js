"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_words.js");

const {t} = globalThis.loraLib;

test("without a localization English comes out, with its numbers in place", () => {
    assert.equal(t("Save"), "Save");
    assert.equal(t("{n} of {all} adapters", {n: "3", all: "10"}), "3 of 10 adapters");
});

test("a localization's sentence is taken, and may put the numbers elsewhere", () => {
    globalThis.localization = {"Save": "Speichern", "{n} of {all} adapters": "von {all} Adaptern {n}"};
    assert.equal(t("Save"), "Speichern");
    assert.equal(t("{n} of {all} adapters", {n: 3, all: 10}), "von 10 Adaptern 3");
    assert.equal(t("Cancel"), "Cancel");
    delete globalThis.localization;
});

test("what is put in is not looked into again, and nothing comes from an object's own parts", () => {
    assert.equal(t("{a} and {b}", {a: "{b}", b: "<b>"}), "{b} and <b>");
    assert.equal(t("constructor"), "constructor");
    assert.equal(t("{toString}"), "{toString}");
    globalThis.localization = {"Save": ""};
    assert.equal(t("Save"), "Save");
    delete globalThis.localization;
});

test("the WebUI's template of strings to translate gets ours as they are written", () => {
    globalThis.original_lines = {};
    globalThis.translated_lines = {};
    globalThis.localization = {"{n} adapters": "{n} Adapter"};
    t("{n} adapters", {n: 3});
    t("Keys");
    assert.deepEqual(globalThis.original_lines, {"{n} adapters": 1, "Keys": 1});
    assert.deepEqual(globalThis.translated_lines, {"{n} Adapter": 1});
    delete globalThis.localization;
    delete globalThis.original_lines;
    delete globalThis.translated_lines;
});
