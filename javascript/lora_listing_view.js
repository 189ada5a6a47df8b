// What the listing computes without a page: geometry of the virtual grid, texts of a card.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const MIN_CARD = 164;  // pixels
    const GAP = 12;
    const CAPTION = 86;    // below the picture
    const ROW = 64;        // height of a line of the list

    // Where cards lie: {count, columns, width, height, step, total, first, last}; `first` to `last` (exclusive) are to be shown.
    function geometry({view, count, width, top, visible, overscan = 2}) {
        const isList = view === "list";
        const columns = isList ? 1 : Math.max(2, Math.floor((width + GAP) / (MIN_CARD + GAP)));
        const cardWidth = (width - GAP * (columns - 1)) / columns;
        const height = isList ? ROW : Math.round(cardWidth + CAPTION);
        const step = height + (isList ? 4 : GAP);
        const rows = Math.ceil(count / columns);
        const firstRow = Math.max(0, Math.floor(top / step) - overscan);
        const lastRow = Math.min(rows, Math.ceil((top + visible) / step) + overscan);
        return {
            count, columns, width: cardWidth, height, step, total: Math.max(0, rows * step),
            first: Math.min(count, firstRow * columns), last: Math.max(0, Math.min(count, lastRow * columns)),
        };
    }

    function place(n, {columns, width, step}) {
        return {left: (n % columns) * (width + GAP), top: Math.floor(n / columns) * step};
    }

    // Where an arrow key leads from card n; n itself where there is none.
    function neighbour(n, key, {columns, count, page}) {
        const moves = {
            ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns,
            PageUp: -columns * page, PageDown: columns * page, Home: -count, End: count,
        };
        if (!(key in moves) || count === 0) return n;
        const wanted = n + moves[key];
        if (key === "ArrowUp" && wanted < 0 || key === "ArrowDown" && wanted >= count) return n;
        return Math.min(count - 1, Math.max(0, wanted));
    }

    function fileSize(bytes) {
        if (bytes < 1000) return `${bytes} B`;
        const units = ["kB", "MB", "GB", "TB"];
        let value = bytes / 1000;
        let unit = 0;
        while (value >= 999.5 && unit < units.length - 1) {
            value /= 1000;
            unit += 1;
        }
        return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
    }

    function rankText(rank) {
        if (!rank) return "";
        const ranks = rank[0] === rank[1] ? rank[0] : `${rank[0]}–${rank[1]}`;
        return lib.t("rank {n}", {n: ranks});
    }

    // "LoCon · rank 8 · 1.2 MB"
    function summary(card) {
        return [card.algorithms.join(" + "), rankText(card.rank), fileSize(card.size)].filter(Boolean).join(" · ");
    }

    // The cards between two, both ends included.
    function between(a, b) {
        const [low, high] = a < b ? [a, b] : [b, a];
        return Array.from({length: high - low + 1}, (_, n) => low + n);
    }

    // The text of a click: the tag at the preferred weight and the words that the user wants with it.
    function promptText(card, weight = card.weight ?? 1) {
        const tag = `<lora:${card.tag_name}:${lib.number.write(weight)}>`;
        return card.activation_text ? `${tag} ${card.activation_text}` : tag;
    }

    lib.view = {geometry, place, neighbour, fileSize, summary, between, promptText};
})();
