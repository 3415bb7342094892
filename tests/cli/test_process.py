"""The command line as a process: start, exit codes, pipes, Ctrl-C."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import ROOT, start


def test_help_starts_at_once_and_imports_nothing_heavy():
    program = """
import sys
import sparsight.cli
from sparsight.cli.running import run
code = run(sparsight.cli.application, ["--help"])
heavy = {"torch", "transformers", "numpy", "av", "PIL", "sparsight.core.plan"} & set(sys.modules)
sys.exit(code or bool(heavy))
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    for command in ("ask", "see", "systems", "models", "demo"):
        assert command in done.stdout
    # Processor time, not the clock's: the tests run beside other work.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "sparsight", "ask", "gone.mp4", "What?"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "sparsight: gone.mp4: there is no such file; check the path\n"


def test_ctrl_c_while_it_answers_ends_the_line_and_says_so(tiny: Path, picture: Path):
    asked = start("ask", str(picture), "Why?", "--model", str(tiny), "--max-tokens", "90000")
    assert asked.stdout is not None
    first = asked.stdout.read(1)
    asked.send_signal(signal.SIGINT)
    out, err = asked.communicate(timeout=200)
    assert asked.returncode == 130, err
    assert (first + out).endswith("\n")
    assert "\x1b" not in first + out + err  # nor any escape code in a pipe
    assert err == "sparsight: stopped\n"


def test_ctrl_c_before_the_model_is_there():
    program = """
import sys, time
import sparsight.cli.options
def waits(*arguments):
    print("here", flush=True)
    time.sleep(100)
sparsight.cli.options.plan_of = waits
"""
    asked = start("ask", "pyproject.toml", "Why?", program=program)
    assert asked.stdout is not None
    assert asked.stdout.readline() == "here\n"
    asked.send_signal(signal.SIGINT)
    out, err = asked.communicate(timeout=100)
    assert (asked.returncode, out, err) == (130, "", "sparsight: stopped\n")


def test_a_reader_that_leaves_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sparsight", "--help"],
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    assert done.stderr == ""
