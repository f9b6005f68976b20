"""Deals the selected cases out to shards and writes each shard's specification.

    plan.py server|tls-server|client PORT OUTDIR AGENT SHARDS [+GLOB | -GLOB]...

Prints the number of shards, which is smaller than asked for when there are fewer cases. Runs under
the suite's own Python 2.7, because the suite alone knows its cases.
"""

import json
import os
import sys

from autobahntestsuite import case
from autobahntestsuite.caseset import CaseSet


def main(role, port, outdir, agent, shards, *globs):
    suite = CaseSet(case.CaseSetname, case.CaseBasename, case.Cases,
                    case.CaseCategories, case.CaseSubCategories)
    selected = suite.parseSpecCases({
        "cases": [glob[1:] for glob in globs if glob[0] == "+"] or ["*"],
        "exclude-cases": [glob[1:] for glob in globs if glob[0] == "-"],
    })
    # A glob without a star is taken as it stands, whether there is such a case or not.
    unknown = [name for name in selected if name not in suite.CasesIndices]
    if unknown or not selected:
        sys.exit("no such case: %s" % " ".join(unknown or globs))
    shards = min(int(shards), len(selected))
    for shard in range(shards):
        directory = os.path.join(outdir, "shard%d" % shard)
        os.makedirs(directory)
        # Dealt like cards: the slow cases stand beside each other.
        spec = {"outdir": directory, "cases": selected[shard::shards],
                "exclude-cases": [], "exclude-agent-cases": {}}
        if role != "client":
            scheme = "wss" if role == "tls-server" else "ws"
            spec["servers"] = [{"agent": agent, "url": scheme + "://127.0.0.1:" + port}]
        else:
            spec["url"] = "ws://127.0.0.1:%d" % (int(port) + shard)
        with open(os.path.join(directory, "spec.json"), "w") as file:
            json.dump(spec, file, indent=1)
    print(shards)


main(*sys.argv[1:])
