"""A server without uvicorn, up in a tenth of a second: `python tiny_server.py HOST PORT [ANSWER]`.

It prints the line that names its port. ANSWER is a Python expression, (status, body), which is evaluated at each GET.
A POST gets http.server's own 501.
"""

import http.server
import os
import socket
import sys

host, port, *answer = sys.argv[1:]


class Server(http.server.ThreadingHTTPServer):
    """IPv4, or IPv6 where the address is one."""

    address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    request_queue_size = 128


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The answer."""
        status, body = eval(answer[0]) if answer else (200, f'{{"pid": {os.getpid()}}}')
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())


server = Server((host, int(port)), Handler)
print(f"Uvicorn running on http://{host}:{server.server_port} (Press CTRL+C to quit)", flush=True)
server.serve_forever()
