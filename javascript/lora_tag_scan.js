// Where the tags of a text stand, however they are typed: the same as lib_lora/grammar/scan.py. No expression looks at a sign again
// and again: a prompt of a million signs is read in a fraction of a second, whatever they are.

(function () {
    "use strict";

    const BLANK = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff";  // invisible ones too
    const anyCase = (word) => [...word].map((each) => {
        const both = [each, each.toUpperCase()];
        return `[${both.join("")}${both.map((letter) => String.fromCharCode(letter.charCodeAt(0) + 0xfee0)).join("")}]`;
    }).join("");
    const KEYWORD = `(?:${anyCase("lora")}(?:${anyCase("ctl")})?|${anyCase("lyco")}(?:${anyCase("ris")})?)`;
    const HEAD = new RegExp(`[<＜《〈][${BLANK}]*${KEYWORD}(?:[${BLANK}]*([:：])|(?![0-9A-Za-z_-]))`, "g");
    const BRACKETS = /[<＜>＞]/g;  // a name may hold the others
    const ALL_BRACKETS = /[<＜《〈>＞》〉]/g;
    const UNCLOSED = new RegExp(`[^${BLANK},，<＜《〈>＞》〉]*`, "y");
    // A file may be called "Re：Zero": the full-width colon ends a name only where a number, a curve or `key=` follows.
    const IN_CURVE = "0-9０-９.．,，_@＠~～;；sSｓ+＋－-";  // signs of a number or a curve, behind the first digit
    const ARGUMENT = `(?:[-+－＋]?[.．]?[0-9０-９][${IN_CURVE}]*(?:[eE][-+]?[0-9]+)?|[A-Za-z]+[${BLANK}]*[=＝][^:：]*)`;
    const END_OF_NAME = new RegExp(`:|：(?=[${BLANK}]*${ARGUMENT}[${BLANK}]*(?:[:：]|$))`);
    const LEADING = new RegExp(`^[${BLANK}]+`);
    const ALL_BLANK = new RegExp(`[${BLANK}]`);
    const SHOWN = 100;  // letters of a tag in a sentence

    const lib = (globalThis.loraLib = globalThis.loraLib || {});

    // The places of the first `most` tags, whatever stands in them.
    function scan(text, most = Infinity) {
        const found = [];
        let place = 0;
        while (found.length < most) {
            HEAD.lastIndex = place;
            const head = HEAD.exec(text);
            if (!head) break;
            place = HEAD.lastIndex;
            const brackets = "《〈".includes(head[0][0]) ? ALL_BRACKETS : BRACKETS;
            brackets.lastIndex = place;
            const closing = brackets.exec(text);
            const isOpen = !closing || !">＞》〉".includes(closing[0]);
            if (isOpen && !head[1]) continue;
            UNCLOSED.lastIndex = place;
            const bodyEnd = isOpen ? place + UNCLOSED.exec(text)[0].length : closing.index;
            const end = isOpen ? bodyEnd : bodyEnd + 1;
            const parts = split(text.slice(place, bodyEnd), place);
            const fault = isOpen ? "the closing > is missing; write <lora:name:0.8>" : head[1] ? "" : "the colon after lora is missing; write <lora:name:0.8>";
            found.push({start: head.index, end, source: text.slice(head.index, end), parts, name: parts[0].text, fault, isOpen});
            place = end;
        }
        return found;
    }

    // [{text, start, end, colon}] of what stands between the colons; start and end leave out the blanks around, `colon` is the
    // place of the one before. The signs of all but the name are ASCII where they can be.
    function split(body, offset) {
        const nameEnd = END_OF_NAME.exec(body);
        if (!nameEnd) return [stripped(body, offset)];
        let start = nameEnd.index + 1;
        const parts = [stripped(body.slice(0, nameEnd.index), offset)];
        for (const raw of body.slice(start).split(/[:：]/)) {
            parts.push({...stripped(lib.number.narrow(raw), offset + start), colon: offset + start - 1});
            start += raw.length + 1;
        }
        return parts;
    }

    function stripped(raw, offset) {
        const from = LEADING.exec(raw)?.[0].length ?? 0;
        let to = raw.length;
        while (to > from && ALL_BLANK.test(raw[to - 1])) to -= 1;
        return {text: raw.slice(from, to), start: offset + from, end: offset + to};
    }

    function shortened(text) {
        if (text.length <= SHOWN) return text;
        const letters = [...text.slice(0, 2 * SHOWN + 2)];
        return letters.length <= SHOWN ? text : letters.slice(0, SHOWN).join("") + "…";
    }

    // The text between the tags.
    function without(text) {
        const found = scan(text);
        return found.map((tag, n) => text.slice(n ? found[n - 1].end : 0, tag.start)).join("") + text.slice(found.at(-1)?.end ?? 0);
    }

    lib.tagScan = {scan, stripped, shortened, without};
})();
