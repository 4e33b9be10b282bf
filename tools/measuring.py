"""What the tools that measure share: daemons and their configuration, clients, and how figures are told."""

import glob
import os
import re
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.environ.get("USHERD_PEERS", f"{ROOT}/target/peers")
USHERD = f"{ROOT}/target/release/usherd"
# What daemons and clients find; a time zone's file would be read by some and not by others.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"}
# Those of `config()`.
SERVICES = 64
BUILTINS = ["echo", "discard", "chargen", "daytime", "time"]
FIRST_PORT = 20000
# As a service manager gives them out; xinetd closes each one possible, one by one.
DESCRIPTORS = 1024


def config():
    """64 services in xinetd.conf: the five built-in ones over TCP and UDP, 46 programs for streams, 8 for datagrams."""
    text = "defaults\n{\n\tlog_on_success = PID HOST EXIT DURATION\n\tlog_on_failure = HOST\n\tinstances = 60\n}\n"

    def service(name, port, kind, wait, lines):
        protocol = "tcp" if kind == "stream" else "udp"
        head = f"\nservice {name}\n{{\n\tid = {name}-{port}\n\tsocket_type = {kind}\n\tprotocol = {protocol}\n"
        return head + f"\tport = {port}\n\twait = {wait}\n\tuser = root\n" + lines + "}\n"

    port = FIRST_PORT
    for name in BUILTINS:
        for kind, wait in (("stream", "no"), ("dgram", "yes")):
            text += service(name, port, kind, wait, "\ttype = INTERNAL UNLISTED\n")
            port += 1
    for n in range(SERVICES - 10):
        lines = "\ttype = UNLISTED\n\tserver = /bin/cat\n\tonly_from = 127.0.0.0/8 192.0.2.0/24\n\tper_source = 10\n"
        kind, wait = ("dgram", "yes") if n % 7 == 6 and n < 55 else ("stream", "no")
        text += service(f"program{n}", port, kind, wait, lines)
        port += 1
    return text


def inetd_config():
    """The same for inetds, which know built-in services by their own names and ports alone."""
    text = ""
    port = FIRST_PORT
    for name in BUILTINS:
        text += f"{name} stream tcp4 nowait root internal\n{name} dgram udp4 wait root internal\n"
    for n in range(SERVICES - 10):
        kind = "dgram udp4 wait" if n % 7 == 6 and n < 55 else "stream tcp4 nowait"
        text += f"{port + n} {kind} root /bin/cat cat\n"
    return text


def fail(message):
    sys.exit(f"{os.path.relpath(sys.argv[0], ROOT)}: {message}")


class Daemon:
    """One daemon in the foreground, serving what `xinetd.conf` or `inetd.conf` in the directory `work` says."""

    def __init__(self, name, work, before=(), more=()):
        self.name = name
        self.pid_file = f"{work}/{name}.pid"
        self.log = f"{work}/{name}.log"
        conf = f"{work}/xinetd.conf"
        match name:
            case "usherd":
                words = [USHERD, "-dontfork", "-f", conf, "-pidfile", self.pid_file]
            case "xinetd":
                words = [f"{PEERS}/xinetd/usr/sbin/xinetd", "-dontfork", "-f", conf, "-pidfile", self.pid_file]
            case "openbsd-inetd":
                words = [f"{PEERS}/openbsd-inetd/usr/sbin/inetd", "-i", f"{work}/inetd.conf"]
            case _:
                # Its only way to stay in the foreground.
                words = [f"{PEERS}/inetutils-inetd/usr/sbin/inetutils-inetd", "-d", f"{work}/inetd.conf"]
        if not os.path.exists(words[0]):
            fail(f"{words[0]} is not there: run tools/setup and cargo build --release")
        log = open(self.log, "w")
        self.began = time.monotonic()
        environment = ENVIRONMENT if name == "usherd" else ENVIRONMENT | {"LD_LIBRARY_PATH": peer_libraries()}
        self.process = subprocess.Popen([*before, *words, *more], env=environment, stdout=log, stderr=log)

    def ready_ms(self, sockets=SERVICES):
        """Milliseconds from fork to all services listening, seen in the kernel's own list of sockets."""
        deadline = self.began + 20
        while True:
            count = listening()
            now = time.monotonic()
            if count >= sockets:
                return (now - self.began) * 1000
            if self.process.poll() is not None or now > deadline:
                log = open(self.log).read()
                fail(f"{self.name} has {count} of {sockets} sockets after {now - self.began:.1f} s: {log}")
            time.sleep(0.0001)

    def pid(self):
        """Of who serves: what was started may be a program that looks on."""
        return int(open(self.pid_file).read()) if self.name in ("usherd", "xinetd") else self.process.pid

    def switches(self):
        return switches(self.pid())

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def peer_libraries():
    """Where the libraries of the other super-servers are, for LD_LIBRARY_PATH."""
    found = [glob.glob(f"{PEERS}/*/{lib}/*-linux-gnu*") + glob.glob(f"{PEERS}/*/{lib}/*-linux-gnu*/systemd") for lib in ("usr/lib", "lib")]
    return ":".join(sum(found, []))


