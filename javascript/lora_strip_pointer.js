// A mouse, a finger or a pen that takes hold of something and moves it.

(function () {
    "use strict";

    const STILL = 4;  // pixels: less is a click

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // `begin(place, target)`: false if there is nothing to take hold of; `go(place)` as it moves; `end(place, isMoved)` when it is let
    // go. A place is {x, y} on the page; where the page moves what is held (a longer prompt takes another line), the place moves too.
    function follow(node, {begin, go, end = () => {}}) {
        let held = null;

        function placeOf({clientX, clientY}) {
            const {left, top} = node.getBoundingClientRect();
            return {x: clientX + left - held.box.left, y: clientY + top - held.box.top};
        }

        node.addEventListener("pointerdown", (event) => {
            if (event.button !== 0 || held || begin({x: event.clientX, y: event.clientY}, event.target) === false) return;
            event.preventDefault();  // no selection
            held = {id: event.pointerId, x: event.clientX, y: event.clientY, box: node.getBoundingClientRect(), isMoved: false};
            node.setPointerCapture(event.pointerId);
        });
        node.addEventListener("touchstart", (event) => held && event.preventDefault(), {passive: false});  // who holds something does not scroll
        node.addEventListener("pointermove", (event) => {
            if (held?.id !== event.pointerId) return;
            held.isMoved ||= Math.hypot(event.clientX - held.x, event.clientY - held.y) >= STILL;
            if (held.isMoved) go(placeOf(event));
        });
        for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
            node.addEventListener(name, (event) => {
                if (held?.id !== event.pointerId) return;
                if (name === "lostpointercapture" && event.target !== node) return;  // a part of it had it, by itself
                const {isMoved} = held;
                const place = placeOf(event);
                held = null;
                end(place, isMoved || name !== "pointerup");
            });
        }
    }

    lib.pointer = {follow};
})();
