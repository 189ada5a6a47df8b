// The user's own marks on one adapter: tags as chips, with a field for another one. Suggestions are the tags that exist.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    let count = 0;  // of lists on this page

    // The tags of all adapters, for fields that name it as their `list`.
    class Suggestions {
        constructor(feed) {
            this.feed = feed;
            this.id = `lora-known-tags-${count += 1}`;
            this.element = lib.dom.element("datalist", {id: this.id});
            this.refresh = this.refresh.bind(this);
        }

        async refresh() {
            const answer = await this.feed.facets(new URLSearchParams()).catch(() => null);
            this.element.replaceChildren(...(answer?.facets.tag ?? []).map(({value}) => lib.dom.element("option", {value})));
        }
    }

    // change({add_tags}) or change({remove_tags}) saves it.
    function tagChips(tags, suggestions, change) {
        const {element, icon} = lib.dom;
        const field = element("input", {
            type: "text", class: "lora-input lora-tag-field", placeholder: lib.t("Add a tag"), "aria-label": lib.t("Add a tag"), list: suggestions.id,
            autocomplete: "off", spellcheck: "false", maxlength: "60", onfocus: suggestions.refresh,
            onkeydown: (event) => {
                if (!["Enter", ","].includes(event.key)) return;
                event.preventDefault();
                add();
            },
            onchange: () => add(),  // taken from the suggestions
        });
        function add() {
            const tag = field.value.trim();
            field.value = "";
            if (tag && !tags.includes(tag)) change({add_tags: [tag]});
        }
        return element("div", {class: "lora-words"}, ...tags.map((tag) => element("span", {class: "lora-tag lora-tag-large"},
            element("span", {text: tag}),
            element("button", {
                type: "button", class: "lora-tag-remove", "aria-label": lib.t("Remove the tag {tag}", {tag}), title: lib.t("Remove this tag"),
                onclick: () => change({remove_tags: [tag]}),
            }, icon("remove")))), field);
    }

    lib.marks = {Suggestions, tagChips};
})();
