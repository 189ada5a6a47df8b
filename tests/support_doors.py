"""What `lib_lora/webui` asks of the WebUI, read from its source; and whether a checkout of the WebUI has a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

WEBUI = Path(__file__).parents[1] / "lib_lora" / "webui"
FOREIGN = ("modules", "networks", "lora", "launch")  # Python modules of the WebUI and of its built-in extension
PACKAGES = {"modules.textual_inversion.textual_inversion"}  # modules that lie deeper
PLAIN = {name for kind in (dict, list, str) for name in dir(kind)} | {"click"}  # methods of Python's and Gradio's kinds
CHANGES = {"append", "clear", "extend", "insert", "pop", "setdefault", "update"}  # those of them that change it
NAMED = {  # where names are written as text: (file, what holds them) -> what they are names in, and for what
    ("legacy.py", "LISTS"): ("networks", "patched"),
    ("legacy.py", "IN_LORA"): ("lora", "patched"),
    ("a1111/layers.py", "functions"): ("networks", "patched"),
    ("a1111/encoding.py", "OPTIONS"): ("modules.shared.opts", "read"),
    ("names/settings.py", "DEFAULTS"): ("modules.shared.opts", "read"),
}
Found = set[tuple[str, str]]  # (name, use)


class Reader(ast.NodeVisitor):
    """Follows the WebUI's modules through one file: imports, attributes, local names for them, `self` of a subclass."""

    def __init__(self) -> None:
        self.found: Found = set()
        self.names: dict[str, str] = {}  # name in the file -> what it stands for
        self.base = ""  # of the class that is read, if it is the WebUI's
        self.own: set[str] = set()  # what that class brings itself

    def dotted(self, node: ast.AST | None) -> str:
        """What of the WebUI's an expression is; "" if it is nothing of it."""
        match node:
            case ast.Name(name):
                return self.names.get(name, "")
            case ast.Attribute(ast.Name("self"), name) if self.base and name not in self.own:
                return f"{self.base}.{name}"
            case ast.Attribute(ast.Call(ast.Name("super")), name) if self.base:
                return f"{self.base}.{name}"
            case ast.Attribute(value, name) if (owner := self.dotted(value)) or ast.unparse(node) in self.names:
                return self.names.get(ast.unparse(node)) or f"{owner}.{name}"
            case ast.Call(ast.Name("getattr"), [value, ast.Constant(name), *_]) if owner := self.dotted(value):
                return f"{owner}.{name}"
            case ast.Call(ast.Attribute(_, "get" | "_module"), [ast.Constant(name), *_]) if name in FOREIGN:
                return name  # sys.modules.get("networks")
            case ast.Call(ast.Name("cast"), [_, value]) | ast.IfExp(body=value):
                return self.dotted(value)
            case ast.Call(ast.Attribute(value, "values"), []):  # what is in it is a part of it
                return self.dotted(value)
            case ast.Subscript(value, ast.Constant(name)) if ast.unparse(value) == "sys.modules" and name in FOREIGN:
                return name
        return ""

    def note(self, node: ast.AST | None, use: str) -> bool:
        """Write down what an expression asks for, without methods of Python's own kinds; False if it asks nothing."""
        if not (name := self.dotted(node)):
            return False
        owner, _, last = name.rpartition(".")
        if last in ("__init__", "__path__"):
            name = owner
        elif last in PLAIN and owner and owner != self.base and not is_module(owner):
            name, use = owner, "patched" if last in CHANGES else "read"
        if last != "__init__" and (use != "read" or last == "__path__" or not is_module(name)):
            self.found.add((name, use))
        return True

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            if (root := each.name.partition(".")[0]) in FOREIGN:
                self.names[each.asname or root] = each.name if each.asname else root

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and node.module.split(".")[0] in FOREIGN:
            self.names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}

    def visit_Name(self, node: ast.Name) -> None:
        self.note(node, "read")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not self.note(node, "patched" if isinstance(node.ctx, ast.Store) else "read"):
            self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Store) or not self.note(node.value, "patched"):
            self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        match node.elts:
            case [owner, ast.Constant(str(name))] if self.dotted(owner):  # what `patches.patch` is given
                self.found.add((f"{self.dotted(owner)}.{name}", "patched"))
            case _:
                self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(ast.Attribute(_, "_replace"), [owner, ast.Constant(name), *_]) if self.dotted(owner):
                self.found.add((f"{self.dotted(owner)}.{name}", "patched"))
            case _ if self.note(node, "read"):
                return
            case ast.Call(function):
                last = self.dotted(function).rpartition(".")[2]
                if not self.note(function, "registered" if last.startswith(("on_", "register_")) else "called"):
                    self.visit(function)
        for each in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.visit(each)

    def visit_For(self, node: ast.For) -> None:
        if isinstance(node.target, ast.Name) and (name := self.dotted(node.iter)):
            self.names[node.target.id] = name
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.note(node.target, "patched")
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if name := self.dotted(node.value):
            self.names[ast.unparse(node.target)] = name

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target, value in _pairs(node):
            if name := self.dotted(value):
                self.names[ast.unparse(target)] = name

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self.names)
        self.generic_visit(node)
        self.names = {name: value for name, value in self.names.items() if name in before or name.startswith("self.")}
        self.names |= before

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [name for each in node.bases if (name := self.dotted(each))]
        self.found |= {(name, "derived") for name in bases}
        if not bases:
            self.generic_visit(node)
            return
        self.base, self.own = bases[0], set(_own(node))
        self.found |= {(f"{self.base}.{name}", "overridden") for name in _methods(node) if name not in OWN_METHODS}
        for each in node.body:
            self.visit(each)
        self.base, self.own = "", set()


