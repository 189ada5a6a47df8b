// What is known of the grammar: the blocks of the loaded model, the presets by name and the meaning of arguments, from the server; and
// the user's own presets, which the browser keeps. A preset of the user goes into the tag as its numbers, which mean the same wherever the prompt goes.

(function () {
    "use strict";

    const KEPT = "lora-block-presets";
    const AGAIN = 5000;  // milliseconds after an error

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class StripKnown {
        constructor(api, changed) {
            Object.assign(this, {api, changed, answer: null, made: null, isAsked: false});
        }

        // {usual, vectors: {17: names}, presets: [{name, text, numbers, isOwn}], arguments: {key: {takes, meaning}}}; null as long as the server has not said it.
        get known() {
            return this.made ??= this.answer && this.make();
        }

        make() {
            const own = Object.entries(lib.remembered.get(KEPT, {})).map(([name, text]) => ({name, text: String(text), numbers: lib.blocks.read(String(text)), isOwn: true}));
            const fitting = own.filter(({numbers}) => numbers && this.answer.vectors[numbers.length]);
            return {...this.answer, presets: [...fitting, ...this.answer.presets.map((preset) => ({...preset, text: preset.name, isOwn: false}))]};
        }

        async ask() {
            if (this.isAsked) return;
            this.isAsked = true;
            try {
                this.answer = await this.api.strength();
                this.tell();
            } catch {
                setTimeout(() => this.isAsked = false, AGAIN);
            }
        }

        save(name, numbers) {
            lib.remembered.set(KEPT, {...lib.remembered.get(KEPT, {}), [name]: lib.blocks.write(numbers)});
            this.tell();
        }

        forget(name) {
            const {[name]: gone, ...rest} = lib.remembered.get(KEPT, {});
            lib.remembered.set(KEPT, rest);
            this.tell();
        }

        tell() {
            this.made = null;
            this.changed();
        }

        // Another model may have other blocks.
        forgetAll() {
            this.isAsked = false;
        }
    }

    lib.StripKnown = StripKnown;
})();
