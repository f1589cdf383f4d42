#!/usr/bin/env python3
"""What keepalived sets up in the kernel's IPVS for each *.conf beside this file, printed as JSON.

For a machine of its own, as root: a kernel with ip_vs, ipvsadm, keepalived, iproute2; a network namespace for each
file. Real servers up to 10.0.0.199 answer, those above it do not.

    python3 record.py > recorded.json
"""
import ctypes, glob, hashlib, json, os, selectors, signal, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PORTS = (80, 443)
# The first check comes within delay_loop (6 s), the last try of a real server that is down some 6 s later.
SETTLED_AFTER_S, SETTLED_FOR_S, PATIENCE_S = 25, 8, 120
libc = ctypes.CDLL(None, use_errno=True)


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Case:
    def __init__(self, path, selector):
        self.path = path
        self.name = os.path.basename(path).removesuffix(".conf")
        self.netns = f"ka-{self.name}"
        self.start = self.settled = self.timeouts = None
        self.seen, self.since = None, 0.0
        run("ip", "netns", "add", self.netns)
        inside = ("ip", "-n", self.netns)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "add", "d0", "type", "dummy")
        run(*inside, "link", "set", "d0", "up")
        for host in range(11, 20):
            run(*inside, "address", "add", f"10.0.0.{host}/32", "dev", "d0")
            run(*inside, "address", "add", f"2001:db8::{host}/128", "dev", "d0", "nodad")
        run(*inside, "route", "add", "unreachable", "10.0.0.192/26")
        self.listen(selector)

    def listen(self, selector):
        """Sockets of this process in the namespace."""
        with open(f"/run/netns/{self.netns}") as there, open("/proc/self/ns/net") as back:
            assert libc.setns(there.fileno(), 0x40000000) == 0
            try:
                for port in PORTS:
                    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
                    listener.setblocking(False)
                    selector.register(listener, selectors.EVENT_READ, "listener")
            finally:
                assert libc.setns(back.fileno(), 0x40000000) == 0

    def command(self, *words):
        return run("ip", "netns", "exec", self.netns, *words)

    def launch(self):
        files = [w for o, n in (("-p", "pid"), ("-c", "checkers"), ("-r", "vrrp")) for w in (o, f"/tmp/{self.name}.{n}")]
        words = ["keepalived", "-C", "-n", "-l", "-i", "me", "-f", self.path, *files]
        log = open(f"/tmp/{self.name}.log", "w")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, *words], stdout=log, stderr=log, cwd=HERE
        )
        self.launched = time.monotonic()

    def look(self):
        rules, now = self.command("ipvsadm", "-Sn"), time.monotonic()
        if rules != self.seen:
            self.seen, self.since = rules, now
        return now

    def first(self):
        """Before the first answer of a check: all is set up at once."""
        while True:
            before = self.seen
            now = self.look()
            if (self.seen and self.seen == before) or now - self.launched > 10:
                break
        self.start = self.seen
        self.timeouts = self.command("ipvsadm", "-L", "--timeout")

    def poll(self):
        now = self.look()
        if now - self.launched < SETTLED_AFTER_S or now - self.since < SETTLED_FOR_S:
            return False
        self.settled = self.seen
        return True

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def result(self):
        with open(self.path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return {
            "sha256": digest,
            "start": self.start.splitlines(),
            "settled": self.settled.splitlines(),
            "timeouts": self.timeouts.strip(),
        }


def serve(selector, seconds):
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            try:
                if key.data == "listener":
                    peer, _ = key.fileobj.accept()
                    peer.setblocking(False)
                    selector.register(peer, selectors.EVENT_READ, "peer")
                    continue
                if key.fileobj.recv(4096):
                    key.fileobj.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                pass
            if key.data == "peer":
                selector.unregister(key.fileobj)
                key.fileobj.close()


def main():
    selector = selectors.DefaultSelector()
    cases = [Case(path, selector) for path in sorted(glob.glob(f"{HERE}/*.conf"))]
    for case in cases:
        case.launch()
        case.first()
        serve(selector, 0.01)
    waiting, began = list(cases), time.monotonic()
    while waiting:
        serve(selector, 0.3)
        waiting = [case for case in waiting if not case.poll()]
        if time.monotonic() - began > PATIENCE_S:
            sys.exit(f"never settled: {[case.name for case in waiting]}")
    for case in cases:
        case.end()
    version = subprocess.run(["keepalived", "-v"], capture_output=True, text=True).stderr.split("\n")[0]
    kernel = os.uname().release
    results = {case.name: case.result() for case in cases}
    print(json.dumps({"keepalived": version, "kernel": kernel, "cases": results}, indent=1))


main()