OWN_METHODS = {  # public ones of subclasses that the WebUI does not know
    "announce", "failed", "follow",  # LoraNetwork
    "is_as_typed",  # TypedParams
    "notes",  # LoraPage
    "save",  # LoraEditor
}


def asked() -> dict[tuple[str, str], list[str]]:
    """{(name, use): files} of everything that the rooms ask of the WebUI."""
    everything: dict[tuple[str, str], list[str]] = {}
    for path in sorted(WEBUI.rglob("*.py")):
        place, tree = path.relative_to(WEBUI).as_posix(), ast.parse(path.read_text("utf-8"))
        reader = Reader()
        reader.visit(tree)
        for (file, holder), (owner, use) in NAMED.items():
            if file == place:
                reader.found |= {(f"{owner}.{name}", use) for name in _texts(tree, holder)}
        for name, use in reader.found:
            everything.setdefault((name, use), []).append(place)
            while (name := name.rpartition(".")[0]) and not is_module(name):  # the way to it
                everything.setdefault((name, "read"), []).append(place)
    used = {name for name, use in everything if use != "read"}  # such a name is read too: that is not said twice
    return {(name, use): places for (name, use), places in everything.items() if use != "read" or name not in used}


def is_module(name: str) -> bool:
    return name in FOREIGN or name in PACKAGES or (name.startswith("modules.") and name.count(".") == 1)


def _pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def _own(node: ast.ClassDef) -> Iterator[str]:
    """What a class of ours brings: methods, annotated attributes, and what is assigned to `self`."""
    for each in ast.walk(node):
        match each:
            case ast.FunctionDef(name) | ast.AnnAssign(ast.Name(name)) | ast.AnnAssign(ast.Attribute(_, name)):
                yield name
            case ast.Assign():
                yield from (target.attr for target, _ in _pairs(each)
                            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self")


def _methods(node: ast.ClassDef) -> list[str]:
    return [each.name for each in node.body if isinstance(each, ast.FunctionDef) and not each.name.startswith("_")]


def _texts(tree: ast.Module, holder: str) -> Iterator[str]:
    """The keys of a dictionary, or the elements of a tuple, that is assigned or returned under a name."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value) if name == holder:
                elements = value.keys if isinstance(value, ast.Dict) else value.elts
            case ast.FunctionDef(name=name, body=[*_, ast.Return(ast.Dict(elements))]) if name == holder:
                pass
            case _:
                continue
        yield from (each.value for each in elements if isinstance(each, ast.Constant))


def defined(root: Path, place: str) -> set[str]:
    """What a file of a checkout, or a class in it ("file:Class"), defines; of a folder, its name."""
    file, _, kind = place.partition(":")
    path = root / file
    if path.is_dir():
        return {path.name}
    tree = ast.parse(path.read_text("utf-8"))
    if kind:
        return set(_members(tree, kind))
    found = set(_assigned(tree.body))
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Attribute(ast.Name(), name)]):  # networks.originals = ..., in another file
                found.add(name)
            case ast.Dict(keys):  # options
                found |= {key.value for key in keys if isinstance(key, ast.Constant)}
            case ast.Call(ast.Attribute(_, "add_argument"), [ast.Constant(flag), *_]):
                found.add(flag.lstrip("-").replace("-", "_"))
    return found


def _members(tree: ast.Module, kind: str) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == kind:
            yield from _assigned(node.body)
            yield from _own(node)
            for method in (each for each in node.body if isinstance(each, ast.FunctionDef)):
                if method.name == "__init__":  # some give their attributes names in a loop over its arguments
                    yield from (each.arg for each in method.args.args)
            for base in node.bases:
                yield from _members(tree, ast.unparse(base))


def _assigned(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.AnnAssign(ast.Name(name)):
                yield name
            case ast.Import(names) | ast.ImportFrom(names=names):
                yield from (each.asname or each.name for each in names)
            case ast.Assign():
                yield from (target.id for target, _ in _pairs(node) if isinstance(target, ast.Name))
            case ast.If(body=some, orelse=others):
                yield from _assigned([*some, *others])
            case ast.Try(body=some):
                yield from _assigned(some)
