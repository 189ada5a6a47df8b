// A part of a picture, `area=0,0,0.5,1`: from its left, from its top, its width, its height in shares of the picture, and how
// soft its edge is.

(function () {
    "use strict";

    const FULL = {x: 0, y: 0, w: 1, h: 1, feather: 0};
    const LEAST = 0.05;  // of a side

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Null if it is no area.
    function read(text) {
        const [x, y, w, h, feather = 0, ...more] = text.split(/[,;]/).map((part) => lib.number.read(part.trim()));
        if ([x, y, w, h, feather].some((number) => number === null || !(number >= 0)) || w === 0 || h === 0 || more.length) return null;
        return {x, y, w, h, feather};
    }

    function write({x, y, w, h, feather}) {
        return [x, y, w, h, ...(feather ? [feather] : [])].map((number) => lib.number.write(number)).join(",");
    }

    function moved(area, dx, dy) {
        return {...area, x: limited(area.x + dx, 0, 1 - area.w), y: limited(area.y + dy, 0, 1 - area.h)};
    }

    function resized(area, dw, dh) {
        return {...area, w: limited(area.w + dw, LEAST, 1 - area.x), h: limited(area.h + dh, LEAST, 1 - area.y)};
    }

    // [[name, text], ...]
    function halves() {
        return [[lib.t("left half"), "0,0,0.5,1"], [lib.t("right half"), "0.5,0,0.5,1"], [lib.t("top half"), "0,0,1,0.5"], [lib.t("bottom half"), "0,0.5,1,0.5"]];
    }

    // In a few words.
    function told(area) {
        const text = write({...area, feather: 0});
        return halves().find(([, half]) => half === text)?.[0] ?? `${Math.round(area.w * 100)} × ${Math.round(area.h * 100)} %`;
    }

    // Between two corners, whichever is the first.
    function between([x1, y1], [x2, y2], feather = 0) {
        const [left, right, top, bottom] = [Math.min(x1, x2), Math.max(x1, x2), Math.min(y1, y2), Math.max(y1, y2)].map((value) => limited(value, 0, 1));
        return {x: left, y: top, w: Math.max(LEAST, right - left), h: Math.max(LEAST, bottom - top), feather};
    }

    function isFull({x, y, w, h}) {
        return x === 0 && y === 0 && w >= 1 && h >= 1;
    }

    function limited(value, low, high) {
        return rounded(Math.max(low, Math.min(high, value)));
    }

    function rounded(value) {
        return Math.round(value * 1000) / 1000;
    }

    lib.area = {FULL, read, write, moved, resized, between, isFull, halves, told};
})();
