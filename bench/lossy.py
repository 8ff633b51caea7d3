#!/usr/bin/env python3
"""A portal over a network with delay and loss: what lanes and circuits of one's own are worth there.

    bench/lossy.py                                   20, 50, 100 ms × 0, 0.1, 1 %; some 8 minutes
    bench/lossy.py --rtt 50 --loss 1 --secs 20
    bench/lossy.py --ways "--lanes 1;--lanes 8"

It makes two network namespaces, one for the app and the inlet, one for relay, outlet and service, and
joins them by a link with a rate, a short queue, a delay and random loss. Where the kernel has netem
that would be a line of tc; a process of this script carries the packets between two TUN devices
instead, which needs nothing of the kernel and is the same everywhere. The namespaces go when the
processes in them do: nothing of them has a name, and all end with this script, however it ends.

Over each way to run the inlet, N connections send a message of 64 bytes every 100 ms, each at its own
time, next to one connection that downloads. A delay counts from when a message was due, so a stall
shows in each that should have left meanwhile. The program is $ADIT_BIN, else target/release/adit.
Needs root.
"""

import argparse
import asyncio
import collections
import ctypes
import fcntl
import json
import multiprocessing
import os
import random
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

APP, FAR = "10.71.0.1", "10.71.0.2"
MESSAGE = 64
EVERY = 0.1
MTU = 1500
# Packets that the carrier may hold for each direction: more than any rate and delay here.
QUEUE_MAX = 20_000
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """This process ends when the one that started it does."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def own_network():
    """This process leaves its network for a new one. Returns a descriptor that names it."""
    if LIBC.unshare(CLONE_NEWNET) != 0:
        sys.exit(f"no network namespace: {os.strerror(ctypes.get_errno())} (this needs root)")
    return os.open("/proc/self/ns/net", os.O_RDONLY)


def enter(network):
    """This process works in that network from now on."""
    if LIBC.setns(network, CLONE_NEWNET) != 0:
        sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")


def congestion(control):
    """How TCP connections of this network heed losses."""
    with open("/proc/sys/net/ipv4/tcp_congestion_control", "w", encoding="ascii") as setting:
        setting.write(control)


def tun(address, peer):
    """A TUN device in this network, up, with an address. Returns its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"wire", IFF_TUN | IFF_NO_PI))
    for command in (f"address add {address} peer {peer} dev wire",
                    f"link set wire mtu {MTU} txqueuelen 10000 up", "link set lo up"):
        subprocess.run(["ip", *command.split()], check=True)
    return device


class Direction:
    """One direction of the link: a rate with a bounded queue, then loss, then delay."""

    def __init__(self, out, link, seed):
        self.out = out
        self.delay = link.rtt / 2000
        self.loss = link.loss / 100
        self.byte = 8 / (link.rate * 1e6)
        self.queue = link.queue / 1000
        self.random = random.Random(seed)
        self.free_at = 0.0
        self.under_way = collections.deque()

    def take(self, packet, now):
        """A packet came to the link."""
        full = self.free_at - now > self.queue or len(self.under_way) >= QUEUE_MAX
        if full or self.random.random() < self.loss:
            return
        self.free_at = max(now, self.free_at) + len(packet) * self.byte
        self.under_way.append((self.free_at + self.delay, packet))

    def give(self, now):
        """Delivers what has arrived by now; when the next does."""
        while self.under_way:
            at, packet = self.under_way[0]
            if at > now:
                return at
            self.under_way.popleft()
            try:
                os.write(self.out, packet)
            except BlockingIOError:
                pass  # The other end's queue is full: one more loss.
        return None


def carry(near, far, link):
    """Carries packets between the two devices, for ever."""
    die_with_parent()
    # A link does not wait for a processor.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ways = {near: Direction(far, link, 1), far: Direction(near, link, 2)}
    poll = select.epoll()
    for device in ways:
        poll.register(device, select.EPOLLIN)
    while True:
        now = time.monotonic()
        due = [at for at in (way.give(now) for way in ways.values()) if at is not None]
        wait = max(0.0, min(due) - now) if due else -1
        for device, _ in poll.poll(wait):
            way = ways[device]
            now = time.monotonic()
            try:
                for _ in range(64):
                    way.take(os.read(device, MTU), now)
            except BlockingIOError:
                pass


