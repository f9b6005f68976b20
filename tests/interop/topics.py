"""Users of PyPI's `websockets` meet at the topics of `corewire serve --topics`.

    topics.py URL

Exits with 0 if everybody got what they should.
"""

import asyncio
import base64
import json
import random
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

MESSAGES = 2000
TIMEOUT = 30


async def ask(ws, **request):
    await ws.send(json.dumps(request))
    return json.loads(await ws.recv())


async def everything_comes_in_order_as_it_was_sent(url):
    sent = [f"{n} é😀" if n % 2 else random.randbytes(n) for n in range(MESSAGES)]
    async with (
        connect(url + "sub/news/%C3%A9t%C3%A9") as bare,
        connect(url + "topics") as enveloped,
        connect(url + "pub/news/%C3%A9t%C3%A9") as publisher,
    ):
        answer = await ask(enveloped, type="subscribe", topic="news/+", id=[1])
        assert answer == {"type": "ack", "topic": "news/+", "id": [1]}, answer

        async def publish():
            for message in sent:
                await publisher.send(message)
        publishing = asyncio.create_task(publish())
        for message in sent:
            assert await bare.recv() == message
        for message in sent:
            told = json.loads(await enveloped.recv())
            data = told["data"]
            data = base64.b64decode(data) if told.get("encoding") == "base64" else data
            assert (told["type"], told["topic"], data) == ("message", "news/été", message), told
        await publishing


async def errors_have_their_codes(url):
    async with connect(url + "topics") as ws:
        for code, request in (
            ("bad-topic", {"type": "subscribe", "topic": "a/#/b"}),
            ("bad-topic", {"type": "publish", "topic": "a/+", "data": ""}),
            ("bad-data", {"type": "publish", "topic": "a", "data": "!", "encoding": "base64"}),
            ("bad-request", {"type": "publish", "topic": "a"}),
            ("unknown-type", {"type": "hello"}),
        ):
            answer = await ask(ws, **request, id=code)
            assert (answer["type"], answer["code"], answer["id"]) == ("error", code, code), answer
    try:
        async with connect(url + "sub/a%23"):
            raise AssertionError("a bad filter was let in")
    except InvalidStatus as refused:
        assert refused.response.status_code == 400


async def main(url):
    for step in (everything_comes_in_order_as_it_was_sent, errors_have_their_codes):
        await asyncio.wait_for(step(url), TIMEOUT)
        print(f"  {step.__name__}: ok")


asyncio.run(main(*sys.argv[1:]))
