// The form that edits the notes beside an adapter. Only what was changed is saved; where somebody else changed the same
// field meanwhile, both versions are shown and the user decides.

(function () {
    "use strict";

    const BASES = {"": "As the file says", SD1: "SD 1.5", SD2: "SD 2", SDXL: "SDXL"};  // what the WebUI writes -> its name
    const FIELDS = {  // field -> [label, what it is for, lines]
        activation_text: ["Activation text", "Goes into the prompt with the tag", 2],
        preferred_weight: ["Preferred weight", "Empty: 1", 1],
        negative_text: ["Negative prompt", "", 1],
        sd_version: ["Base model", "", 1],
        notes: ["Notes", "", 4],
        description: ["Description", "", 4],
    };
    const TRIES = 3;  // saves in a row that find the file changed

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Pure: what the form changes, what of it somebody else changed too, and the number in a field (null: none is there).

    function changes(base, form) {
        return Object.fromEntries(Object.keys(FIELDS).filter((field) => form[field] !== base[field]).map((field) => [field, form[field]]));
    }

    function conflicts(base, current, changed) {
        return Object.keys(changed)
            .filter((field) => current[field] !== base[field] && current[field] !== changed[field])
            .map((field) => ({field, mine: changed[field], theirs: current[field]}));
    }

    function readWeight(text) {
        return text.trim() === "" ? 0 : lib.number.readField(text.replace(",", "."));
    }

    // What a field shows for a value.
    function written(field, value) {
        if (field !== "preferred_weight") return value;
        return value ? lib.number.write(value) : "";
    }

    class Editor {
        // `all`: the entry with `editable`. What comes after: saved(entry), or closed(isOld) where there was nothing to save.
        constructor(api, all, {saved, closed}) {
            const {element} = lib.dom;
            Object.assign(this, {api, id: all.id, base: all.editable, saved, closed});
            this.isOld = false;
            this.inputs = {};
            this.status = element("div", {class: "lora-problem", role: "alert"});
            this.both = element("div", {class: "lora-conflict", hidden: true});
            this.saveButton = element("button", {type: "submit", class: "lora-primary", text: lib.t("Save")});
            const cancel = element("button", {type: "button", class: "lora-secondary", text: lib.t("Cancel"), onclick: () => closed(this.isOld)});
            this.element = element("form", {
                class: "lora-form", "aria-label": lib.t("Edit the notes"), novalidate: true,
                onsubmit: (event) => {
                    event.preventDefault();
                    this.save();
                },
                onkeydown: (event) => this.key(event),
            }, ...Object.keys(FIELDS).map((field) => this.field(field, all)), this.status, this.both,
            element("div", {class: "lora-form-buttons"}, this.saveButton, cancel));
        }

        field(field, all) {
            const {element} = lib.dom;
            const [label, hint, lines] = FIELDS[field];
            const elsewhere = field === "description" && !this.base.description ? all.description : "";  // from another tool's file
            const common = {class: "lora-input", placeholder: elsewhere || lib.t(hint), spellcheck: "false", oninput: () => this.typed()};
            const input = field === "sd_version" ? choice(this.base[field]) : lines > 1 ? element("textarea", {...common, rows: lines})
                : element("input", {...common, type: "text", autocomplete: "off", inputmode: field === "preferred_weight" ? "decimal" : null});
            input.value = written(field, this.base[field]);
            this.inputs[field] = input;
            return element("label", {class: "lora-field"}, element("span", {class: "lora-label", text: lib.t(label)}), input);
        }

        get form() {
            const texts = Object.fromEntries(Object.entries(this.inputs).map(([field, input]) => [field, input.value]));
            return {...texts, preferred_weight: readWeight(texts.preferred_weight)};
        }

        get isDirty() {
            return Object.keys(changes(this.base, this.form)).length > 0;
        }

        focus() {
            this.inputs.activation_text.focus();
        }

        typed() {
            const input = this.inputs.preferred_weight;
            input.toggleAttribute("aria-invalid", readWeight(input.value) === null);
        }

        key(event) {
            if (!(event.ctrlKey || event.metaKey) || !["s", "Enter"].includes(event.key)) return;
            event.preventDefault();
            event.stopPropagation();  // Ctrl + Enter starts a picture elsewhere on the page
            this.save();
        }

        // Whether everything is saved now.
        async save(tries = TRIES) {
            const changed = changes(this.base, this.form);
            if (changed.preferred_weight === null) return this.refuse(lib.t("The preferred weight is not a number; write one such as 0.8"), "preferred_weight");
            if (Object.keys(changed).length === 0) {
                this.closed(this.isOld);
                return true;
            }
            this.saveButton.disabled = true;
            try {
                const entry = await this.api.notes(this.id, {digest: this.base.digest, ...changed});
                this.base = entry.editable;
                this.saved(entry);
                return true;
            } catch (error) {
                if (error.status === 409 && error.answer.current && tries > 0) return this.meet(error.answer.current, changed, tries);
                return this.refuse(error.message);
            } finally {
                this.saveButton.disabled = false;
            }
        }

        refuse(sentence, field) {
            this.status.textContent = sentence;
            this.inputs[field]?.focus();
            return false;
        }

        // Somebody else saved meanwhile. What only they changed is theirs; only where both changed the same is a question.
        async meet(current, changed, tries) {
            const both = conflicts(this.base, current, changed);
            for (const [field, input] of Object.entries(this.inputs)) {
                if (!(field in changed)) input.value = written(field, current[field]);
            }
            this.base = current;
            this.isOld = true;  // what the panel showed before
            if (both.length === 0) return this.save(tries - 1);
            this.ask(both);
            return false;
        }

        ask(both) {
            const {element} = lib.dom;
            const end = (isMine) => {
                this.both.hidden = true;
                if (!isMine) for (const {field, theirs} of both) this.inputs[field].value = written(field, theirs);
                this.save();
            };
            const mine = element("button", {type: "button", class: "lora-primary", text: lib.t("Keep mine"), onclick: () => end(true)});
            this.both.setAttribute("role", "alertdialog");
            this.both.setAttribute("aria-label", lib.t("Changed by another window"));
            this.both.replaceChildren(
                element("p", {class: "lora-conflict-head", text: lib.t("Another window or program changed these notes meanwhile. Which version shall stay?")}),
                ...both.map(({field, mine: ours, theirs}) => element("div", {class: "lora-versions"},
                    element("h5", {text: lib.t(FIELDS[field][0])}),
                    version(lib.t("Mine"), written(field, ours)), version(lib.t("Theirs"), written(field, theirs)))),
                element("div", {class: "lora-form-buttons"}, mine,
                    element("button", {type: "button", class: "lora-secondary", text: lib.t("Take theirs"), onclick: () => end(false)})));
            this.both.hidden = false;
            mine.focus();
            this.both.scrollIntoView({block: "nearest"});
        }
    }

    // One of the base models; what the file has and nobody knows stays as it is.
    function choice(value) {
        const {element} = lib.dom;
        const all = Object.hasOwn(BASES, value) ? BASES : {...BASES, [value]: value};
        return element("select", {class: "lora-input"}, ...Object.entries(all).map(([each, name]) => element("option", {value: each, text: lib.t(name)})));
    }

    function version(title, text) {
        const {element} = lib.dom;
        return element("div", {class: "lora-version"}, element("span", {class: "lora-label", text: title}),
            element("p", {class: "lora-text", text: text || lib.t("(empty)")}));
    }

    lib.edit = {Editor, changes, conflicts, readWeight};
})();
