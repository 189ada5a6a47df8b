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

    class Preview {
        // `isLarge`: as it was made, not the thumbnail. changed(card): there is another one now; say(sentence).
        constructor(api, card, isLarge, {changed, say}) {
            Object.assign(this, {api, card, changed, say});
            this.picture = this.draw(isLarge);
            this.tools = card.broken ? null : this.makeTools();
        }

        draw(isLarge) {
            const node = lib.card.picture(this.api, this.card, isLarge ? "&original=1" : "");
            node.title = lib.t("Drop or paste a picture here: it becomes the preview");
            return node;
        }

        // A newer state of the card.
        update(card, isLarge) {
            const isOther = card.thumbnail !== this.card.thumbnail;
            this.card = card;
            if (isOther) this.picture.replaceChildren(...this.draw(isLarge).children);
        }

        // Buttons; the picture takes what is dropped on it.
        makeTools() {
            const {element} = lib.dom;
            const file = element("input", {
                type: "file", accept: TYPES, hidden: true, "aria-label": lib.t("A picture as preview"), onchange: () => this.take(file.files),
            });
            this.picture.addEventListener("dragover", (event) => {
                event.preventDefault();
                this.picture.classList.add("lora-over-drop");
            });
            this.picture.addEventListener("dragleave", () => this.picture.classList.remove("lora-over-drop"));
            this.picture.addEventListener("drop", (event) => {
                event.preventDefault();
                event.stopPropagation();  // the WebUI takes every picture that is dropped for its own
                this.picture.classList.remove("lora-over-drop");
                this.take(event.dataTransfer.files);
            });
            return element("div", {class: "lora-preview-tools"},
                element("button", {
                    type: "button", class: "lora-chip", text: lib.t("Preview from the last picture"), title: lib.t("The picture that was drawn last becomes the preview"),
                    onclick: () => this.takeLast(),
                }),
                element("button", {
                    type: "button", class: "lora-chip", text: lib.t("From a file …"), title: lib.t("A picture can also be dropped here, or pasted"),
                    onclick: () => file.click(),
                }), file);
        }

        paste(event) {
            if (this.card.broken || event.clipboardData.files.length === 0) return;
            event.preventDefault();
            event.stopPropagation();
            this.take(event.clipboardData.files);
        }

        async take(files) {
            const picture = [...files ?? []].find((file) => file.type.startsWith("image/"));
            if (!picture) return this.say(lib.t("That is not a picture: take a PNG, JPEG, WebP or GIF."));
            await this.save(picture);
        }

        async takeLast() {
            const address = lastPicture();
            if (!address) return this.say(lib.t("There is no picture yet: draw one first."));
            try {
                const answer = await fetch(address, {credentials: "same-origin"});
                if (!answer.ok) throw new Error(answer.statusText || `status ${answer.status}`);
                await this.save(await answer.blob());
            } catch (error) {
                this.refuse(error);
            }
        }

        async save(blob) {
            try {
                this.changed(await this.api.preview(this.card.id, blob));
                this.say(lib.t("This is the preview now."));
            } catch (error) {
                this.refuse(error);
            }
        }

        refuse(error) {
            this.say(lib.t("The picture cannot be used: {why}", {why: error.message}));
        }
    }

    lib.Preview = Preview;
    document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : setTimeout(start, 0);  // when all scripts are here
    function start() {
        lib.served(watchGalleries);
    }
})();
