// The page "Lora" of the WebUI opens in the order in which the user left it. Elsewhere than in the WebUI this does nothing.

(function () {
    "use strict";

    if (typeof cardClicked !== "function") return;

    const TABS = ["txt2img", "img2img"];
    const MEMORY = "lora-cards-sort";
    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    let wish = {};  // {key, direction, preset}: preset is what the settings said when it was chosen

    const controls = (tab) => gradioApp().querySelector(`#${tab}_lora_controls`);
    const preset = () => `${opts.extra_networks_card_order_field} ${opts.extra_networks_card_order}`;

    function sortAsBefore() {
        wish = lib.remembered.get(MEMORY, {});
        for (const tab of TABS) {
            const all = controls(tab);
            if (!all) continue;
            all.addEventListener("click", () => setTimeout(() => keepSort(all), 0));
            if (wish.preset !== preset()) continue;  // nothing chosen, or the settings were changed since
            const key = [...all.querySelectorAll("[data-sortkey]")].find((each) => each.dataset.sortkey === wish.key);
            const direction = all.querySelector("[data-sortdir]");
            if (!key || !direction) continue;
            for (const each of all.querySelectorAll("[data-sortkey]")) each.classList.toggle("extra-network-control--enabled", each === key);
            direction.dataset.sortdir = wish.direction;
            direction.title = wish.direction === "Ascending" ? "Sort ascending" : "Sort descending";
            extraNetworksApplySort[`${tab}_lora`]?.(true);
        }
    }

    function keepSort(all) {
        const key = all.querySelector("[data-sortkey].extra-network-control--enabled")?.dataset.sortkey;
        const direction = all.querySelector("[data-sortdir]")?.dataset.sortdir;
        const before = wish.preset === preset() ? `${wish.key} ${wish.direction}` : null;
        if (!key || before === `${key} ${direction}`) return;
        wish = {key, direction, preset: preset()};
        lib.remembered.set(MEMORY, wish);
    }

    uiAfterScriptsCallbacks.push(() => lib.served(sortAsBefore));  // after the WebUI has set up its own
})();
