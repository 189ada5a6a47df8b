"""Which names a page that listens on this computer only goes by, against DNS rebinding.

A stranger's page can have its own name, evil.test, point to 127.0.0.1 after it was loaded. To the browser it then is
the same page as ours, so that Host and Origin agree: only the name tells. Names for this computer, and addresses, which
nobody can re-point, are let in; so is what the user names.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from typing import Any

HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/@\[\]?#\\]+?)\.?(?::(\d{1,5}))?")
SAID = "this page listens on this computer only and is called {}; start it with --allow-host {} if that is right"


class KnownHosts:
    """ASGI middleware: answers 421 to requests for other hosts, and 400 where the host makes no sense."""

    def __init__(self, app: Any, allowed: Iterable[str] = ()) -> None:
        """`allowed`: names besides those of this computer; "*" allows all."""
        self.app = app
        self.allowed = frozenset(name.lower().rstrip(".") for name in allowed)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket") or "*" in self.allowed:
            await self.app(scope, receive, send)
            return
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        name = host_name(given[0]) if len(given) == 1 else None
        if name is not None and (name in self.allowed or is_local(name)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            shown = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in name or "")[:100]
            sentence = SAID.format("localhost", shown) if name else "the Host header is missing or makes no sense"
            content = json.dumps({"error": sentence}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
            await send({"type": "http.response.start", "status": 421 if name else 400, "headers": headers})
            await send({"type": "http.response.body", "body": content})


def host_name(header: str) -> str | None:
    """The name in a Host header, in lower case and without port and brackets; None if it makes no sense."""
    match = HOST.fullmatch(header.strip())
    if match is None or int(match[2] or 0) > 65535:
        return None
    return match[1].lower().strip("[]")


def is_local(name: str) -> bool:
    """A name of this computer, or an address: whoever opens one has asked for it."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether a server that listens on `address` is reached from this computer only."""
    try:
        return address == "localhost" or ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
