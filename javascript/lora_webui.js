// In the WebUI: a strip below the prompt of txt2img and of img2img. The standalone page places its own.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    lib.dom ? start() : addEventListener("DOMContentLoaded", start);
    function start() {
        for (const tab of ["txt2img", "img2img"]) {
            lib.dom.mount(`#${tab}_prompt_row`, (row) => {
                row.after(lib.dom.element("div", {
                    class: "lora-strip", "data-lora-prompt": `#${tab}_prompt textarea`, "data-lora-api": "/lora/v1",
                }));
            });
        }
    }
})();
