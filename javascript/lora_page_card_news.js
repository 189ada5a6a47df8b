// What the server tells of the cards: the checkpoint, and which adapters are favourites. What the user marks counts at once.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class CardNews {
        // changed(): cards look different now; failed(sentence): a mark could not be saved.
        constructor({changed, failed}) {
            Object.assign(this, {changed, failed, api: lib.api("/lora/v1")});
            this.latest = {checkpoint: null, others: "dim", unknown: false, favorites: []};
            this.favorites = new Set();  // ids
            this.text = "";   // that answer as it came; empty before the first one, and after a mark
            this.marked = 0;  // how often a favourite was set or taken here
            this.isAsking = false;
        }

        get isKnown() {
            return this.text !== "";
        }

        async ask() {
            if (this.isAsking) return;
            this.isAsking = true;
            const before = this.marked;
            try {
                const answer = await this.api.cards();
                if (this.marked === before) this.take(answer);  // else it is older than what the user did meanwhile
            } catch {
                if (!this.isKnown) this.changed();  // else what is shown stays; the next look comes soon
            } finally {
                this.isAsking = false;
            }
        }

        take(answer) {
            const now = JSON.stringify(answer);
            if (now === this.text) return;
            this.text = now;
            const before = this.latest.checkpoint;
            const isOther = before && answer.checkpoint && before.label !== answer.checkpoint.label;
            this.latest = {...answer, checkpoint: answer.checkpoint ?? before};  // none: one is just being exchanged
            this.favorites = new Set(answer.favorites);
            this.changed();
            if (!isOther) return;
            dispatchEvent(new CustomEvent("lora-checkpoint"));  // strips and listing say what fits, too
            dispatchEvent(new CustomEvent("lora-rescanned"));
        }

        // Make the adapter of that id a favourite, or no longer.
        async mark(id) {
            const favorite = !this.favorites.has(id);
            this.set(id, favorite);
            try {
                await this.api.marks([id], {favorite});
                this.marked += 1;
                dispatchEvent(new CustomEvent("lora-marked", {detail: {ids: [id], favorite}}));  // the listing shows it, too
            } catch (error) {
                this.set(id, !favorite);
                this.failed(lib.t("That cannot be saved now: {why}", {why: error.message}));
            }
        }

        set(id, isFavorite) {
            isFavorite ? this.favorites.add(id) : this.favorites.delete(id);
            this.marked += 1;
            this.text = "";
            this.changed();
        }
    }

    lib.CardNews = CardNews;
})();
