"""Runs command lines, one per line of JSON on stdin, each in a child that has torch already.

A child is a process of its own, with genplug's own `main`, and is killed like any other; only the
seconds that importing torch takes are saved. Answers on stdout: the child's number, then its exit
code (negative: the signal).
"""

import importlib
import json
import os
import sys

for name in ("accelerate", "genplug.pipeline", "genplug.report", "genplug_cli.main", "genplug_ddo.ddo"):
    importlib.import_module(name)

for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.update(request["environment"])
        sys.argv = ["genplug", *request["arguments"]]
        with open(request["stderr"], "w") as stderr, open(os.devnull, "w") as nothing:
            os.dup2(stderr.fileno(), 2)
            os.dup2(nothing.fileno(), 1)
        sys.exit(importlib.import_module("genplug_cli.main").main())
    print(child, flush=True)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
