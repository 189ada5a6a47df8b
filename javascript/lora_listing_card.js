// What one adapter looks like in the listing: a card of the grid, a line of the list, a line among duplicates.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // `on`: {click(event), star(), info()}
    function makeCard(api, card, on) {
        const {element, icon, badge, iconButton} = lib.dom;
        const words = lib.triggerWords.of(card).join(", ");
        const quiet = (act) => (event) => {
            event.stopPropagation();
            act();
        };
        const node = element("div", {
            class: `lora-card${card.reason ? " lora-dim" : ""}${card.broken ? " lora-is-broken" : ""}`, role: "option", id: `lora-card-${card.id}`,
            title: card.reason || card.name, "data-lora-id": card.id, onclick: on.click,
        },
        picture(api, card),
        element("div", {class: "lora-caption-block"},
            element("div", {class: "lora-title", text: card.title}),
            element("div", {class: "lora-meta", text: card.broken ? card.broken : lib.view.summary(card)}),
            card.broken ? null : element("div", {class: "lora-trigger", text: words || (card.folder ? lib.t("in {folder}", {folder: card.folder}) : "")}),
            element("div", {class: "lora-card-tags"}, ...(card.user_tags ?? []).map((tag) => element("span", {class: "lora-tag", text: tag})))),
        element("div", {class: "lora-over"}, card.broken ? element("span", {class: "lora-badge lora-broken", text: lib.t("broken")}) : badge(card.family)),
        element("span", {class: "lora-check", title: lib.t("In the prompt")}, icon("check")),
        element("span", {class: "lora-box", "aria-hidden": "true"}, icon("check")),
        iconButton("star", card.favorite ? lib.t("No favourite any more") : lib.t("Make it a favourite"), quiet(on.star), "lora-star"),
        iconButton("info", lib.t("Details of {name}", {name: card.title}), quiet(on.info), "lora-open"));
        node.classList.toggle("lora-favorite", Boolean(card.favorite));
        for (const button of node.querySelectorAll(".lora-star, .lora-open")) button.tabIndex = -1;  // the keyboard has its own ways: f, i
        return node;
    }

    // The preview over a drawn one; where there is none, the drawn one stays.
    function picture(api, card, more = "") {
        const {element} = lib.dom;
        const {background, initials} = lib.placeholder(card.name, card.family.id);
        const image = card.has_video ? video() : element("img", {class: "lora-picture", alt: "", decoding: "async", draggable: "false"});
        image.addEventListener(card.has_video ? "loadeddata" : "load", () => image.classList.add("lora-loaded"));
        image.src = api.picture(card.thumbnail, card.has_video ? "&original=1" : more);
        return element("div", {class: "lora-thumb", style: {background}}, element("span", {class: "lora-initials", "aria-hidden": "true", text: initials}), image);
    }

    // Its first picture; it plays while the mouse is over it.
    function video() {
        const node = lib.dom.element("video", {class: "lora-picture", preload: "metadata", playsinline: "", loop: ""});
        node.muted = true;
        node.addEventListener("mouseenter", () => node.play().catch(() => {}));
        node.addEventListener("mouseleave", () => node.pause());
        return node;
    }

    // A line with a picture, a name and why it stands here.
    function makeLine(api, card, open) {
        const {element, badge} = lib.dom;
        return element("button", {type: "button", class: "lora-line", onclick: open},
            picture(api, card),
            element("span", {class: "lora-line-name", text: card.name}),
            badge(card.family),
            element("span", {class: "lora-meta", text: lib.view.summary(card)}));
    }

    lib.card = {makeCard, makeLine, picture};
})();
