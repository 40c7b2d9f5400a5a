/* chat.c - POST /v1/chat/completions: from the request to a job, and from its events to JSON, whole or streamed. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "server/answer_form.h"
#include "base/clock.h"
#include "server/json_body.h"
#include "server/server.h"

enum { KEEP_ALIVE_MS = 10000, MOST_STREAM_PIECE = 1 << 13 };

/* ---- waiting --------------------------------------------------------------------------------- */

typedef enum waited { WAITED_EVENT, WAITED_TIME, WAITED_GONE } waited;

/* Waits for the job's next event, for its client to disconnect, or for the time to pass. A client that closes its
 * sending side counts as disconnected. */
static waited wait_for_event(exchange *x, int timeout_ms, event **result) {
    for (;;) {
        struct pollfd fds[] = {{x->job->event_fd, POLLIN, 0}, {x->fd, POLLRDHUP, 0}};
        *result = job_take(x->job);
        if (*result) {
            x->over = (*result)->kind == EVENT_DONE || (*result)->kind == EVENT_ERROR;
            return WAITED_EVENT;
        }
        const int n = poll(fds, 2, timeout_ms);
        if (n < 0 && errno != EINTR)
            break;
        if (n == 0)
            return WAITED_TIME;
        if (n > 0 && fds[1].revents)
            break;
    }
    x->gone = true;
    return WAITED_GONE;
}

static waited wait_long(exchange *x, event **result) {
    waited w;
    do
        w = wait_for_event(x, KEEP_ALIVE_MS, result);
    while (w == WAITED_TIME);
    return w;
}

/* ---- parts of answers ------------------------------------------------------------------------ */

static void put_number(buffer *out, double value) {
    if (isfinite(value))
        buffer_format(out, "%.9g", value);
    else
        buffer_text(out, "-9999.0"); /* the API's value for a token of negligible probability */
}

static void put_token(exchange *x, buffer *out, const trol_token_logprob *logprob) {
    char *bytes, *text;
    size_t n_bytes;
    buffer_text(out, "{\"token\":");
    if (trol_detokenize(x->server->model, &logprob->token, 1, 1, &text, NULL) != TROL_OK ||
        trol_token_bytes(x->server->model, logprob->token, &bytes, &n_bytes, NULL) != TROL_OK) {
        out->failed = true;
        return;
    }
    buffer_string(out, text);
    buffer_text(out, ",\"logprob\":");
    put_number(out, (double)logprob->logprob);
    buffer_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < n_bytes; i++)
        buffer_format(out, "%s%u", i ? "," : "", (unsigned char)bytes[i]);
    buffer_text(out, "]");
    trol_free(text);
    trol_free(bytes);
}

static void put_logprob(exchange *x, buffer *out, const event *e) {
    put_token(x, out, &e->logprobs[0]);
    buffer_text(out, ",\"top_logprobs\":[");
    for (int32_t i = 0; i < e->n_top && e->logprobs[1 + i].token >= 0; i++) {
        if (i)
            buffer_text(out, ",");
        put_token(x, out, &e->logprobs[1 + i]);
        buffer_text(out, "}");
    }
    buffer_text(out, "]}");
}

static void put_usage(buffer *out, const job_usage *u) {
    buffer_format(out,
                  "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%lld}}",
                  (long long)u->prompt_tokens, (long long)u->completion_tokens,
                  (long long)(u->prompt_tokens + u->completion_tokens), (long long)u->cached_tokens);
}

/* Where the time went: not part of the API, but clients ignore fields that they do not know. */
static void put_timings(buffer *out, const job_usage *u) {
    const double processed = (double)(u->prompt_tokens - u->cached_tokens);
    buffer_format(out,
                  "{\"queue_ms\":%.3f,\"prompt_n\":%.0f,\"cache_n\":%lld,\"prompt_ms\":%.3f,\"prompt_per_second\":%.3f,"
                  "\"predicted_n\":%lld,\"predicted_ms\":%.3f,\"predicted_per_second\":%.3f}",
                  1e3 * u->queue_seconds, processed, (long long)u->cached_tokens, 1e3 * u->prompt_seconds,
                  u->prompt_seconds > 0 ? processed / u->prompt_seconds : 0, (long long)u->completion_tokens,
                  1e3 * u->answer_seconds,
                  u->answer_seconds > 0 ? (double)u->completion_tokens / u->answer_seconds : 0);
}

