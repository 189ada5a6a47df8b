// What opens below a row of the strip: the weight over the steps, the blocks, and chips for all else.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripEditor {
        // weigh({te, unet}), set({key: text}): change the tag; presets: {save(name, numbers), forget(name)}; inside(): a promise of what
        // the adapter changes; toggle(isOpen).
        constructor({weigh, set, presets, inside, toggle}) {
            const {element} = lib.dom;
            Object.assign(this, {weigh, isOpen: false});
            this.unet = new lib.StripCurve(lib.t("UNet over the steps"), (weight) => weigh(this.isJoint ? {te: weight, unet: weight} : {unet: weight}));
            this.te = new lib.StripCurve(lib.t("Text encoder over the steps"), (weight) => weigh({te: weight}));
            this.blocks = new lib.StripBlocks({changed: (lbw) => set({lbw}), inside, ...presets});
            this.panels = element("div", {class: "lora-panels", hidden: true}, this.unet.element, this.te.element, this.blocks.element);
            this.chips = new lib.StripChips({set, openBlocks: () => toggle(true)});
            this.element = element("div", {class: "lora-editor"}, this.panels, this.chips.element);
        }

        // scene: {known, steps, width, height, side}: of the server and of the page; isWhole: see StripBlocks.
        show(tag, scene) {
            this.element.hidden = Boolean(tag.error);
            if (tag.error) return;
            const blocks = tag.values.lbw?.text ?? "";
            this.chips.show(tag, {...scene, isOpen: this.isOpen, blocks: blockText(blocks, scene.known)});
            if (!this.isOpen) return;
            this.isJoint = typeof tag.te === "object" && !tag.values.unet;
            const window = lib.stripWindow.read(tag.values);
            const over = {steps: scene.steps, window: window ? lib.stripWindow.parts(window, scene.steps) : [0, 1]};
            const isTeCurved = tag.te !== null && typeof tag.te === "object";
            this.unet.element.hidden = tag.unet === null;
            this.te.element.hidden = !isTeCurved || this.isJoint;
            if (tag.unet !== null) this.unet.show(tag.unet, over);
            if (isTeCurved) this.te.show(tag.te, over);
            this.blocks.show(blocks, scene.known, scene.isWhole);
        }

        open(isOpen) {
            this.isOpen = isOpen;
            this.panels.hidden = !isOpen;
        }

        focus() {
            this.panels.querySelector("[tabindex='0'], button:not([hidden]), select:not([hidden])")?.focus();
        }
    }

    // In a few words: the preset, or how many numbers.
    function blockText(text, known) {
        if (!text) return "";
        const shown = lib.blocks.shown(text, known);
        if (shown?.preset) return shown.preset.name;
        return shown ? lib.t("{n} weights", {n: shown.numbers.length}) : lib.tagScan.shortened(text);
    }

    lib.StripEditor = StripEditor;
})();
