#!/usr/bin/env python3
"""Many clients at once: load.py URL PICTURES-FOLDER [CLIENTS [SECONDS [PID]]]. Standard library only.

Most ask about pictures and texts, whole or streamed, and expect the exact answers of a first round, asked one at a
time. Others disconnect in the middle of an answer, read slowly, or send garbage. Prints latencies; the exit status is 0
if nothing was lost or mixed up."""
import asyncio
import base64
import json
import random
import sys
import time
import urllib.parse

url, folder = sys.argv[1:3]
n_clients = int(sys.argv[3]) if len(sys.argv) > 3 else 200
seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 60
server_pid = int(sys.argv[5]) if len(sys.argv) > 5 else 0
place = urllib.parse.urlsplit(url)
questions = ["What color is the heart?", "How many objects are there?", "Describe the picture.", "Is there a circle?"]
rng = random.Random(5)
counts, latencies, first_words, problems = {}, [], [], []


def count(name):
    counts[name] = counts.get(name, 0) + 1


def images():
    import os

    found = sorted(n for n in os.listdir(folder) if n.endswith(".png"))[:6]
    return [base64.b64encode(open(os.path.join(folder, n), "rb").read()).decode() for n in found]


def request(question, image, stream, **more):
    content = [{"type": "text", "text": question}]
    if image:
        content.append({"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}})
    return json.dumps({"messages": [{"role": "user", "content": content}], "stream": stream, **more}).encode()


def head(body):
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )


async def exchange(body, slow=False, leave_after=None):
    """The status and the bytes of the reply's body; None where the client disconnected."""
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(head(body) + body)
        await writer.drain()
        began, data, first = time.monotonic(), b"", None
        while True:
            piece = await asyncio.wait_for(reader.read(64 if slow else 65536), 120)
            if not piece:
                break
            data += piece
            if first is None and b"\r\n\r\n" in data and len(data.split(b"\r\n\r\n", 1)[1]) > 0:
                first = time.monotonic() - began
            if leave_after is not None and len(data) > leave_after:
                return None, None, 0, 0
            if slow:
                await asyncio.sleep(0.01)
        header, _, rest = data.partition(b"\r\n\r\n")
        if b"chunked" in header.lower():
            whole = b""
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                n = int(size, 16)
                if n == 0:
                    break
                whole, rest = whole + rest[:n], rest[n + 2 :]
            rest = whole
        return int(header.split()[1]), rest, time.monotonic() - began, first or 0
    finally:
        writer.close()


def text_of(reply, stream):
    if not stream:
        return json.loads(reply)["choices"][0]["message"]["content"]
    text = ""
    if not reply.endswith(b"data: [DONE]\n\n"):
        raise ValueError("the stream breaks off: %r" % reply[-200:])
    for line in reply.decode().split("\n"):
        if line.startswith("data: {"):
            for choice in json.loads(line[6:]).get("choices", []):
                text += choice["delta"].get("content") or ""
    return text


async def ask(case, stream, slow):
    question, image, expected = case
    while True:
        status, reply, took, first = await exchange(request(question, image, stream, max_tokens=40), slow)
        if status in (429, 503):
            count("asked to wait")
            await asyncio.sleep(rng.random())
            continue
        if status != 200:
            problems.append("status %s: %r" % (status, reply[:200]))
            return
        text = text_of(reply, stream)
        if text != expected:
            problems.append("%r was answered %r instead of %r" % (question, text, expected))
        count("slow readers" if slow else "answers")
        if not slow:
            latencies.append(took)
            if stream:
                first_words.append(first)
        return


garbage = [
    b"\x00\xff\xfe" * 50,
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{\"messages",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"A" * 200000,
    head(b"[" * 5000) + b"[" * 5000,
]


async def send_garbage():
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(rng.choice(garbage))
        await writer.drain()
        await asyncio.wait_for(reader.read(4096), 1)
    except (asyncio.TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    count("garbage")


async def client(cases, until):
    while time.monotonic() < until:
        case, kind = rng.choice(cases), rng.random()
        try:
            if kind < 0.08:
                await send_garbage()
            elif kind < 0.2:
                await exchange(request(case[0], case[1], rng.random() < 0.7, max_tokens=200), leave_after=rng.choice([-1, 0, 600]))
                count("left")
            else:
                await ask(case, rng.random() < 0.6, slow=kind < 0.28)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, IndexError, asyncio.TimeoutError) as error:
            problems.append("%s: %s" % (type(error).__name__, error))


async def metrics():
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    text = (await reader.read(-1)).decode()
    writer.close()
    return {line.split()[0]: float(line.split()[1]) for line in text.split("\n") if line.startswith("trol_")}


def percentiles(values):
    values = sorted(values)
    return " ".join("p%d %.3f s" % (p, values[min(len(values) - 1, len(values) * p // 100)]) for p in (50, 90, 99, 100))


def resident_mib():
    return int(open("/proc/%d/statm" % server_pid).read().split()[1]) * 4096 / 2**20


async def watch_memory(until, sizes):
    while time.monotonic() < until:
        sizes.append(resident_mib())
        await asyncio.sleep(0.5)


async def main():
    cases = []
    for image in [None] + images():
        for question in questions:
            status, reply, _, _ = await exchange(request(question, image, False, max_tokens=40))
            assert status == 200, reply
            cases.append((question, image, text_of(reply, False)))
    began = time.monotonic()
    sizes = []
    watch = [watch_memory(began + seconds, sizes)] if server_pid else []
    await asyncio.gather(*(client(cases, began + seconds) for _ in range(n_clients)), *watch)
    took = time.monotonic() - began
    for _ in range(100):
        m = await metrics()
        if m["trol_slots_busy"] == 0 and m["trol_requests_waiting"] == 0:
            break
        await asyncio.sleep(0.1)
    else:
        problems.append("sessions are still in use")
    status, reply, _, _ = await exchange(request(cases[0][0], cases[0][1], False, max_tokens=40))
    if status != 200 or text_of(reply, False) != cases[0][2]:
        problems.append("the last answer differs")
    print("%d clients for %.0f s: %s" % (n_clients, took, ", ".join("%d %s" % (n, k) for k, n in sorted(counts.items()))))
    print("whole replies: " + percentiles(latencies))
    print("first word of streams: " + percentiles(first_words))
    rows = m["trol_answer_rows_total"] / max(1, m["trol_steps_total"])
    print("%.1f answers a second, %.1f answer rows a step, %d of %d prompt tokens reused, %d pictures encoded" % (
        len(latencies) / took, rows, m["trol_reused_tokens_total"], m["trol_prompt_tokens_total"], m["trol_images_encoded_total"]))
    if sizes:
        third = len(sizes) // 3
        second, last = max(sizes[third : 2 * third]), max(sizes[2 * third :])
        print("memory: %.0f MiB at most in the second third, %.0f in the last, %.0f now" % (second, last, resident_mib()))
        if last > 1.1 * second + 8:
            problems.append("memory grows")
    for problem in problems[:10]:
        print("FAILED:", problem)
    sys.exit(1 if problems else 0)


asyncio.run(main())
