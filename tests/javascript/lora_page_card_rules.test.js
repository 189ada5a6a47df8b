"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_number.js");
require("../../javascript/lora_curve.js");
require("../../javascript/lora_tag_scan.js");
require("../../javascript/lora_tags.js");
require("../../javascript/lora_tag_edits.js");
require("../../javascript/lora_words.js");
require("../../javascript/lora_page_card_rules.js");

const rules = globalThis.loraLib.cardRules;
const ink = {
    id: 1, names: ["ink", "styles/ink", "the ink one"], hash: "0123456789ab",
    family: "sd1", flavour: "", label: "SD 1.5", possible: ["sd1"], broken: "",
};
const pony = {...ink, id: 2, names: ["tail"], hash: "", family: "sdxl", flavour: "pony", label: "Pony (SDXL)", possible: ["sdxl"]};
const unknown = {...ink, id: 3, names: ["odd"], family: "unknown", label: "unknown", possible: []};
const broken = {...unknown, id: 4, names: ["half"], broken: "half.safetensors broke off"};
const sd1 = {checkpoint: {label: "SD 1.5", possible: ["sd1"]}, others: "dim", unknown: false, favorites: []};

const changed = [
    "<lora:ink:1>", "<lora:ink:-0.5>", "<lora:ink:0.5:0.7>", "<lora:ink:te=0.3:unet=-1>", "<lyco:ink:1>", "<lora: ink : 0.8 >", "<lora:ink>",
    "<lora:styles/ink:1>", "<lora:styles\\ink:1>", "<lora:./styles/ink.safetensors:1>", "<lora:the ink one:1>", "<lora:INK:1>",
    "<lora:0123456789:1>", "<lora:ink:nonsense>",
];
for (const tag of changed) {
    test(`a second click takes ${tag} out, with the words that came with it`, () => {
        assert.equal(rules.without(`a cat ${tag} two, "2"`, ink, ' two, "2"', " "), "a cat");
        assert.equal(rules.without(`a cat ${tag}`, ink, ' two, "2"', " "), "a cat");
    });
}

test("other adapters' tags stay, also those whose name begins alike", () => {
    const text = "<lora:ink2:1> <lora:people/ink:1> <lora:wink:1> <hypernet:ink:1>";
    assert.equal(rules.without(text, ink, "", " "), null);
    assert.equal(rules.without(`${text} <lora:ink:1>`, ink, "", " "), text);
});

test("every tag of the adapter goes, and only the words right behind one", () => {
    const text = "two, <lora:ink:1> two, a cat <lyco:ink:-1> dog, two";
    assert.equal(rules.without(text, ink, " two", " "), "two, a cat dog, two");
});

test("the separator of the user's settings goes with the tag, and no double comma stays", () => {
    assert.equal(rules.without("a cat, <lora:ink:1>", ink, "", ", "), "a cat");
    assert.equal(rules.without("a cat, <lora:ink:1>, b", ink, "", " "), "a cat, b");
    assert.equal(rules.without("a cat\n<lora:ink:1>\nb", ink, "", " "), "a cat\n\nb");
    assert.equal(rules.without("<lora:ink:1>", ink, "", " "), "");
});

test("a first click and a second one leave the prompt as it was", () => {
    for (const before of ["", "a cat", "a cat, ", "a cat\n", "(a:1.2) <lora:odd:1>"]) {
        for (const separator of [" ", ", ", "\n", ""]) {
            const clicked = `${before}${separator}<lora:ink:0.7> two, 2`;
            assert.equal(rules.without(clicked, ink, " two, 2", separator), before, JSON.stringify([before, separator]));
        }
    }
});

test("the words of the negative prompt go at whatever weight, signs taken as they are", () => {
    assert.equal(rules.withoutNegative("ugly (b[ad], (x):1)", "(b[ad], (x):1)", " "), "ugly");
    assert.equal(rules.withoutNegative("ugly (bad:1.3), more", "(bad:1)", " "), "ugly, more");
    assert.equal(rules.withoutNegative("ugly (worse:1)", "(bad:1)", " "), "ugly (worse:1)");
});

test("why an adapter cannot be used is said, and only where it is certain", () => {
    assert.equal(rules.reason(ink, sd1), "");
    assert.equal(rules.reason(pony, sd1), "made for Pony (SDXL), the checkpoint is SD 1.5");
    assert.equal(rules.reason({...pony, possible: ["sdxl", "sd1"]}, sd1), "");
    assert.equal(rules.reason(pony, {...sd1, checkpoint: null}), "");
    assert.equal(rules.reason(pony, {...sd1, checkpoint: {label: "unknown", possible: []}}), "");
    assert.equal(rules.reason(unknown, sd1), "");
    assert.notEqual(rules.reason(unknown, {...sd1, unknown: true}), "");
});

test("all are the same if the user wants so, but a broken file says what is wrong", () => {
    const show = {...sd1, others: "show", unknown: true};
    assert.deepEqual([ink, pony, unknown, broken].map((facts) => rules.reason(facts, show)), ["", "", "", "half.safetensors broke off"]);
});

test("favourites stand first, those that cannot be used last", () => {
    const ranks = [["", true], ["", false], ["why", true], ["why", false]].map(([why, favorite]) => rules.rank(why, favorite));
    assert.deepEqual(ranks, [0, 1, 2, 3]);
});

test("families are counted, sub-families also as what they belong to", () => {
    assert.deepEqual(rules.families([ink, pony, {...pony, flavour: "", label: "SDXL"}, unknown, broken]), [
        {value: "sdxl", label: "SDXL", count: 2}, {value: "sd1", label: "SD 1.5", count: 1}, {value: "unknown", label: "unknown", count: 1},
        {value: "pony", label: "Pony", count: 1}, {value: "broken", label: "Broken files", count: 1},
    ]);
});

test("a filter leaves what is of one of the families, and favourites if they are wanted", () => {
    const left = (chosen, favorites = []) =>
        [ink, pony, unknown, broken].filter((facts) => !rules.isOut(facts, favorites.includes(facts.id), chosen)).map((facts) => facts.id);
    assert.deepEqual(left([]), [1, 2, 3, 4]);
    assert.deepEqual(left(["sd1", "pony"]), [1, 2]);
    assert.deepEqual(left(["sdxl"]), [2]);
    assert.deepEqual(left(["unknown"]), [3]);
    assert.deepEqual(left(["broken"]), [4]);
    assert.deepEqual(left(["favorite"], [2, 3]), [2, 3]);
    assert.deepEqual(left(["favorite", "sd1"], [2, 3]), []);
});
