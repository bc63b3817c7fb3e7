#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Both sides of a migration against the library's: right and wrong. Prints TAP. Usage: peer.py END [NAME]..."""

import errno
import fcntl
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import cbor
import machine
import wire
from destination import Abandoned, Destination
from source import Source
from wire import Connection

EFORMAT, EUNSETTLED = 4008, 4010  # impost/error.h
LOCAL, FINISH = 1, 2
KEEP, LEAVE = 1, 2
ANONYMOUS, MEMFD = 0, 3
# The library's limit where no limit is to be met, however loaded the machine is.
LONG_MS = wire.PATIENCE * 1000
SHORT_MS = 400

TESTS = {}


def test(name):
    """What is run as NAME."""
    def add(function):
        assert name not in TESTS, name
        TESTS[name] = function
        return function
    return add


class Skipped(Exception):
    """What a test needs is not there."""


class End:
    """A process that is the library's side, and our ends of its connections."""

    program = None

    def __init__(self, what, folder=None, further=0, **options):
        pairs = [socket.socketpair() for _ in range(1 + further)]
        theirs = [pair[1].fileno() for pair in pairs]
        options.setdefault("silence", LONG_MS)
        if further:
            options["fds"] = ",".join(map(str, theirs[1:]))
        self.folder = folder
        if folder:
            options.update(memory=f"{folder}/memory", state=f"{folder}/state")
        arguments = [f"{key}={value}" for key, value in options.items()]
        self.process = subprocess.Popen([self.program, what, str(theirs[0]), *arguments],
                                        pass_fds=theirs, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.main, *self.further = [Connection(pair[0]) for pair in pairs]
        for pair in pairs:
            pair[1].close()

    def finish(self):
        """How it says that it ended."""
        try:
            out, err = self.process.communicate(timeout=2 * wire.PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"it has hung: {out} {err}") from None
        finally:
            for connection in (self.main, *self.further):
                connection.close()
        assert self.process.returncode == 0 and out.endswith("end\n"), f"{out}\n{err}"
        return dict(line.partition(" ")[::2] for line in out.splitlines())

    def expect(self, result, vm, *words):
        """It ends with RESULT, and VM is where the VM is then; the text of the error has WORDS."""
        said = self.finish()
        assert said["result"] == str(-result), f"{said}, where {-result} was to be"
        assert said.get("vm", "nowhere") == vm, f"{said}, where the VM was to be {vm}"
        for word in words:
            assert word in said["text"], f"{word} is not in {said['text']}"
        return said

    def memory(self):
        """All guest memory, as it is there."""
        with open(f"{self.folder}/memory", "rb") as file:
            return file.read()

    def state(self):
        """The state there, but for the time at which it was taken."""
        def without_time(item):
            if isinstance(item, dict):
                return {key: without_time(value) for key, value in item.items()
                        if key != "realtime_ns"}
            return [without_time(value) for value in item] if isinstance(item, list) else item
        with open(f"{self.folder}/state", encoding="utf-8") as file:
            return without_time(json.load(file))


def drain(connection):
    """Reads whatever comes, until the end."""
    try:
        while connection.sock.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass


def close(connection):
    """Ends the connection, also for the process that sends while we do not read."""
    connection.sock.shutdown(socket.SHUT_RDWR)


# --- from the library to the library ---

def take(end, **options):
    """The VM that END sends."""
    destination = Destination(end.main, joined=end.further, **options)
    assert destination.serve()
    return destination


@functools.lru_cache(None)
def kept():
    """A VM that the library has sent."""
    end = End("send")
    taken = take(end)
    end.expect(0, "left")
    return taken.machine


def check_state(vm, record):
    """What a stranger can see of the guest that end.c makes."""
    vcpus = [cbor.record(vm.late[f"vcpu.{number}"]) for number in vm.vcpus]
    assert vm.vcpus == [0, 1]
    # What the guest has read from its port, if it ran, is in AL.
    assert {vcpu["regs"]["rax"] >> 8 for vcpu in vcpus} == {0x12345}
    assert cbor.record(vm.late["device.pair.0"])["number"] == 0x5eed
    assert record["local"] is (record["offsets"] != [])


def relay(folder, guests=False, sends=None, **options):
    """From the library to us, and from what we kept to the library; the same guest comes."""
    sender = End("send", f"{folder}/a", **({"guests": 1} if guests else {}), **(sends or {}))
    taken = take(sender, **options)
    said = sender.expect(0, "left")
    assert taken.machine.contents() == sender.memory(), "memory differs"
    check_state(taken.machine, taken.machine.migration)
    receiver = End("receive", f"{folder}/b")
    Source(receiver.main, taken.machine, **options).everything()
    receiver.expect(0, "came")
    assert receiver.memory() == sender.memory(), "memory differs after all"
    assert receiver.state() == sender.state(), "the state differs"
    return taken, said


def in_folder(function):
    """A test that gets a folder with two in it."""
    def run():
        with tempfile.TemporaryDirectory(prefix="impost-peer-") as folder:
            for name in "ab":
                os.mkdir(f"{folder}/{name}")
            function(folder)
    return run


@test("relayed")
@in_folder
def relayed(folder):
    taken, said = relay(folder)
    agreed = wire.ZERO_PAGES | wire.TEXTS  # there is one connection
    assert taken.features == agreed and said["features"] == str(agreed)
    assert taken.zero_rows, "zeros went as contents"
    ram = taken.machine.regions[0]
    never = range(ram.length // wire.PAGE * 3 // 4, ram.length // wire.PAGE)
    assert not ram.sent.intersection(never), "memory went that nobody has touched"
    assert taken.said[:2] == [wire.START, wire.CONFIG] and taken.said[-1] == wire.COMPLETE
    assert taken.said.count(wire.STATE) == 1 and wire.MEMORY in taken.said


@test("relayed by a peer that knows the framing alone")
@in_folder
def relayed_framing(folder):
    taken, said = relay(folder, knows_features=False)
    assert taken.features == 0 and said["features"] == "0" and not taken.zero_rows


@test("relayed with no feature agreed on")
@in_folder
def relayed_featureless(folder):
    taken, said = relay(folder, features=0)
    assert said["features"] == "0" and not taken.zero_rows


@test("relayed while the guest writes")
@in_folder
def relayed_guests(folder):
    relay(folder, guests=True, sends={"flags": FINISH})


@test("relayed over several connections")
@in_folder
def relayed_connections(folder):
    sender = End("send", f"{folder}/a", further=2, connections=3, guests=1, flags=FINISH)
    taken = take(sender)
    sender.expect(0, "left")
    assert taken.machine.contents() == sender.memory() and taken.machine.migration["connections"] == 3
    receiver = End("receive", f"{folder}/b", further=2)
    source = Source(receiver.main, taken.machine)
    source.start()
    source.config(connections=3)
    for connection in receiver.further:
        connection.ask(wire.JOIN, taken.machine.migration["token"])
    for connection, region in zip(receiver.further, taken.machine.regions):
        source.memory(connection, [region])
    source.memory()
    source.state()
    source.complete()
    receiver.expect(0, "came")
    assert receiver.memory() == sender.memory() and receiver.state() == sender.state()


@test("relayed as descriptors")
@in_folder
def relayed_local(folder):
    sender = End("send", f"{folder}/a", flags=LOCAL, kind=MEMFD)
    taken = take(sender)
    said = sender.expect(0, "left")
    regions = taken.machine.regions
    assert said["data"] == "0" and wire.MEMORY not in taken.said
    assert all(region.seals & fcntl.F_SEAL_SHRINK for region in regions)
    assert taken.machine.contents() == sender.memory(), "memory differs"
    receiver = End("receive", f"{folder}/b")
    source = Source(receiver.main, taken.machine)
    source.start()
    source.config(local=True, offsets=taken.machine.migration["offsets"])
    for slot in reversed(range(len(regions))):  # in any order
        source.memory_fd(slot, regions[slot].fd)
    os.pwrite(regions[0].fd, b"the same memory", 5 * wire.PAGE)
    source.state()
    source.complete()
    receiver.expect(0, "came")
    assert receiver.memory() == taken.machine.contents() != sender.memory()
    assert receiver.memory()[5 * wire.PAGE:].startswith(b"the same memory")
    assert receiver.state() == sender.state()
    for region in regions:
        os.close(region.fd)


def receive_in_order(folder, *steps):
    """The library takes a VM that is sent by these steps, between Config and Complete."""
    receiver = End("receive", f"{folder}/b")
    source = Source(receiver.main, kept())
    source.start()
    source.config()
    for step in steps:
        getattr(source, step)()
    source.complete()
    receiver.expect(0, "came")
    assert receiver.memory() == kept().contents()


@test("state before memory, and in its middle")
@in_folder
def orders(folder):
    receive_in_order(folder, "state", "memory")
    receive_in_order(folder, "memory", "state", "memory", "memory")


# --- wrong answers to the library's source ---

STEPS = (wire.START, wire.CONFIG, wire.MEMORY, wire.STATE, wire.COMPLETE)


def half(connection):
    """An answer that breaks off."""
    connection.write(wire.HEAD.pack(wire.OK, wire.BARE, 0)[:7])
    close(connection)


WRONG_ANSWERS = {
    "Error": (errno.EREMOTEIO, lambda c: c.say(wire.ERROR)),
    "Error with a text": (errno.EREMOTEIO, lambda c: c.say(wire.ERROR, b"no room\nand no \x1bluck")),
    "Error with too long a text": (errno.EPROTO, lambda c: c.say(wire.ERROR, bytes(65537))),
    "status 0": (errno.EPROTO, lambda c: c.say(0)),
    "status 3": (errno.EPROTO, lambda c: c.say(3)),
    "Ok with a payload": (errno.EPROTO, lambda c: c.say(wire.OK, b"12345678")),
    "Ok of an endless length": (errno.EPROTO, lambda c: c.say(wire.OK, length=(1 << 64) - 1)),
    "Ok with a header": (errno.EPROTO, lambda c: c.say(wire.OK, header=b"\2\0\0\0\0\0")),
    "half an Ok": (errno.EPIPE, half),
    "the end": (errno.EPIPE, close),
    "silence": (errno.ETIMEDOUT, lambda c: None),
}


def was_in_time(destination):
    """Whether we have come to where we are silent: on a loaded machine the library may have found us
    so before."""
    try:
        assert not destination.serve()
        return True
    except (Abandoned, wire.Ended):
        return False


def answer_wrong(command, name, settle):
    """The library's source gets one wrong answer, and its VM is where the document says."""
    result, answer = WRONG_ANSWERS[name]
    end = End("send", silence=SHORT_MS if name == "silence" else LONG_MS, settle=settle)
    destination = Destination(end.main)
    destination.instead[command] = answer
    if name == "silence" and not was_in_time(destination):
        drain(end.main)
        end.expect(result, "stays")
        return
    if name != "silence":
        assert not destination.serve()
    drain(end.main)
    words = []
    if name == "Error with a text":
        words = ["no room", "luck"]
    if command == wire.COMPLETE and result != errno.EREMOTEIO:
        end.expect(EUNSETTLED, "stays" if settle == KEEP else "left")
    else:
        end.expect(result, "stays", *words)


for step in STEPS:
    for wrong in WRONG_ANSWERS:
        if step != wire.START or wrong != "Error with a text":
            test(f"{wire.NAMES[step]} is answered by {wrong}")(
                functools.partial(answer_wrong, step, wrong, KEEP))
test("a VM that is left after the end at Complete")(
    functools.partial(answer_wrong, wire.COMPLETE, "the end", LEAVE))


def answer_start(header, result):
    """Start's Ok has a header."""
    end = End("send")
    destination = Destination(end.main)
    destination.instead[wire.START] = lambda c: c.say(wire.OK, header=header)
    destination.serve()
    drain(end.main)
    end.expect(result, "stays")


test("Start's Ok has features that were not offered")(
    functools.partial(answer_start, wire.GREETING.pack(1, wire.PLAIN | 1 << 9), errno.EPROTO))
test("Start's Ok has features and no version")(
    functools.partial(answer_start, wire.GREETING.pack(0, wire.PLAIN), errno.EPROTO))


def answer_joined(command, name):
    """A wrong answer on connections that have joined; memory goes over any of all."""
    result, answer = WRONG_ANSWERS[name]
    end = End("send", further=2, connections=3)
    destination = Destination(end.main, joined=end.further)
    destination.joined_instead[command] = answer
    if command == wire.MEMORY:
        destination.instead[command] = answer
    try:
        assert not destination.serve()
    except (Abandoned, wire.Ended):
        pass
    drain(end.main)
    assert not destination.troubles, destination.troubles
    end.expect(result, "stays")


for step in (wire.JOIN, wire.MEMORY):
    for wrong in ("Error", "Error with a text", "status 0", "Ok with a payload", "the end"):
        test(f"{wire.NAMES[step]} on another connection is answered by {wrong}")(
            functools.partial(answer_joined, step, wrong))


def cancelled(state):
    """The library's source is cancelled when it comes into a state, and says Abandon."""
    end = End("send", cancel=state)
    try:
        Destination(end.main).serve()
        raise AssertionError("it goes on")
    except Abandoned:
        assert end.main.is_over(), "something comes after Abandon"
    end.expect(errno.ECANCELED, "stays")


test("the source is cancelled while it copies")(functools.partial(cancelled, 2))
test("the source is cancelled while the guest stands")(functools.partial(cancelled, 3))


# --- wrong requests to the library's destination ---

def up_to(end, command):
    """A source that has said all before COMMAND."""
    source = Source(end.main, kept())
    for name in STEPS[:STEPS.index(command)]:
        getattr(source, wire.NAMES[name].lower())()
    return source


def abandoned(command):
    """Abandon in the place of COMMAND, which is not answered."""
    end = End("receive")
    up_to(end, command).abandon()
    assert end.main.is_over(), "Abandon is answered"
    end.expect(errno.EREMOTEIO, "nowhere")


def ended(command):
    """The end in the place of COMMAND."""
    end = End("receive")
    up_to(end, command)
    close(end.main)
    end.expect(errno.EPIPE, "nowhere")


def ended_in(command):
    """The end within COMMAND's head."""
    end = End("receive")
    up_to(end, command).main.write(wire.HEAD.pack(command, wire.BARE, 0)[:9])
    close(end.main)
    end.expect(errno.EPIPE, "nowhere")


def silent(command):
    """Nothing in the place of COMMAND."""
    end = End("receive", silence=SHORT_MS)
    try:
        up_to(end, command)
    except (wire.Refused, wire.Ended):
        pass  # a loaded machine: we were slow before
    drain(end.main)
    end.expect(errno.ETIMEDOUT, "nowhere")


for step in STEPS:
    for title, function in {"Abandon": abandoned, "the end": ended, "the end within": ended_in,
                            "silence": silent}.items():
        test(f"{title} in the place of {wire.NAMES[step]}")(functools.partial(function, step))


def refused(command, result, says, words=()):
    """What SAYS says in the place of COMMAND is answered with Error, and nothing is left."""
    end = End("receive")
    source = up_to(end, command)
    says(source)
    text = source.main.refusal()
    said = end.expect(result, "nowhere", *words)
    if source.features & wire.TEXTS:
        assert text and text.split("\n")[0][:40] in said["text"].replace("|", "\n"), (text, said)


def wrong_request(name, command, result, says, words=()):
    """Adds such a test."""
    test(f"in the place of {wire.NAMES[command]}: {name}")(
        functools.partial(refused, command, result, says, words))


def say(code, payload=b"", **options):
    """Says one thing."""
    return lambda source: source.main.say(code, payload, **options)


def row(gpa, length, contents=None):
    """Says Memory of one row."""
    return lambda source: source.main.say(wire.MEMORY, wire.pack_rows([(gpa, length)]) +
                                          bytes(length if contents is None else contents), length=16)


ORDER = {
    wire.START: (wire.CONFIG, wire.STATE, wire.MEMORY, wire.COMPLETE, wire.JOIN, wire.MEMORY_FD),
    wire.CONFIG: (wire.START, wire.STATE, wire.MEMORY, wire.COMPLETE, wire.MEMORY_FD, wire.POSTPONE),
    wire.MEMORY: (wire.START, wire.CONFIG, wire.COMPLETE, wire.JOIN, wire.MEMORY_FD, wire.POSTPONE,
                  wire.FAULT, wire.RESUME),
    wire.COMPLETE: (wire.START, wire.CONFIG, wire.MEMORY_FD, wire.JOIN, wire.FAULT),
}
PAYLOADS = {wire.CONFIG: b"\xa0", wire.STATE: b"\xa0", wire.MEMORY: wire.pack_rows([(0, 4096)]),
            wire.MEMORY_FD: bytes(4), wire.JOIN: bytes(16), wire.RESUME: bytes(16),
            wire.POSTPONE: wire.pack_rows([(0, 4096)]), wire.FAULT: wire.pack_rows([(0, 4096)])}
for step, codes in ORDER.items():
    for code in codes:
        wrong_request(wire.NAMES[code], step, errno.EPROTO, say(code, PAYLOADS.get(code, b"")))

for step in STEPS:
    for code in (0, 8, 0x4905, 0xffff):
        wrong_request(f"command {code:#x}", step, errno.EPROTO, say(code))
    wrong_request("a header", step, errno.EPROTO,
                  say(step, header=b"\2\0\0\0\0\0", payload=PAYLOADS.get(step, b"")))
    if step in PAYLOADS:
        wrong_request("no payload", step, errno.EPROTO, say(step))
        wrong_request("an endless payload", step, errno.EPROTO, say(step, length=(1 << 64) - 16))
    else:
        wrong_request("a payload", step, errno.EPROTO, say(step, b"12345678"))

RAM = 64 * wire.PAGE
for title, wrong in {
        "beyond all memory": row(1 << 40, wire.PAGE),
        "beyond the region's end": row(RAM - wire.PAGE, 2 * wire.PAGE),
        "that wraps": row((1 << 64) - wire.PAGE, 2 * wire.PAGE, 0),
        "of an endless length": row(0, (1 << 64) - wire.PAGE, 0),
        "of no length": row(0, 0),
        "of half a page": row(0, wire.PAGE // 2),
        "with a flag that was not agreed on": row(wire.ROW_ZSTD, wire.PAGE),
        "with flags that there are not": row(0x40, wire.PAGE),
}.items():
    wrong_request(f"a row {title}", wire.MEMORY, errno.EPROTO, wrong)
wrong_request("a table of no whole rows", wire.MEMORY, errno.EPROTO, say(wire.MEMORY, bytes(24)))
wrong_request("a table of too many rows", wire.MEMORY, errno.EPROTO,
              say(wire.MEMORY, length=16 * (wire.ROWS_MOST + 1)))


def changed_config(change):
    """Config that CHANGE, of a map, has changed."""
    def says(source):
        item = {"state": dict(source.kept.early),
                "migration": dict(source.kept.migration, connections=1)}
        item = change(item) or item
        if isinstance(item.get("migration"), dict):
            item["migration"] = cbor.encode_record(item["migration"])
        source.main.say(wire.CONFIG, cbor.encode(item))
    return says


def change_section(name, **fields):
    """What puts other fields into a section of the state."""
    def change(item):
        contents = {**cbor.record(item["state"][name]), **fields}
        item["state"][name] = cbor.encode_record(contents)
    return change


def config_bytes(source):
    """A good Config."""
    return machine.encode_config(source.kept.early, {**source.kept.migration, "connections": 1})


for title, says in {
        "no CBOR": say(wire.CONFIG, b"\xff" * 64),
        "a number": say(wire.CONFIG, cbor.encode(1)),
        "an empty map": say(wire.CONFIG, cbor.encode({})),
        "bytes behind it": lambda s: s.main.say(wire.CONFIG, config_bytes(s) + b"\0"),
        "less than all": lambda s: s.main.say(wire.CONFIG, config_bytes(s)[:-1]),
        "not the shortest heads": lambda s: s.main.say(wire.CONFIG, b"\xb8\2" + config_bytes(s)[1:]),
        "a third key": changed_config(lambda item: {**item, "third": 1}),
        "no machine": changed_config(lambda item: item["state"].pop("machine") and None),
        "no vCPU": changed_config(lambda item: item["state"].pop("vcpu.1") and None),
        "a section that is no item": changed_config(lambda item: item["state"].update(machine=b"\xff")),
        "a section that is no byte string": changed_config(lambda item: item["state"].update(vm=7)),
        "no connection": changed_config(lambda item: item["migration"].update(connections=0)),
        "a short token": changed_config(lambda item: item["migration"].update(token=bytes(15))),
        "an unknown field": changed_config(lambda item: item["migration"].update(more=1)),
        "offsets without files": changed_config(lambda item: item["migration"].update(offsets=[0, 0])),
        "too few offsets": changed_config(lambda item: item["migration"].update(local=True, offsets=[0])),
        "overlapping regions": changed_config(change_section("machine", regions=[
            {"gpa": 0, "bytes": 8192, "flags": 0}, {"gpa": 4096, "bytes": 4096, "flags": 0}])),
        "half a page of memory": changed_config(change_section("machine", regions=[
            {"gpa": 0, "bytes": 2048, "flags": 0}])),
}.items():
    wrong_request(f"Config of {title}", wire.CONFIG, EFORMAT, says)


@test("more memory than is taken")
def too_much():
    end = End("receive", most=16 * wire.PAGE)
    source = up_to(end, wire.CONFIG)
    source.main.say(wire.CONFIG, config_bytes(source))
    source.main.refusal()
    end.expect(errno.EFBIG, "nowhere")


@test("a VM that cannot run there is refused with all reasons")
def incompatible():
    end = End("receive")
    source = up_to(end, wire.CONFIG)
    words = cbor.record(source.kept.early["vcpu.0"])["cpuid"]
    item = {"cpuid": [word | 0xffffffff if at % 8 in (4, 5) else word for at, word in enumerate(words)]}
    changed_config(change_section("vcpu.0", **item))(source)
    text = source.main.refusal()
    assert len(text.strip().split("\n")) > 2, text
    end.expect(errno.ENOTSUP, "nowhere")


@test("a version that there is not")
def other_version():
    end = End("receive")
    end.main.say(wire.START, header=wire.GREETING.pack(2, wire.PLAIN))
    assert end.main.refusal() == "", "a text that was not agreed on"
    end.expect(errno.EPROTO, "nowhere")


def changed_state(change):
    """State that CHANGE has changed."""
    def says(source):
        item = {"state": dict(source.kept.late)}
        change(item)
        source.main.say(wire.STATE, cbor.encode(item["state"]))
    return says


for title, says in {
        "no CBOR": say(wire.STATE, b"\xff" * 64),
        "no section": say(wire.STATE, cbor.encode({})),
        "a section that is no item": changed_state(lambda item: item["state"].update(machine=b"\xff")),
}.items():
    wrong_request(f"State of {title}", wire.STATE, EFORMAT, says)


def other_state(change):
    """A state that is well-formed and not of this VM is refused at State or at Complete."""
    end = End("receive")
    source = up_to(end, wire.STATE)
    change(item := {"state": dict(source.kept.late)})
    end.main.say(wire.STATE, cbor.encode(item["state"]))
    try:
        end.main.read_answer(wire.STATE)
        source.complete()
    except wire.Refused as text:
        assert str(text)
        assert end.finish()["result"] != "0"
        return
    raise AssertionError("it was taken")


test("State of other memory")(functools.partial(
    other_state, change_section("machine", regions=[{"gpa": 0, "bytes": RAM, "flags": 0}])))
test("State of a device that there is not")(functools.partial(
    other_state, lambda item: item["state"].update({"device.other.0": cbor.encode_record({})})))


# --- memory that is compressed ---

def compressed_source(end):
    """A source that has agreed on zstd, and said Config."""
    source = Source(end.main, kept(), features=wire.PLAIN | wire.ZSTD)
    source.start()
    assert source.features & wire.ZSTD
    source.config()
    return source


def zstd_row(gpa, length, packed):
    """What is said of one row that is compressed."""
    return (wire.pack_rows([(gpa | wire.ROW_ZSTD, length)]) + len(packed).to_bytes(8, "little") + packed)


@test("frames of zstd that were made by hand")
@in_folder
def compressed(folder):
    end = End("receive", f"{folder}/b", features=wire.PLAIN | wire.ZSTD)
    source = compressed_source(end)
    for region in source.kept.regions:
        row = zstd_row(region.gpa, region.length, wire.frame(bytes(region.memory)))
        source.main.say(wire.MEMORY, row, length=16)
        source.main.read_answer(wire.MEMORY)
    source.state()
    source.complete()
    end.expect(0, "came")
    assert end.memory() == kept().contents()


def wrong_frame(length, packed):
    """A frame that is none, or not of its row."""
    end = End("receive", features=wire.PLAIN | wire.ZSTD)
    source = compressed_source(end)
    source.main.say(wire.MEMORY, zstd_row(0, length, packed), length=16)
    source.main.refusal()
    end.expect(errno.EPROTO, "nowhere")


GOOD = wire.frame(bytes(range(256)) * 16)
for title, length, packed in (
        ("less than its row", 2 * wire.PAGE, GOOD),
        ("more than its row", wire.PAGE, wire.frame(bytes(2 * wire.PAGE))),
        ("cut short", wire.PAGE, GOOD[:-1]),
        ("with something behind it", wire.PAGE, GOOD + b"\0"),
        ("twice", wire.PAGE, GOOD + GOOD),
        ("of no bytes", wire.PAGE, b""),
        ("that is none", wire.PAGE, bytes(100)),
        ("with a wrong magic", wire.PAGE, b"\xff" + GOOD[1:]),
        ("with a content of another size than it says", wire.PAGE, GOOD[:5] + b"\xff" + GOOD[6:]),
        ("of a content of an endless size", wire.PAGE, b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8),
        ("of two MiB", 2 << 20, GOOD)):
    test(f"a frame of zstd {title}")(functools.partial(wrong_frame, length, packed))


# --- memory that comes after the VM ---

WITH_POSTCOPY = wire.PLAIN | wire.POSTCOPY


@test("the library sends the VM before its memory")
@in_folder
def postponed(folder):
    # Time is up when Config has been answered.
    end = End("send", f"{folder}/a", features=WITH_POSTCOPY, timeout=1)
    destination = Destination(end.main, features=WITH_POSTCOPY)
    destination.before[wire.CONFIG] = lambda: time.sleep(0.005)
    assert destination.serve()
    said = end.expect(0, "left")
    assert said["features"] == str(destination.features) and wire.POSTPONE in destination.said
    assert destination.machine.contents() == end.memory()


@test("the library's source goes on where connections break after Complete")
@in_folder
def resumed(folder):
    end = End("send", f"{folder}/a", features=WITH_POSTCOPY, timeout=1, further=3)
    destination = Destination(end.main, features=WITH_POSTCOPY)
    destination.before[wire.CONFIG] = lambda: time.sleep(0.005)
    destination.others = list(end.further)
    assert destination.serve()
    assert destination.resumed == 3, destination.resumed
    end.expect(0, "left")
    assert destination.machine.contents() == end.memory()


@test("the library's source does not call lost what was sent, and not acknowledged")
@in_folder
def not_lost(folder):
    end = End("send", f"{folder}/a", features=WITH_POSTCOPY, timeout=1, silence=5 * SHORT_MS)
    destination = Destination(end.main, features=WITH_POSTCOPY)
    destination.before[wire.CONFIG] = lambda: time.sleep(0.005)
    destination.loses_last = True
    assert destination.serve()
    assert end.expect(0, "left")["state"] == "done"
    assert destination.machine.contents() == end.memory()


@test("the library's source does without post-copy where the memory is not for it")
@in_folder
def falls_away(folder):
    end = End("send", f"{folder}/a", features=WITH_POSTCOPY, flags=FINISH, timeout=1)
    destination = Destination(end.main, features=WITH_POSTCOPY, drops=wire.POSTCOPY)
    destination.before[wire.CONFIG] = lambda: time.sleep(0.005)
    assert destination.serve()
    said = end.expect(0, "left")
    assert said["features"] == str(destination.features) and not destination.features & wire.POSTCOPY
    assert wire.POSTPONE not in destination.said
    assert destination.machine.contents() == end.memory()


@test("what cannot fall away with Config")
def cannot_fall_away():
    for features, drops in ((WITH_POSTCOPY, wire.TEXTS), (wire.PLAIN, wire.POSTCOPY)):
        end = End("send", features=features)
        destination = Destination(end.main, features=features, drops=drops)
        try:
            destination.serve()
            raise AssertionError("it is taken")
        except Abandoned:
            end.expect(errno.EPROTO, "stays", "goes back on features")


def postponed_source(end):
    """A source that has said Postpone of all memory."""
    source = Source(end.main, kept(), features=WITH_POSTCOPY)
    source.start()
    if not source.features & wire.POSTCOPY:
        end.main.close()
        raise Skipped("the library cannot have a userfaultfd here")
    source.config()
    source.memory()  # which is thrown away
    source.state()
    source.postpone()
    return source


@test("the library takes the VM before its memory")
@in_folder
def followed(folder):
    end = End("receive", f"{folder}/b", features=WITH_POSTCOPY)
    source = postponed_source(end)
    source.complete_and_serve()
    source.follow(10)  # end.c looks at memory that has not come
    end.expect(0, "came")
    assert end.memory() == kept().contents() and end.state()


@test("the library's destination goes on over another connection, and not with strangers")
@in_folder
def followed_again(folder):
    end = End("receive", f"{folder}/b", features=WITH_POSTCOPY, further=3)
    source = postponed_source(end)
    source.complete_and_serve()
    served = []
    for _ in range(5):
        served.append(list(source.heard()))
        source.serve(served[-1])
    close(end.main)
    stranger, silent, right = end.further
    stranger.say(wire.RESUME, bytes(16))
    assert "token" in stranger.refusal()
    close(silent)
    lacks = source.resume(right)
    pages = {page for gpa, size, _ in lacks for page in range(gpa, gpa + size, wire.PAGE)}
    assert pages and not pages & {gpa for rows in served for gpa, _, _ in rows}
    source.serve(source.heard())  # said again
    source.serve(lacks)
    source.complete_and_serve()
    end.expect(0, "came")
    assert end.memory() == kept().contents() and end.state()


def wrong_after_postpone(says, result):
    """What may not come between Postpone and Complete."""
    end = End("receive", features=WITH_POSTCOPY)
    says(postponed_source(end).main)
    drain(end.main)
    end.expect(result, "nowhere")


for title, (result, says) in {
        "Abandon": (errno.EREMOTEIO, lambda c: c.say(wire.ABANDON)),
        "the end": (errno.EPIPE, close),
        "Memory": (errno.EPROTO, lambda c: c.say(wire.MEMORY, wire.pack_rows([(0, 4096)]))),
        "State": (errno.EPROTO, lambda c: c.say(wire.STATE, b"\xa0")),
        "Postpone": (errno.EPROTO, lambda c: c.say(wire.POSTPONE, wire.pack_rows([(0, 4096)]))),
}.items():
    test(f"after Postpone: {title}")(functools.partial(wrong_after_postpone, says, result))


def wrong_postpone(items):
    """Postpone of what is no memory."""
    end = End("receive", features=WITH_POSTCOPY)
    source = Source(end.main, kept(), features=WITH_POSTCOPY)
    for name in ("start", "config", "state"):
        getattr(source, name)()
    if not source.features & wire.POSTCOPY:
        end.main.close()
        raise Skipped("the library cannot have a userfaultfd here")
    source.main.say(wire.POSTPONE, wire.pack_rows(items))
    source.main.refusal()
    end.expect(errno.EPROTO, "nowhere")


for title, items in {"beyond memory": [(1 << 40, 4096)], "of no length": [(0, 0)],
                     "with flags": [(wire.ROW_ZERO, 4096)]}.items():
    test(f"Postpone {title}")(functools.partial(wrong_postpone, items))


# --- wrong requests on other connections ---

def stranger(says):
    """What SAYS says on another connection in the place of Join is refused, and ends nothing else."""
    end = End("receive", further=2)
    source = up_to(end, wire.CONFIG)
    source.config(connections=2)
    other, right = end.further
    says(other)
    try:
        other.read_answer(wire.JOIN)
        raise AssertionError("it is taken")
    except wire.Refused:
        right.ask(wire.JOIN, source.kept.migration["token"])
    source.memory(right)
    source.state()
    source.complete()
    end.expect(0, "came")


for title, says in (
        ("another's token", lambda c: c.say(wire.JOIN, bytes(16))),
        ("half a token", lambda c: c.say(wire.JOIN, bytes(8))),
        ("Memory before Join", lambda c: c.say(wire.MEMORY, wire.pack_rows([(0, 4096)]))),
        ("Start", lambda c: c.say(wire.START))):
    test(f"a stranger's connection: {title}")(functools.partial(stranger, says))


def joined(says, result=errno.EPROTO):
    """What SAYS says on another connection after Join ends it all."""
    end = End("receive", further=1)
    source = up_to(end, wire.CONFIG)
    source.config(connections=2)
    other = end.further[0]
    other.ask(wire.JOIN, source.kept.migration["token"])
    says(other)
    drain(end.main)
    end.expect(result, "nowhere")


for title, says in (
        ("Join twice", lambda c: c.say(wire.JOIN, bytes(16))),
        ("State", lambda c: c.say(wire.STATE, b"\xa0")),
        ("Complete", lambda c: c.say(wire.COMPLETE)),
        ("a row beyond memory", lambda c: c.say(wire.MEMORY, wire.pack_rows([(1 << 40, 4096)]))),
        ("a row of no length", lambda c: c.say(wire.MEMORY, wire.pack_rows([(0, 0)])))):
    test(f"on another connection: {title}")(functools.partial(joined, says))


def half_a_row(connection):
    """The end in the middle of contents."""
    connection.say(wire.MEMORY, wire.pack_rows([(0, wire.PAGE)]) + bytes(100), length=16)
    close(connection)


test("on another connection: the end within contents")(
    functools.partial(joined, half_a_row, errno.EPIPE))


@test("connections that were not agreed on")
def not_agreed():
    end = End("receive", further=1)
    source = Source(end.main, kept(), features=wire.TEXTS)
    source.start()
    try:
        source.config(connections=2)
        raise AssertionError("it is taken")
    except wire.Refused:
        end.expect(errno.EPROTO, "nowhere")


# --- descriptors that the library's destination is handed ---

def local(says, result, *words, **options):
    """What SAYS does with the source and its files is refused."""
    end = End("receive")
    source = Source(end.main, kept())
    source.start()
    source.local_config()
    fds = source.memfds(**options)
    try:
        says(source, fds)
        raise AssertionError("it is taken")
    except wire.Refused:
        pass
    end.expect(result, "nowhere", *words)
    for fd in fds:
        os.close(fd)


def null_device(source, _):
    """What is no file."""
    with open("/dev/null", "rb+") as file:
        source.memory_fd(0, file.fileno())


def read_only(source, fds):
    """A file that may only be read."""
    fd = os.open(f"/proc/self/fd/{fds[0]}", os.O_RDONLY)
    try:
        source.memory_fd(0, fd)
    finally:
        os.close(fd)


def twice(source, fds):
    """A slot that is there."""
    source.memory_fd(0, fds[0])
    source.memory_fd(0, fds[0])


def state_too_early(source, fds):
    """State, with a slot missing."""
    source.memory_fd(0, fds[0])
    source.state()


def plain_memory(source, _):
    """Memory, where there is to be none."""
    source.memory()


HANDED = {
    "no descriptor": (errno.EPROTO, lambda s, fds: s.memory_fd(0), "no descriptor"),
    "two descriptors": (errno.EPROTO, lambda s, fds: s.memory_fd(0, *fds), "several"),
    "seven descriptors": (errno.EPROTO, lambda s, fds: s.memory_fd(0, *[fds[0]] * 7), "several"),
    "no such slot": (errno.EPROTO, lambda s, fds: s.memory_fd(2, fds[0]), "slot 2"),
    "the highest slot": (errno.EPROTO, lambda s, fds: s.memory_fd((1 << 32) - 1, fds[0]), "slot"),
    "a slot that came": (errno.EPROTO, twice, "twice"),
    "what is no file": (errno.EINVAL, null_device, "slot 0"),
    "a file for reading": (errno.EACCES, read_only, "slot 0"),
    "State before all came": (errno.EPROTO, state_too_early, "slot 1"),
    "Memory": (errno.EPROTO, plain_memory, "Memory"),
}
for title, (failure, says, word) in HANDED.items():
    test(f"handed over: {title}")(functools.partial(local, says, failure, word))
test("handed over: a file that is too short")(functools.partial(
    local, lambda s, fds: s.memory_fd(0, fds[0]), errno.ENODATA, "slot 0", shorter=1))
test("handed over: a file that is sealed against writing")(functools.partial(
    local, lambda s, fds: s.memory_fd(0, fds[0]), errno.EACCES, "slot 0", seals=fcntl.F_SEAL_WRITE))


@test("handed over: files that nothing keeps from becoming shorter")
@in_folder
def unsealed(folder):
    end = End("receive", f"{folder}/b")
    source = Source(end.main, kept())
    source.start()
    source.local_config()
    for slot, fd in enumerate(source.memfds(seals=0)):
        source.memory_fd(slot, fd)
        os.close(fd)
    source.state()
    source.complete()
    end.expect(0, "came")
    assert end.memory() == kept().contents()


def handed_wrong(command, name, folder):
    """A wrong answer while both have the same memory leaves the library's VM and memory as they were."""
    result, answer = WRONG_ANSWERS[name]
    if command == wire.COMPLETE and result != errno.EREMOTEIO:
        result = EUNSETTLED
    end = End("send", f"{folder}/a", flags=LOCAL, kind=MEMFD, settle=KEEP,
              silence=SHORT_MS if name == "silence" else LONG_MS)
    destination = Destination(end.main)
    destination.instead[command] = answer
    if name == "silence":
        was_in_time(destination)
    else:
        assert not destination.serve()
    drain(end.main)
    end.expect(result, "stays")
    assert end.memory() == kept().contents(), "memory has changed"


for wrong in WRONG_ANSWERS:
    test(f"MemoryFd is answered by {wrong}")(
        in_folder(functools.partial(handed_wrong, wire.MEMORY_FD, wrong)))
for step in (wire.CONFIG, wire.STATE, wire.COMPLETE):
    for wrong in ("Error", "status 3", "the end"):
        test(f"{wire.NAMES[step]} of memory that is handed over is answered by {wrong}")(
            in_folder(functools.partial(handed_wrong, step, wrong)))


@test("anonymous memory is not handed over")
def anonymous():
    end = End("send", flags=LOCAL)
    assert end.main.read_head() == (wire.ABANDON, wire.BARE, 0)
    assert end.main.is_over(), "something was said besides"
    end.expect(errno.ENOTSUP, "stays", "0x0", "backing = memfd")


# --- the whole ---

def main():
    """Runs all tests, or those of which a name is given."""
    End.program = sys.argv[1]
    names = [name for name in TESTS if not sys.argv[2:] or any(word in name for word in sys.argv[2:])]
    print(f"1..{len(names)}", flush=True)
    failures = 0
    for number, name in enumerate(names, 1):
        skipped = ""
        try:
            TESTS[name]()
            ok = True
        except Skipped as why:
            ok, skipped = True, f" # SKIP {why}"
        except Exception:  # whatever it is, the next test is run
            ok = False
            failures += 1
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="")
        print(f"{'ok' if ok else 'not ok'} {number} - {name}{skipped}", flush=True)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
