"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const FOLDER = path.join(__dirname, "../../javascript");

// A page that is still loading, in the WebUI; whoever asks for what another script shares is too early.
function page() {
    const shared = new Proxy({}, {get(mine, name) {
        if (name in mine) return mine[name];
        throw new Error(`lib.${String(name)} is not here yet`);
    }});
    const later = () => {};
    return vm.createContext({
        loraLib: shared, document: {readyState: "loading", addEventListener: later}, addEventListener: later, setTimeout: later,
        cardClicked: later, extraNetworksRefreshSingleCard: later, uiAfterScriptsCallbacks: [], onOptionsAvailable: later,
    });
}

for (const name of fs.readdirSync(FOLDER)) {
    test(`${name} may be the first script that is loaded`, () => {
        vm.runInContext(fs.readFileSync(path.join(FOLDER, name), "utf8"), page());
    });
}

test("a script that uses another one while it is loaded is seen", () => {
    const script = "const lib = (globalThis.loraLib = globalThis.loraLib || {}); lib.mount();";
    assert.throws(() => vm.runInContext(script, page()), /lib\.mount is not here yet/);
});
