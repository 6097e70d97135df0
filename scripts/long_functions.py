#!/usr/bin/env python3
"""Lists functions of over 60 lines or over 7 arguments outside tests, and fails if there are any that no comment
explains. A function is explained by `// Long: <why>` or `// Arguments: <why>` in the ten lines before it, or by the
`vectorized!` macro and kernels whose comment says why.

    scripts/long_functions.py [crate ...]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "crates"
LINES, ARGUMENTS = 60, 7
START = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const )?(?:async )?(?:unsafe )?fn (\w+)")


def arguments(text: str) -> int:
    """Arguments of a function whose text begins at `fn`, `self` not counted."""
    at = text.index("(", text.index("fn "))
    angle = text.find("<")
    if 0 <= angle < at:  # generics may have parentheses
        depth = 0
        for i in range(angle, len(text)):
            depth += (text[i] == "<") - (text[i] == ">" and text[i - 1] != "-")
            if depth == 0:
                at = text.index("(", i)
                break
    depth, parts, current = 0, [], ""
    for letter in text[at:]:
        if letter in "([{<":
            depth += 1
            if depth == 1:
                continue
        elif letter in ")]}" or (letter == ">" and not current.endswith("-")):
            depth -= 1
            if depth == 0:
                break
        if letter == "," and depth == 1:
            parts.append(current)
            current = ""
        else:
            current += letter
    parts.append(current)
    return sum(1 for part in parts if part.strip() and not re.fullmatch(r"&?\s*(?:'\w+ )?(?:mut )?self", part.strip()))


def main() -> int:
    crates = sys.argv[1:] or sorted(path.name for path in ROOT.iterdir() if (path / "src").is_dir())
    unexplained = 0
    for crate in crates:
        for path in sorted((ROOT / crate / "src").rglob("*.rs")):
            lines = path.read_text().split("\n")
            for number, line in enumerate(lines):
                if re.match(r"#\[cfg\(test\)\]", line):
                    break
                start = START.match(line)
                if not start:
                    continue
                indent = start.group(1)
                # A declaration in a trait has no body.
                opens = next((i for i in range(number, len(lines)) if lines[i].endswith(("{", ";", "}"))), number)
                ends = {indent + "}"} if lines[opens].endswith("{") else {lines[opens]}
                end = next((i for i in range(opens, len(lines)) if lines[i] in ends), opens)
                length, count = end - number + 1, arguments("\n".join(lines[number : number + 30]))
                if length <= LINES and count <= ARGUMENTS:
                    continue
                before = "\n".join(lines[max(0, number - 10) : number])
                explained = re.search(r"// (?:Long|Arguments|The arguments)\b", before) is not None
                unexplained += not explained
                note = " (explained)" if explained else ""
                name = path.relative_to(ROOT)
                print(f"{name}:{number + 1}: {start.group(2)}: {length} lines, {count} arguments{note}")
    print(f"{unexplained} functions over {LINES} lines or {ARGUMENTS} arguments without a comment that says why")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
