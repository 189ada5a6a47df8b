// What an adapter was made of, for the details: the tags that it does the work of, its parents with their licences, and a button that
// puts the tags back into the prompt.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // recipe: {prompt, at, parents: [{name, license}]}, null for a file that says nothing of it; open(): into the prompt.
    function section(recipe, open) {
        if (!recipe) return null;
        const {element} = lib.dom;
        const {prompt, at, parents} = recipe;
        const parent = ({name, license}) => element("li", {text: license ? lib.t("{name} (licence: {license})", {name, license}) : name});
        return lib.facts.section(lib.t("Made of"),
            ...(prompt ? [element("p", {class: "lora-text lora-recipe", text: prompt})] : []),
            ...(at ? [element("p", {class: "lora-meta", text: lib.t("as they are at {moment}", {moment: at})})] : []),
            ...(parents.length ? [element("ul", {class: "lora-parents", "aria-label": lib.t("Made from these files")}, ...parents.map(parent))] : []),
            ...(prompt ? [element("button", {type: "button", class: "lora-chip", text: lib.t("Open as recipe"), title: lib.t("Puts these tags into the prompt, in the place of this adapter's own"), onclick: open})] : []));
    }

    // The prompt with the tags of the recipe in the place of the adapter's own, at its weight; at the end where it has none.
    function opened(text, names, prompt) {
        const n = lib.tags.indexOf(text, names);
        if (n < 0) return lib.tagEdits.insert(text, prompt);
        const {start, end, te, unet} = lib.tags.find(text)[n];
        const isPlain = typeof te === "number" && te === unet && te !== 1;
        const tags = isPlain ? lib.tagEdits.scale(prompt, lib.tags.find(prompt).keys(), te) : prompt;
        return text.slice(0, start) + tags + text.slice(end);
    }

    lib.recipe = {section, opened};
})();
