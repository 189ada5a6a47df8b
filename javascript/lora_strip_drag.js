// Rows that change places by mouse, finger or pen, by a handle. Who types meanwhile keeps caret and focus: the handle never
// takes them, and a drag ends without effect when the rows change under it.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Where row `from` lands when it is moved by `dy`: `rows` are [{top, height}] from top to bottom. Another row makes room
    // when the edge that goes first passes its middle.
    function landing(rows, from, dy) {
        const top = rows[from].top + dy;
        const bottom = top + rows[from].height;
        const middle = (row) => row.top + row.height / 2;
        let place = from;
        while (dy > 0 && place + 1 < rows.length && bottom > middle(rows[place + 1])) place += 1;
        while (dy < 0 && place > 0 && top < middle(rows[place - 1])) place -= 1;
        return place;
    }

    // How far each row stands aside while row `from` is above place `to`.
    function shifts(rows, from, to) {
        const gap = rows.length > 1 ? rows[1].top - rows[0].top - rows[0].height : 0;
        const way = rows[from].height + gap;
        return rows.map((_, n) => {
            if (n > from && n <= to) return -way;
            return n < from && n >= to ? way : 0;
        });
    }

    // `elements()`: the rows now; `row`: the one that the handle moves; `moved(from, to)`: it was dropped elsewhere.
    // Returns a function that ends a drag without effect.
    function dragBy(handle, row, {elements, moved}) {
        let drag = null;

        function begin(event) {
            if (event.button !== 0 || drag) return;
            event.preventDefault();  // no focus, no selection, no scrolling
            const all = elements();
            const from = all.indexOf(row);
            if (from < 0 || all.length < 2) return;
            const rows = all.map((each) => ({top: each.offsetTop, height: each.offsetHeight}));
            drag = {all, rows, from, to: from, start: event.clientY};
            handle.setPointerCapture(event.pointerId);
            row.classList.add("lora-dragged");
            row.parentElement.classList.add("lora-dragging");
            addEventListener("keydown", escape, true);
        }

        function go(event) {
            if (!drag) return;
            const {all, rows, from, start} = drag;
            const [lowest, highest] = [rows[0].top - rows[from].top, rows.at(-1).top + rows.at(-1).height - rows[from].top - rows[from].height];
            const dy = Math.max(lowest, Math.min(highest, event.clientY - start));  // it is shown within the strip
            drag.to = landing(rows, from, event.clientY - start);
            const aside = shifts(rows, from, drag.to);
            all.forEach((each, n) => each.style.transform = n === from ? `translateY(${dy}px)` : aside[n] ? `translateY(${aside[n]}px)` : "");
        }

        function end() {
            if (!drag) return;
            const {from, to} = drag;
            cancel();
            if (from !== to) moved(from, to);
        }

        function cancel() {
            if (!drag) return;
            for (const each of drag.all) each.style.transform = "";
            row.classList.remove("lora-dragged");
            row.parentElement?.classList.remove("lora-dragging");
            removeEventListener("keydown", escape, true);
            drag = null;
        }

        function escape(event) {
            if (event.key !== "Escape") return;
            event.preventDefault();
            event.stopPropagation();
            cancel();
        }

        handle.addEventListener("pointerdown", begin);
        handle.addEventListener("pointermove", go);
        handle.addEventListener("pointerup", end);
        handle.addEventListener("pointercancel", cancel);
        handle.addEventListener("lostpointercapture", cancel);
        return cancel;
    }

    lib.drag = {landing, shifts, dragBy};
})();
