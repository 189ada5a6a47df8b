// In which order the listing stands: a choice of keys, and a button that turns it round.

(function () {
    "use strict";

    const SORTS = {name: "Name", newest: "Newest first", family: "Base model", size: "Largest first", rank: "Highest rank", change: "Largest change", path: "Folder"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Order {
        // `remembered`: {sort, reverse} of another time, or anything else.
        constructor(remembered, changed) {
            const {element, iconButton} = lib.dom;
            this.select = element("select", {class: "lora-select", "aria-label": lib.t("Order"), onchange: changed},
                ...Object.entries(SORTS).map(([value, text]) => element("option", {value, text: lib.t(text)})));
            this.select.value = remembered.sort in SORTS ? remembered.sort : "name";
            this.button = iconButton("reverse", lib.t("The other way round"), () => {
                this.show(!this.isReversed);
                changed();
            });
            this.show(remembered.reverse === true);
        }

        show(isReversed) {
            this.isReversed = isReversed;
            this.button.setAttribute("aria-pressed", String(isReversed));
        }

        // What the feed asks for, and what is remembered.
        get asked() {
            return {sort: this.select.value, reverse: this.isReversed};
        }
    }

    lib.Order = Order;
})();
