// When an adapter acts: a line with two ends, from where and up to where.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const ENDS = ["start", "stop"];

    class StripRange {
        // changed({start, stop, step}): arguments of the tag, null for none.
        constructor(changed) {
            const {element} = lib.dom;
            Object.assign(this, {changed, idle: "share"});  // the unit as long as nothing is typed
            this.unit = lib.stripUnit((unit) => this.convert(unit));
            this.ends = Object.fromEntries(ENDS.map((end) => [end, element("div", {
                class: "lora-end", role: "slider", tabindex: "0", "data-lora-end": end, "aria-valuemin": "0", "aria-valuemax": "100",
                "aria-label": end === "start" ? lib.t("Acts from") : lib.t("Acts until"), onkeydown: (event) => this.key(event, end),
            })]));
            this.track = element("div", {class: "lora-range"}, element("span", {class: "lora-range-line"}), this.ends.start, this.ends.stop);
            this.said = element("span", {class: "lora-meta"});
            this.element = element("div", {class: "lora-part"}, this.track, element("div", {class: "lora-point"}, this.said, element("span", {class: "lora-gap"}), this.unit));
            lib.pointer.follow(this.track, {
                begin: (place, target) => this.take(place, target),
                go: (place) => this.set(this.taken, this.axis.at(this.under(place))),
                end: (place, isMoved) => isMoved || this.isEnd || this.set(this.taken, this.axis.at(this.under(place))),
            });
        }

        show({values}, {steps}) {
            const window = lib.stripWindow.read(values);
            this.element.hidden = !window;
            if (!window) return;
            const isIdle = window.start === null && window.stop === null;
            this.window = isIdle ? {...window, unit: this.idle} : window;
            Object.assign(this, {values, steps, isIdle, axis: lib.stripWindow.axisOf(this.window, steps)});
            const shown = lib.stripWindow.parts(this.window, steps);
            this.unit.value = this.window.unit;
            ENDS.forEach((end, n) => {
                this.track.style.setProperty(`--lora-${end}`, `${100 * shown[n]}%`);
                this.ends[end].setAttribute("aria-valuenow", String(Math.round(100 * shown[n])));
                this.ends[end].setAttribute("aria-valuetext", this.axis.shown(this.at(end)));
            });
            this.said.textContent = lib.t("from {start} until {stop}", {start: this.axis.shown(this.at("start")), stop: this.axis.shown(this.at("stop"))});
        }

        at(end) {
            return this.window[end] ?? this.axis.ends[ENDS.indexOf(end)];
        }

        set(end, at) {
            const {axis} = this;
            const other = this.at(end === "start" ? "stop" : "start");
            const isLater = axis.fraction(at) > axis.fraction(other);
            this.write({...this.window, [end]: isLater === (end === "start") ? other : at});  // none overtakes the other
        }

        write(window) {
            this.changed(lib.stripWindow.written(window, {steps: this.steps, isRange: Boolean(this.values.step)}));
        }

        take(place, target) {
            const end = target.closest("[data-lora-end]");
            this.isEnd = Boolean(end);
            this.taken = end?.dataset.loraEnd ?? this.nearest(this.under(place));
            this.ends[this.taken].focus({preventScroll: true});
        }

        nearest(part) {
            const [start, stop] = lib.stripWindow.parts(this.window, this.steps);
            return Math.abs(part - start) <= Math.abs(part - stop) ? "start" : "stop";
        }

        under({x}) {
            const box = this.track.getBoundingClientRect();
            return (x - box.left) / box.width;
        }

        convert(unit) {
            this.idle = unit;
            if (this.isIdle) return this.show({values: this.values}, {steps: this.steps});
            const to = lib.axis.axis(unit, {steps: this.steps});
            const [start, stop] = ENDS.map((end) => this.window[end] === null ? null : lib.axis.converted(this.window[end], this.axis, to));
            this.write({unit, start, stop});
        }

        key(event, end) {
            if (event.altKey || event.ctrlKey || event.metaKey) return;
            const {axis} = this;
            const by = (event.shiftKey ? axis.large : axis.small) * (axis.unit === "sigma" ? -1 : 1);
            const moves = {ArrowRight: by, ArrowUp: by, ArrowLeft: -by, ArrowDown: -by};
            if (!Object.hasOwn(moves, event.key)) return;
            event.preventDefault();
            this.set(end, axis.round(axis.limited(this.at(end) + moves[event.key])));
        }
    }

    lib.StripRange = StripRange;
})();
