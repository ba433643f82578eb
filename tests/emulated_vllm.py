"""Takes the arguments of `vllm serve` as the kit gives them, and serves the emulated engine instead.

Like vLLM it is a family of two processes, of which the first, told to end, lets running requests end before the second.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting)\S* (\S+)$", re.MULTILINE)


def engine_command(arguments: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "kvkit", "emulate", "--role=engine", f"--model={arguments.served_model_name}"]
    command += [f"--host={arguments.host}", f"--port={arguments.port}"]
    if arguments.kv_transfer_config is None:
        return [*command, "--connector=none"]
    store = json.loads(Path(os.environ["MOONCAKE_CONFIG_PATH"]).read_text())
    return [*command, "--connector=mooncake-store", f"--store-address={store['master_server_address']}"]


def wait_until_idle(port: int, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout_s) as answer:
            if not any(float(number) for number in RUNNING.findall(answer.read().decode())):
                return
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--shutdown-timeout", type=float, required=True)
    parser.add_argument("--kv-transfer-config", type=json.loads)
    arguments, _ = parser.parse_known_args()
    with subprocess.Popen(engine_command(arguments)) as engine:

        def end(_signal: int, _frame: object) -> None:
            wait_until_idle(arguments.port, arguments.shutdown_timeout)
            engine.terminate()

        signal.signal(signal.SIGTERM, end)
        return engine.wait()


if __name__ == "__main__":
    sys.exit(main())