async def serve(reader, writer):
    """The service: `e` echoes what follows, `d` sends for ever."""
    try:
        if await reader.readexactly(1) == b"e":
            while message := await reader.read(65536):
                writer.write(message)
                await writer.drain()
        else:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()


def service(network, ready):
    """The service's process, in that network."""
    die_with_parent()
    enter(network)

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def talk(door, begin, first, until, delays):
    """Messages at their own times, whatever became of those before; their delays, in seconds."""
    reader, writer = await asyncio.open_connection(*door)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.write(b"e")
    due_times = collections.deque()

    async def answers():
        while True:
            await reader.readexactly(MESSAGE)
            due = due_times.popleft()
            if due >= begin:
                delays.append(time.monotonic() - due)

    listening = asyncio.create_task(answers())
    due = first
    while due < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due_times.append(due)
        writer.write(bytes(MESSAGE))
        due += EVERY
    # What is not back by now is as late as this, at least.
    await asyncio.sleep(2)
    listening.cancel()
    delays.extend(time.monotonic() - due for due in due_times if due >= begin)
    writer.transport.abort()


async def download(door, begin, until):
    """Bytes that came between two instants."""
    reader, writer = await asyncio.open_connection(*door)
    writer.write(b"d")
    got = 0
    while (now := time.monotonic()) < until:
        try:
            piece = await asyncio.wait_for(reader.read(1 << 20), until - now)
        except TimeoutError:
            break
        got += len(piece) if now >= begin else 0
    writer.transport.abort()
    return got


def load(network, door, args, bulk, answer):
    """The app's process: delays in milliseconds, and Mbit/s of the download."""
    die_with_parent()
    enter(network)

    async def run():
        start = time.monotonic()
        begin, until = start + args.warm, start + args.warm + args.secs
        delays = []
        talks = [talk(door, begin, start + 1 + EVERY * n / args.conns, until, delays)
                 for n in range(args.conns)]
        if bulk:
            talks.append(download(door, begin, until))
        got = (await asyncio.gather(*talks))[-1] if talks else 0
        delays.sort()
        at = lambda part: 1000 * delays[min(len(delays) - 1, int(part * len(delays)))]
        answer.send({"p50_ms": at(0.5), "p99_ms": at(0.99),
                     "mbit_s": (got or 0) * 8 / 1e6 / args.secs})

    asyncio.run(run())


