// The page: a row for each adapter with its slider, the plots above, the two pictures that are held below.

(function () {
    "use strict";

    const {plot, shown, viewer, tag, press} = globalThis.report;
    const data = JSON.parse(document.getElementById("data").textContent);
    const by = (id) => document.getElementById(id);
    const cells = new Map(data.cells.map((cell) => [[cell.a, cell.w, cell.p, cell.s, cell.m].join(), cell]));
    const effectsOf = (adapter) => adapter.effects[state.m];
    const strongest = (adapter) => Math.max(...effectsOf(adapter).map((effect) => effect ?? 0));
    const state = {m: 0, p: 0, s: 0, at: data.adapters.map(() => data.weights.length - 1), a: 0, held: {A: null, B: null}};
    const large = viewer(by("viewer"));
    const rows = [];

    const label = (weight) => (weight.value === null ? weight.text : shown(weight.value));
    const cellAt = (a, w) => cells.get([a, w, state.p, state.s, state.m].join());
    const shared = (title) => data.adapters.filter((adapter) => adapter.title === title).length > 1;  // as epochs share it
    const titleOf = (adapter) => (shared(adapter.title) ? `${adapter.title} (${adapter.name})` : adapter.title);
    const nameOf = (cell) => `${titleOf(data.adapters[cell.a])} ${label(data.weights[cell.w])}`
        + (data.prompts.length > 1 ? `, ${data.prompts[cell.p]}` : "") + (data.seeds.length > 1 ? `, seed ${data.seeds[cell.s]}` : "")
        + (data.checkpoints.length > 1 ? `, ${data.checkpoints[cell.m]}` : "");
    const percent = (effect) => (effect === null ? "" : `${effect < 10 ? effect.toFixed(1) : Math.round(effect)} %`);

    const says = (cell) => (!cell || cell.effect === null || data.weights[cell.w].zero ? "" : percent(cell.effect));

    function say(text) {
        by("said").textContent = text;
        by("said").classList.add("shown");
        clearTimeout(say.timer);
        say.timer = setTimeout(() => by("said").classList.remove("shown"), 1600);
    }

    // one row

    function makeRow(adapter, a) {
        const row = tag("article", "row"), head = tag("header"), body = tag("div", "body");
        const stage = tag("div", "stage"), strip = tag("div", "strip");
        row.id = `row-${a}`;
        head.append(tag("h2", "", adapter.title));
        if (adapter.rung) head.append(tag("span", "rung", adapter.rung === "last" ? "last epoch" : `epoch ${adapter.rung}`));
        const facts = [adapter.title === adapter.name ? "" : adapter.name, ...adapter.facts].filter(Boolean).join(" · ");
        if (facts) head.append(tag("p", "", facts));
        const saturated = tag("p");
        head.append(saturated);

        const big = tag("button", "picture"), slider = tag("input"), says = tag("div", "says"), weight = tag("b"), effect = tag("span");
        big.type = "button";
        big.title = "Large (Enter)";
        big.addEventListener("click", () => zoom(a));
        Object.assign(slider, {type: "range", min: 0, max: data.weights.length - 1, step: 1});
        slider.setAttribute("aria-label", `weight of ${adapter.title}`);
        slider.addEventListener("input", () => { state.a = a; choose(a, Number(slider.value)); });
        says.append(weight, effect);
        const buttons = tag("div", "buttons");
        for (const which of ["A", "B"]) buttons.append(Object.assign(press(which, () => hold(which, a)), {title: `Hold as ${which}`}));
        buttons.append(Object.assign(press("Copy", () => copy(a)), {title: "Copy the settings (C)"}));
        const note = tag("p", "note");
        stage.append(big, slider, says, buttons, note);

        const thumbs = data.weights.map((each, w) => {
            const figure = tag("figure"), button = tag("button", "picture"), caption = tag("figcaption"), told = tag("span");
            button.type = "button";
            button.tabIndex = -1;
            button.addEventListener("click", () => { state.a = a; choose(a, w); button.focus(); });
            button.addEventListener("dblclick", () => zoom(a));
            caption.append(tag("b", "", label(each)), told);
            figure.append(button, caption);
            strip.append(figure);
            return {button, told};
        });
        body.append(stage, strip);
        row.append(head, body);
        return {row, big, slider, weight, effect, note, thumbs, saturated, a};
    }

    function fill(button, cell, what) {
        button.replaceChildren();
        button.setAttribute("aria-label", cell?.problem && cell.picture === null ? `${what}: ${cell.problem}` : what);
        if (cell && cell.picture !== null) {
            const image = new Image();
            image.src = data.pictures[cell.picture];
            image.alt = "";
            button.append(image);
        } else {
            button.append(tag("span", "why", cell?.problem || "not drawn"));
        }
    }

    function show(row) {
        const w = state.at[row.a], cell = cellAt(row.a, w);
        row.slider.value = w;
        row.slider.setAttribute("aria-valuetext", label(data.weights[w]));
        row.weight.textContent = `weight ${label(data.weights[w])}`;
        row.effect.textContent = says(cell) && `effect ${says(cell)}`;
        row.note.textContent = cell?.picture !== null && cell?.problem || "";
        fill(row.big, cell, `${nameOf(cell)}, large`);
        row.thumbs.forEach(({button}, number) => {
            if (number === w) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
            button.tabIndex = number === w ? 0 : -1;
        });
    }

    function showAll() {
        for (const row of rows) {
            row.thumbs.forEach(({button, told}, w) => {
                const cell = cellAt(row.a, w);
                fill(button, cell, nameOf(cell));
                told.textContent = says(cell);
            });
            const enough = data.adapters[row.a].saturation[state.m];
            row.saturated.textContent = enough === null ? "" : `nearly all of its effect at ${shown(enough)}`;
            show(row);
        }
        showLadders();
    }

    function choose(a, w) {
        state.at[a] = Math.min(Math.max(w, 0), data.weights.length - 1);
        show(rows[a]);
    }

    // two pictures

    function hold(which, a) {
        const cell = cellAt(a, state.at[a]);
        if (cell.picture === null) return say("There is no picture");
        state.held[which] = cell;
        showTray();
        say(`${which}: ${nameOf(cell)}`);
    }

    function showTray() {
        const pair = by("tray").querySelector(".pair");
        pair.replaceChildren(...["A", "B"].map((which) => {
            const cell = state.held[which], place = tag("div");
            if (cell) { const image = new Image(); image.src = data.pictures[cell.picture]; image.alt = ""; place.append(image); }
            place.append(tag("b", "", which), tag("span", "name", cell ? nameOf(cell) : "not chosen"));
            return place;
        }));
        by("tray").hidden = !state.held.A && !state.held.B;
        for (const button of by("tray").querySelectorAll("button:not([data-mode=clear])")) button.disabled = !(state.held.A && state.held.B);
    }

    function compare(mode) {
        const {A, B} = state.held;
        if (!A || !B) return say("Hold two pictures first: A and B");
        large.open([A, B].map((cell) => ({name: nameOf(cell), source: data.pictures[cell.picture]})), mode);
    }

    function zoom(a) {
        const cell = cellAt(a, state.at[a]);
        if (cell.picture !== null) large.open([{name: nameOf(cell), source: data.pictures[cell.picture]}], "side");
    }

    async function copy(a) {
        const cell = cellAt(a, state.at[a]);
        const text = cell.parameters || `${cell.text}\nSteps: ${data.settings.steps}, CFG scale: ${data.settings.guidance}, Seed: ${data.seeds[cell.s]}, Size: ${data.settings.size.join("x")}, Model: ${data.model}`;
        try {
            await navigator.clipboard.writeText(text);
        } catch {  // a page from a disk may not use the clipboard
            const field = tag("textarea");
            field.value = text;
            document.body.append(field);
            field.select();
            document.execCommand("copy");
            field.remove();
        }
        say("Copied");
    }

    // plots

    function showFigure(title, below, lines, x, ticks) {
        const figure = tag("figure"), caption = tag("figcaption", "", `${title} `);
        caption.append(tag("small", "", below));
        by("plots").append(figure);
        const numbers = tag("details"), table = tag("table"), scroll = tag("div", "scroll");
        const columns = [...new Set(lines.flatMap((line) => line.points.map((point) => point.x)))].sort((one, other) => one - other);
        const line = (cellKind, first, values) => {
            const made = tag("tr");
            made.append(...[first, ...values].map((value, place) => tag(place ? cellKind : "th", "", value)));
            return made;
        };
        table.append(line("th", x, columns.map((column) => ticks?.get(column) ?? shown(column))));
        for (const each of lines) table.append(line("td", each.name, columns.map((column) => percent(each.points.find((point) => point.x === column)?.y ?? null))));
        scroll.append(table);
        numbers.append(tag("summary", "", "Numbers"), scroll);
        figure.append(caption, numbers);
        return () => {  // once all figures are there, which share the width
            const {paddingLeft, paddingRight} = getComputedStyle(figure);
            const width = figure.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
            numbers.before(...plot({lines, x, ticks, width}));
        };
    }

    function goTo(a, w) {
        state.a = a;
        choose(a, w);
        rows[a].row.scrollIntoView({block: "center"});
        rows[a].thumbs[w].button.focus();
    }

    function showPlots() {
        const plots = by("plots");
        plots.replaceChildren();
        const drawings = [];
        const lines = data.adapters.map((adapter, a) => ({
            name: titleOf(adapter),
            points: data.weights.flatMap((weight, w) => (weight.value === null || effectsOf(adapter)[w] === null ? [] : [{
                x: weight.value, y: effectsOf(adapter)[w], label: `${titleOf(adapter)} at ${label(weight)}: ${percent(effectsOf(adapter)[w])}`, choose: () => goTo(a, w),
            }])),
        })).filter((line) => line.points.length > 1);
        const explained = "mean difference to weight 0 at equal seed, 100 % is black against white";
        if (lines.length) drawings.push(showFigure("Effect against weight", explained, lines, "weight"));
        else if (!data.weights.some((weight) => weight.zero)) plots.append(tag("p", "", "With weight 0 among the weights there would be a plot here: effect against weight."));
        for (const [run, members] of ladders()) {
            const positions = new Map(members.map((a, place) => [place, data.adapters[a].rung]));
            const rungs = data.weights.map((weight, w) => ({
                name: `weight ${label(weight)}`,
                points: members.flatMap((a, place) => (weight.zero || effectsOf(data.adapters[a])[w] === null ? [] : [{
                    x: place, y: effectsOf(data.adapters[a])[w], label: `epoch ${data.adapters[a].rung} at ${label(weight)}: ${percent(effectsOf(data.adapters[a])[w])}`, choose: () => goTo(a, w),
                }])),
            })).filter((line) => line.points.length > 1);
            if (rungs.length) drawings.push(showFigure(`Training of ${run}`, "effect after each epoch", rungs, "epoch", positions));
        }
        for (const draw of drawings) draw();
    }

    // epochs of one training, side by side

    function ladders() {
        const runs = new Map();
        data.adapters.forEach((adapter, a) => { if (adapter.run && adapter.epoch !== null) runs.set(adapter.run, [...runs.get(adapter.run) || [], a]); });
        for (const members of runs.values()) members.sort((one, other) => data.adapters[one].epoch - data.adapters[other].epoch);
        return [...runs].filter(([, members]) => members.length > 1);
    }

    function showLadders() {
        for (const old of document.querySelectorAll(".ladder")) old.remove();
        const w = Number(by("all").value);
        for (const [run, members] of ladders()) {
            const row = tag("article", "row ladder"), head = tag("header"), strip = tag("div", "strip"), body = tag("div", "body");
            head.append(tag("h2", "", `Training of ${run}`), tag("p", "", `epoch by epoch at weight ${label(data.weights[w])}; “All weights” chooses another`));
            for (const a of members) {
                const figure = tag("figure"), button = tag("button", "picture"), caption = tag("figcaption"), cell = cellAt(a, w);
                button.type = "button";
                fill(button, cell, `epoch ${data.adapters[a].rung}`);
                button.addEventListener("click", () => goTo(a, w));
                caption.append(tag("b", "", data.adapters[a].rung), tag("span", "", says(cell)));
                figure.append(button, caption);
                strip.append(figure);
            }
            body.append(strip);
            row.append(head, body);
            by("rows").before(row);
        }
    }

    // the whole page

    function order() {
        const chosen = by("order").value;
        const listed = data.adapters.map((_, a) => a);
        const compareBy = {
            strong: (one, other) => strongest(data.adapters[other]) - strongest(data.adapters[one]),
            weak: (one, other) => strongest(data.adapters[one]) - strongest(data.adapters[other]),
            name: (one, other) => data.adapters[one].title.localeCompare(data.adapters[other].title),
        }[chosen];
        if (compareBy) listed.sort(compareBy);
        by("rows").append(...listed.map((a) => rows[a].row));
        state.order = listed;
    }

    function theme(name) {
        document.documentElement.dataset.theme = name;
        by("theme").textContent = name === "dark" ? "Light" : "Dark";
        showPlots();
    }

    function switchTheme() {
        const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
        try { localStorage.setItem("lib_lora report theme", next); } catch { /* a page from a disk may keep nothing */ }
        theme(next);
    }

    function step(name, list, by_) {
        state[name] = (state[name] + by_ + list.length) % list.length;
        by({m: "checkpoint", p: "prompt", s: "seed"}[name]).value = state[name];
        by({m: "checkpoint", p: "prompt", s: "seed"}[name]).dispatchEvent(new Event("change"));
    }

    function key(event) {
        if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
        if (/^(select|textarea)$/i.test(event.target.tagName) || (event.target.type === "range" && event.key.startsWith("Arrow"))) return;
        const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key, back = event.shiftKey ? -1 : 1;
        const place = state.order.indexOf(state.a);
        const act = {
            ArrowLeft: () => goTo(state.a, state.at[state.a] - 1 < 0 ? 0 : state.at[state.a] - 1),
            ArrowRight: () => goTo(state.a, Math.min(state.at[state.a] + 1, data.weights.length - 1)),
            ArrowUp: () => { const a = state.order[Math.max(place - 1, 0)]; goTo(a, state.at[a]); },
            ArrowDown: () => { const a = state.order[Math.min(place + 1, state.order.length - 1)]; goTo(a, state.at[a]); },
            Enter: /^(button|summary|circle)$/i.test(event.target.tagName) && !event.target.closest(".strip") ? null : () => zoom(state.a),
            m: () => step("m", data.checkpoints, back), p: () => step("p", data.prompts, back), e: () => step("s", data.seeds, back),
            a: () => hold("A", state.a), b: () => hold("B", state.a), c: () => copy(state.a),
            s: () => compare("side"), f: () => compare("flicker"), d: () => compare("difference"),
            t: switchTheme, "?": () => by("keys").showModal(),
        }[pressed];
        if (!act) return;
        event.preventDefault();
        act();
    }

    function start() {
        const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
        const {steps, guidance, size, sampler, negative} = data.settings;
        by("title").textContent = `${count(data.adapters.length, "adapter", "adapters")} × ${count(data.weights.length, "weight", "weights")}`
            + ` × ${count(data.prompts.length, "prompt", "prompts")} × ${count(data.seeds.length, "seed", "seeds")}`
            + (data.checkpoints.length > 1 ? ` × ${data.checkpoints.length} checkpoints` : "");
        document.title = `Comparison: ${data.adapters.map((adapter) => adapter.title).join(", ")}`;
        by("settings").textContent = [data.checkpoints.length > 1 ? "" : data.model, `${steps} steps`, sampler, `guidance ${guidance}`, size.join(" × "),
            negative && `negative: ${negative}`, data.engine, data.made].filter(Boolean).join(" · ");
        by("problems").hidden = !data.problems.length;
        by("problems").append(...data.problems.map((problem) => tag("li", "", problem)));
        data.prompts.forEach((prompt, place) => by("prompt").append(new Option(prompt, place)));
        data.seeds.forEach((seed, place) => by("seed").append(new Option(seed, place)));
        data.checkpoints.forEach((name, place) => by("checkpoint").append(new Option(name, place)));
        by("checkpoint").parentElement.hidden = data.checkpoints.length < 2;
        by("checkpoint").addEventListener("change", () => { state.m = Number(by("checkpoint").value); order(); showAll(); showPlots(); });
        let redrawing = null;
        addEventListener("resize", () => { clearTimeout(redrawing); redrawing = setTimeout(showPlots, 150); });
        by("prompt").addEventListener("change", () => { state.p = Number(by("prompt").value); showAll(); });
        by("seed").addEventListener("change", () => { state.s = Number(by("seed").value); showAll(); });
        by("order").addEventListener("change", order);
        by("size").addEventListener("input", () => document.documentElement.style.setProperty("--size", `${by("size").value}px`));
        const all = by("all"), told = () => { by("all-says").textContent = label(data.weights[all.value]); };
        Object.assign(all, {max: data.weights.length - 1, value: data.weights.length - 1});
        all.addEventListener("input", () => {
            told();
            data.adapters.forEach((_, a) => choose(a, Number(all.value)));
            showLadders();
        });
        told();
        rows.push(...data.adapters.map(makeRow));
        order();
        by("theme").addEventListener("click", switchTheme);
        by("help").addEventListener("click", () => by("keys").showModal());
        by("tray").addEventListener("click", (event) => {
            const mode = event.target.dataset?.mode;
            if (mode === "clear") { state.held = {A: null, B: null}; showTray(); } else if (mode) compare(mode);
        });
        document.addEventListener("keydown", key);
        let kept = null;
        try { kept = localStorage.getItem("lib_lora report theme"); } catch { /* none */ }
        theme(kept || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
        showAll();
        showTray();
    }

    start();
})();
