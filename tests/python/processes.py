"""Starts the program under test as real processes and sees that none is left behind.

A daemon prints one JSON line on standard output when it is ready. Whatever a test does to it, its standard error must
never show a panic: that is checked whenever it ends.
"""

import ctypes
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time

PROGRAM = os.environ["CORTENSOR_BIN"]
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CONTRACTS = REPOSITORY / "contracts"

# Generous, because a busy machine is no failure. Where a time is part of the promise, the test says so.
START_SECONDS = 120
COMMAND_SECONDS = 120

# The first two development accounts, which every Ethereum tool knows.
RICH_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
RICH = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"

_numbers = itertools.count(1)


def _die_with_parent():
    """Ends the child when the test run is killed; only Linux can, elsewhere the fixtures' own ends have to do."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    except (AttributeError, OSError):
        pass


def _environment(extra):
    # Settings of the person who runs the tests must not reach the program.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CORTENSOR_")}
    return {**clean, "NO_PROXY": "*", **(extra or {})}


def no_panic(text):
    assert "panicked" not in text and "RUST_BACKTRACE" not in text, text


def run(*arguments, program=PROGRAM, env=None, cwd=None, seconds=COMMAND_SECONDS, input=None):
    """Runs a command to its end and returns it with exit code and both outputs."""
    done = subprocess.run(
        [str(program), *map(str, arguments)], env=_environment(env), cwd=cwd, timeout=seconds, input=input,
        stdin=subprocess.DEVNULL if input is None else None, capture_output=True, text=True, check=False,
    )
    no_panic(done.stderr)
    return done


def succeed(*arguments, **options):
    """Runs a command that must succeed and returns its standard output."""
    done = run(*arguments, **options)
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fail(*arguments, **options):
    """Runs a command that must fail with one clear error, and returns what it says about it on standard error."""
    done = run(*arguments, **options)
    assert done.returncode not in (0, 101) and done.returncode > 0, f"{arguments}: {done.returncode}\n{done.stderr}"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    return done.stderr


class Daemon:
    """A process that stays."""

    def __init__(self, folder, *arguments, program=PROGRAM, env=None, cwd=None):
        self.arguments = arguments
        stem = folder / f"process-{next(_numbers)}-{arguments[0]}"
        self.stdout_path, self.stderr_path = stem.with_suffix(".out"), stem.with_suffix(".err")
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.process = subprocess.Popen(
                [str(program), *map(str, arguments)], env=_environment(env), cwd=cwd, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, preexec_fn=_die_with_parent,
            )

    @property
    def log(self):
        return self.stderr_path.read_text(errors="replace")

    def first_line(self, seconds=START_SECONDS):
        """The first line of standard output, as soon as it is there in full."""

        def line():
            text = self.stdout_path.read_text(errors="replace")
            if "\n" in text:
                return text.split("\n", 1)[0]
            assert self.process.poll() is None, f"{self.arguments} ended early:\n{self.log}"
            return None

        return wait_for(line, seconds, f"{self.arguments} to be ready")

    def ready(self, seconds=START_SECONDS):
        """What the process says about itself when it is ready."""
        return json.loads(self.first_line(seconds))

    def stop(self, seconds=START_SECONDS):
        """Asks the process to stop, and returns its exit code."""
        if self.process.poll() is None:
            # A stopped process hears nothing.
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        finally:
            self.end()
        return code

    def kill(self):
        """Ends the process at once, as a power cut would."""
        self.process.kill()
        self.process.wait()
        no_panic(self.log)

    def signal(self, which):
        self.process.send_signal(which)

    def end(self):
        """Makes sure that the process is gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        no_panic(self.log)


def wait_for(what, seconds, description, pause=0.05):
    """Polls until `what()` gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {description}"
        time.sleep(pause)


def free_port():
    """A port of the loopback interface that nobody uses just now."""
    return free_ports(1)


def free_ports(count):
    """The first of some neighbouring ports that nobody uses, for both protocols. They stay free while a process is down:
    systems give out ports of this range to nobody who does not ask for them."""
    for _ in range(1000):
        first = random.randrange(10_000, 30_000 - count)
        try:
            for port in range(first, first + count):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")


def foundry(name):
    """A program of Foundry, from its npm package."""
    return CONTRACTS / "node_modules" / ".bin" / name


def cast(rpc, *arguments, **options):
    """Runs cast against a chain and returns what it prints."""
    return succeed(*arguments, program=foundry("cast"), env={"ETH_RPC_URL": rpc}, **options).strip()


def send(rpc, *arguments, key=RICH_KEY):
    """Sends a transaction with cast and returns its receipt, which must tell of success."""
    receipt = json.loads(cast(rpc, "send", "--json", "--private-key", key, *arguments))
    assert receipt["status"] == "0x1", receipt
    return receipt
