"""Has a client offer permessage-deflate in every way that it can, and judges the server's answers.

    deflate.py CLIENT COMPRESSION=URL... -- COMMAND [ARGUMENT]...

CLIENT says whose offers these are (see CLIENTS), COMPRESSION how the server at URL was started
(`--compression`). COMMAND gets a line of JSON for each connection to make:

    {"url": "ws://...", "offer": {"client_max_window_bits": true, ...}, "exchange": true}

and prints a line for each, with `offered` and `answered` added: the values of
Sec-WebSocket-Extensions in the request and in the answer, null for none. With `exchange` it is to
exchange messages there, and fails if one does not come back as it was. That is asked for once for
all offers to a server that end in the same: what was agreed on is all that either end knows then.

Exit status: 0 every answer is as RFC 7692 §7.1 and the server's own compression have it; 1 one is
not. `deflate.py --self-test` shows that each kind of wrong answer is seen.
"""

import itertools
import json
import subprocess
import sys
from collections import Counter

SERVER_NO, CLIENT_NO = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"
PARAMS = SERVER_NO, CLIENT_NO, SERVER_BITS, CLIENT_BITS
BITS = range(8, 16)


def is_like_aiohttp(offer):
    """One number, which is meant for the server's window; 15 is not said, 8 not taken."""
    return (SERVER_NO not in offer and CLIENT_NO not in offer and offer.get(CLIENT_BITS) is True
            and offer.get(SERVER_BITS) not in (8, 15))


CLIENTS = {
    # Python's zlib compresses with no window of 8 bits, Node's takes one of 9 bits for it, which
    # is the same in effect: deflate looks back no further than 250 bytes then.
    "websockets": lambda offer: offer.get(CLIENT_BITS) != 8,
    "ws": lambda offer: True,
    "aiohttp": is_like_aiohttp,
    "chromium": lambda offer: offer == {CLIENT_BITS: True},
}


def offers():
    values = (None, True), (None, True), (None, *BITS), (None, True, *BITS)
    for row in itertools.product(*values):
        yield {param: value for param, value in zip(PARAMS, row) if value is not None}


def parse(header):
    """The parameters in an offer or an answer of permessage-deflate alone."""
    name, *params = (part.strip() for part in header.split(";"))
    assert name == "permessage-deflate", f"not permessage-deflate: {header}"
    parsed = {}
    for param in params:
        param, _, value = param.partition("=")
        assert param in PARAMS and param not in parsed, f"unknown or repeated: {param}"
        if param in (SERVER_BITS, CLIENT_BITS) and value:
            assert value in map(str, BITS), f"not from 8 to 15: {param}={value}"
            parsed[param] = int(value)
        else:
            assert not value, f"{param} has a value"
            parsed[param] = True
    return parsed


def outcome(offer, answer):
    """What holds when an offer was answered: each end's window and whether it is kept.

    A client that offers not to keep its window, or a smaller one, holds to that by itself
    (§7.1.1.2, §7.1.2.2).
    """
    offered_bits = offer.get(CLIENT_BITS, True)
    return (
        answer.get(SERVER_BITS, 15), SERVER_NO not in answer,
        min(answer.get(CLIENT_BITS, 15), 15 if offered_bits is True else offered_bits),
        CLIENT_NO not in answer and CLIENT_NO not in offer,
    )


def wanted(compression, offer):
    """The outcome that a server started so has to bring about; None if it must not compress."""
    mode, *numbers = compression.split(":")
    # No compressor has a window of 8 bits, and a larger one must not be taken (§7.1.2.1).
    if mode == "disabled" or offer.get(SERVER_BITS) == 8:
        return None
    answer = {} if mode == "dedicated" else {SERVER_NO: True, CLIENT_NO: True}
    answer |= {param: True for param in (SERVER_NO, CLIENT_NO) if param in offer}
    own_bits = int(numbers[0]) if numbers else 15
    answer[SERVER_BITS] = min(own_bits, offer.get(SERVER_BITS, 15))
    return outcome(offer, answer)


def check(compression, offered, answered):
    """Fails if a server started so must not answer so."""
    offer, expected = parse(offered), wanted(compression, parse(offered))
    if answered is None:
        assert expected is None, "was declined"
        return
    answer = parse(answered)
    assert expected is not None, "was not declined"
    assert True not in (answer.get(SERVER_BITS), answer.get(CLIENT_BITS)), "a window has no size"
    # §7.1.1.1 and §7.1.2.1: what the client asks for is granted by saying so.
    assert SERVER_NO in answer or SERVER_NO not in offer, f"{SERVER_NO} is not granted"
    if SERVER_BITS in offer:
        assert answer.get(SERVER_BITS, 16) <= offer[SERVER_BITS], f"{SERVER_BITS} is not granted"
    # §7.1.2.2: a client that does not offer it may not know of it.
    if CLIENT_BITS in answer:
        assert CLIENT_BITS in offer, f"{CLIENT_BITS} was not offered"
        assert offer[CLIENT_BITS] is True or answer[CLIENT_BITS] <= offer[CLIENT_BITS], (
            f"{CLIENT_BITS} is larger than offered")
    assert outcome(offer, answer) == expected, f"leads to {outcome(offer, answer)}, not {expected}"


