// The openai package for JavaScript against a server: node openai_client.mjs URL PICTURE.
import fs from 'node:fs';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const [url, image_path] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url + 'v1', apiKey: 'none', maxRetries: 0, timeout: 120000 });
const check = (condition, ...what) => {
  if (!condition) { console.log('FAILED:', ...what); process.exit(1); }
};
const model = (await client.models.list()).data[0].id;
const image = 'data:image/png;base64,' + fs.readFileSync(image_path).toString('base64');
const messages = [{ role: 'user', content: [
  { type: 'text', text: 'What color is the heart?' }, { type: 'image_url', image_url: { url: image } }] }];
const hello = [{ role: 'user', content: 'What is a circle?' }];

const whole = await client.chat.completions.create({ model, messages });
const text = whole.choices[0].message.content;
check(text.includes('heart is red'), text);

let streamed = '', usage = null;
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta?.content ?? '';
  usage = chunk.usage ?? usage;
}
check(streamed === text, streamed);
check(usage.total_tokens === whole.usage.total_tokens, usage);

const several = await client.chat.completions.create({ model, messages: hello, n: 2, logprobs: true, top_logprobs: 1, max_tokens: 5, temperature: 1, seed: 3 });
check(several.choices.length === 2 && several.choices[1].logprobs.content.length === 5, several);

const schema = { type: 'object', properties: { color: { type: 'string', enum: ['red', 'blue'] } }, required: ['color'], additionalProperties: false };
const formed = await client.chat.completions.create({ model, messages, max_tokens: 40,
  response_format: { type: 'json_schema', json_schema: { name: 'shape', strict: true, schema } } });
check(['red', 'blue'].includes(JSON.parse(formed.choices[0].message.content).color), formed);

const Shape = z.object({ color: z.enum(['red', 'blue']), corners: z.number().int().min(0).max(9).nullable(), tags: z.array(z.string().max(5)).max(2) });
const parsed = await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(Shape, 'shape'), max_tokens: 200 });
check(Shape.safeParse(parsed.choices[0].message.parsed).success, parsed);
check((await client.models.retrieve(model)).id === model);

for (const [status, param, request] of [
  [400, 'temperature', { model, messages: hello, temperature: 'warm' }],
  [400, 'functions', { model, messages: hello, functions: [] }],
  [404, 'model', { model: 'another', messages: hello }],
]) {
  const error = await client.chat.completions.create(request).then(() => null, (e) => e);
  check(error?.status === status && error.param === param, param, error);
}

const controller = new AbortController();
const endless = await client.chat.completions.create(
  { model, messages: hello, stream: true, logit_bias: { 70: 100 }, cache_prompt: false }, { signal: controller.signal });
let pieces = 0;
for await (const _ of endless) if (++pieces === 3) controller.abort();
const busy = async () => Number(/^trol_slots_busy (.*)$/m.exec(await (await fetch(url + 'metrics')).text())[1]);
const until = Date.now() + 10000;
while ((await busy()) > 0 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
check((await busy()) === 0, 'an aborted stream still runs');
console.log('openai for JavaScript is answered as it expects');
