"""What a process does that is asked to stop."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from abn_fast.training._interrupt import Interruption

STUCK = """
import os, signal, threading, time
import torch.distributed as dist
from abn_fast.training import _interrupt

_interrupt.PATIENCE = 1.0
with _interrupt.Interruption():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    dist.HashStore().get("what nobody sets")
"""

FORKING = """
import multiprocessing, os, signal, time
from abn_fast.training import _interrupt

_interrupt.PATIENCE = 0.2
with _interrupt.Interruption():
    child = multiprocessing.get_context("fork").Process(target=lambda: os.kill(os.getpid(), signal.SIGINT))
    child.start()
    child.join()
    time.sleep(1)
"""


def test_the_first_signal_is_a_request_and_the_second_one_acts() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("script", "code"), [(STUCK, 128 + signal.SIGTERM), (FORKING, 0)], ids=["stuck", "forking"])
def test_a_process_ends_that_waits_for_one_that_is_gone_but_not_for_a_signal_to_another(script: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert ended.returncode == code, ended.stderr


def test_a_process_that_has_noticed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abn_fast.training._interrupt.PATIENCE", 0.1)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
    assert interruption.requested


def test_nothing_is_left_behind() -> None:
    others, handler = set(threading.enumerate()), signal.getsignal(signal.SIGTERM)
    with Interruption():
        (own,) = set(threading.enumerate()) - others
    own.join(timeout=30)
    assert not own.is_alive()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.set_wakeup_fd(-1) == -1


def test_another_thread_has_no_signals() -> None:
    entered: list[bool] = []

    def enter() -> None:
        with Interruption() as interruption:
            entered.append(interruption.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [False]
