// The loaded model's weights beside the file that they came from: a button compares them bit for bit, another one puts right what
// differs. The server does it in the background, between two pictures.

(function () {
    "use strict";

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    class Weights {
        constructor(api) {
            const {element, iconButton} = lib.dom;
            this.api = api;
            this.button = iconButton("check", lib.t("Check the loaded model against its file"), () => this.check(false));
            this.said = element("span", {role: "status", "aria-live": "polite"});
            this.repairButton = element("button", {type: "button", class: "lora-chip", text: lib.t("Repair"), title: lib.t("Takes all adapters out and reads the weights that differ from the file again"), hidden: true, onclick: () => this.check(true)});
            this.close = iconButton("remove", lib.t("Put away"), () => this.hide());
            this.line = element("div", {class: "lora-checked", hidden: true}, this.said, this.repairButton, this.close);
            this.progress = new lib.Progress();
            this.element = element("div", {class: "lora-checking"}, this.progress.element, this.line);
        }

        async check(repair) {
            this.button.disabled = this.repairButton.disabled = true;
            this.say(lib.t("Waiting until no picture is made …"), false);
            const {result, problem} = await this.job(repair).catch((error) => ({problem: error.message}));
            this.progress.hide();
            this.button.disabled = this.repairButton.disabled = false;
            this.say(problem ?? sentence(result), Boolean(result) && result.same < result.total);
            if (repair) this.button.focus();
        }

        async job(repair) {
            await this.api.check(repair);
            return lib.finished(() => this.api.checking(), (state) => state.total && this.progress.show(state, "Comparing {done} of {total} weights"));
        }

        say(text, isWrong) {
            this.line.hidden = false;
            this.line.classList.toggle("lora-is-wrong", isWrong);
            this.said.textContent = text;
            this.repairButton.hidden = !isWrong;
        }

        hide() {
            this.line.hidden = true;
            this.button.focus();
        }
    }

    function sentence({same, total, file, unknown, repaired, differing, carrying}) {
        const count = lib.t("{same} of {total} weights are the bits of {file}", {same: same.toLocaleString(), total: total.toLocaleString(), file});
        return [count,
            ...(carrying && !repaired && !differing.length ? [lib.t("{n} carry adapters, and are what these make of them", {n: carrying.toLocaleString()})] : []),
            ...(repaired ? [lib.t("{n} were put right", {n: repaired.toLocaleString()})] : []),
            ...(differing.length ? [lib.t("others are {names}", {names: differing.join(", ")})] : []),
            ...(unknown ? [lib.t("{n} are not in that", {n: unknown.toLocaleString()})] : []),
        ].join("; ");
    }

    lib.Weights = Weights;
})();
