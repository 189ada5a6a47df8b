// What a file says of itself, for the details: training tags as a picture, facts, hashes, others of the same content.

(function () {
    "use strict";

    const MOST_TAGS = 24;
    const HASHES = {sha256: "SHA-256", autov2: "AutoV2", autov3: "AutoV3", addnet: "AddNet", model: "Model"};

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    function section(title, ...children) {
        return lib.dom.element("section", {class: "lora-section"}, lib.dom.element("h4", {text: title}), ...children);
    }

    function text(title, value) {
        return value ? section(title, lib.dom.element("p", {class: "lora-text", text: value})) : null;
    }

    function histogram(tags) {
        if (tags.length === 0) return null;
        const {element} = lib.dom;
        const most = tags[0][1] || 1;
        return section(lib.t("Trained on"), element("div", {class: "lora-histogram"}, ...tags.slice(0, MOST_TAGS).map(([tag, count]) =>
            element("div", {class: "lora-bin", title: `${tag}: ${count}`},
                element("span", {class: "lora-bin-bar", style: {width: `${Math.max(2, 100 * count / most)}%`}}),
                element("span", {class: "lora-bin-tag", text: tag}),
                element("span", {class: "lora-bin-count", text: count})))));
    }

    function facts(all) {
        const {element} = lib.dom;
        const rows = [
            ["Base model", [all.family.label, ...all.evidence].join("; ")],
            ["Modules", all.modules ? `${all.modules} (${all.components.join(", ")})` : ""],
            ["Alias", all.alias === all.title ? "" : all.alias],
            ["Author", all.author], ["Licence", all.license], ["Prediction", all.prediction_type],
            ["Embeddings", all.embeddings.join(", ")],
            ["Not understood", all.unknown.length ? lib.t("{n} tensors, such as {name}", {n: all.unknown.length, name: all.unknown[0]}) : ""],
            ...all.training,
            ["File", all.path],
            ["Changed", new Date(all.modified * 1000).toLocaleDateString()],
            ["Beside the file", all.warnings.join("; ")],
        ].filter(([, value]) => value);
        return section(lib.t("File"), element("dl", {class: "lora-facts"}, ...rows.flatMap(([name, value]) => [
            element("dt", {text: lib.t(name)}), element("dd", {text: value}),
        ])));
    }

    // `compute()`: reads the file; the section is made again afterwards.
    function hashes(all, {compute, say}) {
        const {element, iconButton} = lib.dom;
        const known = Object.entries(all.hashes ?? {});
        if (known.length === 0) return null;
        const rows = known.filter(([, value]) => value).flatMap(([kind, value]) => [
            element("dt", {text: HASHES[kind] ?? kind}),
            element("dd", {class: "lora-hash"}, element("code", {text: value, title: value}),
                iconButton("copies", lib.t("Copy {what}", {what: HASHES[kind] ?? kind}), async () => {
                    await lib.dom.copy(value).then(() => say(lib.t("Copied")), (error) => say(error.message));
                })),
        ]);
        const missing = known.some(([, value]) => !value) && !all.broken;
        return section(lib.t("Hashes"), element("dl", {class: "lora-facts"}, ...rows), missing ? element("button", {
            type: "button", class: "lora-chip", text: lib.t("Compute"), title: lib.t("Reads the whole file"),
            onclick: (event) => {
                event.target.disabled = true;
                compute();
            },
        }) : null);
    }

    function duplicates(all, open) {
        if (!all.duplicates?.length) return null;
        const {element} = lib.dom;
        return section(lib.t("Also installed"), element("div", {class: "lora-also"}, ...all.duplicates.map(({id, name, reason}) => element("button", {
            type: "button", class: "lora-also-one", onclick: () => open(id),
        }, element("span", {class: "lora-line-name", text: name}), element("span", {class: "lora-meta", text: reason})))));
    }

    lib.facts = {section, text, histogram, facts, hashes, duplicates};
})();