/* Hundredths would do for showing the gates; thousandths leave room for arithmetic. */
static void put_gates(exchange *x, buffer *out) {
    const job_gates *gates = &x->job->gates;
    const trol_model_info *info = &x->server->info;
    buffer_format(out, "{\"layers\":%d,\"tokens\":%lld,\"tokens_per_tile\":%d,\"tiles\":[", gates->n_layers,
                  (long long)gates->n_tokens, info->tokens_per_tile);
    for (size_t i = 0; i < x->job->request.n_images; i++)
        buffer_format(out, i ? ",%d" : "%d", gates->n_tiles[i]);
    buffer_text(out, "],\"values\":[");
    for (int32_t layer = 0; layer < gates->n_layers; layer++) {
        buffer_text(out, layer ? ",[" : "[");
        for (int64_t i = 0; i < gates->n_tokens; i++)
            buffer_format(out, i ? ",%.3g" : "%.3g", (double)gates->values[layer * gates->n_tokens + i]);
        buffer_text(out, "]");
    }
    buffer_text(out, "]}");
}

static void put_head(const exchange *x, buffer *out, const char *object) {
    buffer_format(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", x->id, object,
                  (long long)x->created);
    buffer_string(out, x->server->model_id);
    buffer_format(out, ",\"system_fingerprint\":\"libtrol-%s\"", trol_version());
}

/* ---- the whole answer ------------------------------------------------------------------------ */

typedef struct choice_text {
    buffer text, logprobs;
    const char *reason;
} choice_text;

static void put_choice(buffer *out, int32_t index, const choice_text *c, bool logprobs) {
    buffer_format(out, "%s{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", index ? "," : "", index);
    buffer_string(out, c->text.bytes ? c->text.bytes : "");
    buffer_text(out, ",\"refusal\":null},\"logprobs\":");
    if (logprobs)
        buffer_format(out, "{\"content\":[%s],\"refusal\":null}", c->logprobs.bytes ? c->logprobs.bytes : "");
    else
        buffer_text(out, "null");
    buffer_format(out, ",\"finish_reason\":\"%s\"}", c->reason ? c->reason : "stop");
}

static void take_into(exchange *x, choice_text *choices, const event *e) {
    choice_text *c = &choices[e->choice];
    if (e->text)
        buffer_text(&c->text, e->text);
    if (e->logprobs) {
        if (c->logprobs.n_bytes)
            buffer_text(&c->logprobs, ",");
        put_logprob(x, &c->logprobs, e);
    }
    if (e->kind == EVENT_FINISH)
        c->reason = e->reason;
}

/* Until the last event. false: the client is gone, or *error is set. */
static bool collect(exchange *x, choice_text *choices) {
    for (;;) {
        event *e;
        if (wait_long(x, &e) == WAITED_GONE)
            return false;
        const event_kind kind = e->kind;
        if (kind == EVENT_ERROR)
            x->error = *e->error;
        else
            take_into(x, choices, e);
        event_free(e);
        if (kind == EVENT_ERROR || kind == EVENT_DONE)
            return kind == EVENT_DONE;
    }
}

static void answer_whole(exchange *x) {
    const int32_t n = x->job->request.n;
    const bool logprobs = x->job->request.logprobs, gates = x->job->request.gates;
    choice_text *choices = calloc((size_t)n, sizeof *choices);
    if (!choices) {
        api_fail_memory(&x->error);
        return;
    }
    if (collect(x, choices)) {
        buffer *out = &x->reply;
        put_head(x, out, "chat.completion");
        buffer_text(out, ",\"choices\":[");
        for (int32_t i = 0; i < n; i++) {
            put_choice(out, i, &choices[i], logprobs);
            out->failed |= choices[i].text.failed || choices[i].logprobs.failed;
        }
        buffer_text(out, "],\"usage\":");
        put_usage(out, &x->job->usage);
        buffer_text(out, ",\"timings\":");
        put_timings(out, &x->job->usage);
        if (gates) {
            buffer_text(out, ",\"gates\":");
            put_gates(x, out);
        }
        buffer_text(out, "}");
        if (out->failed) {
            buffer_free(out);
            api_fail_memory(&x->error);
        }
    }
    for (int32_t i = 0; i < n; i++) {
        buffer_free(&choices[i].text);
        buffer_free(&choices[i].logprobs);
    }
    free(choices);
}

/* ---- the answer as it comes ------------------------------------------------------------------ */

static void put_chunk_head(const exchange *x, buffer *out) {
    buffer_text(out, "data: ");
    put_head(x, out, "chat.completion.chunk");
}

static void put_chunk(exchange *x, const event *e, bool first) {
    buffer *out = &x->reply;
    put_chunk_head(x, out);
    buffer_format(out, ",\"choices\":[{\"index\":%d,\"delta\":{", e->choice);
    if (first)
        buffer_text(out, "\"role\":\"assistant\",\"content\":\"\"");
    else if (e->text || e->logprobs) {
        buffer_text(out, "\"content\":");
        buffer_string(out, e->text ? e->text : "");
    }
    buffer_text(out, "},\"logprobs\":");
    if (e->logprobs && !first) {
        buffer_text(out, "{\"content\":[");
        put_logprob(x, out, e);
        buffer_text(out, "],\"refusal\":null}");
    } else {
        buffer_text(out, "null");
    }
    if (e->kind == EVENT_FINISH && !first)
        buffer_format(out, ",\"finish_reason\":\"%s\"}]", e->reason);
    else
        buffer_text(out, ",\"finish_reason\":null}]");
    if (x->job->request.include_usage)
        buffer_text(out, ",\"usage\":null");
    buffer_text(out, "}\n\n");
}

