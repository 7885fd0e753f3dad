"""A network that falls silent without a word, in a network namespace of its own."""

import subprocess
import sys

import pytest
from lambda_calls import asking, attempt
from lambda_calls.aws import invoke

# Its endpoint reads a request, if the network still carries one, and never answers.
SCRIPT = """
import asyncio, ctypes, fcntl, socket, struct, sys, threading, time

NEWUSER, NEWNET, UP, SET_ADDRESS, SET_FLAGS = 0x10000000, 0x40000000, 1, 0x8916, 0x8914
if ctypes.CDLL(None).unshare(NEWUSER | NEWNET):
    sys.exit(77)

def loopback(request, value):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        fcntl.ioctl(made, request, struct.pack("16s", b"lo") + value)

loopback(SET_ADDRESS, struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton("127.0.0.1")))
loopback(SET_FLAGS, struct.pack("H22x", UP))

from lambda_calls.aws import invoke
from lambda_calls.aws.clients import Account, Clients
from lambda_calls.aws.refusals import ConnectionLost
from lambda_calls.threads import Threads

shorter = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 3000}
assert set(shorter) < set(invoke._SIGNS_OF_LIFE)
invoke._SIGNS_OF_LIFE = shorter
accepted, large = threading.Event(), sys.argv[1] == "large"

def serve(listening):
    connection, _ = listening.accept()
    if large:
        time.sleep(0.5)  # until all buffers are full
    else:
        connection.recv(1 << 20)
    loopback(SET_FLAGS, struct.pack("H22x", 0))
    accepted.set()
    while large and connection.recv(1 << 20):
        pass
    time.sleep(60)

async def post(port):
    account = Account(region="r", endpoint_url=f"http://127.0.0.1:{port}")
    api = invoke.InvokeApi(Clients().signing(account), "fn", Threads(1, "test"))
    await api.open()
    try:
        await api.post(b'"' + b"x" * ((6 << 20) if large else 1) + b'"', {})
    except ConnectionLost as lost:
        return lost

listening = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listening,), daemon=True).start()
lost = asyncio.run(asyncio.wait_for(post(listening.getsockname()[1]), 30))
print(accepted.is_set(), lost.silence, lost)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
@pytest.mark.parametrize("request_is", ["small", "large"])
def test_silent_network_is_noticed(request_is: str) -> None:
    """Whether the answer does not come or the request does not arrive; Linux by itself would wait
    for hours, or repeat what it sent for a quarter of an hour."""
    command = [sys.executable, "-c", SCRIPT, request_is]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this machine allows no network namespace")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"True {invoke._SILENCE}"), done.stdout


def test_silent_connection_has_a_truthful_end_within_90_seconds() -> None:
    """Until it is found lost, its environment may start: then it only has to be asked."""
    asked = asking.Asking(silence=invoke._SILENCE)
    assert invoke._SILENCE + asked.patience + attempt._LONGEST_PAUSE <= 90
    assert invoke._SILENCE + asked.patience >= asking.STARTS_WITHIN


def test_call_that_breaks_off_at_once_may_still_start() -> None:
    """Where nothing was silent, the function has the whole time."""
    assert asking.Asking().patience == asking.STARTS_WITHIN
