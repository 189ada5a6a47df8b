// Adapters side by side: the form, and the comparison that is drawn or was drawn last: its pictures as they come, how long it still
// takes, its report. It goes on without this page, which finds it again.

(function () {
    "use strict";

    const EVERY = 500;  // milliseconds between two looks at what is drawn

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Compare {
        // prompt(): the page's; closed(): back to the listing, by the button.
        constructor(api, {prompt, closed}) {
            const {element} = lib.dom;
            Object.assign(this, {api, prompt});
            this.job = null;   // what the server told of the one that is shown
            this.plan = null;
            this.isOpen = false;
            this.form = new lib.CompareForm(api, {start: (wanted) => this.start(wanted), planned: (plan) => this.planned(plan)});
            this.grid = new lib.CompareGrid({address: (n, version) => {
                const path = `comparisons/${this.job.id}/cells/${n}?v=${version}`;
                return {small: api.file(path), large: api.file(`${path}&original=1`)};
            }});
            this.fold = element("details", {class: "lora-compare-fold", open: true}, element("summary", {text: lib.t("What is compared")}), this.form.element);
            this.fill = element("span", {class: "lora-progress-fill"});
            this.bar = element("div", {class: "lora-progress-bar", role: "progressbar", "aria-label": lib.t("Pictures drawn"), "aria-valuemin": "0"}, this.fill);
            this.said = element("p", {class: "lora-compare-said", role: "status", "aria-live": "polite"});
            this.cancelButton = element("button", {type: "button", class: "lora-secondary", text: lib.t("Cancel"), onclick: () => this.cancel()});
            this.links = ["report", "sheet"].map((name) => element("a", {class: "lora-link-button", target: "_blank", rel: "noopener", "data-lora-file": name,
                text: name === "report" ? lib.t("Open the report") : lib.t("Open the sheet")}));
            this.problems = element("div", {class: "lora-problem lora-compare-problems"});
            this.figures = element("div", {class: "lora-compare-figures"});
            this.run = element("section", {class: "lora-compare-run", hidden: true, "aria-label": lib.t("Comparison")},
                this.bar, element("div", {class: "lora-compare-state"}, this.said, this.cancelButton, ...this.links), this.problems, this.figures, this.grid.element);
            this.element = element("section", {
                class: "lora-compare", hidden: true, tabindex: "-1", "aria-label": lib.t("Compare adapters"),
                onkeydown: (event) => event.key !== "Escape" && event.stopPropagation(),  // letters are for the form
            },
            element("div", {class: "lora-compare-bar"}, element("h3", {class: "lora-heading", text: lib.t("Compare adapters")}),
                element("button", {type: "button", class: "lora-chip", text: lib.t("Back to the listing"), onclick: closed})),
            this.fold, this.run);
            lib.dom.hear(this.element, "resize", () => this.isOpen && this.showFigures());
        }

        // With these adapters; none: the comparison that is drawn, or was drawn last.
        async open(cards) {
            this.isOpen = true;
            this.element.hidden = false;
            this.element.focus();
            try {
                const overview = await this.api.comparisons();
                this.form.tell(overview);
                if (overview.last) this.show(await this.api.comparison(overview.last));
                else this.run.hidden = true;
            } catch (error) {
                this.form.say("", [error.message]);
            }
            if (cards.length || !this.job) return this.form.take(cards, this.prompt());
            return this.form.fill(this.job.wanted, this.titlesAsked);
        }

        close() {
            this.isOpen = false;
            this.element.hidden = true;
            this.watched = null;
        }

        // Of the adapters as they were asked for; the rows are in the order of training.
        get titlesAsked() {
            const {adapters, wanted} = this.job;
            return wanted.adapters.map((name) => adapters.find((each) => each.name === name)?.title ?? name);
        }

        get isRunning() {
            return this.job?.state === "running";
        }

        async start(wanted) {
            this.form.button.disabled = true;
            try {
                this.show(await this.api.compare(wanted));
                this.fold.open = false;
                this.run.scrollIntoView({block: "nearest"});
                this.cancelButton.focus();
            } catch (error) {
                this.form.say("", [error.message]);
            }
            this.planned(this.plan);
        }

        async cancel() {
            this.cancelButton.disabled = true;
            try {
                await this.api.cancel(this.job.id);
            } catch (error) {
                this.said.textContent = error.message;
            }
        }

        // Another comparison than before, or the same from the beginning.
        show(job) {
            this.job = job;
            this.run.hidden = false;
            this.cancelButton.disabled = false;
            this.grid.lay(job);
            this.cellsCame(job);
            this.watch();
        }

        // Look at it until it has ended, or nobody looks any more.
        async watch() {
            const {job} = this;
            this.watched = job;
            const isWatched = () => this.watched === job && this.isOpen;
            while (this.isRunning && isWatched()) {
                await new Promise((go) => setTimeout(go, EVERY));
                if (!isWatched()) return;
                if (this.element.offsetParent === null) continue;  // on another tab
                const news = await this.api.comparison(job.id, job.done).catch((error) => ({problem: error.message, cells: []}));
                if (isWatched()) this.cellsCame(news);
            }
            if (isWatched()) this.form.plan();  // the time that pictures take is better known now
        }

        cellsCame(news) {
            Object.assign(this.job, news);
            for (const cell of news.cells) this.grid.show(cell);
            const {job} = this;
            this.fill.style.width = `${100 * job.done / Math.max(job.total, 1)}%`;
            this.bar.setAttribute("aria-valuemax", job.total);
            this.bar.setAttribute("aria-valuenow", job.done);
            this.bar.hidden = this.cancelButton.hidden = !this.isRunning;
            this.said.textContent = state(job);
            this.problems.textContent = job.problem;
            for (const link of this.links) {
                link.hidden = !job[link.dataset.loraFile];
                link.href = this.api.file(`comparisons/${job.id}/${link.dataset.loraFile}`);
            }
            this.showFigures();
            if (!this.isRunning) this.planned(this.plan);
        }

        showFigures() {
            if (!this.job?.effects.length) return this.figures.replaceChildren();
            this.figures.replaceChildren(...lib.comparePlot.figures(this.job, this.job.effects, this.figures.clientWidth));
        }

        // The button says what it does: a comparison that was ended goes on.
        planned(plan) {
            this.plan = plan;
            const {button} = this.form;
            const goesOn = plan !== null && plan.id === this.job?.id && ["cancelled", "stopped", "failed"].includes(this.job.state);
            button.textContent = goesOn ? lib.t("Go on") : lib.t("Start");
            button.disabled = plan === null || this.isRunning;
        }
    }

    function state({state: now, done, total, left}) {
        const values = {done: done.toLocaleString(), total: total.toLocaleString()};
        if (now === "running" && done === total) return lib.t("All {total} are there; the report is written …", values);
        if (now === "running" && left !== null) return lib.t("{done} of {total}, about {time} left", {...values, time: lib.compareRead.duration(left)});
        if (now === "running") return lib.t("{done} of {total}", values);
        if (now === "done") return lib.t("Done: {total} cells", values);
        if (now === "cancelled") return lib.t("Cancelled; Go on draws what is missing.");
        if (now === "stopped") return lib.t("Stopped after {done} of {total}, with the program that drew; Go on draws the rest.", values);
        return lib.t("It ended with an error; Go on tries again.");
    }

    lib.Compare = Compare;
})();
