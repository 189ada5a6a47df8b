// The keys of the listing: one table, which is both what they do and what the help shows.

(function () {
    "use strict";

    const KEYS = [  // [keys, what they do, said in the help]
        [["/"], (listing) => listing.field.focus(), "Go to the search"],
        [["Enter", " "], (listing) => toggle(listing), "Put the adapter into the prompt, or take it out"],
        [["i"], ({details, current}) => current && details.open(current, {isFocused: details.card?.id === current.id}), "Show details; once more: go there"],
        [["e"], ({details, current}) => current && details.open(current, {isEditing: true}), "Edit the notes"],
        [["f"], (listing) => listing.current && listing.star(listing.current), "Favourite, or no longer"],
        [["x"], (listing) => pick(listing), "Select, for marking several together"],
        [["Escape"], (listing) => listing.leave(), "Close, or end the selection"],
        [["?"], (listing) => listing.help.showModal(), "This list"],
    ];
    const MORE = [  // keys that are not the listing's own, only told
        ["Arrows, Page, Home, End", "Move in the listing"],
        ["Ctrl + S", "Save, while editing"],
        ["Shift or Ctrl + click", "Select"],
        ["Alt + ↑ ↓", "Move an adapter in the strip below the prompt"],
    ];
    const NAMES = {" ": "Space", Escape: "Esc"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    function listen(listing) {
        listing.root.addEventListener("keydown", (event) => pressed(listing, event));
        document.addEventListener("keydown", (event) => pressedElsewhere(listing, event));
    }

    function pressed(listing, event) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (lib.dom.isTyping(event.target) && event.key !== "Escape") return;
        const {grid, details} = listing;
        const isInGrid = event.target === grid.window;
        if (isInGrid && grid.cursor < 0) grid.point(0);
        const moved = isInGrid ? grid.reach(event.key) : null;
        if (moved !== null) {
            grid.point(moved);
            details.follow(grid.card);
        } else {
            const act = actionOf(event.key);
            const isOnButton = event.target.closest("button, input");
            if (!act || isOnButton && ["Enter", " "].includes(event.key)) return;
            if (act(listing) === false) return;
        }
        event.preventDefault();
        event.stopPropagation();  // Escape means something else to the rest of the page
    }

    // "/" leads to the search from anywhere on the page where nothing is being typed.
    function pressedElsewhere(listing, event) {
        if (event.key !== "/" || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
        if (!listing.isVisible || lib.dom.isTyping(event.target) || document.querySelector("dialog[open]")) return;
        event.preventDefault();
        listing.field.focus();
    }

    function actionOf(key) {
        return KEYS.find(([keys]) => keys.includes(key))?.[1] ?? null;
    }

    function toggle(listing) {
        if (listing.selection.isMode) pick(listing);
        else if (listing.current) listing.toggle(listing.current);
    }

    function pick({selection, current, grid}) {
        if (current) selection.toggle(current.id, grid.cursor);
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

    lib.keys = {KEYS, listen, helpDialog};
})();
