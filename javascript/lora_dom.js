// What strip and listing share at the rim: elements, icons, the prompt's textarea.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    const SVG = "http://www.w3.org/2000/svg";
    const ICONS = {  // 16 x 16, strokes
        remove: "M4 4l8 8M12 4l-8 8",
        sound: "M1.5 8s2.5-4.5 6.5-4.5S14.5 8 14.5 8s-2.5 4.5-6.5 4.5S1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
        muted: "M2 2l12 12M6 4a7 7 0 0 1 2-.4C12 3.6 14.5 8 14.5 8a11 11 0 0 1-2 2.4M10 12.2a6 6 0 0 1-2 .3C4 12.5 1.500 8 1.500 8A11 11 0 0 1 4.200 5.2",
        solo: "M8 1.500v2.500M8 12v2.500M1.500 8H4M12 8h2.500M8 5.500a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5z",
        split: "M2 8h4l4-4h4M6 8l4 4h4",
        info: "M8 7.200v4M8 4.800v.2M8 1.800a6.200 6.200 0 1 0 0 12.4A6.200 6.200 0 0 0 8 1.800z",
        check: "M3 8.500l3.200 3.200L13 4.800",
        grid: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
        list: "M2 4h12M2 8h12M2 12h12",
        reverse: "M5 13.500v-11M2.500 5L5 2.500 7.500 5M11 2.500v11M8.500 11l2.500 2.500L13.500 11",
        refresh: "M13.500 8a5.500 5.500 0 1 1-1.600-3.900M13.500 2v3h-3",
        star: "M8 1.800l1.900 4 4.400.6-3.200 3 .8 4.400L8 11.700l-3.900 2.100.8-4.400-3.200-3 4.400-.6z",
        pick: "M2.500 4a1.500 1.500 0 0 1 1.500-1.500h8a1.500 1.500 0 0 1 1.500 1.500v8a1.500 1.500 0 0 1-1.500 1.500H4a1.500 1.500 0 0 1-1.500-1.500zM5 8.200l2.200 2.200L11.200 6",
        copies: "M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3",
        help: "M8 1.800a6.200 6.200 0 1 0 0 12.4A6.200 6.200 0 0 0 8 1.800zM6 6.300a2 2 0 1 1 2.900 1.800c-.6.3-.9.7-.9 1.300M8 11.400v.2",
        edit: "M3 13l.6-2.800 7.200-7.200 2.200 2.200-7.200 7.200zM9.400 4.400l2.200 2.200",
        image: "M2 3h12v10H2zM2 11l3.500-3.500 3 3 2-2L14 12M10.500 6h.1",
        down: "M4 6.500l4 4 4-4",
        grip: "M6 3.500v.1M10 3.500v.1M6 8v.1M10 8v.1M6 12.500v.1M10 12.500v.1",
        curve: "M2 12.500c3 0 3-9 6-9s3 6 6 6M2 14.500h12",
        plus: "M8 3v10M3 8h10",
        minus: "M3 8h10",
        save: "M3 2.500h8l2.500 2.500v8.500h-11v-11zM5.500 2.500v3.500h4.500V2.500M5 13.500V9.500h6v4",
        compare: "M2 3h5v10H2zM9 3h5v10H9zM2 10l2-2 3 3M9 9l2.500-3L14 9",
        warn: "M8 2l6.500 11.500h-13zM8 6.500v3.200M8 11.600v.2",
    };

    // element("button", {class: "x", text: "...", onclick}, child, ...): text is always text, never markup.
    function element(tag, properties = {}, ...children) {
        const node = document.createElement(tag);
        for (const [name, value] of Object.entries(properties)) {
            if (value === null || value === undefined || value === false) continue;
            if (name === "text") node.textContent = value;
            else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
            else if (name === "style") Object.assign(node.style, value);
            else node.setAttribute(name, value === true ? "" : String(value));
        }
        node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
        return node;
    }

    // The same for the elements of a drawing.
    function drawing(tag, properties = {}, ...children) {
        const node = document.createElementNS(SVG, tag);
        for (const [name, value] of Object.entries(properties)) {
            if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
            else if (value !== null) node.setAttribute(name, String(value));
        }
        node.append(...children);
        return node;
    }

    function icon(name) {
        return drawing("svg", {viewBox: "0 0 16 16", class: "lora-icon", "aria-hidden": "true"}, drawing("path", {d: ICONS[name]}));
    }

    function iconButton(name, label, onclick, more = "") {
        return element("button", {type: "button", class: `lora-button ${more}`, title: label, "aria-label": label, onclick}, icon(name));
    }

    function badge(family) {
        return element("span", {class: "lora-badge", "data-lora-family": family.id, text: family.id === "unknown" ? lib.t("unknown") : family.label});
    }

    function pageRoot() {
        return document.querySelector("gradio-app")?.shadowRoot ?? document;
    }

    function textarea(selector) {
        const found = pageRoot().querySelector(selector);
        return found?.matches("textarea, input") ? found : found?.querySelector("textarea, input") ?? null;
    }

    // Give the textarea another text: only the piece that differs is exchanged, so the caret stays where the user has it.
    function write(area, text) {
        const old = area.value;
        if (old === text) return;
        const [start, tail] = apart(old, text);
        area.setRangeText(text.slice(start, text.length - tail), start, old.length - tail, "preserve");
        area.dispatchEvent(new Event("input", {bubbles: true}));
    }

    // The same as one step of the browser's own undo in that textarea. The focus stays where it is.
    function type(area, text) {
        const old = area.value;
        if (old === text) return;
        const focused = document.activeElement;
        const [start, tail] = apart(old, text);
        area.focus({preventScroll: true});
        area.setSelectionRange(start, old.length - tail);
        const piece = text.slice(start, text.length - tail);
        document.execCommand(piece ? "insertText" : "delete", false, piece);
        if (area.value !== text) write(area, text);
        if (focused !== area) focused?.focus({preventScroll: true});
    }

    // How many signs two texts share at their start and at their end.
    function apart(old, text) {
        let start = 0;
        while (start < old.length && start < text.length && old[start] === text[start]) start += 1;
        let tail = 0;
        while (tail < old.length - start && tail < text.length - start && old[old.length - 1 - tail] === text[text.length - 1 - tail]) {
            tail += 1;
        }
        return [start, tail];
    }

    // Whether a key that is pressed there writes something.
    function isTyping(target) {
        return target.isContentEditable || target.matches?.("textarea, select, input:not([type=range], [type=checkbox], [type=button], [type=file])");
    }

    // Into the clipboard, also where the page came without https.
    async function copy(text) {
        if (navigator.clipboard && globalThis.isSecureContext) return navigator.clipboard.writeText(text);
        const area = element("textarea", {style: {position: "fixed", opacity: "0"}});
        area.value = text;
        const focused = document.activeElement;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
        focused?.focus();
    }

    // Call `changed(text)` now and whenever the textarea's text is another, who ever wrote it. Ends with `owner`.
    function watch(owner, selector, changed) {
        let last = null;
        let seen = false;
        function look() {
            seen ||= owner.isConnected;
            if (seen && !owner.isConnected) {
                clearInterval(timer);
                document.removeEventListener("input", look, true);
                return;
            }
            const text = textarea(selector)?.value ?? "";
            if (text !== last) {
                last = text;
                changed(text);
            }
        }
        const timer = setInterval(look, 200);  // the page may write without an event
        document.addEventListener("input", look, true);
        look();
    }

    // What the whole page tells is heard as long as `owner` is in it: a page may make its elements anew, and ours with them.
    function hear(owner, name, act) {
        addEventListener(name, (event) => owner.isConnected && act(event));
    }

    lib.dom = {element, drawing, icon, iconButton, badge, textarea, write, type, watch, hear, copy, pageRoot, isTyping};
})();
