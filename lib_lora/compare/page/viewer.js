// The viewer: one picture or two, large; side by side, in turn, or their difference. Zoom and place are shared by all panes.

(function () {
    "use strict";

    const report = (globalThis.report = globalThis.report || {});
    const LEAST = 0.1, MOST = 32, SLOWEST = 1500;

    function viewer(dialog) {
        let items = [], mode = "side", zoom = 1, x = 0, y = 0, timer = 0, shown = 0, pace = 500, panes = null, frames = [], pointers = new Map();

        dialog.tabIndex = -1;

        function open(chosen, how) {
            items = chosen;
            mode = items.length > 1 ? how : "side";
            build();
            if (!dialog.open) dialog.showModal();
            dialog.focus();
            fit();
        }

        function build() {
            clearInterval(timer);
            timer = 0;
            dialog.replaceChildren();
            const bar = tag("div", "bar");
            if (items.length > 1) {
                for (const [name, label] of [["side", "Side by side"], ["flicker", "Flicker"], ["difference", "Difference"]]) {
                    const button = press(label, () => { mode = name; build(); place(); });
                    button.setAttribute("aria-pressed", String(mode === name));
                    bar.append(button);
                }
            }
            if (mode === "flicker") {
                const label = tag("label", "", "Speed");
                const range = Object.assign(document.createElement("input"), {type: "range", min: 100, max: SLOWEST, step: 50, value: SLOWEST + 100 - pace});
                range.addEventListener("input", () => { pace = SLOWEST + 100 - Number(range.value); if (timer) run(); });
                label.append(range);
                bar.append(label, Object.assign(press("Halt", halt), {id: "halt", title: "Space"}));
            }
            bar.append(tag("span", "grow"), Object.assign(press("−", () => by(1 / 1.5)), {title: "-"}), Object.assign(press("Fit", fit), {title: "0"}),
                Object.assign(press("1:1", () => to(1)), {title: "1"}), Object.assign(press("+", () => by(1.5)), {title: "+"}),
                Object.assign(press("Close", () => dialog.close()), {title: "Esc"}));
            panes = tag("div", "panes");
            frames = [];
            if (mode === "side") {
                panes.classList.toggle("both", items.length > 1);
                for (const item of items) panes.append(pane([picture(item)], item.name));
            } else if (mode === "flicker") {
                panes.append(pane(items.map(picture), ""));
                run();
            } else {
                panes.append(pane([difference()], `${items[0].name} — ${items[1].name}, four times`));
            }
            dialog.append(bar, panes);
            if (dialog.open) dialog.focus();  // the button that was pressed is gone, and the keys are the dialog's
        }

        function pane(pictures, name) {
            const made = tag("div", "pane");
            made.append(tag("div", "name", name), ...pictures);
            frames.push(...pictures);
            made.addEventListener("wheel", (event) => { event.preventDefault(); by(event.deltaY < 0 ? 1.15 : 1 / 1.15); }, {passive: false});
            made.addEventListener("pointerdown", (event) => { made.setPointerCapture(event.pointerId); pointers.set(event.pointerId, event); });
            made.addEventListener("pointermove", move);
            for (const end of ["pointerup", "pointercancel"]) made.addEventListener(end, (event) => pointers.delete(event.pointerId));
            made.addEventListener("dblclick", () => (zoom > 1.01 * fitting() ? fit() : by(3)));
            return made;
        }

        function move(event) {
            const before = pointers.get(event.pointerId);
            if (!before) return;
            if (pointers.size === 1) {
                x += event.clientX - before.clientX;
                y += event.clientY - before.clientY;
            } else {
                const other = [...pointers.values()].find((each) => each.pointerId !== event.pointerId);
                const span = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
                zoom = Math.min(Math.max(zoom * span(event) / (span(before) || 1), LEAST), MOST);
            }
            pointers.set(event.pointerId, event);
            place();
        }

        function picture(item) {
            const image = new Image();
            image.src = item.source;
            image.alt = item.name;
            image.draggable = false;
            image.addEventListener("load", place);
            return image;
        }

        function difference() {
            const canvas = document.createElement("canvas");
            Promise.all(items.map((item) => { const image = new Image(); image.src = item.source; return image.decode().then(() => image); })).then((images) => {
                canvas.width = images[0].naturalWidth;
                canvas.height = images[0].naturalHeight;
                const pen = canvas.getContext("2d", {willReadFrequently: true});
                const [one, other] = images.map((image) => { pen.drawImage(image, 0, 0, canvas.width, canvas.height); return pen.getImageData(0, 0, canvas.width, canvas.height); });
                for (let at = 0; at < one.data.length; at++) if (at % 4 !== 3) one.data[at] = Math.min(Math.abs(one.data[at] - other.data[at]) * 4, 255);
                pen.putImageData(one, 0, 0);
                place();
            });
            return canvas;
        }

        function run() {
            clearInterval(timer);
            timer = setInterval(() => { shown = 1 - shown; place(); }, pace);
            place();
        }

        function halt() {
            if (mode !== "flicker") return;
            if (timer) { clearInterval(timer); timer = 0; } else run();
            dialog.querySelector("#halt").textContent = timer ? "Halt" : "Go on";
        }

        function size() {
            const first = frames[0];
            return [first?.naturalWidth || first?.width || 1, first?.naturalHeight || first?.height || 1];
        }

        function fitting() {
            const box = panes.firstElementChild.getBoundingClientRect(), [width, height] = size();
            return Math.min(box.width / width, box.height / height) * 0.98;
        }

        function fit() { x = y = 0; to(fitting()); }
        function by(factor) { to(zoom * factor); }
        function to(value) {
            const next = Math.min(Math.max(value, LEAST), MOST);
            x *= next / zoom;
            y *= next / zoom;
            zoom = next;
            place();
        }

        function place() {
            const [width, height] = size();
            if (zoom === LEAST || !width) return;
            frames.forEach((frame, number) => {
                frame.style.transform = `translate(${x - width * zoom / 2}px, ${y - height * zoom / 2}px) scale(${zoom})`;
                frame.classList.toggle("sharp", zoom > 2.5);
                if (mode === "flicker") frame.style.visibility = number === shown ? "visible" : "hidden";
            });
            if (mode === "flicker") panes.querySelector(".name").textContent = `${"AB"[shown]}: ${items[shown].name}`;
        }

        dialog.addEventListener("keydown", (event) => {
            const key = event.key.toLowerCase();
            const act = {"+": () => by(1.5), "=": () => by(1.5), "-": () => by(1 / 1.5), 0: fit, 1: () => to(1), " ": () => (timer || mode === "flicker") && halt()}[key];
            const modes = {s: "side", f: "flicker", d: "difference"};
            if (event.target.type === "range") return;
            if (act) { event.preventDefault(); act(); }
            if (modes[key] && items.length > 1) { mode = modes[key]; build(); place(); }
            if (key.startsWith("arrow")) {
                event.preventDefault();
                x += {arrowleft: 40, arrowright: -40}[key] || 0;
                y += {arrowup: 40, arrowdown: -40}[key] || 0;
                place();
            }
            event.stopPropagation();
        });
        dialog.addEventListener("close", () => { clearInterval(timer); timer = 0; });
        addEventListener("resize", () => { if (dialog.open) fit(); });
        return {open};
    }

    function tag(name, kind = "", text = "") {
        const made = document.createElement(name);
        if (kind) made.className = kind;
        if (text) made.textContent = text;
        return made;
    }

    function press(label, act) {
        const button = tag("button", "", label);
        button.type = "button";
        button.addEventListener("click", act);
        return button;
    }

    Object.assign(report, {viewer, tag, press});
})();
