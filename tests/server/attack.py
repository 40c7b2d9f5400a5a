#!/usr/bin/env python3
"""What nobody sends by mistake: attack.py URL PID. Raw sockets, standard library only.

The server must answer each with an error, or close the connection, within its times; afterwards it answers as before,
holds no session, no descriptor and no memory for any of it. Ends with 0 if so. The server is to run with --timeout 3 and
--max-connections 512."""
import base64
import json
import os
import random
import resource
import socket
import struct
import sys
import time
import urllib.parse
import zlib

url, pid = sys.argv[1], int(sys.argv[2])
place = urllib.parse.urlsplit(url)
rng = random.Random(11)
problems = []
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def connect(seconds=20):
    s = socket.create_connection((place.hostname, place.port), timeout=seconds)
    return s


def send(data, seconds=20, piece=None, half_close=False):
    """All that comes back until the server closes; None where it does not within the time."""
    s = connect(seconds)
    out = b""
    try:
        try:
            for at in range(0, len(data), piece or max(1, len(data))):
                s.sendall(data[at : at + (piece or len(data))])
            if half_close:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed before all was sent
        while True:
            got = s.recv(65536)
            if not got:
                return out
            out += got
    except ConnectionError:
        return out
    except socket.timeout:
        return None
    finally:
        s.close()


def http(body, path="/v1/chat/completions", method="POST", headers=""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n"
    return (head % (method, path, headers, len(body))).encode() + body


def status(reply):
    return int(reply[9:12]) if reply and reply[:8] in (b"HTTP/1.1", b"HTTP/1.0") else 0


def expect(name, reply, *allowed):
    if reply is None:
        problems.append("%s: neither an answer nor an end" % name)
    elif status(reply) not in allowed:
        problems.append("%s: status %d, expected one of %s: %r" % (name, status(reply), allowed, reply[-300:]))
    elif status(reply) >= 400 and b"\r\n\r\n{" in reply:
        error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
        if set(error) != {"message", "type", "param", "code"} or not error["message"]:
            problems.append("%s: not an error object: %s" % (name, error))
        if "/home" in error["message"] or "/tmp" in error["message"] or "/src/" in error["message"]:
            problems.append("%s: the message names a file of this machine: %s" % (name, error["message"]))


def png(width, height, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def picture(data):
    image = "data:image/png;base64," + base64.b64encode(data).decode()
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}], "max_tokens": 1}


user = [{"role": "user", "content": "What is a circle?"}]


def chat(**more):
    return {"messages": user, "max_tokens": 2, **more}


def memory():
    return int(open("/proc/%d/statm" % pid).read().split()[1]) * 4096


def cpu_seconds():
    fields = open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors():
    return len(os.listdir("/proc/%d/fd" % pid))


def metric(name):
    for line in send(http(b"", "/metrics", "GET")).decode().split("\n"):
        if line.startswith("trol_%s " % name):
            return float(line.split()[1])


def attack_lines():
    """Not HTTP, or hardly."""
    for data in (b"\x00" * 1000, bytes(rng.randrange(256) for _ in range(5000)), b"\r\n" * 5000, b"GET\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\nX: " + b"b" * 200000 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n: y\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\n continued\r\n\r\n", b"GET /%00%ff%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                 b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551617\r\n\r\n{}",
                 b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
                 b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500):
        if send(data) is None:
            problems.append("neither an answer nor an end to %r" % data[:60])


def attack_slowly():
    """Requests that come a byte at a time, or not to their end, on many connections at once."""
    body = http(chat())
    sockets = []
    for i in range(300):
        s = connect()
        s.sendall(body[: rng.randrange(1, len(body) - 1)])
        sockets.append(s)
    start = time.monotonic()
    for s in sockets[:20]:
        try:
            for _ in range(8):
                s.sendall(b" ")
                time.sleep(0.005)
        except OSError:
            pass
    expect("an answer beside 300 half requests", send(http(b"", "/health", "GET")), 200)
    for s in sockets:
        try:
            s.settimeout(20)
            while s.recv(65536):
                pass
        except ConnectionError:
            pass
        except socket.timeout:
            problems.append("a half request is still waited for")
            break
        finally:
            s.close()
    if time.monotonic() - start > 20:
        problems.append("half requests were waited for during %.0f s" % (time.monotonic() - start))


