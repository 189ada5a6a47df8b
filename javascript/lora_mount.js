// Elements of ours in a page that makes and throws away its elements as it likes (both versions of Gradio do): each is handed
// on once, whenever it appears. Nothing begins before the page is there, and not where `lib.served` says that nothing may.

(function () {
    "use strict";

    const PAUSE = 50;  // milliseconds between a change of the page and the look at it

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const mounts = [];
    let isLooking = false;

    // Every element that `selector` finds, now or later, is handed to `start` once.
    function mount(selector, start) {
        mounts.push([selector, start]);
        if (isLooking) mountAll();
    }

    function mountAll() {
        for (const [selector, start] of mounts) {
            for (const element of lib.dom.pageRoot().querySelectorAll(`${selector}:not([data-lora-mounted])`)) {
                element.setAttribute("data-lora-mounted", "");
                start(element);
            }
        }
    }

    function look() {
        let waiting = false;
        const soon = () => {
            if (waiting) return;
            waiting = true;
            setTimeout(() => {
                waiting = false;
                mountAll();
            }, PAUSE);
        };
        new MutationObserver(soon).observe(document.documentElement, {childList: true, subtree: true});
        isLooking = true;
        mountAll();
    }

    lib.mount = mount;
    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);
    function start() {
        lib.served(look);
    }
})();