def plan(client, servers):
    known = set()
    for compression, url in servers:
        for offer in filter(CLIENTS[client], offers()):
            end = compression, wanted(compression, offer)
            yield compression, {"url": url, "offer": offer, "exchange": end not in known}
            known.add(end)


def main(client, arguments):
    split = arguments.index("--")
    servers = [server.split("=", 1) for server in arguments[:split]]
    planned = list(plan(client, servers))
    lines = "".join(json.dumps(task) + "\n" for _, task in planned)
    process = subprocess.run(arguments[split + 1:], input=lines, stdout=subprocess.PIPE, text=True)
    results = [json.loads(line) for line in process.stdout.splitlines()]
    complaints, tally = [], Counter()
    results += [{}] * (len(planned) - len(results))
    for (compression, task), result in zip(planned, results, strict=True):
        try:
            assert {**task, **result} == result, "was not tried"
            assert parse(result["offered"]) == task["offer"], "was not offered like this"
            check(compression, result["offered"], result["answered"])
        except AssertionError as error:
            complaints.append(f"{compression}: {result or task}: {error}")
        else:
            tally[compression, result["answered"] is not None, task["exchange"]] += 1
    for compression, _ in servers:
        taken, declined = (Counter({exchange: tally[compression, is_taken, exchange]
                                    for exchange in (False, True)}) for is_taken in (True, False))
        print(f"  {client}, {compression}: {taken.total()} offers taken, "
              f"{declined.total()} declined, messages exchanged on {taken[True] + declined[True]}")
    for complaint in complaints[:20]:
        print(f"WRONG {complaint}")
    if len(complaints) > 20:
        print(f"... and {len(complaints) - 20} more")
    return 1 if complaints or process.returncode else 0


def self_test():
    def is_wrong(compression, offer, answer):
        try:
            check(compression, f"permessage-deflate{offer}",
                  None if answer is None else f"permessage-deflate{answer}")
        except AssertionError:
            return True
        return False

    for compression, offer, answer in (
        ("disabled", "", None),
        ("shared", "", "; server_no_context_takeover; client_no_context_takeover"),
        ("dedicated", "", ""),
        ("dedicated", "; server_max_window_bits=8", None),
        ("dedicated", "; server_max_window_bits=10", "; server_max_window_bits=10"),
        ("dedicated", "; client_no_context_takeover", ""),
        ("dedicated", "; client_max_window_bits=9", ""),
        ("dedicated", "; client_max_window_bits=9", "; client_max_window_bits=9"),
        ("dedicated:9:1", "; server_max_window_bits=10", "; server_max_window_bits=9"),
        ("dedicated:12:5", "; server_max_window_bits=10", "; server_max_window_bits=10"),
    ):
        assert not is_wrong(compression, offer, answer), (compression, offer, answer)
    for compression, offer, answer in (
        ("disabled", "", ""),
        ("shared", "", None),
        ("shared", "", ""),
        ("shared", "", "; server_no_context_takeover"),
        ("dedicated", "", "; server_no_context_takeover"),
        ("dedicated", "", "; client_max_window_bits=15"),
        ("dedicated", "", "; unknown"),
        ("dedicated", "; server_no_context_takeover", ""),
        ("dedicated", "; server_max_window_bits=8", "; server_max_window_bits=8"),
        ("dedicated", "; server_max_window_bits=10", ""),
        ("dedicated", "; server_max_window_bits=10", "; server_max_window_bits=11"),
        ("dedicated", "; server_max_window_bits=10", "; server_max_window_bits=010"),
        ("dedicated", "; server_max_window_bits=10", "; server_max_window_bits"),
        ("dedicated", "; client_max_window_bits", "; client_max_window_bits"),
        ("dedicated", "; client_max_window_bits", "; client_max_window_bits=9"),
        ("dedicated", "; client_max_window_bits=9", "; client_max_window_bits=10"),
        ("dedicated:9:1", "", ""),
    ):
        assert is_wrong(compression, offer, answer), (compression, offer, answer)
    assert len(list(offers())) == 2 * 2 * 9 * 10


if __name__ == "__main__":
    self_test()
    if sys.argv[1:] != ["--self-test"]:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
