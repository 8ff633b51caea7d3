"""adit among the tunnels that peerbench compares: inlet -> relay -> outlet, three processes.

    peerbench.py --load bench/peers.py --topologies direct,haproxy3,adit,adit-epoll …

The program is $ADIT_BIN, else `adit` where peerbench looks for programs. Build it with
`cargo build --release`: a debug build measures assertions.
"""

import os
import subprocess

from topologies import topology

ATTRIBUTE = {"inlet": "bench-inlet=true", "outlet": "bench-outlet=true"}


def ready(exe, env):
    """Can the process with this state carry a connection now?"""
    return subprocess.run([exe, "health", "--ready"], env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def portal(t, backend, engine):
    exe = os.environ.get("ADIT_BIN") or t.need("adit")
    relay, client = t.port(), t.port()
    homes = {role: {"ADIT_HOME": str(t.dir / role), "ADIT_ENGINE": engine} for role in ("relay", "outlet", "inlet")}

    def start(role, *argv, **options):
        """Start it and wait until it is ready; waiting for `listens` alone would be too early."""
        p = t.spawn(role, [exe, *argv], env=homes[role], **options)
        t.wait(lambda: ready(exe, homes[role]), f"{role} to be ready", proc=p)

    def ticket(role, *more):
        text = t.run([exe, "ticket", "create", "--name", role, "--attribute", ATTRIBUTE[role], *more], homes["relay"])
        # What the command says to a person beside the ticket comes on the same pipe here.
        return t.write(f"{role}.ticket", next(line for line in text.splitlines() if line.startswith("adit-ticket-")))

    t.run([exe, "project", "create", "bench", "--address", f"127.0.0.1:{relay}"], homes["relay"])
    start("relay", "serve", listens=relay)
    start("outlet", "outlet", "--ticket", ticket("outlet", "--may-serve", "bench"), "--at", "bench",
          "--to", f"127.0.0.1:{backend}", "--allow", ATTRIBUTE["inlet"])
    start("inlet", "inlet", "--ticket", ticket("inlet"), "--via", "bench",
          "--from", f"127.0.0.1:{client}", "--allow", ATTRIBUTE["outlet"], listens=client)
    return client


@topology("adit", "adit inlet -> relay -> outlet, Noise XX AES-256-GCM, io_uring")
def adit(t, backend):
    return portal(t, backend, "uring")


@topology("adit-epoll", "the same on the epoll engine")
def adit_epoll(t, backend):
    return portal(t, backend, "epoll")
