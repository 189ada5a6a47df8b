"""What other programs write around tags and is not read here: named, so that nobody waits for its effect."""

from __future__ import annotations

import re

from lib_lora.errors import TagError
from lib_lora.grammar.scan import scan, shortened

AT_TAGS = re.compile(r"#(?:increment|decrement|cmd)\b[^\s:\]]{0,100}")
OTHERS = (
    (re.compile(r"<fromto\[[^\]<>]{0,40}\]:[^<>]{0,200}>?"),
     "is SwarmUI's and is not read; write [<lora:a:1>:<lora:b:1>:0.5], or start= and stop= in a tag"),
    (AT_TAGS, "is composable-lora's and is not read; write a curve: <lora:name:0@0,1@1>"),
)  # fmt: skip
MOST = 8  # sentences


def others(prompt: str) -> tuple[TagError, ...]:
    """A sentence for each thing of that kind, each once; what belongs to tags only where there is one."""
    has_tags = next(scan(prompt), None) is not None
    found = {match[0]: told for pattern, told in OTHERS if has_tags or pattern is not AT_TAGS
             for match in pattern.finditer(prompt)}  # fmt: skip
    return tuple(TagError(f"{shortened(text)}: {told}") for text, told in list(found.items())[:MOST])
