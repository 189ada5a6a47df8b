// In the WebUI: a strip below each prompt of txt2img and of img2img, and a word to the listing when the checkpoint is another.
// The standalone page places its own strip.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    addEventListener("DOMContentLoaded", start);
    function start() {
        for (const tab of ["txt2img", "img2img"]) {
            for (const [prompt, side] of [["prompt", null], ["neg_prompt", "uncond"]]) {
                lib.mount(`#${tab}_${prompt}_row`, (row) => {
                    row.after(lib.dom.element("div", {
                        class: "lora-strip", "data-lora-prompt": `#${tab}_${prompt} textarea`, "data-lora-api": "/lora/v1", "data-lora-side": side,
                        ...Object.fromEntries(["steps", "width", "height"].map((name) => [`data-lora-${name}`, `#${tab}_${name} input[type=number]`])),
                    }));
                });
            }
        }
        lib.served(() => {
            watchCheckpoint();  // the page has read its options before
            globalThis.onOptionsChanged?.(watchCheckpoint);
        });
    }

    let checkpoint = null;
    function watchCheckpoint() {
        const now = globalThis.opts?.sd_checkpoint_hash ?? globalThis.opts?.sd_model_checkpoint;
        if (checkpoint !== null && now !== checkpoint) {
            dispatchEvent(new CustomEvent("lora-checkpoint"));
            dispatchEvent(new CustomEvent("lora-rescanned"));
        }
        checkpoint = now;
    }
})();
