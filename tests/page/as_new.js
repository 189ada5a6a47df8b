// The page as it was when it had loaded, without loading it again: what of it is ours (the strips, the listing) is thrown away
// and put in anew, as the server sent it, and all else must be the same as at first. `asNew.begin()` remembers how it was;
// `asNew.again()` says whether it is so once more.

(() => {
    const PROMPTS = ["#lora-prompt textarea", "#lora-negative :is(textarea, input)"];
    const OURS = ".lora-strip, .lora-listing";
    // What moves on by itself when Gradio has loaded; and what stands there for good once the other tab was open.
    const RESTLESS = "script, style, link, [data-testid=status-tracker], [role=tabpanel]:has(#lora-listing-holder)";
    const WRITTEN = [[".gradio-container", "style"], ["[role=tab]", "aria-controls"]];
    let first = null;

    function begin() {
        first = {texts: PROMPTS.map((name) => find(name).value), page: page()};
    }

    async function again() {
        if (!first) return false;
        document.querySelector("[role=tab]").click();
        await until(() => !find("#lora-listing-holder")?.offsetWidth);  // else the listing would come at once
        document.activeElement.blur();
        getSelection().removeAllRanges();
        PROMPTS.forEach((name, n) => write(find(name), first.texts[n]));
        for (const node of document.querySelectorAll(OURS)) begunAnew(node);
        scrollTo(0, 0);
        return until(isReady);
    }

    // Whether it came true within a second.
    async function until(isSo) {
        for (let n = 0; n < 40 && !isSo(); n += 1) await new Promise((go) => setTimeout(go, 25));
        return isSo();
    }

    const isReady = () => document.querySelectorAll(".lora-strip[data-lora-mounted]").length === PROMPTS.length && page() === first.page;

    // The listing comes when its tab is opened, as at first.
    function begunAnew(node) {
        const place = node.parentElement;
        const sent = node.cloneNode(false);
        sent.removeAttribute("data-lora-mounted");
        sent.className = node.classList[0];
        node.remove();
        if (sent.matches(".lora-strip")) return place.append(sent);
        new ResizeObserver((_, observer) => {
            if (place.offsetWidth === 0) return;
            observer.disconnect();
            place.append(sent);
        }).observe(place);
    }

    // All of the page that is not ours, with the values of its fields.
    function page() {
        const copy = document.body.cloneNode(true);
        copy.querySelectorAll(`${RESTLESS}, ${OURS}`).forEach((node) => node.remove());
        for (const [name, attribute] of WRITTEN) copy.querySelectorAll(name).forEach((node) => node.removeAttribute(attribute));
        const fields = [...document.querySelectorAll("input, textarea, select")].filter((field) => !field.closest(OURS));
        return JSON.stringify([copy.outerHTML.replaceAll("<!---->", "").replace(/\s+/g, " "), fields.map((field) => [field.value, field.checked, field.disabled])]);
    }

    function write(field, text) {
        if (field.value === text) return;
        field.value = text;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    }

    const find = (name) => document.querySelector(name);

    globalThis.asNew = {begin, again};
})();
