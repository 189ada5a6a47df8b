// The keys of the listing: one table, which is both what they do and what the help shows.

(function () {
    "use strict";

    const KEYS = [  // [keys, the act, said in the help]
        [["/"], "search", "Go to the search"],
        [["Enter", " "], "use", "Put the adapter into the prompt, or take it out"],
        [["i"], "show", "Show details; once more: go there"],
        [["e"], "edit", "Edit the notes"],
        [["f"], "star", "Favourite, or no longer"],
        [["x"], "pick", "Select, for marking several together"],
        [["c"], "compare", "Compare the selected adapters, side by side"],
        [["Escape"], "leave", "Close, or end the selection"],
        [["?"], "help", "This list"],
    ];
    const MORE = [  // keys that are not the listing's own, only told
        ["Arrows, Page, Home, End", "Move in the listing"],
        ["Ctrl + S", "Save, while editing"],
        ["Shift or Ctrl + click", "Select"],
        ["Alt + ↑ ↓", "Move an adapter in the strip below the prompt"],
    ];
    const NAMES = {" ": "Space", Escape: "Esc"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // `acts`: a function for each act of the table; it gets the card that the key is about, current(), which may be null, and
    // returns false where there was nothing to do. moved(card): the arrow keys are there now. isVisible(): the listing is.
    function listen(root, grid, {acts, current, moved, isVisible}) {
        root.addEventListener("keydown", (event) => pressed(event, grid, {acts, current, moved}));
        document.addEventListener("keydown", (event) => pressedElsewhere(event, {acts, isVisible}));
    }

    function pressed(event, grid, {acts, current, moved}) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (lib.dom.isTyping(event.target) && event.key !== "Escape") return;
        const isInGrid = event.target === grid.window;
        if (isInGrid && grid.cursor < 0) grid.point(0);
        const place = isInGrid ? grid.reach(event.key) : null;
        if (place !== null) {
            grid.point(place);
            moved(grid.card);
        } else {
            const act = acts[actOf(event.key)];
            const isOnButton = event.target.closest("button, input");
            if (!act || isOnButton && ["Enter", " "].includes(event.key)) return;
            if (act(current()) === false) return;
        }
        event.preventDefault();
        event.stopPropagation();  // Escape means something else to the rest of the page
    }

    // "/" leads to the search from anywhere on the page where nothing is being typed.
    function pressedElsewhere(event, {acts, isVisible}) {
        if (event.key !== "/" || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
        if (!isVisible() || lib.dom.isTyping(event.target) || document.querySelector("dialog[open]")) return;
        event.preventDefault();
        acts.search();
    }

    function actOf(key) {
        return KEYS.find(([keys]) => keys.includes(key))?.[1];
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

    lib.keys = {listen, helpDialog};
})();
