// Work of the server that takes a while, with a bar: looking for files, computing hashes, writing an adapter.

(function () {
    "use strict";

    const EVERY = 300;  // milliseconds between two looks

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Look at a job of the server until it is over: its last state. show(state): while it runs.
    async function finished(look, show) {
        for (;;) {
            await new Promise((go) => setTimeout(go, EVERY));
            const state = await look();
            if (!state.running) return state;
            show(state);
        }
    }

    class Progress {
        constructor() {
            const {element} = lib.dom;
            this.fill = element("span", {class: "lora-progress-fill"});
            this.text = element("span", {class: "lora-progress-text"});
            this.bar = element("div", {class: "lora-progress-bar", role: "progressbar", "aria-valuemin": "0"}, this.fill);
            this.element = element("div", {class: "lora-progress", hidden: true}, this.text, this.bar);
        }

        // `sentence` has {done} and {total}.
        show({done, total}, sentence) {
            const text = lib.t(sentence, {done: done.toLocaleString(), total: total.toLocaleString()});
            this.element.hidden = false;
            this.text.textContent = text;
            this.bar.setAttribute("aria-label", text);
            this.bar.setAttribute("aria-valuemax", Math.max(total, 1));
            this.bar.setAttribute("aria-valuenow", done);
            this.fill.style.width = `${total ? 100 * done / total : 0}%`;
        }

        hide() {
            this.element.hidden = true;
        }

        // Look until `isOver()`; the first look comes after a moment, short work shows no bar.
        async follow(look, sentence, isOver) {
            for (;;) {
                await new Promise((go) => setTimeout(go, EVERY));
                if (isOver()) break;
                const state = await look().catch(() => null);
                if (!state || isOver(state)) break;
                if (state.running) this.show(state, sentence);
            }
            this.hide();
        }
    }

    lib.Progress = Progress;
    lib.finished = finished;
})();
