// The server's routes below /lora/v1, as functions. An error is the server's own sentence, with its `status` and the whole `answer`.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    function api(base) {
        const root = new URL(base.replace(/^\//, "").replace(/\/?$/, "/"), document.baseURI);  // the page may be below a path

        async function ask(path, options = {}) {
            const response = await fetch(new URL(path, root), {credentials: "same-origin", ...options});
            const answer = await response.json().catch(() => ({}));
            if (response.ok) return answer;
            const sentence = answer.error || answer.detail || response.statusText || `status ${response.status}`;
            throw Object.assign(new Error(sentence), {status: response.status, answer});
        }

        function post(path, value = {}) {
            return ask(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(value)});
        }

        return {
            page: () => ask("page"),  // in the WebUI only: whether these scripts are those that the server goes with
            cards: () => ask("cards"),  // in the WebUI only: checkpoint and favourites, for the page Lora
            list: (query) => ask(`adapters?${query}`),
            entry: (id, more = "") => ask(`adapters/${id}?metadata=0${more}`),
            inside: (id) => ask(`adapters/${id}/inside`),
            notes: (id, fields) => post(`adapters/${id}/notes`, fields),
            marks: (ids, change) => post("marks", {ids, ...change}),
            preview: (id, blob) => ask(`adapters/${id}/preview`, {
                method: "POST", headers: {"Content-Type": blob.type || "application/octet-stream"}, body: blob,
            }),
            duplicates: () => ask("duplicates"),
            rescan: () => post("rescan"),
            rescanning: () => ask("rescan"),
            hash: () => post("hashing"),
            hashing: () => ask("hashing"),
            measure: () => post("measuring"),
            measuring: () => ask("measuring"),
            prompt: (prompt) => post("prompt", {prompt}),
            together: (prompt) => post("together", {prompt}),
            save: (asked) => post("saving", asked),
            saving: () => ask("saving"),
            check: (repair) => post("weights", {repair}),
            checking: () => ask("weights"),
            strength: () => ask("strength"),
            comparisons: () => ask("comparisons"),
            plan: (wanted) => post("comparisons/plan", wanted),
            compare: (wanted) => post("comparisons", wanted),
            comparison: (id, since = 0) => ask(`comparisons/${id}?since=${since}`),
            cancel: (id) => post(`comparisons/${id}/cancel`),
            file: (path) => new URL(path, root).href,
            picture: (path, more = "") => new URL(path + more, root).href,
        };
    }

    lib.api = api;
})();
