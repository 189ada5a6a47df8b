// The preview of an adapter, set by the user: the last picture that was drawn, a file, a picture dropped or pasted.

(function () {
    "use strict";

    const GALLERIES = ["#txt2img_gallery", "#img2img_gallery", "#lora-gallery"];
    const TYPES = "image/png,image/jpeg,image/webp,image/gif";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});
    let newest = null;  // the gallery in which a picture appeared last

    // The address of the picture that was drawn last: the one shown large, or the first of its gallery; null if there is none.
    function lastPicture() {
        const galleries = GALLERIES.map((name) => lib.dom.pageRoot().querySelector(name)).filter(Boolean);
        const order = [newest, ...galleries].filter((gallery) => gallery?.isConnected);
        for (const gallery of order) {
            const pictures = [...gallery.querySelectorAll("img")].filter((image) => image.src && !image.closest(".livePreview"));
            const large = pictures.find((image) => image.dataset.testid === "detailed-image");
            if (pictures.length > 0) return (large ?? pictures[0]).src;
        }
        return null;
    }

    function watchGalleries() {
        document.addEventListener("load", (event) => {  // comes by here only on its way down
            const gallery = event.target.closest?.(GALLERIES.join(", "));
            if (gallery && !event.target.closest(".livePreview")) newest = gallery;
        }, true);
    }

    // Buttons, and what the picture in the panel takes. `save(blob)` gets the picture's bytes; `say(sentence)` what is wrong.
    function previewTools(target, {save, say}) {
        const {element} = lib.dom;
        const file = element("input", {
            type: "file", accept: TYPES, hidden: true, "aria-label": lib.t("A picture as preview"),
            onchange: () => take(file.files, {save, say}),
        });
        target.addEventListener("dragover", (event) => {
            event.preventDefault();
            target.classList.add("lora-over-drop");
        });
        target.addEventListener("dragleave", () => target.classList.remove("lora-over-drop"));
        target.addEventListener("drop", (event) => {
            event.preventDefault();
            event.stopPropagation();  // the WebUI takes every picture that is dropped for its own
            target.classList.remove("lora-over-drop");
            take(event.dataTransfer.files, {save, say});
        });
        return element("div", {class: "lora-preview-tools"},
            element("button", {
                type: "button", class: "lora-chip", text: lib.t("Preview from the last picture"), title: lib.t("The picture that was drawn last becomes the preview"),
                onclick: () => fromLast({save, say}),
            }),
            element("button", {
                type: "button", class: "lora-chip", text: lib.t("From a file …"), title: lib.t("A picture can also be dropped here, or pasted"),
                onclick: () => file.click(),
            }), file);
    }

    async function fromLast({save, say}) {
        const address = lastPicture();
        if (!address) return say(lib.t("There is no picture yet: draw one first."));
        try {
            const answer = await fetch(address, {credentials: "same-origin"});
            if (!answer.ok) throw new Error(answer.statusText || `status ${answer.status}`);
            await save(await answer.blob());
        } catch (error) {
            say(lib.t("The picture cannot be used: {why}", {why: error.message}));
        }
    }

    async function take(files, {save, say}) {
        const picture = [...files ?? []].find((file) => file.type.startsWith("image/"));
        if (!picture) return say(lib.t("That is not a picture: take a PNG, JPEG, WebP or GIF."));
        await save(picture);
    }

    lib.preview = {lastPicture, previewTools, take};
    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);  // when all scripts are here
    function start() {
        lib.served(watchGalleries);
    }
})();
