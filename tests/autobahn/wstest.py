"""The suite's command line, kept on loopback: by itself it would listen on every interface.

Runs under the suite's own Python 2.7.
"""

from autobahntestsuite import choosereactor  # installs Twisted's reactor, so it comes first
from autobahn.twisted import websocket

listen_everywhere = websocket.listenWS


def listen_on_loopback(*args, **kwargs):
    return listen_everywhere(*args, interface="127.0.0.1", **kwargs)


websocket.listenWS = listen_on_loopback

from autobahntestsuite import wstest  # takes its listenWS from the module changed above

wstest.run()
