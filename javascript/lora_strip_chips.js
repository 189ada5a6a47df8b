// Chips for what a tag says beyond its weight: "window 20 % – 80 %" with a button that takes it out, "+ area" for what it does not
// say. A chip opens its editor below; only one is open.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripChips {
        // set({key: text}): arguments of the tag, null for none; openBlocks(): what shows the blocks.
        constructor({set, openBlocks}) {
            const {element} = lib.dom;
            Object.assign(this, {set, open: null, chips: new Map(), parts: new Map()});
            this.blocks = this.chip("blocks", {onclick: openBlocks, onremove: () => set({lbw: null})});
            this.list = element("div", {class: "lora-arguments"}, this.blocks.element);
            for (const kind of lib.stripKinds.KINDS) {
                const chip = this.chip(kind.name, {onclick: () => this.toggle(kind), onremove: () => this.remove(kind)});
                this.chips.set(kind, chip);
                this.list.append(chip.element);
            }
            this.place = element("div", {class: "lora-arguments-open"});
            this.element = element("div", {class: "lora-said-more", onkeydown: (event) => this.key(event)}, this.list, this.place);
        }

        chip(name, {onclick, onremove}) {
            const {element, icon} = lib.dom;
            const sign = element("span", {class: "lora-plus", text: "+ "});
            const value = element("span", {class: "lora-argument-value"});
            const button = element("button", {type: "button", class: "lora-argument-name", "aria-expanded": "false", "data-lora-argument": name, onclick}, sign, element("span", {text: lib.t(name)}), value);
            const label = lib.t("Remove: {name}", {name: lib.t(name)});
            const remove = element("button", {type: "button", class: "lora-argument-remove", "aria-label": label, title: label, onclick: onremove}, icon("remove"));
            return {sign, value, button, remove, element: element("span", {class: "lora-argument"}, button, remove)};
        }

        // scene: {steps, width, height, blocks: text, isOpen: whether what is not said is offered}
        show(tag, scene) {
            Object.assign(this, {tag, scene});
            const told = lib.stripKinds.told(tag, scene);
            if (scene.known && scene.known !== this.known) this.explain(scene.known);
            for (const [kind, chip] of this.chips) fill(chip, told.get(kind), told.has(kind) || scene.isOpen && !kind.isRare || kind === this.open, kind === this.open);
            fill(this.blocks, scene.blocks, Boolean(scene.blocks), scene.isOpen);
            if (this.open?.isRare && !told.has(this.open)) this.open = null;
            this.element.hidden = !scene.isOpen && told.size === 0 && !scene.blocks && !this.open;
            this.showPart();
        }

        // What the arguments mean, where the mouse rests.
        explain(known) {
            this.known = known;
            for (const [{keys}, {button}] of this.chips) {
                button.title = keys.filter((key) => known.arguments[key]).map((key) => `${key}= ${lib.t(known.arguments[key].meaning)}`).join("\n");
            }
        }

        showPart() {
            if (this.open && !this.parts.has(this.open)) this.parts.set(this.open, this.open.make((values) => this.set(values)));
            const part = this.open ? this.parts.get(this.open) : null;
            if (this.place.firstChild !== (part?.element ?? null)) this.place.replaceChildren(...(part ? [part.element] : []));
            part?.show(this.tag, this.scene);
        }

        toggle(kind) {
            this.open = this.open === kind ? null : kind;
            this.show(this.tag, this.scene);
        }

        remove(kind) {
            if (this.open === kind) this.open = null;
            this.set(Object.fromEntries(kind.keys.map((key) => [key, null])));
            this.show(this.tag, this.scene);
            const {button} = this.chips.get(kind);
            (button.offsetParent ? button : this.list.querySelector("button:not([hidden])"))?.focus();
        }

        // Escape closes the editor below the chips.
        key(event) {
            if (event.key !== "Escape" || !this.open) return;
            event.preventDefault();
            event.stopPropagation();
            const {button} = this.chips.get(this.open);
            this.toggle(this.open);
            button.focus();
        }
    }

    function fill({sign, value, button, remove, element}, text, isShown, isExpanded) {
        const isSet = text !== undefined && text !== "";
        element.hidden = !isShown;
        sign.hidden = isSet;
        remove.hidden = !isSet;
        if (value.textContent !== (text ?? "")) value.textContent = text ?? "";
        element.classList.toggle("lora-is-set", isSet);
        button.setAttribute("aria-expanded", String(isExpanded));
    }

    lib.StripChips = StripChips;
})();
