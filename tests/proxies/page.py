"""The configurations on docs/deployment.md.

A fenced block whose first line is `# file: NAME` is that file. One that begins with
`# NAME, VARIATION: instead of "TEXT"` takes the place of TEXT in it.
"""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
BLOCK = re.compile(r"^```\w+\n# ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r'file: (?P<file>\S+)|(?P<of>\S+), (?P<variation>.+): instead of "(?P<old>.+)"')


def read():
    """The files by name; the variations by file and name, as what is replaced and by what."""
    files, variations = {}, {}
    for head, body in BLOCK.findall(PAGE.read_text()):
        found = HEAD.fullmatch(head)
        if not found:
            continue
        if found["file"]:
            files[found["file"]] = body
        else:
            variations[found["of"], found["variation"]] = (found["old"], body.strip())
    return files, variations


FILES, VARIATIONS = read()


def configuration(name, edits, variation=None):
    """The file with each key of `edits` replaced by its value. A key that is not there is an error:
    the page has changed, and what is tested would not be what it says."""
    text = FILES[name]
    if variation:
        old, new = VARIATIONS[name, variation]
        text = replace(text, old, new)
    for old, new in edits.items():
        text = replace(text, old, new)
    return text


def replace(text, old, new):
    assert old in text, f"docs/deployment.md: {old!r} is not there"
    return text.replace(old, new)
