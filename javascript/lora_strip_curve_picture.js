// The drawing of a curve: a grid, the line, its points, and what lies outside a window. It knows no tag; it tells what a pointer
// is above of.

(function () {
    "use strict";

    const HEIGHT = 148;
    const EDGE = {left: 30, right: 16, top: 10, bottom: 22};
    const HIT = 13;   // half the size of what a finger must find
    const KNOB = 6;

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripCurvePicture {
        // key(event, n), chosen(n): of a point that has the focus.
        constructor(label, {key, chosen}) {
            const {drawing} = lib.dom;
            Object.assign(this, {key, chosen, isHeld: false});
            this.grid = drawing("g", {class: "lora-grid"});
            this.fill = drawing("path", {class: "lora-under"});
            this.outside = drawing("path", {class: "lora-outside"});
            this.line = drawing("path", {class: "lora-line-of-curve"});
            this.dots = drawing("g", {});
            const moved = drawing("g", {transform: `translate(${EDGE.left} ${EDGE.top})`}, this.grid, this.fill, this.outside, this.line, this.dots);
            this.element = drawing("svg", {class: "lora-curve", role: "group", "aria-label": label, height: HEIGHT}, moved);
            new ResizeObserver(() => this.drawn && this.draw(this.drawn)).observe(this.element);
        }

        // {curve, axis, place, isFlat, window}: `place` of the point that is chosen; `window`: parts of the way [from, to].
        draw(drawn) {
            this.drawn = drawn;
            const {curve, axis, window: [from, to]} = drawn;
            const [width, height] = [this.element.clientWidth - EDGE.left - EDGE.right, HEIGHT - EDGE.top - EDGE.bottom];
            if (width <= 0) return;  // it is not seen
            this.size = {width, height};
            if (!this.isHeld) this.reached = lib.curveLine.reach(curve.points.map(({weight}) => weight));
            const path = lib.curveLine.path(curve, axis, this.reached, this.size);
            this.line.setAttribute("d", path);
            this.fill.setAttribute("d", `${path}V${this.down(0)}H0Z`);
            this.outside.setAttribute("d", `M0 0H${from * width}V${height}H0ZM${to * width} 0H${width}V${height}H${to * width}Z`);
            this.drawGrid(axis);
            this.drawPoints(drawn);
        }

        down(weight) {
            return lib.curveLine.heightOf(weight, this.reached, this.size.height);
        }

        drawGrid(axis) {
            const {width, height} = this.size;
            const lines = [0, 1].flatMap((weight) => [
                lib.dom.drawing("path", {d: `M0 ${this.down(weight)}H${width}`, class: weight ? "lora-one" : "lora-zero"}),
                label(weight, -9, this.down(weight) + 4, "end"),
            ]);
            this.grid.replaceChildren(...lines, ...axis.ends.map((at, n) => label(axis.shown(at), n * width, height + 16, n ? "end" : "start")));
        }

        drawPoints({curve, axis, place, isFlat}) {
            while (this.dots.childNodes.length > curve.points.length) this.dots.lastChild.remove();
            curve.points.forEach((point, n) => {
                const dot = this.dots.childNodes[n] ?? this.dots.appendChild(this.dot(n));
                const values = {
                    transform: `translate(${axis.fraction(point.at) * this.size.width} ${this.down(point.weight)})`,
                    class: `lora-dot${n === place ? " lora-chosen-dot" : ""}${isFlat ? " lora-ghost-dot" : ""}`,
                    "aria-label": lib.t("Point {n} of {all}", {n: n + 1, all: curve.points.length}),
                    "aria-valuenow": point.weight,
                    "aria-valuetext": lib.t("{weight} at {place}", {weight: lib.number.write(point.weight), place: axis.shown(point.at)}),
                };
                for (const [name, value] of Object.entries(values)) dot.setAttribute(name, value);
            });
        }

        dot(n) {
            const {drawing} = lib.dom;
            return drawing("g", {
                tabindex: "0", role: "slider", "aria-orientation": "vertical", "data-lora-point": n,
                onkeydown: (event) => this.key(event, n), onfocus: () => this.chosen(n),
            }, drawing("circle", {r: HIT, class: "lora-hit"}), drawing("circle", {r: KNOB, class: "lora-knob"}));
        }

        focus(n) {
            this.dots.childNodes[n]?.focus({preventScroll: true});
        }

        get hasFocus() {
            return this.dots.contains(document.activeElement);
        }

        // The point that an element belongs to; null where there is none.
        pointOf(target) {
            const dot = target.closest("[data-lora-point]");
            return dot ? Number(dot.dataset.loraPoint) : null;
        }

        // The part of the way and the weight at a place, within what is drawn.
        under({x, y}) {
            const box = this.element.getBoundingClientRect();
            const {low, high} = this.reached;
            const weight = high - (y - box.top - EDGE.top) / this.size.height * (high - low);
            return {weight: Math.min(high, Math.max(low, weight)), part: (x - box.left - EDGE.left) / this.size.width};
        }

        // While a point is held, the drawing keeps its scale.
        hold(isHeld) {
            this.isHeld = isHeld;
            if (this.drawn) this.draw(this.drawn);
        }
    }

    function label(text, x, y, anchor) {
        const node = lib.dom.drawing("text", {x, y, "text-anchor": anchor});
        node.textContent = text;
        return node;
    }

    lib.StripCurvePicture = StripCurvePicture;
})();
