// What the browser keeps for the user from one visit to the next. Where it keeps nothing, because storage is forbidden or full,
// a choice lasts as long as the page; what is kept and cannot be read, or is of another kind, counts as nothing.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // What was kept under that name; `otherwise` where there is nothing of its kind.
    function get(name, otherwise) {
        try {
            const value = JSON.parse(localStorage.getItem(name));
            return kind(value) === kind(otherwise) ? value : otherwise;
        } catch {
            return otherwise;
        }
    }

    function set(name, value) {
        try {
            localStorage.setItem(name, JSON.stringify(value));
        } catch {
            // a private window, or no room
        }
    }

    function kind(value) {
        if (value === null) return "nothing";
        return Array.isArray(value) ? "list" : typeof value;
    }

    lib.remembered = {get, set};
})();
