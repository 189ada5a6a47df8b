// The search field: it searches when there was a pause, leads down to the cards, and Escape empties it.

(function () {
    "use strict";

    const PAUSE = 120;  // milliseconds without typing before a search

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // changed(): other words; enter(key): down to the cards.
    function searchField({changed, enter}) {
        let timer = null;
        const field = lib.dom.element("input", {
            type: "search", class: "lora-search", placeholder: lib.t("Search names, tags, words, notes …"),
            "aria-label": lib.t("Search the adapters"), autocomplete: "off", spellcheck: "false",
            oninput: () => {
                clearTimeout(timer);
                timer = setTimeout(changed, PAUSE);
            },
            onkeydown: (event) => {
                const isDown = event.key === "ArrowDown" || event.key === "Enter";
                if (!isDown && !(event.key === "Escape" && field.value)) return;
                event.preventDefault();
                event.stopPropagation();
                if (isDown) return enter(event.key);
                field.value = "";
                changed();
            },
        });
        return field;
    }

    lib.searchField = searchField;
})();
