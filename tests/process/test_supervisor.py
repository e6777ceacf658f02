"""Several workers and their supervisor: how they begin, who is started again, and that all of them end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

import pytest

from ..kit.client import Client, until, within
from ..kit.workers import HAS_PROC, SERVICE, is_alive

pytestmark = [
    pytest.mark.skipif(not HAS_PROC, reason="needs /proc"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # which makes no difference to other processes
]


@pytest.fixture
async def two(start):
    """Two workers that listen."""
    workers = await start("--workers", "2", "--close-timeout", "5")
    await workers.listens()
    return workers


async def says_goodbye(client: Client) -> None:
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    assert await client.rest() == []


# ---------------------------------------------------------------------------------------------------------------------
# They begin


async def test_all_of_them_serve_and_it_is_announced_once(two):
    clients = await two.client_of_each()
    assert sorted(clients) == sorted(two.pids())
    two.signal(signal.SIGTERM)
    for client in clients.values():
        await says_goodbye(client)
    output, errors, status = await two.end()
    assert sorted(output) == sorted(f"stop {pid}" for pid in clients)
    assert (errors, status) == ("", 0)


WRONG = {
    "no file": None,
    "no service": "string = 1\n",
    "wrong service": "from fastws import ws\n@ws.upgrade_path('/')\nclass Wrong: pass\n",
    "syntax": "def\n",
    "exception": "1 / 0\n",
    "serves by itself": SERVICE + "import fastws\nfastws.run(Chat, port=0)\n",
    "on_start": SERVICE + "    @ws.on_start\n    def start(self):\n        raise LookupError('nothing there')\n",
    "exit": "import sys\nsys.exit('enough')\n",
}


OFTEN = ("syntax", "on_start")


@pytest.mark.parametrize(
    "service",
    [
        pytest.param(service, id=name, marks=() if name in OFTEN else pytest.mark.slow)
        for name, service in WRONG.items()
    ],
)
async def test_what_is_wrong_at_the_beginning_is_said_once_as_without_workers(start, service):
    said = []
    for arguments in ([], ["--workers", "3"]):
        workers = await start(*arguments, service=service)
        said.append(await workers.end())
    without, within_workers = said
    assert within_workers[0] == []
    assert within_workers[2] == without[2]
    if "sys.exit" in (service or ""):
        assert "fastws: worker " in within_workers[1]
        assert within_workers[1].endswith(" ended with status 1 before it served\n")
    elif "LookupError" in (service or ""):
        # The frames of the event loop are others
        assert within_workers[1].splitlines()[-1] == without[1].splitlines()[-1] == "LookupError: nothing there"
        assert within_workers[1].count("Traceback (most recent call last)") == 1
    else:
        assert within_workers[1] == without[1] != ""


async def test_a_port_in_use_is_said_in_one_line(start, two):
    other = await start("--workers", "2", "--port", str(two.port), port=False)
    assert await other.end() == (
        [],
        f"fastws: cannot listen at 127.0.0.1:{two.port}: Address already in use; choose another --host or --port\n",
        1,
    )


async def test_one_who_dies_before_it_serves_ends_all(start):
    workers = await start("--workers", "2", service="import os\nos.kill(os.getpid(), 9)\n")
    output, errors, status = await workers.end()
    assert re.fullmatch(r"fastws: worker [12] was ended by SIGKILL before it served\n", errors)
    assert (output, status) == ([], 1)


LOADS = "import os, time\nos.write(1, b'loads\\n')\ntime.sleep(3600)\n"


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
async def test_a_signal_ends_them_while_they_are_being_loaded(start, number):
    workers = await start("--workers", "2", service=LOADS)
    assert [await workers.says() for _ in range(2)] == ["loads", "loads"]
    workers.signal(number)
    assert await workers.end() == ([], "", 0)


async def test_ctrl_c_is_not_lost_on_processes_that_have_just_begun(start):
    workers = await start("--workers", "2", service=LOADS)
    await until(lambda: len(workers.pids()) == 2)
    workers.signal_all(signal.SIGINT)
    output, errors, status = await workers.end()
    assert (set(output) - {"loads"}, errors, status) == (set(), "", 0)


# ---------------------------------------------------------------------------------------------------------------------
# One ends


async def test_one_who_is_killed_is_started_again_and_the_others_stay(two):
    clients = await two.client_of_each()
    killed, lives = clients
    os.kill(killed, signal.SIGKILL)
    line = await two.logs("is started again")
    assert re.search(r"WARNING fastws: worker [12] was ended by SIGKILL and is started again in 0\.1 seconds$", line)
    assert await clients[lives].asks("who") == str(lives)
    assert killed not in await two.replaced(killed)
    assert len(await two.client_of_each()) == 2


async def test_one_who_gets_sigterm_ends_well_and_is_replaced(two):
    clients = await two.client_of_each()
    ended, _ = clients
    os.kill(ended, signal.SIGTERM)
    await says_goodbye(clients[ended])
    assert await two.says() == f"stop {ended}"
    assert "ended with status 0 and is started again" in await two.logs("worker")
    await two.replaced(ended)
    assert len(await two.client_of_each()) == 2


async def test_the_pause_grows_while_one_keeps_ending(start, tmp_path):
    service = SERVICE + "    @ws.on_start\n    async def start(self):\n        os.path.exists('die') and os._exit(3)\n"
    workers = await start("--workers", "1", service=service)
    await workers.listens()
    (tmp_path / "die").write_text("")
    os.kill(workers.pids()[0], signal.SIGKILL)
    pauses = [re.search(r"again in (\S+) seconds", await workers.logs("again in"))[1] for _ in range(3)]
    assert pauses == ["0.1", "0.2", "0.4"]
    (tmp_path / "die").unlink()
    assert list(await workers.client_of_each()) == workers.pids()


async def test_one_who_cannot_start_again_says_why_and_tries_on(start, tmp_path):
    workers = await start("--workers", "1")
    await workers.listens()
    (tmp_path / "chat.py").write_text("1 / 0\n")
    os.kill(workers.pids()[0], signal.SIGKILL)
    assert "worker 1 cannot start: Traceback" in await workers.logs("ERROR")
    await workers.logs("ZeroDivisionError")
    (tmp_path / "chat.py").write_text(SERVICE)
    await until(lambda: workers.pids())
    assert await workers.client_of_each()


# ---------------------------------------------------------------------------------------------------------------------
# All end


async def test_ctrl_c_is_the_affair_of_the_supervisor(two):
    clients = await two.client_of_each()
    two.signal_all(signal.SIGINT)
    for client in clients.values():
        await says_goodbye(client)
    output, errors, status = await two.end()
    assert (len(output), errors, status) == (2, "", 0)


async def test_whoever_tells_all_processes_to_end_lets_clients_end_well(two):
    clients = await two.client_of_each()
    two.signal_all(signal.SIGTERM)
    for client in clients.values():
        await says_goodbye(client)
    output, _, status = await two.end()
    assert (len(output), status) == (2, 0)


async def test_a_second_signal_waits_for_nobody(start):
    workers = await start("--workers", "2", "--close-timeout", "60")
    await workers.listens()
    clients = await workers.client_of_each()
    workers.signal(signal.SIGINT)
    for client in clients.values():
        assert await client.close_frame() == (1001, "going away")
    workers.signal(signal.SIGINT)
    output, errors, status = await workers.end()
    assert (len(output), errors, status) == (2, "", 0)


HANGS = SERVICE.replace(
    "    def stop(self):",
    "    def stop(self):\n        os.write(1, b'hangs\\n')\n        import time\n        time.sleep(3600)",
)


async def test_a_third_signal_kills(start):
    workers = await start("--workers", "2", service=HANGS)
    await workers.listens()
    workers.signal(signal.SIGTERM)
    assert [await workers.says() for _ in range(2)] == ["hangs", "hangs"]
    workers.signal(signal.SIGTERM)
    workers.signal(signal.SIGINT)
    assert await workers.end() == ([], "", 0)


@pytest.mark.slow
async def test_one_who_hangs_in_closing_is_killed_in_time(start):
    workers = await start("--workers", "2", "--close-timeout", "0.5", service=HANGS)
    await workers.listens()
    workers.signal(signal.SIGTERM)
    assert await workers.end() == (["hangs", "hangs"], "", 0)


async def test_a_worker_that_is_stopped_does_not_keep_the_others_from_ending(two):
    clients = await two.client_of_each()
    stopped, runs = clients
    os.kill(stopped, signal.SIGSTOP)
    two.signal(signal.SIGTERM)
    await says_goodbye(clients[runs])
    await until(lambda: not is_alive(runs))
    # Two of one kind at once might be one
    two.signal(signal.SIGTERM)
    two.signal(signal.SIGINT)
    await within(two.process.wait())
    assert not is_alive(stopped)


async def test_workers_end_well_when_their_supervisor_is_killed(two):
    clients = await two.client_of_each()
    two.process.kill()
    for client in clients.values():
        await says_goodbye(client)
    await until(lambda: not any(map(is_alive, clients)))
    assert sorted([await two.says(), await two.says()]) == sorted(f"stop {pid}" for pid in clients)


async def test_so_they_do_while_they_are_being_loaded(start):
    workers = await start("--workers", "2", service=LOADS)
    assert [await workers.says() for _ in range(2)] == ["loads", "loads"]
    pids = workers.pids()
    workers.process.kill()
    await until(lambda: not any(map(is_alive, pids)))


async def test_one_whose_loop_is_held_up_does_not_outlive_its_supervisor_for_long(start):
    service = "from fastws.process import reload\nreload.ORPHAN_TIMEOUT = 0.2\nimport time\n" + SERVICE.replace(
        "return str(os.getpid())", "os.write(1, b'sleeps\\n'); time.sleep(3600)", 1
    )
    workers = await start("--workers", "1", service=service)
    await workers.listens()
    (held_up,) = workers.pids()
    (await workers.connect()).send("sleep")
    assert await workers.says() == "sleeps"
    workers.process.kill()
    await until(lambda: not is_alive(held_up))


# ---------------------------------------------------------------------------------------------------------------------
# With --reload


async def test_with_reload_all_workers_are_started_again(start, tmp_path):
    workers = await start("--workers", "2", "--reload")
    await workers.listens()
    client = await workers.connect()
    before = await client.asks("who")
    (tmp_path / "chat.py").write_text(SERVICE.replace("str(os.getpid())", "'new'"))
    assert await workers.logs("code changed")
    await says_goodbye(client)
    assert {(await workers.says())[:5] for _ in range(2)} == {"stop "}
    await workers.listens()
    client = await workers.connect()
    assert await client.asks("who") == "new" != before
    workers.signal(signal.SIGINT)
    await says_goodbye(client)
    assert (await workers.end())[2] == 0


@pytest.mark.slow
async def test_with_reload_a_mistake_is_said_once_and_mended(start, tmp_path):
    workers = await start("--workers", "2", "--reload", service="def\n")
    lines = [await workers.logs("")]
    while lines[-1] != "fastws: ended; waiting for a change":
        lines.append(await workers.logs(""))
    assert sum("SyntaxError" in line for line in lines) == 1
    (tmp_path / "chat.py").write_text(SERVICE)
    assert await workers.listens()


@pytest.mark.slow
async def test_with_reload_a_second_ctrl_c_ends_all_at_once(start):
    workers = await start("--workers", "2", "--reload", "--close-timeout", "60")
    await workers.listens()
    client = await workers.connect()
    pids = {int(await client.asks("who"))}
    workers.signal_all(signal.SIGINT)
    assert await client.close_frame() == (1001, "going away")
    workers.signal_all(signal.SIGINT)
    assert await client.rest() == []
    await within(workers.process.wait())
    await until(lambda: not any(map(is_alive, pids)))


@pytest.mark.slow
async def test_with_reload_one_who_hangs_is_killed_before_the_supervisor_is(start):
    workers = await start("--workers", "2", "--reload", service=HANGS)
    await workers.listens()
    workers.signal(signal.SIGTERM)
    assert await workers.end() == (["hangs", "hangs"], "", 0)


# ---------------------------------------------------------------------------------------------------------------------
# A program


PROGRAM = """
import sys, fastws
if __name__ == "__main__":
    {before}
    fastws.run({service}, port=0, workers=2, {options})
    print("returned")
