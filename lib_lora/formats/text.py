"""Text from files, names and prompts, as it may be shown: nothing in it steers a terminal, or hides what stands there.

    "a\\x1b[31m"  ->  "a [31m"        "gpj.\\u202eexe"  ->  "gpj.\\\\u202eexe"        half a character  ->  "\\\\udce9"
"""

from __future__ import annotations

import unicodedata

BLANKS = frozenset({"Cc", "Zs", "Zl", "Zp"})  # controls and all kinds of spaces; other odd signs are spelt out


def printable(text: str) -> str:
    """`text` on one line, every sign of it visible."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if unicodedata.category(sign) in BLANKS else ascii(sign)[1:-1]


def encodable(text: str) -> str:
    """`text` without lone surrogates, which JSON can smuggle in and no file or database takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
