// Looking for new, changed and vanished files: by a button, with a bar, and by itself when the window comes back.

(function () {
    "use strict";

    const FRESH = 15000;   // milliseconds: the folders are looked at again when the window comes back, this often at most

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Scan {
        // found(): there are changes; say(sentence); isVisible().
        constructor(api, {found, say, isVisible}) {
            Object.assign(this, {api, found, say, isVisible});
            this.progress = new lib.Progress();
            this.element = this.progress.element;
            this.button = lib.dom.iconButton("refresh", lib.t("Look for new files"), () => this.start());
            this.isRunning = false;
            this.looked = 0;
            addEventListener("focus", () => this.refresh());
        }

        async start() {
            if (this.isRunning) return;
            this.isRunning = true;
            this.button.classList.add("lora-turning");
            this.looked = Date.now();
            this.progress.follow(() => this.api.rescanning(), "Reading {done} of {total} files", () => !this.isRunning);
            try {
                const changes = await this.api.rescan();
                await this.tell(changes);
                this.say([lib.t("{added} new, {changed} changed, {removed} gone", changes), ...changes.problems].join(". "));
            } catch (error) {
                this.say(lib.t("The folders cannot be searched now: {why}", {why: error.message}));
            }
            this.isRunning = false;
            this.progress.hide();
            this.button.classList.remove("lora-turning");
        }

        async tell({added, changed, removed}) {
            if (added + changed + removed === 0) return;
            dispatchEvent(new CustomEvent("lora-rescanned"));
            await this.found();
        }

        // The window comes back: perhaps a download has ended meanwhile.
        async refresh() {
            if (!this.isVisible() || this.isRunning || Date.now() - this.looked < FRESH) return;
            this.looked = Date.now();
            const changes = await this.api.rescan().catch(() => null);
            if (changes) this.tell(changes);
        }
    }

    lib.Scan = Scan;
})();
