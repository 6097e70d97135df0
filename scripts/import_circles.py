#!/usr/bin/env python3
"""Finds import circles between the files of a crate, prints them, and fails where there is one.

File a imports file b where it names an item of b: `use crate::b::X`, `use super::b::{X, Y}`, or a path like
`crate::b::x(...)` or `b::x(...)` of a child module. A re-export (`pub use`) is no import: who uses the name
imports the file that defines it. A `mod.rs` that uses its children makes a circle with a child that uses what
the `mod.rs` itself defines. `lib.rs` counts as imported only for names that it re-exports.

    scripts/import_circles.py            # all crates
    scripts/import_circles.py bc-mp3     # some

Tests (`#[cfg(test)]` modules at the end of a file, files under tests/) do not count.
"""

import re
import sys
from pathlib import Path

# Circles that are left on purpose, with why.
ALLOWED = {
    ("bc-nn", frozenset({"backend", "gradients", "optim", "parameters"})): "the list of operators names the weights and "
    "gradients that operators work on, and these name the backend that holds their memory",
}

ROOT = Path(__file__).resolve().parent.parent / "crates"


def modules(source: Path) -> dict[tuple[str, ...], Path]:
    """Module paths of a crate's files, `()` for lib.rs."""
    found = {}
    for path in sorted(source.rglob("*.rs")):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] == "mod":
            parts.pop()
        if parts in (["main"],) or parts[:1] == ["bin"]:
            continue
        found[() if parts == ["lib"] else tuple(parts)] = path
    return found


def code(text: str) -> str:
    """Without tests, comments and strings."""
    text = re.split(r"^#\[cfg\(test\)\]\s*(?:pub\(crate\) )?mod \w+ \{", text, maxsplit=1, flags=re.M)[0]
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    text = re.sub(r"//[^\n]*", "", text)
    # The parent of a module inside a file is the file itself.
    inner = re.compile(r"^(?:pub(?:\([^)]*\))? )?mod \w+ \{\n.*?^\}", flags=re.M | re.S)
    return inner.sub(lambda found: re.sub(r"\bsuper::(?!super)", "self::", found[0]), text)


def expand(tree: str) -> list[str]:
    """The paths of a use tree: `a::{b, c::{d, self}}` is a::b, a::c::d and a::c."""
    brace = tree.find("{")
    if brace < 0:
        return [tree.split(" as ")[0].strip()]
    prefix, inner = tree[:brace], tree[brace + 1 : tree.rindex("}")]
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(inner + ","):
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append(inner[start:at])
            start = at + 1
    return [(prefix + path).removesuffix("::self") for part in parts if part.strip() for path in expand(part.strip())]


PUBLIC_USE = r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);"


def trees(pattern: str, body: str) -> list[str]:
    return [path for tree in re.findall(pattern, body) for path in expand(re.sub(r"\s+", " ", tree))]


def re_exports(module: tuple[str, ...], text: str, known: dict) -> dict[str, tuple[str, ...]]:
    """Names that a file re-exports, with the modules that they come from."""
    exported = {}
    for path in trees(PUBLIC_USE, code(text)):
        names = path.split("::")
        at = module
        if names[0] == "crate":
            at, names = (), names[1:]
        elif names[0] == "self":
            names = names[1:]
        while names and at + (names[0],) in known:
            at, names = at + (names[0],), names[1:]
        if at != module and names:
            exported[names[-1]] = at
    return exported


def imports(module: tuple[str, ...], text: str, known: dict, exported: dict) -> set[tuple[str, ...]]:
    """The modules that a file names."""
    body = re.sub(PUBLIC_USE, "", code(text))
    paths = trees(r"\buse\s+([^;]+);", body)
    paths += re.findall(r"\b(?:crate|self|super)(?:::\w+)+", body)
    paths += re.findall(r"(?<![\w:])[a-z]\w*(?:::\w+)+", body)
    targets = set()
    for path in paths:
        names = path.strip().split("::")
        if names[0] == "crate":
            at, names = (), names[1:]
        elif names[0] in ("self", "super"):
            at = module
            while names and names[0] in ("self", "super"):
                at, names = (at[:-1] if names[0] == "super" else at), names[1:]
        elif module + (names[0],) in known:
            at = module
        else:
            continue
        while names and at + (names[0],) in known:
            at, names = at + (names[0],), names[1:]
        while names and names[0] in exported.get(at, {}):
            at = exported[at][names[0]]
        if at != module and at:
            targets.add(at)
    return targets


def circles(graph: dict) -> list[list]:
    """Strongly connected components of more than one file (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def main() -> int:
    crates = sys.argv[1:] or sorted(path.name for path in ROOT.iterdir() if (path / "src").is_dir())
    total = 0
    for crate in crates:
        known = modules(ROOT / crate / "src")
        texts = {module: path.read_text() for module, path in known.items()}
        exported = {module: re_exports(module, text, known) for module, text in texts.items()}
        graph = {module: imports(module, text, known, exported) for module, text in texts.items()}
        for component in circles(graph):
            names = frozenset("/".join(module) for module in component)
            if (crate, names) in ALLOWED:
                print(f"{crate}: " + ", ".join(sorted(names)) + " (allowed: " + ALLOWED[crate, names] + ")")
                continue
            total += 1
            print(f"{crate}: " + ", ".join("/".join(module) or "lib" for module in component))
            for module in component:
                for target in sorted(graph[module]):
                    if target in component:
                        print(f"    {'/'.join(module)} uses {'/'.join(target)}")
    print(f"{total} import circles in {len(crates)} crates")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
