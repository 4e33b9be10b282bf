"""The built-in services of a daemon for another machine, in QEMU: `tests/builtins.py QEMU DAEMON`. See tools/test, part cross."""

import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

HOST = "127.0.0.1"
ECHO, DISCARD, DAYTIME, CHARGEN, TIME = 10007, 10009, 10013, 10019, 10037
PATIENCE = 10
# RFC 868 counts from 1900.
SINCE_1900 = 2208988800


PORTS = {"echo": ECHO, "discard": DISCARD, "daytime": DAYTIME, "chargen": CHARGEN, "time": TIME}


def configuration():
    text = ""
    for name, port in PORTS.items():
        for protocol, wait in (("tcp", "no"), ("udp", "yes")):
            text += f"service {name}\n{{\n\tid = {name}-{protocol}\n\ttype = INTERNAL UNLISTED\n\tprotocol = {protocol}\n"
            text += f"\tport = {port}\n\twait = {wait}\n}}\n"
    return text


def tcp(port):
    """A connection as soon as somebody listens."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((HOST, port), PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def read_all(client):
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def ask_tcp(port, question):
    with tcp(port) as client:
        client.sendall(question)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def ask_udp(port, question, patience=PATIENCE):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.connect((HOST, port))
        client.send(question)
        try:
            return client.recv(65536)
        except TimeoutError:
            return None


def is_now(answer):
    return len(answer) == 4 and abs(struct.unpack("!I", answer)[0] - SINCE_1900 - time.time()) < 5


def is_a_date(answer):
    return re.fullmatch(rb"\d\d [A-Z]{3} 2\d{3} \d\d:\d\d:\d\d( \w+)?\r\n", answer) is not None


def main():
    qemu, daemon = sys.argv[1:]
    file = tempfile.NamedTemporaryFile("w", suffix=".conf")
    file.write(configuration())
    file.flush()
    served = subprocess.Popen([qemu, daemon, "-dontfork", "-f", file.name])
    try:
        much = b"0123456789abcdef" * 8192
        with tcp(CHARGEN) as client:
            lines = b""
            while len(lines) < 74 * 100:
                lines += client.recv(65536)
        # As xinetd: 72 of the 93 characters from ! to } in a line, each line from the next one on (RFC 864 leaves the pattern open).
        ring = bytes(range(33, 126)) * 2
        pattern = b"".join(ring[n:n + 72] + b"\r\n" for n in range(90))
        seen = {
            "echo over TCP": ask_tcp(ECHO, much) == much,
            "discard over TCP": ask_tcp(DISCARD, much) == b"",
            "chargen over TCP": lines.startswith(pattern),
            "daytime over TCP": is_a_date(ask_tcp(DAYTIME, b"")),
            "time over TCP": is_now(ask_tcp(TIME, b"")),
            "echo over UDP": ask_udp(ECHO, b"hello") == b"hello",
            "discard over UDP": ask_udp(DISCARD, b"hello", 0.3) is None,
            "daytime over UDP": is_a_date(ask_udp(DAYTIME, b"?") or b""),
            "time over UDP": is_now(ask_udp(TIME, b"?") or b""),
        }
    finally:
        served.terminate()
        served.wait(PATIENCE)
    for what, is_right in seen.items():
        print(f"{what}: {'right' if is_right else 'WRONG'}")
    sys.exit(0 if all(seen.values()) else 1)


main()
