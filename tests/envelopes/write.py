"""Writes one envelope in each way that Python's json has: python3 write.py > python.txt"""

import json

MESSAGES = [
    1, -0.5, 1e30, 'h\u00e9llo\n"\\/', "\U0001f600", "\u2028\u007f", None, True, {}, [],
    {"a": [1, {"b": None}]}, {"type": "batch", "batch_size": 1, "messages": [0]},
]
ENVELOPE = {"type": "batch", "batch_size": len(MESSAGES), "messages": MESSAGES}
WAYS = [
    {},
    {"separators": (",", ":")},
    {"ensure_ascii": False},
    {"sort_keys": True},
    {"indent": 2},
    {"indent": "\t", "sort_keys": True, "ensure_ascii": False},
]

print("\n---\n".join(json.dumps(ENVELOPE, **way) for way in WAYS), end="")
