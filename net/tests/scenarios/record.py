#!/usr/bin/env python3
"""Records what a Redis server answers to the commands of the scenarios, as the scenarios' expectations.

Usage: record.py HOST:PORT FILE.txt..

Each file is read, its commands (lines that begin with "> ") are sent to the server after FLUSHALL, and the file is
written again with the answers. Lines that begin with "#" stay. "! sleep N" waits N milliseconds. "! resp N" switches the
protocol. ">~ " marks a command whose answer has no order: its elements (of a map: its pairs) are sorted.
"""

import shlex
import socket
import sys
import time


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.file = self.socket.makefile("rb")

    def ask(self, args):
        self.socket.sendall(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
        return self.read()

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"+-:,#_":
            return (kind.decode(), rest)
        if kind in b"$=":
            size = int(rest)
            return ("_", b"") if size < 0 else ("$", self.file.read(size + 2)[:-2])
        size = int(rest)
        if size < 0:
            return ("_", b"")
        per_element = 2 if kind == b"%" else 1
        return (kind.decode(), [self.read() for _ in range(size * per_element)])


def unescape(word):
    return word.encode("latin-1").decode("unicode_escape").encode("latin-1")


def quote(data):
    out = ""
    for byte in data:
        if byte in b'"\\':
            out += "\\" + chr(byte)
        elif 32 <= byte < 127:
            out += chr(byte)
        else:
            out += f"\\x{byte:02x}"
    return f'"{out}"'


def render(reply, indent=""):
    kind, value = reply
    if kind == "$":
        return [indent + quote(value)]
    if kind == "_":
        return [indent + "(nil)"]
    if kind in "+-:,#":
        return [indent + kind + value.decode("latin-1")]
    lines = [indent + kind + str(len(value))]
    for element in value:
        lines += render(element, indent + "  ")
    return lines


def sort(reply, in_pairs):
    kind, value = reply
    if kind in "*~%" and len(value) == 2 and isinstance(value[1][1], list):
        return (kind, [value[0], sort(value[1], in_pairs)])
    if kind not in "*~%":
        return reply
    step = 2 if kind == "%" or in_pairs else 1
    groups = sorted(value[n : n + step] for n in range(0, len(value), step))
    return (kind, [element for group in groups for element in group])


def main():
    address, files = sys.argv[1], sys.argv[2:]
    for name in files:
        connection = Connection(address)
        connection.ask([b"FLUSHALL"])
        out = []
        for line in open(name, encoding="latin-1").read().split("\n"):
            if line.startswith("#") or (line == "" and out and out[-1] != ""):
                out.append(line)
            elif line.startswith("! sleep "):
                out.append(line)
                time.sleep(int(line.split()[2]) / 1000)
            elif line.startswith("! resp "):
                out.append(line)
                connection.ask([b"HELLO", line.split()[2].encode()])
            elif line.startswith(">"):
                out.append(line)
                mark, command = line.split(" ", 1)
                args = [unescape(word) for word in shlex.split(command)]
                reply = connection.ask(args)
                if mark == ">~":
                    reply = sort(reply, args[0].lower() in (b"hgetall", b"hscan"))
                out += render(reply)
        while out and out[-1] == "":
            out.pop()
        open(name, "w", encoding="latin-1").write("\n".join(out) + "\n")


main()
