// What an adapter changes, in figures: the server's answer by block, the strongest block as 1.

(function () {
    "use strict";

    const KINDS = {attn1: "self-attention", attn2: "cross-attention", ff: "feed-forward", conv: "convolutions", other: "other"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // The change of a block: layers add up as squares.
    function total(kinds) {
        return Math.hypot(...Object.values(kinds));
    }

    function digits(value) {
        return value === 0 ? "0" : value.toPrecision(3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
    }

    // "attn1 1.2, conv 0.3": the largest first.
    function described(kinds) {
        const parts = Object.entries(kinds).sort((one, other) => other[1] - one[1]);
        return parts.map(([kind, value]) => `${lib.t(KINDS[kind] ?? kind)} ${digits(value)}`).join(", ");
    }

    // {name: {value, share, title}}
    function byBlock({blocks}) {
        const most = Math.max(0, ...blocks.map(({kinds}) => total(kinds)));
        return Object.fromEntries(blocks.map(({block: name, kinds}) => {
            const value = total(kinds);
            return [name, {value, share: most ? value / most : 0, title: value ? `${name}: ${described(kinds)}` : lib.t("{name}: not changed", {name})}];
        }));
    }

    lib.changes = {total, digits, described, byBlock};
})();