def listens(port):
    """Whether anybody of this network listens for streams at this port."""
    for name in ("tcp", "tcp6"):
        with open(f"/proc/self/net/{name}") as table:
            for line in table.readlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def memory_kb(pid):
    """Rss and Pss of a process."""
    rollup = open(f"/proc/{pid}/smaps_rollup").read()
    return [int(re.search(rf"^{name}:\s+(\d+) kB", rollup, re.M)[1]) for name in ("Rss", "Pss")]


def switches(pid):
    """How often a process slept or was made to wait."""
    return sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", open(f"/proc/{pid}/status").read()))


def listening():
    """How many sockets of this network listen, or wait for datagrams."""
    count = 0
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with open(f"/proc/self/net/{name}") as table:
            states = [line.split()[3] for line in table.readlines()[1:]]
        # TCP_LISTEN; a socket for datagrams is in TCP_CLOSE.
        count += states.count("0A" if name.startswith("tcp") else "07")
    return count


def idle_pss_kb(names, work):
    """Idle memory with 64 services: the median for each of `names`."""
    medians = {}
    for name in names:
        sizes = []
        # How much of the file the kernel maps around a page that is needed differs from start to start.
        for _ in range(9):
            daemon = Daemon(name, work)
            daemon.ready_ms()
            time.sleep(0.3)
            sizes.append(memory_kb(daemon.pid())[1])
            daemon.end()
        medians[name] = statistics.median(sizes)
    return medians


def start_ms(names, work, rounds):
    """From fork to 64 sockets that listen: each time of each of `names`, whose turns alternate."""
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name in times:
            daemon = Daemon(name, work)
            times[name].append(daemon.ready_ms())
            daemon.end()
    return times


def build(words):
    subprocess.run(["cargo", "build", "-q", "--locked", "--release", *words], cwd=ROOT, check=True, stdout=sys.stderr)


def build_clients():
    """The program that the clients of every rate are."""
    built = subprocess.run(["cargo", "bench", "-q", "--bench", "clients", "--no-run", "--message-format=json"],
                           cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return re.findall(r'"executable":"([^"]*/clients-[^"]*)"', built)[-1]


def ask(clients, address, seconds, kind, count=1, idle=0, may_fail=False):
    """How many a second, how many, and microseconds of one: see benches/clients.rs. Or why not, if it `may_fail`."""
    words = [clients, address, str(seconds), kind, str(count), str(idle)]
    try:
        run = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60)
        why = run.stderr if run.returncode else None
    except subprocess.TimeoutExpired:
        why = "no end"
    if why is not None and may_fail:
        return " ".join(why.split())
    if why is not None:
        fail(f"{kind} at {address}: {why}")
    return tuple(map(float, run.stdout.split()))


def quartiles(numbers):
    return statistics.quantiles(numbers, n=4, method="inclusive")


def shares(own, other):
    """What one is as a share of another, round by round: neighbours in time, as the machine may be busy by turns."""
    return quartiles(list(map(float.__truediv__, own, other)))


def told(number):
    """A figure with as many digits as it is worth."""
    return f"{number:.0f}" if number >= 1000 else f"{number:.1f}" if number >= 10 else f"{number:.3g}"


def first(pattern, path):
    found = re.search(pattern, open(path).read(), re.M)
    return found[1] if found else "unknown"


def circumstances():
    kernel = re.match(r"\d+\.\d+", os.uname().release)[0]
    cpu = first(r"^(?:model name|Model)\s*:\s*(.*)", "/proc/cpuinfo")
    version = subprocess.run([USHERD, "-version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{version}, {time.strftime('%Y-%m-%d')}, Linux {kernel}, {os.cpu_count()} × {cpu}"


def in_own_network(marker, words):
    """Goes on in a network and with mounts of its own: the program is started again with `words`, once."""
    if os.environ.get(marker) == "own":
        return
    os.environ[marker] = "own"
    inside = 'ip link set lo up && exec "$0" "$@"'
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", inside, os.path.abspath(sys.argv[0]), *words])
