"""A service for tests: a server that tells about itself, with a child and shared memory that it leaves behind.

serving_pages.py PORT
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import resource_tracker, shared_memory


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(SEEN).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


segment = shared_memory.SharedMemory(create=True, size=4096)
resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]  # else it is removed for us
# Deaf to SIGTERM, as a worker that waits for a device is.
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
)
SEEN = {
    "environment": dict(os.environ),
    "command": [sys.executable, *sys.argv],
    "child": child.pid,
    "segment": f"/dev/shm/{segment.name}",
}
HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
