"""Runs the scenarios.

    scenarios.py OUTDIR [SCENARIO | list]...

A scenario is a function of one of the files beside this one, marked as `@scenario` and called with
a directory of its own; its name says what it proves. Exits with 1 if one fails, after all have run.
"""

import sys
import time
import traceback
from pathlib import Path

# Each of these adds its own scenarios to the list.
import exchange
import idle
import onward
import restart
import smuggling
import units
from bed import SCENARIOS


def main(out, *names):
    if names == ("list",):
        print("\n".join(SCENARIOS))
        return 0
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"proxies: no such scenario: {', '.join(unknown)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or SCENARIOS:
        began = time.monotonic()
        try:
            SCENARIOS[name](Path(out) / name)
        except Exception:
            traceback.print_exc()
            failed.append(name)
        outcome = "FAILED" if name in failed else "ok"
        print(f"proxies: {name}: {outcome}, {time.monotonic() - began:.1f} s", flush=True)
    if failed:
        print(f"proxies: {len(failed)} failed; see {out}", file=sys.stderr)
        return 1
    print("proxies: all is well")
    return 0


sys.exit(main(*sys.argv[1:]))