"""


@pytest.fixture
def program(tmp_path):
    """Run a program of one's own: `returncode, output, errors = await program('"chat:Chat"')`."""

    async def program(service: str, options: str = "", before: str = "pass", number: int = 0, cwd=None):
        (tmp_path / "chat.py").write_text(SERVICE)
        (tmp_path / "own.py").write_text(PROGRAM.format(service=service, options=options, before=before))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(tmp_path / "own.py"), stdout=pipe, stderr=pipe, cwd=cwd
        )
        try:
            if number:
                first = await within(process.stdout.readline())
                process.send_signal(number)
            output, errors = await within(process.communicate())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode, ((first if number else b"") + output).decode(), errors.decode()

    return program


@pytest.mark.slow
async def test_a_program_names_what_its_workers_import(program):
    status, output, errors = await program('"chat:Chat"', number=signal.SIGTERM)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0].startswith("ws://127.0.0.1:")
    assert lines[-1] == "returned"
    assert sum(line.startswith("stop ") for line in lines) == 2


async def test_workers_find_what_the_program_finds_and_nothing_else(program, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "random.py").write_text("1 / 0\n")
    status, output, errors = await program('"chat:Chat"', number=signal.SIGTERM, cwd=elsewhere)
    assert (status, errors, output.count("stop ")) == (0, "", 2)


@pytest.mark.parametrize(
    ("service", "options", "last"),
    [
        ('"chat:Nobody"', "", "fastws.process.loading.UsageError: chat has no Nobody"),
        pytest.param('"chat:os"', "", "is no service", marks=pytest.mark.slow),
        ('"chat"', "certfile='nowhere.pem'", "certfile nowhere.pem cannot be loaded: No such file or directory"),
    ],
)
async def test_what_is_wrong_with_it_is_raised_there(program, service, options, last):
    status, output, errors = await program(service, options)
    assert (status, output) == (1, "")
    assert last in errors.splitlines()[-1]
