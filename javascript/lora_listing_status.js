// The line that says how many adapters are shown, and what has just happened.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Status {
        constructor() {
            this.element = lib.dom.element("div", {class: "lora-told", role: "status", "aria-live": "polite"});
        }

        count({total, installed}) {
            const values = {n: total.toLocaleString(), all: installed.toLocaleString()};
            this.element.textContent = total === installed ? lib.t(total === 1 ? "{n} adapter" : "{n} adapters", values)
                : lib.t(installed === 1 ? "{n} of {all} adapter" : "{n} of {all} adapters", values);
        }

        say(sentence) {
            this.element.textContent = sentence;
            this.element.classList.remove("lora-fresh");
            void this.element.offsetWidth;  // so that the animation begins again
            this.element.classList.add("lora-fresh");
        }
    }

    lib.Status = Status;
})();
