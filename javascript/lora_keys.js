// The keys of the listing: one table, which is both what they do and what the help shows.

(function () {
    "use strict";

    const KEYS = [  // [keys, what the listing does, said in the help]
        [["/"], "toSearch", "Go to the search"],
        [["Enter", " "], "toggleCurrent", "Put the adapter into the prompt, or take it out"],
        [["i"], "showDetails", "Show details; once more: go there"],
        [["e"], "editNotes", "Edit the notes"],
        [["f"], "favourite", "Favourite, or no longer"],
        [["x"], "pick", "Select, for marking several together"],
        [["Escape"], "leave", "Close, or end the selection"],
        [["?"], "showHelp", "This list"],
    ];
    const MORE = [  // keys that are not the listing's own, only told
        ["Arrows, Page, Home, End", "Move in the listing"],
        ["Ctrl + S", "Save, while editing"],
        ["Shift or Ctrl + click", "Select"],
        ["Alt + ↑ ↓", "Move an adapter in the strip below the prompt"],
    ];
    const NAMES = {" ": "Space", Escape: "Esc"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // The method's name for a key; null if it has none.
    function actionOf(key) {
        return KEYS.find(([keys]) => keys.includes(key))?.[1] ?? null;
    }

    // A dialog of the browser: it holds the focus and closes on Escape by itself.
    function helpDialog() {
        const {element} = lib.dom;
        const rows = [...KEYS.map(([keys, , text]) => [keys.map((key) => lib.t(NAMES[key] ?? key)).join(", "), text]), ...MORE];
        const dialog = element("dialog", {class: "lora-help", "aria-label": lib.t("Keys"), onkeydown: (event) => event.stopPropagation()},
            element("h3", {class: "lora-heading", text: lib.t("Keys")}),
            element("dl", {}, ...rows.flatMap(([keys, text]) => [
                element("dt", {}, element("kbd", {text: lib.t(keys)})), element("dd", {text: lib.t(text)}),
            ])),
            element("button", {type: "button", class: "lora-primary", text: lib.t("Close"), onclick: () => dialog.close()}));
        dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());  // beside it
        return dialog;
    }

    lib.keys = {KEYS, actionOf, helpDialog};
})();