static void put_last_chunks(exchange *x) {
    buffer *out = &x->reply;
    put_chunk_head(x, out);
    buffer_text(out, ",\"choices\":[],");
    if (x->job->request.include_usage) {
        buffer_text(out, "\"usage\":");
        put_usage(out, &x->job->usage);
        buffer_text(out, ",");
    }
    buffer_text(out, "\"timings\":");
    put_timings(out, &x->job->usage);
    buffer_text(out, "}\n\n");
}

static void put_stream_event(exchange *x, const event *e) {
    buffer *out = &x->reply;
    switch (e->kind) {
    case EVENT_GATES:
        put_chunk_head(x, out);
        buffer_text(out, ",\"choices\":[],\"gates\":");
        put_gates(x, out);
        buffer_text(out, "}\n\n");
        break;
    case EVENT_TOKEN:
    case EVENT_FINISH:
        if (e->text || e->logprobs || e->kind == EVENT_FINISH)
            put_chunk(x, e, false);
        break;
    case EVENT_DONE:
        put_last_chunks(x);
        buffer_text(out, "data: [DONE]\n\n");
        x->stream_ended = true;
        break;
    case EVENT_ERROR:
        buffer_text(out, "data: ");
        api_error_json(e->error, out);
        buffer_text(out, "\n\n");
        x->stream_ended = true;
        break;
    }
}

ssize_t chat_read_stream(exchange *x, char *out, size_t bytes) {
    while (x->reply.n_bytes == 0 && !x->stream_ended) {
        event *e;
        switch (wait_for_event(x, KEEP_ALIVE_MS, &e)) {
        case WAITED_GONE:
            return -1;
        case WAITED_TIME: /* a comment keeps proxies from giving up */
            buffer_text(&x->reply, ": waiting\n\n");
            break;
        case WAITED_EVENT:
            put_stream_event(x, e);
            event_free(e);
            break;
        }
        if (x->reply.failed)
            return -1;
    }
    if (bytes > x->reply.n_bytes)
        bytes = x->reply.n_bytes;
    if (bytes > 0) {
        memcpy(out, x->reply.bytes, bytes);
        buffer_skip(&x->reply, bytes);
    }
    return (ssize_t)bytes;
}

/* Waits for the first event: a failure before it gets its own HTTP status. */
static void answer_stream(exchange *x) {
    event *e;
    if (wait_long(x, &e) == WAITED_GONE)
        return;
    if (e->kind == EVENT_ERROR) {
        x->error = *e->error;
    } else {
        for (int32_t i = 0; i < x->job->request.n; i++)
            put_chunk(x, &(event){.choice = i}, true);
        put_stream_event(x, e);
        x->stream = true;
        x->content_type = "text/event-stream";
    }
    event_free(e);
}

/* ---- the request ----------------------------------------------------------------------------- */

static void choose_seed(chat_request *request) {
    if (!request->has_seed)
        request->sampler.seed = (uint64_t)(clock_seconds() * 1e9);
}

/* Parsing 20 MB of JSON takes much memory: only a few requests are parsed at a time. */
static bool read_request(exchange *x, chat_request *request, trol_constraint **constraint) {
    server *s = x->server;
    while (sem_wait(&s->parsing) != 0) {
    }
    cJSON *root = json_body_parse(x->body.bytes, x->body.n_bytes, &x->error);
    bool fine = root && chat_request_read(root, s->model_id, request, &x->error);
    cJSON_Delete(root);
    if (fine && !(answer_form_new(s->model, request, constraint, &x->error) &&
                  answer_form_fits(*constraint, request, &x->error))) {
        chat_request_free(request);
        trol_constraint_free(*constraint);
        fine = false;
    }
    sem_post(&s->parsing);
    buffer_free(&x->body);
    return fine;
}

void chat_answer(exchange *x) {
    chat_request request;
    trol_constraint *constraint = NULL;
    if (!read_request(x, &request, &constraint))
        return;
    choose_seed(&request);
    const bool stream = request.stream;
    x->job = job_new(&request);
    if (!x->job) {
        trol_constraint_free(constraint);
        api_fail_memory(&x->error);
        return;
    }
    x->job->constraint = constraint;
    if (!engine_submit(x->server->engine, x->job, &x->error))
        return;
    if (stream)
        answer_stream(x);
    else
        answer_whole(x);
}

void chat_close(exchange *x) {
    if (!x->job)
        return;
    engine_cancel(x->server->engine, x->job); /* no effect on one that is complete */
    job_release(x->job);
    x->job = NULL;
}
