// What is asked before edits would be lost.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Question {
        constructor() {
            this.element = lib.dom.element("div", {class: "lora-question", role: "alertdialog", "aria-label": lib.t("Unsaved changes"), hidden: true});
        }

        // `name`: of the adapter. One of the answers is called, once.
        ask(name, {save, discard, stay}) {
            const {element} = lib.dom;
            const button = (text, kind, act) => element("button", {type: "button", class: kind, text: lib.t(text), onclick: () => {
                this.element.hidden = true;
                act();
            }});
            this.element.replaceChildren(
                element("span", {text: lib.t("The changes to {name} are not saved.", {name})}),
                element("div", {class: "lora-form-buttons"},
                    button("Save", "lora-primary", save), button("Discard", "lora-secondary", discard), button("Keep editing", "lora-secondary", stay)));
            this.element.hidden = false;
            this.element.querySelector("button").focus();
        }
    }

    lib.Question = Question;
})();
