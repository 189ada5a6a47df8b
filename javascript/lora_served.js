// Whether there is a server for these scripts, and the one that they were written for. A WebUI loads them whatever became of
// the Python beside them: where it does not know our options, we are not registered there (another program, or a start that
// failed), and nothing begins. Where files were exchanged since the start (git pull), new scripts would talk to the old
// program: nothing begins, and that is said. The standalone page has its scripts from the program itself.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const OWN = "lora_originals";  // an option that nobody but us has
    const PAUSES = {first: 500, longest: 30000};  // milliseconds between two questions, while the server is still starting
    let waiting = null;  // callbacks; null: nobody has asked yet
    let isServed = false;

    // Call `start` as soon as it is sure that it may; perhaps never.
    function served(start) {
        if (isServed || typeof onOptionsAvailable !== "function") return start();
        if (waiting) return waiting.push(start);
        waiting = [start];
        onOptionsAvailable(() => OWN in opts && ask());
    }

    async function ask(pause = PAUSES.first) {
        const answer = await lib.api("/lora/v1").page().catch(() => null);
        if (!answer) return setTimeout(ask, pause, Math.min(2 * pause, PAUSES.longest));
        if (answer.outdated) return sayOutdated();
        isServed = true;
        for (const start of waiting) setTimeout(start, 0);
    }

    function sayOutdated() {
        for (const tab of ["txt2img", "img2img"]) {
            const text = lib.t("lib_lora was updated while the WebUI was running: start the WebUI again (\"Reload UI\" is not enough). Until then there are no strip, no marks on cards and no listing; <lora:...> tags work.");
            lib.dom.pageRoot().querySelector(`#${tab}_prompt_row`)?.after(lib.dom.element("div", {class: "lora-outdated", role: "status", text}));
        }
    }

    lib.served = served;
})();
