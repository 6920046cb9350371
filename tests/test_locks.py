"""Locks of outputs: other processes wait or are refused, and nothing is left of killed processes."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from helpers.lock_holder import holding, waiting_for
from reidlit import locks
from reidlit.locks import locked

COUNT = """
import sys
from pathlib import Path
from reidlit.locks import locked
file = Path(sys.argv[1])
for _ in range(100):
    with locked(file) as is_locked:
        assert is_locked
        file.write_text(str(int(file.read_text()) + 1))
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Report other processes at once."""
    monkeypatch.setattr(locks, "GRACE", 0.05)


def test_one_process_at_a_time(tmp_path):
    file = tmp_path / "count"
    file.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(file)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert file.read_text() == "300"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("inside", [False, True])
def test_second_process_is_refused_with_the_holder(inside, tmp_path):
    output = tmp_path / "out put.npz"
    with (
        holding(output, inside) as holder,
        pytest.raises(BlockingIOError, match=rf"output=.*out put\.npz .*process {holder.pid} "),
        locked(output, wait=False, name="output", inside=inside),
    ):
        pass
    with locked(output, wait=False, inside=inside) as is_locked:
        assert is_locked


def test_second_process_waits(tmp_path, capfd, monkeypatch):
    with (
        waiting_for(tmp_path / "a.npz", monkeypatch) as holder,
        locked(tmp_path / "a.npz", name="index") as is_locked,
    ):
        assert is_locked
    printed = capfd.readouterr().err
    assert f"process {holder.pid} " in printed
    assert f"index={tmp_path / 'a.npz'}" in printed


def test_other_outputs_are_free(tmp_path):
    with holding(tmp_path / "a.npz"), locked(tmp_path / "b.npz", wait=False), locked(tmp_path, wait=False, inside=True):
        pass


@pytest.mark.parametrize("child", ["", "fork"])
def test_killed_holder_does_not_block(child, tmp_path):
    moments = random.Random(child)
    for _ in range(3):
        with holding(tmp_path / "a.npz", child=child) as holder:
            time.sleep(moments.uniform(0, 0.05))
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            assert (tmp_path / ".a.npz.lock").is_file()
            with locked(tmp_path / "a.npz", wait=False) as is_locked:
                assert is_locked
            if child:
                os.killpg(holder.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_nested_locks_of_one_output(tmp_path):
    with locked(tmp_path / "a"):
        with locked(tmp_path / "a", wait=False) as is_locked:
            assert is_locked
        with pytest.raises(subprocess.TimeoutExpired):  # still held after the inner block
            subprocess.run(
                [sys.executable, "-c", COUNT, str(tmp_path / "a")], check=True, timeout=1, capture_output=True
            )
    assert list(tmp_path.iterdir()) == []


def test_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a"):
        _ = 1 / 0
    with holding(tmp_path / "a"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks(number, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "a.npz", wait=False) as is_locked:
        assert not is_locked


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with locked(tmp_path / "file" / "a.npz", wait=False) as is_locked:
        assert not is_locked
    with locked(tmp_path / ("x" * 255), wait=False) as is_locked:  # the name of the lock file would be too long
        assert not is_locked


@pytest.mark.parametrize("content", ["", "[]", '{"process": "\\u001b[31m", "command": 1}', "x" * 100_000])
def test_odd_content_of_a_lock_file(content, tmp_path):
    with holding(tmp_path / "a") as holder:
        (tmp_path / ".a.lock").write_text(content)
        with pytest.raises(BlockingIOError) as error, locked(tmp_path / "a", wait=False):
            pass
        assert str(error.value).isprintable()
        assert str(holder.pid) not in str(error.value)
