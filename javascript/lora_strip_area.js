// Where in the picture an adapter acts: a rectangle on a thumbnail of the picture's shape. It is drawn, moved and resized with a
// pointer, or by keys; Shift with an arrow key resizes.

(function () {
    "use strict";

    const MOST = {width: 200, height: 150};  // pixels of the thumbnail
    const STEP = 0.05;   // of an arrow key
    const PARTS = 100;   // a pointer finds hundredths

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripArea {
        // changed({area}): the argument of the tag.
        constructor(changed) {
            const {element} = lib.dom;
            this.changed = changed;
            const handle = (name, label) => element("div", {class: `lora-${name}`, tabindex: "0", role: "button", "aria-label": label, title: label, onkeydown: (event) => this.key(event, name)});
            this.corner = handle("corner", lib.t("Size of the area: arrow keys"));
            this.box = handle("area", lib.t("Area: arrow keys move it"));
            this.box.append(this.corner);
            this.thumb = element("div", {class: "lora-shape"}, this.box);
            this.feather = element("input", {
                type: "range", class: "lora-slider lora-plain", min: 0, max: 0.5, step: 0.01, "aria-label": lib.t("Soft edge"),
                oninput: () => this.write({...this.area, feather: Number(this.feather.value)}),
            });
            this.said = element("span", {class: "lora-meta"});
            const halves = lib.area.halves().map(([label, text]) => element("button", {type: "button", class: "lora-chip", text: label, "data-lora-area": text, onclick: () => this.put(text)}));
            this.element = element("div", {class: "lora-part lora-where"}, this.thumb, element("div", {class: "lora-beside"},
                element("div", {class: "lora-words"}, ...halves),
                element("label", {class: "lora-weight"}, element("span", {class: "lora-meta", text: lib.t("Soft edge")}), this.feather), this.said));
            lib.pointer.follow(this.thumb, {begin: (place, target) => this.take(place, target), go: (place) => this.drag(place)});
        }

        show({values}, {width, height}) {
            this.text = values.area?.text ?? "";
            const area = this.text ? lib.area.read(this.text) : lib.area.FULL;
            this.element.hidden = !area;
            if (!area) return;
            this.area = area;
            const scale = Math.min(MOST.width / width, MOST.height / height);
            Object.assign(this.thumb.style, {width: `${Math.round(width * scale)}px`, height: `${Math.round(height * scale)}px`});
            const percent = (value) => `${100 * value}%`;
            Object.assign(this.box.style, {left: percent(area.x), top: percent(area.y), width: percent(Math.min(area.w, 1 - area.x)), height: percent(Math.min(area.h, 1 - area.y))});
            this.box.style.setProperty("--lora-soft-edge", `${area.feather * Math.min(width, height) * scale}px`);
            if (Number(this.feather.value) !== area.feather) this.feather.value = area.feather;
            this.feather.style.setProperty("--lora-from", "0%");
            this.feather.style.setProperty("--lora-to", `${Math.min(100, 200 * area.feather)}%`);
            const pixels = [area.x * width, area.y * height, area.w * width, area.h * height].map(Math.round);
            this.said.textContent = lib.t("{w} × {h} from {x}, {y}", {x: pixels[0], y: pixels[1], w: pixels[2], h: pixels[3]});
            for (const chip of this.element.querySelectorAll("[data-lora-area]")) {
                chip.setAttribute("aria-pressed", String(chip.dataset.loraArea === lib.area.write({...area, feather: 0})));
            }
        }

        put(text) {
            this.write({...lib.area.read(text), feather: this.area.feather});
        }

        write(area) {
            this.changed({area: lib.area.write(area)});
        }

        take(place, target) {
            const part = target.closest(".lora-corner, .lora-area");
            const isCorner = part === this.corner;
            const isDrawing = !part || !isCorner && lib.area.isFull(this.area);  // a full one has nowhere to go
            this.held = {way: isCorner ? "resized" : isDrawing ? "between" : "moved", area: this.area, from: this.under(place)};
            (part ?? this.box).focus({preventScroll: true});
        }

        drag(place) {
            const {way, area, from} = this.held;
            const to = this.under(place);
            if (way === "between") return this.write(lib.area.between(from, to, area.feather));
            const by = [to[0] - from[0], to[1] - from[1]];
            this.write(way === "moved" ? lib.area.moved(area, ...by) : lib.area.resized(area, ...by));
        }

        // Shares of the picture, from its left and its top.
        under({x, y}) {
            const box = this.thumb.getBoundingClientRect();
            return [(x - box.left) / box.width, (y - box.top) / box.height].map((value) => Math.round(value * PARTS) / PARTS);
        }

        key(event, name) {
            const moves = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP]};
            if (event.altKey || event.ctrlKey || event.metaKey || !Object.hasOwn(moves, event.key)) return;
            event.preventDefault();
            event.stopPropagation();  // the corner is within the area
            const isSize = name === "corner" || event.shiftKey;
            this.write(isSize ? lib.area.resized(this.area, ...moves[event.key]) : lib.area.moved(this.area, ...moves[event.key]));
        }
    }

    lib.StripArea = StripArea;
})();
