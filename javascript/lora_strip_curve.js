// A weight over the steps: its points are dragged, moved by keys, typed, added and taken away. A plain number is a flat line whose
// two ends can be taken hold of.

(function () {
    "use strict";

    const SMALL = 0.05;  // what an arrow key moves a weight by; the mouse too
    const LARGE = 0.25;  // with Shift

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripCurve {
        // changed(weight): a number or a curve.
        constructor(label, changed) {
            const {element, iconButton} = lib.dom;
            Object.assign(this, {changed, place: 0});
            this.picture = new lib.StripCurvePicture(label, {key: (event, n) => this.key(event, n), chosen: (n) => this.choose(n)});
            this.unit = lib.stripUnit((unit) => this.convert(unit));
            this.flat = iconButton("remove", lib.t("One weight for all steps"), () => this.changed(lib.curve.peak(this.weight)));
            this.point = new lib.StripPoint({moved: (to) => this.move(to), add: () => this.addAfter(this.place), remove: () => this.remove(this.place)});
            this.element = element("section", {class: "lora-panel", "aria-label": label},
                element("div", {class: "lora-panel-head"}, element("h4", {text: label}), this.unit, this.flat), this.picture.element, this.point.element);
            this.picture.element.addEventListener("dblclick", (event) => this.addAt(event));
            lib.pointer.follow(this.picture.element, {
                begin: (place, target) => this.take(target),
                go: (place) => this.drag(place),
                end: () => this.picture.hold(false),
            });
        }

        // scene: {steps, window}: parts of the way [from, to]
        show(weight, scene) {
            Object.assign(this, {weight, scene});
            this.draw();
        }

        draw() {
            const {curve, axis, isFlat} = this;
            this.place = Math.min(this.place, curve.points.length - 1);
            this.picture.draw({curve, axis, isFlat, place: this.place, window: this.scene.window ?? [0, 1]});
            this.unit.value = curve.unit;
            this.unit.hidden = this.flat.hidden = isFlat;
            this.point.show(curve, this.place, axis, isFlat);
        }

        get isFlat() {
            return typeof this.weight === "number";
        }

        // A number as the two ends of a flat line.
        get curve() {
            return this.isFlat ? lib.curve.make("share", [{at: 0, weight: this.weight}, {at: 1, weight: this.weight}]) : this.weight;
        }

        get axis() {
            return this.axisOf(this.curve.unit);
        }

        axisOf(unit) {
            const positions = unit === this.curve.unit ? this.curve.points.map(({at}) => at) : [];
            return lib.axis.axis(unit, {steps: this.scene.steps, positions});
        }

        choose(n) {
            this.place = n;
            this.draw();
        }

        // The chosen point elsewhere: {weight, at}.
        move({weight, at}) {
            this.changed(lib.curve.moved(this.curve, this.place, {
                weight: weight === undefined ? undefined : Math.round(weight * 1000) / 1000,
                at: at === undefined ? undefined : this.axis.limited(at),
            }));
        }

        take(target) {
            const n = this.picture.pointOf(target);
            if (n === null) return false;
            this.place = n;
            this.picture.focus(n);
            this.picture.hold(true);
        }

        drag(place) {
            const {weight, part} = this.picture.under(place);
            this.move({weight: snap(weight), at: this.axis.at(part)});
        }

        addAt(event) {
            if (this.picture.pointOf(event.target) !== null) return;
            event.preventDefault();
            const {weight, part} = this.picture.under({x: event.clientX, y: event.clientY});
            this.put(lib.curve.added(this.curve, this.axis.at(part), snap(weight)));
        }

        // One more point on the line, half way to the next one.
        addAfter(n) {
            const {curve, axis} = this;
            const other = curve.points[n + 1] ?? curve.points[n - 1];
            const here = axis.fraction(curve.points[n].at);
            const there = other ? axis.fraction(other.at) : Number(here < 0.5);
            this.put(lib.curve.added(curve, axis.at((here + there) / 2)));
        }

        put({curve, n}) {
            this.place = n;
            this.changed(curve);
            this.picture.focus(n);
        }

        remove(n) {
            if (this.isFlat) return;
            const {hasFocus} = this.picture;
            this.place = Math.max(0, n - 1);
            this.changed(lib.curve.removed(this.curve, n));
            if (hasFocus) this.picture.focus(this.place);
        }

        convert(unit) {
            const [from, to] = [this.axis, this.axisOf(unit)];
            this.changed(lib.curve.make(unit, this.curve.points.map(({at, weight}) => ({at: lib.axis.converted(at, from, to), weight}))));
        }

        key(event, n) {
            if (event.altKey || event.ctrlKey || event.metaKey) return;
            this.place = n;
            const {axis, curve: {points: {[n]: point}}} = this;
            const later = (event.shiftKey ? axis.large : axis.small) * (axis.unit === "sigma" ? -1 : 1);  // which falls
            const more = event.shiftKey ? LARGE : SMALL;
            const acts = {
                ArrowUp: () => this.move({weight: point.weight + more}), ArrowDown: () => this.move({weight: point.weight - more}),
                ArrowRight: () => this.move({at: axis.round(point.at + later)}), ArrowLeft: () => this.move({at: axis.round(point.at - later)}),
                Delete: () => this.remove(n), Backspace: () => this.remove(n),
                Enter: () => this.addAfter(n), Insert: () => this.addAfter(n), "+": () => this.addAfter(n),
            };
            if (!Object.hasOwn(acts, event.key)) return;
            event.preventDefault();
            acts[event.key]();
        }
    }

    function snap(weight) {
        return Math.round(Math.round(weight / SMALL) * SMALL * 100) / 100;
    }

    lib.StripCurve = StripCurve;
})();
