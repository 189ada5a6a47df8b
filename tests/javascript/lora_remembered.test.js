"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_remembered.js");

const {remembered} = globalThis.loraLib;

// A browser's storage with what it has kept; a `full` one takes nothing more.
function storage({kept = {}, full = false} = {}) {
    globalThis.localStorage = {
        getItem: (name) => kept[name] ?? null,
        setItem: (name, text) => {
            if (full) throw new DOMException("no room", "QuotaExceededError");
            kept[name] = text;
        },
    };
}

test("what was chosen is there again", () => {
    storage();
    assert.deepEqual(remembered.get("a", {view: "grid"}), {view: "grid"});
    remembered.set("a", {view: "list"});
    assert.deepEqual(remembered.get("a", {}), {view: "list"});
    remembered.set("b", ["sd1"]);
    assert.deepEqual(remembered.get("b", []), ["sd1"]);
});

test("what is broken or of another kind counts as nothing", () => {
    storage({kept: {broken: "{", nothing: "null", list: "[1]", text: '"x"', number: "1"}});
    for (const name of ["broken", "nothing", "list", "text", "number"]) assert.deepEqual(remembered.get(name, {a: 1}), {a: 1}, name);
    for (const name of ["broken", "nothing", "text", "number"]) assert.deepEqual(remembered.get(name, []), [], name);
});

test("a full storage keeps what it has, and nobody is disturbed", () => {
    storage({kept: {a: '{"view":"grid"}'}, full: true});
    remembered.set("a", {view: "list"});
    assert.deepEqual(remembered.get("a", {}), {view: "grid"});
});

test("a forbidden storage disturbs nobody", () => {
    Object.defineProperty(globalThis, "localStorage", {configurable: true, get() {
        throw new DOMException("denied", "SecurityError");
    }});
    remembered.set("a", {view: "list"});
    assert.deepEqual(remembered.get("a", {view: "grid"}), {view: "grid"});
    delete globalThis.localStorage;
});
