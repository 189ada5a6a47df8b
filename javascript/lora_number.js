// The numbers of a tag, as people type and write them: the same as lib_lora/grammar/number.py.

(function () {
    "use strict";

    const NUMBER = /^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]-[0-9]{1,3})?$/;
    const MISSING_POINT = /^[+-]?0+[1-9][0-9]*$/;
    const THOUSANDS = /^[+-]?[0-9]{1,6}(?:\.[0-9]{1,6})?[eE]\+?[0-9]$/;
    const WHOLE = /^\+?[0-9]{1,9}$/;
    const ZEROS = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50];  // where the digits of other scripts start
    const POINTS = "_,;'\u3002\u3001\u00b7\u2019\u066b";
    const MINUS = "\u2212\u2010\u2011\u2012\u2013\u2014";
    const USUAL = "0.8";  // said where nothing better is known

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // Full-width signs as ASCII.
    function narrow(text) {
        return text.replace(/[\uff01-\uff5e]/g, (sign) => String.fromCharCode(sign.charCodeAt(0) - 0xfee0));
    }

    // The finite number that was typed, or null.
    function read(text) {
        const typed = narrow(text);
        const number = NUMBER.test(typed) && !MISSING_POINT.test(typed) ? Number(typed) : NaN;
        return Number.isFinite(number) ? number : null;
    }

    // The number in a field of a form; blanks around it are nothing.
    function readField(text) {
        return read(text.trim());
    }

    // The whole number from 1 up that was typed, or null.
    function readWhole(text) {
        const number = WHOLE.test(text) ? Number(text) : 0;
        return number >= 1 ? number : null;
    }

    // What somebody who typed `text` for a number probably meant.
    function meant(text) {
        if ([...text.slice(0, 42)].length > 20) return USUAL;
        const signs = [...narrow(text)].map((sign) => {
            if (POINTS.includes(sign)) return ".";
            if (MINUS.includes(sign)) return "-";
            const zero = ZEROS.find((code) => sign.codePointAt(0) >= code && sign.codePointAt(0) < code + 10);
            return zero === undefined ? sign : String(sign.codePointAt(0) - zero);
        });
        let plain = signs.join("").replaceAll(" ", "").replace(/\.+/g, ".").replace(/\.$/, "");
        if (MISSING_POINT.test(plain)) plain = plain.replace("0", "0.");
        if (THOUSANDS.test(plain)) return write(Number(plain));
        return read(plain) !== null ? plain : USUAL;
    }

    function write(value) {
        const rounded = Number(value.toPrecision(6));
        const text = String(rounded);
        if (!text.includes("e")) return text === "-0" ? "0" : text;
        return Math.abs(rounded) < 1 ? rounded.toFixed(20).replace(/0+$/, "").replace(/\.$/, "") : BigInt(rounded).toString();
    }

    lib.number = {narrow, read, readField, readWhole, meant, write};
})();