class Portal:
    """`serve` and an outlet in the far network, and the inlet of one way in the near one."""

    def __init__(self, program, near, far, port, folder):
        self.program, self.networks, self.folder = program, (near, far), folder
        self.processes = []
        self.adit(1, "s", "project", "create", "bench", "--address", f"{FAR}:7348")
        self.start(1, "s", "serve")
        rights = {"o": ["--attribute", "o=true", "--may-serve", "bench"], "i": ["--attribute", "i=true"]}
        for name, right in rights.items():
            ticket = self.adit(1, "s", "ticket", "create", "--name", name, *right)
            with open(f"{folder}/{name}.ticket", "w", encoding="ascii") as file:
                file.write(ticket)
        self.start(1, "o", "outlet", "--ticket", f"{folder}/o.ticket", "--at", "bench",
                   "--to", f"127.0.0.1:{port}", "--allow", "i=true")

    def command(self, network, home, *args):
        def prepare():
            die_with_parent()
            enter(self.networks[network])

        env = {**os.environ, "ADIT_HOME": f"{self.folder}/{home}"}
        return {"args": [self.program, *args], "preexec_fn": prepare, "env": env}

    def adit(self, network, home, *args):
        """Runs a command to its end; what it printed."""
        run = subprocess.run(**self.command(network, home, *args), check=True, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return run.stdout

    def start(self, network, home, *args):
        """Starts a process and waits until it is ready."""
        with open(f"{self.folder}/{home}.log", "ab") as log:
            process = subprocess.Popen(**self.command(network, home, *args), stdout=log, stderr=log)
        self.processes.append(process)
        deadline = time.monotonic() + 60
        while subprocess.run(**self.command(network, home, "health", "--ready"), check=False,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                with open(f"{self.folder}/{home}.log", encoding="utf-8") as log:
                    sys.exit(f"adit {args[0]} did not get ready:\n{log.read()}")
            select.select([], [], [], 0.1)
        return process

    def inlet(self, door, flags):
        """Starts an inlet with these flags."""
        return self.start(0, "i", "inlet", "--ticket", f"{self.folder}/i.ticket", "--via", "bench",
                          "--from", door, "--allow", "o=true", *flags)

    def end(self, process):
        process.kill()
        process.wait()
        self.processes.remove(process)

    def end_all(self):
        for process in list(self.processes):
            self.end(process)


def child(target, *args):
    """A process of this script; it ends with it."""
    process = multiprocessing.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def measure(args, link, ways):
    """The figures of each way over one link, each in turn in every round."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    near = own_network()
    congestion(args.congestion)
    near_device = tun(APP, FAR)
    far = own_network()
    congestion(args.congestion)
    far_device = tun(FAR, APP)
    enter(home)
    carrier = child(carry, near_device, far_device, link)
    here, there = multiprocessing.Pipe()
    serving = child(service, far, there)
    figures = {way: [] for way in ways}
    portal = None
    with tempfile.TemporaryDirectory(prefix="adit-lossy-") as folder:
        try:
            portal = Portal(args.program, near, far, here.recv(), folder)
            for _ in range(args.rounds):
                for way in ways:
                    inlet = portal.inlet("127.0.0.1:15432", way.split())
                    answers, answer = multiprocessing.Pipe()
                    running = child(load, near, ("127.0.0.1", 15432), args, True, answer)
                    if not answers.poll(args.warm + args.secs + 60):
                        sys.exit("the load hangs")
                    figures[way].append(answers.recv())
                    running.join()
                    portal.end(inlet)
        finally:
            if portal:
                portal.end_all()
            for process in (serving, carrier):
                process.kill()
                process.join()
            for descriptor in (near_device, far_device, near, far, home):
                os.close(descriptor)
    return figures


def main():
    numbers = lambda text: [float(number) for number in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rtt", type=numbers, default=[20, 50, 100], help="milliseconds there and back")
    parser.add_argument("--loss", type=numbers, default=[0, 0.1, 1], help="percent, each direction")
    parser.add_argument("--rate", type=float, default=100, help="Mbit/s of the link")
    parser.add_argument("--queue", type=float, default=20, help="milliseconds of its queue")
    parser.add_argument("--congestion", help="TCP's congestion control [default: cubic, or reno where the machine "
                        "does not allow that to namespaces]")
    parser.add_argument("--ways", default="--lanes 1;--lanes 4;--dedicated", help="flags of inlets")
    parser.add_argument("--conns", type=int, default=20, help="connections of small messages")
    parser.add_argument("--secs", type=float, default=10, help="how long each measurement is")
    parser.add_argument("--warm", type=float, default=4, help="seconds before it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", help="a file for all figures of all rounds")
    args = parser.parse_args()
    multiprocessing.set_start_method("fork")
    args.program = os.path.abspath(os.environ.get("ADIT_BIN", "target/release/adit"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not args.congestion:
        with open("/proc/sys/net/ipv4/tcp_allowed_congestion_control", encoding="ascii") as allowed:
            args.congestion = "cubic" if "cubic" in allowed.read().split() else "reno"
    ways = [way.strip() for way in args.ways.split(";")]
    print(f"{args.rate:g} Mbit/s, a queue of {args.queue:g} ms, {args.congestion}; "
          f"{args.conns} connections and one download")
    print(f"{'RTT':>6} {'LOSS':>6}  {'WAY':<14} {'P50':>8} {'P99':>9} {'BULK':>13}")
    results = []
    for rtt in args.rtt:
        for loss in args.loss:
            link = argparse.Namespace(rtt=rtt, loss=loss, rate=args.rate, queue=args.queue)
            for way, rounds in measure(args, link, ways).items():
                middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
                print(f"{rtt:>4g}ms {loss:>5g}%  {way:<14} {middle['p50_ms']:>6.1f}ms "
                      f"{middle['p99_ms']:>7.1f}ms {middle['mbit_s']:>6.1f} Mbit/s", flush=True)
                results.append({"rtt_ms": rtt, "loss_percent": loss, "way": way, "rounds": rounds})
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
