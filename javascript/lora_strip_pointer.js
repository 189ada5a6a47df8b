// A mouse, a finger or a pen that takes hold of something and moves it.

(function () {
    "use strict";

    const STILL = 4;  // pixels: less is a click

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // `begin(event)`: false if there is nothing to take hold of; `go(event, isMoved)` as it moves; `end(event, isMoved)` when it is let go.
    function follow(node, {begin, go, end = () => {}}) {
        let held = null;

        node.addEventListener("pointerdown", (event) => {
            if (event.button !== 0 || held || begin(event) === false) return;
            event.preventDefault();  // no selection
            held = {id: event.pointerId, x: event.clientX, y: event.clientY, isMoved: false};
            node.setPointerCapture(event.pointerId);
        });
        node.addEventListener("touchstart", (event) => held && event.preventDefault(), {passive: false});  // who holds something does not scroll
        node.addEventListener("pointermove", (event) => {
            if (held?.id !== event.pointerId) return;
            held.isMoved ||= Math.hypot(event.clientX - held.x, event.clientY - held.y) >= STILL;
            if (held.isMoved) go(event);
        });
        for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
            node.addEventListener(name, (event) => {
                if (held?.id !== event.pointerId) return;
                const {isMoved} = held;
                held = null;
                end(event, isMoved || name !== "pointerup");
            });
        }
    }

    lib.pointer = {follow};
})();
