"""Judges a run: every case of every shard's specification must be there and be acceptable.

    verdicts.py OUTDIR [VERDICT]...

The suite's own exit status says nothing, so the verdict stands on index.json: on the behaviour and
on the closing behaviour. OK is accepted, INFORMATIONAL only where no answer is wrong, and what the
command line adds. `verdicts.py --self-test` shows that each kind of failure is seen.
"""

import collections
import json
import pathlib
import sys
import tempfile

# Both peers' good manners, for which RFC 6455 has no rule: messages that are still under way when
# the closing handshake begins (7.1.6), and close codes above 4999 (7.13.1, 7.13.2).
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

LISTED_MAX = 80


def case_order(case):
    return [int(number) for number in case.split(".")]


def is_accepted(case, verdict, extra):
    return (verdict == "OK" or verdict in extra
            or (verdict == "INFORMATIONAL" and case in INFORMATIONAL))


def judge(outdir, extra):
    """Returns a tally of verdicts by section, the expected cases and the complaints."""
    tally = collections.defaultdict(collections.Counter)
    expected, complaints = [], []
    specs = sorted(pathlib.Path(outdir).glob("shard*/spec.json"))
    if not specs:
        complaints.append("no shard was planned")
    for spec in specs:
        index = spec.with_name("index.json")
        results = collections.defaultdict(list)
        for cases in (json.loads(index.read_text()) if index.exists() else {}).values():
            for case, result in cases.items():
                results[case].append(result)
        cases = json.loads(spec.read_text())["cases"]
        expected += cases
        for case in cases:
            section = tally[case_order(case)[0]]
            # None is a case that never ran; two are a report that mixes runs.
            if len(results[case]) != 1:
                section["MISSING"] += 1
                complaints.append(f"{case:8} has {len(results[case])} results")
                continue
            result, = results[case]
            section[result["behavior"]] += 1
            if not all(is_accepted(case, result[key], extra)
                       for key in ("behavior", "behaviorClose")):
                report = spec.with_name(result["reportfile"])
                complaints.append(f"{case:8} {result['behavior']}, "
                                  f"closing: {result['behaviorClose']} ({report})")
    return tally, expected, complaints


def report(outdir, extra):
    tally, expected, complaints = judge(outdir, extra)
    for section in sorted(tally):
        counts = ", ".join(f"{count} {verdict}" for verdict, count in tally[section].most_common())
        print(f"section {section:2}: {counts}")
    for complaint in complaints[:LISTED_MAX]:
        print(f"NOT ACCEPTED {complaint}")
    if complaints[LISTED_MAX:]:
        print(f"... and {len(complaints) - LISTED_MAX} more")
    total = ", ".join(f"{count} {verdict}" for verdict, count in
                      sum(tally.values(), collections.Counter()).most_common())
    print(f"autobahn: {len(expected) - len(complaints)} of {len(expected)} cases accepted: {total}")
    return 1 if complaints else 0


def self_test():
    def complaints(results, extra=()):
        with tempfile.TemporaryDirectory() as outdir:
            shard = pathlib.Path(outdir, "shard0")
            shard.mkdir()
            (shard / "spec.json").write_text(json.dumps({"cases": ["1.1.1", "7.1.6"]}))
            if results is not None:
                index = {"corewire": {
                    case: {"behavior": behavior, "behaviorClose": close, "reportfile": "x.json"}
                    for case, (behavior, close) in results.items()}}
                (shard / "index.json").write_text(json.dumps(index))
            return len(judge(outdir, set(extra))[2])

    fine = ("OK", "OK")
    soft = ("OK", "INFORMATIONAL")
    assert complaints({"1.1.1": fine, "7.1.6": fine}) == 0
    assert complaints({"1.1.1": fine, "7.1.6": ("INFORMATIONAL", "INFORMATIONAL")}) == 0
    assert complaints({"1.1.1": soft, "7.1.6": fine}) == 1
    assert complaints({"1.1.1": ("OK", "FAILED"), "7.1.6": fine}) == 1
    assert complaints({"1.1.1": ("FAILED", "OK"), "7.1.6": fine}) == 1
    assert complaints({"1.1.1": ("NON-STRICT", "OK"), "7.1.6": fine}) == 1
    assert complaints({"1.1.1": ("NON-STRICT", "OK"), "7.1.6": fine}, ["NON-STRICT"]) == 0
    assert complaints({"1.1.1": fine}) == 1
    assert complaints(None) == 2
    with tempfile.TemporaryDirectory() as empty:
        assert len(judge(empty, set())[2]) == 1


if __name__ == "__main__":
    self_test()
    if sys.argv[1:] != ["--self-test"]:
        sys.exit(report(sys.argv[1], set(sys.argv[2:])))
