"""Starts a server as systemd does for a socket unit: with a listening socket as descriptor 3.

Each line of standard input starts the program that the arguments name, in the place of one that has
ended. The socket stays open between them. Output: the port, then the id of each process and its
exit code.
"""
import os
import socket
import sys

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
print(port, flush=True)
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        # The report is ours alone.
        os.dup2(2, 1)
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.environ.setdefault("PORT", str(port))
        os.execv(sys.argv[1], sys.argv[1:])
    print("started", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