def attack_connections():
    """Ten thousand in a row, and more at once than are allowed."""
    for i in range(10000):
        s = connect()
        if i % 4 == 0:
            s.sendall(b"GET /hea")
        if i % 4 == 1:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        s.close()
    many = []
    for _ in range(700):
        try:
            many.append(connect(2))
        except OSError:
            break
    for s in many:
        s.close()
    for _ in range(100):
        try:
            if status(send(http(b"", "/health", "GET"), 5) or b"") == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    problems.append("no answer after too many connections")


def attack_json():
    deep = b'{"messages":' + b"[" * 100000 + b"]" * 100000 + b"}"
    expect("deep arrays", send(http(deep)), 400)
    expect("deep objects", send(http(b'{"a":' * 50000 + b"1" + b"}" * 50000)), 400)
    expect("deep objects in a schema", send(http(chat(json_schema=json.loads('{"not":' * 200 + "{}" + "}" * 200)))), 400, 422)
    for bad in (b'{"user":"\xff\xfe"}', b'{"user":"\\ud800"}', b'{"user":"\\udc00\\ud800"}', b'{"user":"a\x00b"}',
                b'{"user":"\\u0000"}', b'{"user":"\xed\xa0\x80"}', b'{"user":"\xf4\x90\x80\x80"}', b'{"user":"\xc0\xaf"}',
                b'{"n":1e999}', b'{"n":NaN}', b'{"n":-}', b"{\"n\":0x10}", b'{"user":"a', b"", b"{", b"null", b"\xef\xbb\xbf"):
        expect("%r" % bad, send(http(bad)), 400)
    expect("20 MB of strings", send(http(b'{"user":"' + b"a" * 20000000 + b'"}'), 60), 400)
    expect("20 MB of numbers", send(http(b'{"user":[' + b"1," * 9999990 + b"1]}"), 60), 413)
    start = cpu_seconds()
    expect("20 MB of a text", send(http({"messages": [{"role": "user", "content": "heart " * 3300000}]}), 60), 400)
    if cpu_seconds() - start > 2:  # it is refused before it is tokenized
        problems.append("20 MB of a text took %.1f s of CPU time" % (cpu_seconds() - start))
    expect("20 MB of escapes", send(http(b'{"messages":[{"role":"user","content":"' + b"\\u00e9" * 3300000 + b'"}]}'), 60), 400)
    expect("20 MB of messages", send(http({"messages": [{"role": "user", "content": "a"}] * 90000}), 60), 400, 413)
    expect("21 MB", send(http(b" " * 22000000), 60), 413)
    expect("15 MB of a picture", send(http(picture(b"\x00" * 11000000)), 60), 422)


def attack_values():
    expect("1000 stop strings", send(http(chat(stop=["s%d" % i for i in range(1000)]))), 400)
    expect("long stop strings", send(http(chat(stop=["x" * 1000000] * 4)), 60), 200, 400)
    expect("biases of all tokens", send(http(chat(logit_bias={str(i): -1 for i in range(840)}))), 200)
    expect("no token is left", send(http(chat(logit_bias={str(i): -100 for i in range(840)}))), 400, 422)
    expect("a bias that is a number with a sign", send(http(chat(logit_bias={"-1": 1}))), 400)
    expect("a bias of a token twice", send(http(b'{"messages":[{"role":"user","content":"a"}],"logit_bias":{"1":1,"01":2},"max_tokens":1}')), 200, 400)
    for field, value in (("n", 128), ("n", -1), ("n", 2**40), ("max_tokens", -1), ("max_tokens", 2**31), ("max_tokens", 1e300),
                         ("seed", 2**64), ("seed", -(2**64)), ("seed", "1"), ("temperature", 1e308), ("temperature", -0.1),
                         ("top_p", -1), ("top_p", 2), ("top_k", -1), ("min_p", 1.5), ("top_logprobs", 10**9),
                         ("presence_penalty", 3), ("beams", 10**6), ("repeat_last_n", -2), ("traversal_skip", 2), ("stream", "yes"),
                         ("stop", [""]), ("stop", {}), ("messages", {}), ("model", ["a"]), ("response_format", {"type": "xml"}),
                         ("response_format", []), ("user", {"a": 1}), ("logprobs", 1)):
        expect("%s %r" % (field, value), send(http(chat(**{field: value}))), *((200,) if field == "user" else (400,)))
    expect("max_tokens without bound", send(http(chat(max_tokens=1000000000, stop=["e"]))), 200)


