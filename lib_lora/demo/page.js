// The standalone page's own: a slider that moves draws anew, if the user wants that, with the same seed.

(function () {
    "use strict";

    const PAUSE = 180;  // milliseconds
    let timer = null;

    document.addEventListener("lora-edited", () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
            const isWanted = document.querySelector("#lora-live input")?.checked;
            const hasPicture = document.querySelector("#lora-gallery img");
            if (isWanted && hasPicture) document.querySelector("button#lora-redraw, #lora-redraw button")?.click();
        }, PAUSE);
    });
})();
