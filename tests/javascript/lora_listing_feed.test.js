"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
require("../../javascript/lora_listing_feed.js");

const {Feed} = globalThis.loraLib;
const pause = (ms) => new Promise((go) => setTimeout(go, ms));

// A server of 250 cards; `asked` are the queries that came, `late` makes an answer slow.
function server({late = {}, fail = {}} = {}) {
    const asked = [];
    return {asked, list: async (query) => {
        const given = new URLSearchParams(query);
        asked.push(String(query));
        const [q, offset, limit] = [given.get("q"), Number(given.get("offset")), Number(given.get("limit") ?? 100)];
        if (late[q]) await pause(late[q]);
        if (fail[q]) throw new Error("no");
        if (given.get("ids")) return {ids: Array.from({length: 250}, (_, n) => n)};
        const items = Array.from({length: Math.max(0, Math.min(limit, 250 - offset))}, (_, n) => ({id: offset + n, q}));
        return {total: 250, installed: 250, items, facets: {}};
    }};
}

function feed(api) {
    const made = new Feed(api, {came: () => made.times = (made.times ?? 0) + 1, failed: (error) => made.problem = error.message});
    return made;
}

test("the first page comes with the question, the others when they are in sight", async () => {
    const api = server();
    const made = feed(api);
    await made.ask({q: "a", sort: "newest", chosen: {family: ["sd1", "sdxl"], tag: []}});
    assert.equal(api.asked[0], "q=a&sort=newest&family=sd1&family=sdxl&offset=0&limit=100");
    assert.deepEqual([made.count, made.card(7).id, made.card(99).id], [250, 7, 99]);
    await made.ask({q: "a", reverse: true});
    assert.equal(api.asked.pop(), "q=a&sort=name&reverse=1&offset=0&limit=100");
    made.look({first: 110, last: 140});
    assert.equal(made.card(110), null);
    await pause(80);
    assert.equal(made.card(110).id, 110);
    assert.equal(api.asked.length, 2);
    assert.equal(made.times, 1);
});

test("the page below comes before it is in sight, and none after the last", async () => {
    const api = server();
    const made = feed(api);
    await made.ask({});
    made.look({first: 20, last: 50});
    await pause(80);
    assert.equal(api.asked.length, 1);
    made.look({first: 40, last: 70});
    await pause(80);
    assert.equal(made.card(100).id, 100);
    made.look({first: 230, last: 250});
    await pause(80);
    made.look({first: 235, last: 250});
    await pause(80);
    assert.deepEqual(api.asked.map((query) => new URLSearchParams(query).get("offset")), ["0", "100", "200"]);
});

test("pages that were only flown over are not asked for", async () => {
    const api = server();
    const made = feed(api);
    await made.ask({});
    made.look({first: 100, last: 130});
    made.card(100);
    made.look({first: 200, last: 230});
    made.card(200);
    await pause(80);
    assert.deepEqual(api.asked.map((query) => new URLSearchParams(query).get("offset")), ["0", "200"]);
});

test("the answer to an older question is dropped, and an error leaves the cards that are there", async () => {
    const made = feed(server({late: {slow: 60}, fail: {bad: true}}));
    const old = made.ask({q: "slow"});
    await made.ask({q: "quick"});
    assert.equal(await old, null);
    assert.equal(made.card(0).q, "quick");
    assert.equal(await made.ask({q: "bad"}), null);
    assert.equal(made.problem, "no");
    assert.equal(made.card(0).q, "quick");
});

test("cards are exchanged in place, and found by their ids", async () => {
    const made = feed(server());
    await made.ask({q: "x"});
    made.replace([{id: 42, favorite: true}, {id: 9999}]);
    assert.equal(made.card(42).favorite, true);
    assert.deepEqual([made.find(42), made.find(9999)], [42, -1]);
    assert.equal((await made.ids()).length, 250);
});