def attack_forms():
    pattern = "^" + "(a|b|ab)*" * 200 + "$"
    bombs = [
        {"type": "string", "pattern": pattern},
        {"type": "string", "pattern": "^(((((a{1,1000}){1,1000}){1,1000}){1,1000}){1,1000})$"},
        {"type": "string", "minLength": 10**9, "maxLength": 10**9},
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 10**6}, "minItems": 10**6},
        {"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"anyOf": [{"anyOf": [{"anyOf": [{"const": str(i)} for i in range(60)]}] * 60}] * 60},
        {"type": "object", "properties": {"p%d" % i: {"type": "string"} for i in range(5000)}},
        {"enum": ["x" * i for i in range(1500)]},
        {"allOf": [{"type": "object", "properties": {"a%d" % i: {"type": "integer", "minimum": i}}} for i in range(500)]},
    ]
    for bomb in bombs:
        start = time.monotonic()
        expect("a schema %.60s" % bomb, send(http(chat(json_schema=bomb, max_tokens=3)), 60), 200, 400, 413, 422)
        if time.monotonic() - start > 30:
            problems.append("a schema took %.0f s: %.60s" % (time.monotonic() - start, bomb))
    for grammar in ("root ::= root", "root ::= root root", "root ::= a\na ::= b\nb ::= a", "root ::= (\"a\"*)*", "root ::= " + "(" * 10000,
                    "root ::= \"a\"{1000000000}", "root ::= [^", "root ::= \"\\u{110000}\"", "\0root ::= \"a\"", ""):
        expect("a grammar %.40r" % grammar, send(http(chat(grammar=grammar)), 60), 200, 400, 422)


def attack_pictures():
    for name, data in (("a bomb", png(60000, 60000)), ("no width", png(0, 5)), ("too wide", png(2**31 - 1, 1)),
                       ("no pixels", png(100, 100)), ("zeros", b"\x00" * 1000), ("a long PNG", png(30000, 30000, b"\x00" * 1000000)),
                       ("GIF", b"GIF89a\xff\xff\xff\xff\x00\x00\x00;"), ("BMP", b"BM" + b"\xff" * 100), ("JPEG", b"\xff\xd8\xff\xe0" + b"\xff" * 500),
                       ("WebP", b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 40), ("AVIF", b"\x00\x00\x00\x20ftypavif" + b"\xff" * 60)):
        expect("a picture: " + name, send(http(picture(data)), 60), 422)
    expect("a name without a picture", send(http(picture(b""))), 400)
    expect("65 pictures", send(http({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}] * 65}]})), 400, 422)


attacks = [attack_lines, attack_slowly, attack_json, attack_values, attack_forms, attack_pictures, attack_connections]
expected = send(http(chat(max_tokens=20)))
attack_json()  # so that what stays for good is there
attack_values()
before, open_before = memory(), descriptors()
for attack in attacks:
    start = time.monotonic()
    attack()
    print("%s: %.1f s" % (attack.__name__, time.monotonic() - start))
for _ in range(100):
    if metric("slots_busy") == 0 and metric("requests_waiting") == 0 and metric("connections") <= 1:
        break
    time.sleep(0.1)
else:
    problems.append("%g sessions are in use, %g connections open" % (metric("slots_busy"), metric("connections")))
after = send(http(chat(max_tokens=20)))
text = [json.loads(r.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] for r in (expected, after)]
if text[0] != text[1]:
    problems.append("the answer differs afterwards: %r, %r" % tuple(text))
if descriptors() > open_before + 3:
    problems.append("%d descriptors are open, %d before" % (descriptors(), open_before))
if memory() > before + (64 << 20):
    problems.append("%d MiB of memory, %d before" % (memory() >> 20, before >> 20))
print("%d MiB of memory, %d before; %d descriptors, %d before" % (memory() >> 20, before >> 20, descriptors(), open_before))
for problem in problems[:30]:
    print("FAILED:", problem)
sys.exit(1 if problems else 0)
