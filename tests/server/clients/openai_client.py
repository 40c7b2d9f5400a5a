"""The openai package against a server: openai_client.py URL PICTURE. The exit status is 0 if everything is right."""
import base64
import json
import sys
import threading
import time
import typing
import urllib.request

import openai
import pydantic

url, image_path = sys.argv[1:3]
client = openai.OpenAI(base_url=url + "v1", api_key="none", max_retries=0, timeout=120)
data = base64.b64encode(open(image_path, "rb").read()).decode()
question = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What color is the heart?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}},
        ],
    }
]


def check(condition, *what):
    if not condition:
        print("FAILED:", *what)
        sys.exit(1)


def metric(name):
    for line in urllib.request.urlopen(url + "metrics", timeout=10).read().decode().splitlines():
        if line.startswith("trol_" + name + " "):
            return float(line.split()[1])
    raise KeyError(name)


model = client.models.list().data[0].id

# whole, with a picture
whole = client.chat.completions.create(model=model, messages=question)
text = whole.choices[0].message.content
check("heart is red" in text, text)
check(whole.choices[0].finish_reason == "stop" and whole.usage.prompt_tokens > 64, whole)

# the same in pieces, with usage
pieces, usage, reason = [], None, None
for chunk in client.chat.completions.create(
    model=model, messages=question, stream=True, stream_options={"include_usage": True}
):
    if chunk.choices:
        pieces.append(chunk.choices[0].delta.content or "")
        reason = chunk.choices[0].finish_reason or reason
    usage = chunk.usage or usage
check("".join(pieces) == text and len(pieces) > 2, pieces)
check(usage.completion_tokens == whole.usage.completion_tokens and reason == "stop", usage, reason)

# log-probabilities; several choices with a seed
answer = client.chat.completions.create(model=model, messages=question, logprobs=True, top_logprobs=3, max_tokens=4)
content = answer.choices[0].logprobs.content
check(len(content) == 4 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in content), content)
check("".join(bytes(t.bytes).decode() for t in content) == answer.choices[0].message.content, content)
hello = [{"role": "user", "content": "What is a circle?"}]
several = [
    [c.message.content for c in client.chat.completions.create(
        model=model, messages=hello, n=3, temperature=1.0, seed=11, max_tokens=20).choices]
    for _ in range(2)
]
check(several[0] == several[1] and len(several[0]) == 3, several)

# a schema
schema = {
    "type": "object",
    "properties": {"color": {"type": "string", "maxLength": 10}, "round": {"type": "boolean"}},
    "required": ["color", "round"],
    "additionalProperties": False,
}
answer = client.chat.completions.create(
    model=model, messages=question, max_tokens=60,
    response_format={"type": "json_schema", "json_schema": {"name": "shape", "strict": True, "schema": schema}})
value = json.loads(answer.choices[0].message.content)
check(set(value) == {"color", "round"} and isinstance(value["round"], bool), value)
answer = client.chat.completions.create(
    model=model, messages=hello, max_tokens=60, response_format={"type": "json_object"})
check(isinstance(json.loads(answer.choices[0].message.content), dict), answer)


class Shape(pydantic.BaseModel):
    """A shape in the picture."""

    color: typing.Literal["red", "blue"]
    corners: typing.Optional[int] = pydantic.Field(ge=0, le=9, description="how many")


class Picture(pydantic.BaseModel):
    shapes: list[Shape] = pydantic.Field(max_length=2)


parsed = client.chat.completions.parse(model=model, messages=question, response_format=Picture, max_tokens=200)
check(isinstance(parsed.choices[0].message.parsed, Picture), parsed)
check(client.models.retrieve(model).id == model, model)


# errors
def refused(kind, param, **request):
    try:
        client.chat.completions.create(**request)
    except kind as error:
        check(error.param == param and error.body["message"], error)
        return
    check(False, "not refused:", request)


refused(openai.BadRequestError, "temperature", model=model, messages=hello, temperature=-1)
refused(openai.BadRequestError, "tools", model=model, messages=hello,
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
refused(openai.NotFoundError, "model", model="another", messages=hello)
broken = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
refused(openai.UnprocessableEntityError, "messages", model=model, messages=broken)

# a stream that is closed gives its session back
stream = client.chat.completions.create(
    model=model, messages=hello, stream=True, logit_bias={"70": 100}, extra_body={"cache_prompt": False})
next(iter(stream))
stream.close()
start = time.monotonic()
while metric("slots_busy") and time.monotonic() - start < 10:
    time.sleep(0.02)
check(metric("slots_busy") == 0, "a closed stream still runs")

# many at once, each with its own answer
names = ["red", "blue", "green", "circle", "star", "heart", "square", "ring"]
prompts = ["What is a %s?" % name for name in names]


def text_of(completion):
    choice = completion.choices[0]
    return choice.message.content, [(t.token, t.logprob) for t in choice.logprobs.content]


# to the last digit of the log-probabilities, whether computed alone from scratch, or beside others and with reuse
alone = [text_of(client.chat.completions.create(model=model, messages=[{"role": "user", "content": p}], max_tokens=24,
                                             logprobs=True, extra_body={"cache_prompt": False}))
         for p in prompts]
together = [None] * len(prompts)


def ask(i):
    together[i] = text_of(client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompts[i]}], max_tokens=24, logprobs=True))


threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
[t.start() for t in threads]
[t.join() for t in threads]
check(together == alone, together, alone)
print("openai for Python", openai.__version__, "is answered as it expects")
