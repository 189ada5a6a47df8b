"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const path = require.resolve("../../javascript/lora_served.js");
const pause = (ms) => new Promise((go) => setTimeout(go, ms));

// A page whose server gives these answers one after the other; `options` are those of the program.
function page({options, answers}) {
    delete require.cache[path];
    const said = [];
    const asked = [];
    const row = {after: (element) => said.push(element.text)};
    globalThis.opts = options;
    globalThis.onOptionsAvailable = (callback) => setTimeout(callback, 0);
    globalThis.loraLib = {
        t: (text) => text,
        dom: {pageRoot: () => ({querySelector: () => row}), element: (_, {text}) => ({text})},
        api: () => ({page: async () => {
            asked.push("page");
            const answer = answers.shift();
            if (answer instanceof Error) throw answer;
            return answer;
        }}),
    };
    require(path);
    const started = [];
    for (const name of ["one", "two"]) globalThis.loraLib.served(() => started.push(name));
    return {started, said, asked};
}

test("where our options are unknown nothing starts and nothing is asked", async () => {
    const {started, said, asked} = page({options: {sd_lora: "None"}, answers: []});
    await pause(30);
    assert.deepEqual([started, said, asked], [[], [], []]);
});

test("everything starts once the server has answered, asked once", async () => {
    const {started, asked} = page({options: {lora_originals: "auto"}, answers: [{outdated: false}]});
    assert.deepEqual(started, []);
    await pause(30);
    assert.deepEqual([started, asked], [["one", "two"], ["page"]]);
    globalThis.loraLib.served(() => started.push("late"));
    assert.equal(started.at(-1), "late");
});

test("scripts that are newer than the server say so instead of starting", async () => {
    const {started, said} = page({options: {lora_originals: "auto"}, answers: [{outdated: true}]});
    await pause(30);
    assert.deepEqual(started, []);
    assert.equal(said.length, 2);
    assert.match(said[0], /start the WebUI again/);
});

test("a server that is still starting is asked again", async () => {
    const {started} = page({options: {lora_originals: "auto"}, answers: [new Error("404"), {outdated: false}]});
    await pause(700);
    assert.deepEqual(started, ["one", "two"]);
});

test("the standalone page needs nobody's leave", () => {
    delete globalThis.onOptionsAvailable;
    delete require.cache[path];
    require(path);
    const started = [];
    globalThis.loraLib.served(() => started.push("one"));
    assert.deepEqual(started, ["one"]);
});
