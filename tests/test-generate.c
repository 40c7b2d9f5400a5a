/* test-generate.c - the generation loop: whole characters, stop reasons, continuing after a cut, callbacks, the
 * sampler, prompt lookup. The models' weights are random, so their answers are full of broken UTF-8. */
#include "base/utf8.h"
#include "engine/session.h"
#include "session_cases.h"

enum { TEXT_BYTES = 1 << 16 };

/* What a callback was given. */
typedef struct shown {
    char text[TEXT_BYTES];
    int n_pieces, stop_at; /* 0: never */
    bool broken;           /* a piece was not whole characters */
} shown;

static int take_text(void *user, const char *piece) {
    shown *s = user;
    const size_t n = strlen(piece);
    for (size_t i = 0; i < n;) {
        uint32_t c;
        const size_t length = utf8_decode(piece + i, n - i, &c);
        s->broken = s->broken || length == 0;
        i += length ? length : 1;
    }
    strncat(s->text, piece, TEXT_BYTES - 1 - strlen(s->text));
    return ++s->n_pieces == s->stop_at;
}

static trol_generate_params up_to(int32_t max_tokens) {
    trol_generate_params params;
    trol_generate_params_init(&params);
    params.max_tokens = max_tokens;
    params.ignore_eos = 1;
    return params;
}

/* A session that holds a question. `salt` makes questions differ. */
static trol_session *ask(trol_model *model, trol_traversal mode, int32_t context, int salt) {
    char question[64];
    trol_error error = {0};
    trol_session *s = open_session(model, mode, 0, context);
    snprintf(question, sizeof question, "What is %d? What is %d?", salt, salt);
    CHECK_OK(trol_session_ask(s, question, NULL, 0, &error), error);
    return s;
}

/* An answer of up to n tokens: where it stopped, how many tokens the session holds then. */
static trol_stop generate(trol_session *s, const trol_generate_params *params, shown *out) {
    trol_error error = {0};
    trol_stop stop = 0;
    CHECK_OK(trol_generate(s, params, take_text, out, &stop, &error), error);
    return stop;
}

/* ---- text ---------------------------------------------------------------------------------------------------------
 */

/* The text that an answer's tokens spell, without white space around it and without an incomplete character at the
 * end. */
static void check_text(trol_model *model, trol_session *s, size_t n_prompt, const shown *out) {
    trol_error error = {0};
    char *text = NULL;
    CHECK_OK(trol_detokenize(model, trol_session_tokens(s) + n_prompt, trol_session_n_tokens(s) - n_prompt, 0, &text,
                             &error),
             error);
    char *begin = text, *end;
    while (*begin && strchr(" \n\t\r", *begin))
        begin++;
    /* The last token is shown but not in the session, so what the session spells is a beginning of what was shown. */
    end = begin + strlen(begin);
    while (end > begin && (strchr(" \n\t\r", end[-1]) || (unsigned char)end[-1] >= 0x80))
        end--;
    CHECK(strncmp(out->text, begin, (size_t)(end - begin)) == 0, "shown \"%s\", the tokens spell \"%s\"", out->text,
          begin);
    CHECK(!out->broken, "a piece was not whole characters: \"%s\"", out->text);
    const size_t n = strlen(out->text);
    CHECK(n == 0 || (!strchr(" \n\t", out->text[0]) && !strchr(" \n\t", out->text[n - 1])), "white space around \"%s\"",
          out->text);
    trol_free(text);
}

/* In one call, token by token, and in pieces of three: the same tokens, the same text. */
static void check_continuing(trol_model *model) {
    enum { N_TOKENS = 60 };
    static const int32_t pieces[] = {1, 3};
    static shown whole, parts;
    size_t n_replacements = 0;
    for (int salt = 0; salt < 6; salt++) {
        const trol_traversal mode = (trol_traversal)(salt % 3);
        trol_generate_params params = up_to(N_TOKENS);
        trol_session *one = ask(model, mode, 0, salt);
        const size_t n_prompt = trol_session_n_tokens(one);
        whole = (shown){.text = ""};
        CHECK(generate(one, &params, &whole) == TROL_STOP_LENGTH, "the stop is not the length");
        CHECK(trol_session_n_tokens(one) == n_prompt + N_TOKENS - 1, "%zu tokens", trol_session_n_tokens(one));
        check_text(model, one, n_prompt, &whole);
        n_replacements += strstr(whole.text, "\xef\xbf\xbd") != NULL;
        for (size_t k = 0; k < 2; k++) {
            trol_session *cut = ask(model, mode, 0, salt);
            parts = (shown){.text = ""};
            for (int32_t n = 0; n < N_TOKENS; n += pieces[k]) {
                params = up_to(pieces[k]);
                CHECK(generate(cut, &params, &parts) == TROL_STOP_LENGTH, "the stop is not the length");
            }
            CHECK(strcmp(parts.text, whole.text) == 0, "in pieces of %d \"%s\", at once \"%s\"", pieces[k], parts.text,
                  whole.text);
            CHECK(trol_session_n_tokens(cut) == trol_session_n_tokens(one) &&
                      memcmp(trol_session_tokens(cut), trol_session_tokens(one),
                             trol_session_n_tokens(one) * sizeof(int32_t)) == 0,
                  "in pieces of %d: other tokens", pieces[k]);
            trol_session_free(cut);
        }
        trol_session_free(one);
    }
    CHECK(n_replacements > 0, "no answer had broken UTF-8: these answers test nothing");
}

/* A callback that stops, then another call: nothing is lost or shown twice. */
static void check_cancelled(trol_model *model) {
    static shown whole, parts;
    trol_error error = {0};
    trol_generate_params params = up_to(30);
    trol_session *one = ask(model, TROL_TRAVERSAL_PROMPT, 0, 1), *cut = ask(model, TROL_TRAVERSAL_PROMPT, 0, 1);
    trol_stop stop;
    whole = (shown){.text = ""};
    generate(one, &params, &whole);
    for (int lookup = 0; lookup <= 1; lookup++) {
        CHECK_OK(trol_session_ask(cut, "What is 1? What is 1?", NULL, 0, &error), error);
        parts = (shown){.stop_at = 1};
        int calls = 0;
        trol_status status;
        do {
            params = up_to(30);
            params.lookup = lookup;
            params.max_tokens =
                30 - (int32_t)(trol_session_n_tokens(cut) + (calls > 0) - (trol_session_n_tokens(one) - 29));
            parts.n_pieces = 0;
            status = trol_generate(cut, &params, take_text, &parts, &stop, &error);
        } while (status == TROL_ERROR_CANCELLED && ++calls < 40 && strlen(parts.text) < strlen(whole.text));
        CHECK(calls > 3, "%d calls were stopped", calls);
        CHECK(strcmp(parts.text, whole.text) == 0, "stopped after each piece \"%s\", at once \"%s\"", parts.text,
              whole.text);
    }
    CHECK_OK(trol_session_ask(cut, "What is 1? What is 1?", NULL, 0, &error), error);
    trol_session_cancel(cut); /* before the first token is fed: it is shown, and the next call continues */
    parts = (shown){.text = ""};
    params = up_to(30);
    CHECK(trol_generate(cut, &params, take_text, &parts, &stop, &error) == TROL_ERROR_CANCELLED,
          "a cancel before the call");
    params = up_to(29);
    generate(cut, &params, &parts);
    CHECK(strcmp(parts.text, whole.text) == 0, "cancelled, then \"%s\", at once \"%s\"", parts.text, whole.text);
    trol_session_free(one);
    trol_session_free(cut);
}

/* ---- where it stops -----------------------------------------------------------------------------------------------
 */

static int count_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    int64_t *last = user;
    CHECK(logits && vocab_size > 0 && (*last < 0 || position == *last + 1), "position %lld after %lld",
          (long long)position, (long long)*last);
    *last = position;
    return 0;
}

static void check_stops(trol_model *model) {
    static shown out;
    trol_error error = {0};
    trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 2);
    const size_t n_prompt = trol_session_n_tokens(s);
    int64_t position = -1;
    trol_generate_params params = up_to(0);
    params.logits = count_logits;
    params.logits_user = &position;
    out = (shown){.text = ""};
    CHECK(generate(s, &params, &out) == TROL_STOP_LENGTH && trol_session_n_tokens(s) == n_prompt + 255,
          "256 tokens are the default");
    CHECK(position == (int64_t)n_prompt + 255, "the logits of the last token are those of position %lld",
          (long long)position);
    trol_session_free(s);
    for (int lookup = 0; lookup <= 2; lookup++) { /* a context with room for three more tokens */
        s = ask(model, TROL_TRAVERSAL_PROMPT, (int32_t)n_prompt + 3, 2);
        params = up_to(50);
        params.lookup = lookup;
        out = (shown){.text = ""};
        CHECK(generate(s, &params, &out) == TROL_STOP_CONTEXT, "the context's end");
        CHECK(trol_session_n_tokens(s) == n_prompt + 3, "%zu tokens", trol_session_n_tokens(s));
        const size_t n_said = strlen(out.text);
        CHECK(generate(s, &params, &out) == TROL_STOP_CONTEXT && strlen(out.text) == n_said,
              "a full context gives more");
        trol_session_free(s);
        s = ask(model, TROL_TRAVERSAL_PROMPT, (int32_t)n_prompt + 3, 2); /* cut by the length first */
        params.max_tokens = 4;
        CHECK(generate(s, &params, &out) == TROL_STOP_LENGTH, "the length");
        CHECK(generate(s, &params, &out) == TROL_STOP_CONTEXT, "a full context after a cut");
        trol_session_free(s);
    }
    s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 2);
    params = up_to(-1);
    CHECK(trol_generate(s, &params, NULL, NULL, NULL, &error) == TROL_ERROR_ARGUMENT, "max_tokens -1");
    params = up_to(3);
    params.lookup = 65;
    CHECK(trol_generate(s, &params, NULL, NULL, NULL, &error) == TROL_ERROR_ARGUMENT, "lookup 65");
    params.lookup = 0;
    CHECK_OK(trol_generate(s, &params, NULL, NULL, NULL, &error), error); /* no callback, no stop */
    trol_session_free(s);
}

static trol_sampler *new_sampler(float temperature, int32_t top_k, float top_p, uint64_t seed) {
    trol_error error = {0};
    trol_sampler *sampler = NULL;
    trol_sampler_params params;
    trol_sampler_params_init(&params);
    params.temperature = temperature;
    params.top_k = top_k;
    params.top_p = top_p;
    params.seed = seed;
    CHECK_OK(trol_sampler_new(&params, &sampler, &error), error);
    return sampler;
}

/* A model of random weights hardly ever ends an answer, so answers are sampled at a high temperature until one ends. */
static void check_end(trol_model *model) {
    static shown out, again;
    trol_error error = {0};
    trol_model_info info = {.size = sizeof info};
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    bool ended = false;
    for (uint64_t seed = 1; seed < 60 && !ended; seed++) {
        trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 3);
        const size_t n_prompt = trol_session_n_tokens(s);
        trol_generate_params params = up_to(100);
        params.ignore_eos = 0;
        params.sampler = new_sampler(100, 0, 1, seed);
        out = (shown){.text = ""};
        ended = generate(s, &params, &out) == TROL_STOP_END;
        const size_t n = trol_session_n_tokens(s) - n_prompt;
        trol_sampler_free(params.sampler);
        if (ended) { /* the end token is not in the session; with ignore_eos the same draws run on */
            CHECK(trol_session_logits(s) != NULL && n < 100, "%zu tokens", n);
            check_text(model, s, n_prompt, &out);
            CHECK_OK(trol_session_ask(s, "What is 3? What is 3?", NULL, 0, &error), error);
            params.sampler = new_sampler(100, 0, 1, seed);
            params.ignore_eos = 1;
            again = (shown){.text = ""};
            CHECK(generate(s, &params, &again) == TROL_STOP_LENGTH && trol_session_n_tokens(s) == n_prompt + 99,
                  "ignore_eos");
            trol_sampler_free(params.sampler);
        }
        trol_session_free(s);
    }
    CHECK(ended, "no answer of 60 ended");
}

/* Without a tokenizer the answer is token ids. */
static void check_ids(void) {
    session_case c = open_case("internlm2-clip-text", 1);
    trol_session *s = open_session(c.model, TROL_TRAVERSAL_PROMPT, 0, 0);
    static shown out;
    char expected[512] = "";
    prefill_case(&c, s, c.ids, c.n_ids);
    trol_generate_params params = up_to(4);
    out = (shown){.text = ""};
    for (int i = 0; i < 3; i++)
        generate(s, &params, &out);
    for (size_t i = c.n_ids; i < trol_session_n_tokens(s); i++)
        snprintf(expected + strlen(expected), 16, "%s%d", i == c.n_ids ? "" : " ", trol_session_tokens(s)[i]);
    CHECK(trol_session_n_tokens(s) == c.n_ids + 11, "%zu tokens", trol_session_n_tokens(s));
    CHECK(strncmp(out.text, expected, strlen(expected)) == 0 && out.text[strlen(expected)] == ' ',
          "\"%s\", expected \"%s ...\"", out.text, expected);
    trol_session_free(s);
    close_case(&c);
}

/* ---- choosing -----------------------------------------------------------------------------------------------------
 */

static void check_sampler_parameters(void) {
    static const struct {
        float temperature, top_p;
        int32_t top_k;
        const char *text;
    } refused[] = {{-1, 1, 0, "temperature"}, {INFINITY, 1, 0, "temperature"}, {NAN, 1, 0, "temperature"},
                   {1, 0, 0, "top_p"},        {1, 1.5f, 0, "top_p"},           {1, NAN, 0, "top_p"},
                   {1, 1, -1, "top_k"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        trol_error error = {0};
        trol_sampler *sampler = (trol_sampler *)&error;
        trol_sampler_params params;
        trol_sampler_params_init(&params);
        params.temperature = refused[i].temperature;
        params.top_k = refused[i].top_k;
        params.top_p = refused[i].top_p;
        CHECK(trol_sampler_new(&params, &sampler, &error) == TROL_ERROR_ARGUMENT && !sampler &&
                  strstr(error.message, refused[i].text),
              "parameters %zu: %s", i, error.message);
    }
    const float ties[] = {NAN, 1, 3, 3, NAN, 2}, nothing[] = {NAN, NAN};
    CHECK(trol_sampler_choose(NULL, ties, 6) == 2, "greedy takes the lowest id of equals");
    trol_sampler *sampler = new_sampler(1, 0, 1, 1);
    for (int i = 0; i < 50; i++) {
        const int32_t token = trol_sampler_choose(sampler, ties, 6);
        CHECK(token >= 0 && token < 6 && !isnan(ties[token]), "drew %d", token);
    }
    CHECK(trol_sampler_choose(sampler, nothing, 2) == -1, "no number at all");
    trol_sampler_free(sampler);
}

/* How often each of three tokens with probabilities 1/8, 2/8, 5/8 is drawn. */
static void check_frequencies(const char *what, float temperature, int32_t top_k, float top_p, const double *expected) {
    enum { N_DRAWS = 20000 };
    const float logits[] = {0, 0.69314718f, 1.60943791f};
    int counts[3] = {0};
    trol_sampler *sampler = new_sampler(temperature, top_k, top_p, 42);
    for (int i = 0; i < N_DRAWS; i++)
        counts[trol_sampler_choose(sampler, logits, 3)]++;
    for (int i = 0; i < 3; i++) {
        const double deviation = sqrt(expected[i] * (1 - expected[i]) * N_DRAWS);
        CHECK(fabs(counts[i] - expected[i] * N_DRAWS) <= 5 * deviation,
              "%s: token %d was drawn %d times of %d, expected %.0f", what, i, counts[i], N_DRAWS,
              expected[i] * N_DRAWS);
    }
    trol_sampler_free(sampler);
}

static void check_sampling(trol_model *model) {
    static shown a, b;
    check_sampler_parameters();
    check_frequencies("all", 1, 0, 1, (double[]){1 / 8.0, 2 / 8.0, 5 / 8.0});
    check_frequencies("temperature 0.5", 0.5f, 0, 1, (double[]){1 / 30.0, 4 / 30.0, 25 / 30.0});
    check_frequencies("top_k 2", 1, 2, 1, (double[]){0, 2 / 7.0, 5 / 7.0});
    check_frequencies("top_k 1", 1, 1, 1, (double[]){0, 0, 1});
    check_frequencies("top_k 9", 1, 9, 1, (double[]){1 / 8.0, 2 / 8.0, 5 / 8.0});
    check_frequencies("top_p 0.6", 1, 0, 0.6f, (double[]){0, 0, 1});
    check_frequencies("top_p 0.7", 1, 0, 0.7f, (double[]){0, 2 / 7.0, 5 / 7.0});
    for (int which = 0; which < 3; which++) { /* equal seeds, unequal seeds, greedy by top_k */
        trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 4), *t = ask(model, TROL_TRAVERSAL_PROMPT, 0, 4);
        trol_generate_params params = up_to(40);
        params.sampler = which == 2 ? new_sampler(1.5f, 1, 1, 7) : new_sampler(1.5f, 0, 1, 7);
        a = b = (shown){.text = ""};
        generate(s, &params, &a);
        trol_sampler_free(params.sampler);
        params.sampler = which == 2 ? NULL : new_sampler(1.5f, 0, 1, which == 0 ? 7 : 8);
        params.lookup = which == 0 ? 1 : 0; /* lookup draws as often as without */
        generate(t, &params, &b);
        trol_sampler_free(params.sampler);
        const bool equal =
            trol_session_n_tokens(s) == trol_session_n_tokens(t) &&
            memcmp(trol_session_tokens(s), trol_session_tokens(t), trol_session_n_tokens(s) * sizeof(int32_t)) == 0;
        CHECK(equal == (which != 1), "sampling %d: \"%s\" and \"%s\"", which, a.text, b.text);
        trol_session_free(s);
        trol_session_free(t);
    }
}

/* Prompt lookup changes nothing but the number of tokens fed at once. */
static void check_lookup(trol_model *model) {
    enum { N_TOKENS = 200 };
    static shown plain, looked;
    int64_t n_accepted = 0;
    for (int mode = TROL_TRAVERSAL_PROMPT; mode <= TROL_TRAVERSAL_OFF; mode++)
        for (int lookup = 1; lookup <= 3; lookup++) {
            trol_session *s = ask(model, mode, 0, 5), *t = ask(model, mode, 0, 5);
            trol_generate_params params = up_to(N_TOKENS);
            int64_t position = -1;
            plain = looked = (shown){.text = ""};
            generate(s, &params, &plain);
            params.lookup = lookup;
            params.logits = count_logits;
            params.logits_user = &position;
            generate(t, &params, &looked);
            CHECK(strcmp(plain.text, looked.text) == 0, "mode %d, lookup %d: \"%s\", without \"%s\"", mode, lookup,
                  looked.text, plain.text);
            const trol_session_stats stats = stats_of(t);
            CHECK(stats.accepted_tokens <= stats.proposed_tokens && stats.decoded_tokens == N_TOKENS - 1,
                  "%lld of %lld accepted, %lld decoded", (long long)stats.accepted_tokens,
                  (long long)stats.proposed_tokens, (long long)stats.decoded_tokens);
            CHECK(memcmp(logits_of(s), logits_of(t), 512 * sizeof(float)) == 0, "mode %d, lookup %d: other logits",
                  mode, lookup);
            n_accepted += stats.accepted_tokens;
            trol_session_free(s);
            trol_session_free(t);
        }
    CHECK(n_accepted > 0, "no proposal was ever accepted: these answers test nothing");
}

/* Every token through the callback: the position, the log-probability and the likeliest, from the raw logits. */
typedef struct reported {
    int n, stop_at;
    const float *logits; /* the session's, which the logits callback is given, too */
    int32_t vocab_size, tokens[256];
} reported;

static int keep_raw_logits(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    reported *r = user;
    (void)position;
    r->logits = logits;
    r->vocab_size = vocab_size;
    return 0;
}

static int check_token(void *user, const trol_token_info *info) {
    reported *r = user;
    trol_token_logprob top[3];
    const float logprob = trol_logprobs(r->logits, r->vocab_size, info->token, top, 3);
    CHECK(info->logprob == logprob && info->n_top == 3 && memcmp(info->top, top, sizeof top) == 0,
          "token %d: log-probability %g, expected %g", info->token, (double)info->logprob, (double)logprob);
    r->tokens[r->n++] = info->token;
    return r->n == r->stop_at;
}

static void check_token_callback(trol_model *model) {
    static shown out;
    trol_error error = {0};
    trol_model_info info = {.size = sizeof info};
    CHECK_OK(trol_model_get_info(model, &info, &error), error);
    for (int lookup = 0; lookup <= 1; lookup++)
        for (int sampled = 0; sampled <= 1; sampled++) {
            enum { N_TOKENS = 20 };
            reported whole = {0}, parts = {.stop_at = 5};
            trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 6), *cut = ask(model, TROL_TRAVERSAL_PROMPT, 0, 6);
            const size_t n_prompt = trol_session_n_tokens(s);
            trol_sampler *samplers[2] = {NULL, NULL};
            for (int i = 0; sampled && i < 2; i++)
                samplers[i] = new_sampler(1.5f, 0, 0.9f, 3);
            trol_generate_params params = up_to(N_TOKENS);
            params.lookup = lookup;
            params.logits = keep_raw_logits;
            params.token = check_token;
            params.n_top_logprobs = 3;
            params.logits_user = params.token_user = &whole;
            params.sampler = samplers[0];
            out = (shown){.text = ""};
            generate(s, &params, &out);
            CHECK(whole.n == N_TOKENS &&
                      memcmp(whole.tokens, trol_session_tokens(s) + n_prompt, (N_TOKENS - 1) * sizeof(int32_t)) == 0,
                  "%d tokens were reported", whole.n);
            /* The callback stops at the fifth token, which is chosen again by the next call: the same one. */
            params.logits_user = params.token_user = &parts;
            params.sampler = samplers[1];
            CHECK(trol_generate(cut, &params, NULL, NULL, NULL, &error) == TROL_ERROR_CANCELLED &&
                      strstr(error.message, "token callback"),
                  "%s", error.message);
            params.max_tokens = N_TOKENS - 4;
            generate(cut, &params, &out);
            CHECK(parts.n == N_TOKENS + 1 && parts.tokens[4] == parts.tokens[5] &&
                      memcmp(parts.tokens, whole.tokens, 5 * sizeof(int32_t)) == 0 &&
                      memcmp(parts.tokens + 5, whole.tokens + 4, (N_TOKENS - 4) * sizeof(int32_t)) == 0,
                  "lookup %d, sampled %d: after a stop other tokens", lookup, sampled);
            for (int i = 0; i < 2; i++)
                trol_sampler_free(samplers[i]);
            trol_session_free(s);
            trol_session_free(cut);
        }
    trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 6);
    trol_generate_params params = up_to(1);
    params.n_top_logprobs = -1;
    CHECK(trol_generate(s, &params, NULL, NULL, NULL, &error) == TROL_ERROR_ARGUMENT &&
              strstr(error.message, "n_top_logprobs"),
          "%s", error.message);
    const trol_logit_bias *all = NULL;
    trol_logit_bias *list = calloc((size_t)info.vocab_size, sizeof *list);
    for (int32_t i = 0; i < info.vocab_size; i++)
        list[i] = (trol_logit_bias){i, -INFINITY};
    all = list;
    trol_sampler_params sampling;
    trol_sampler_params_init(&sampling);
    sampling.bias = all;
    sampling.n_bias = (size_t)info.vocab_size;
    params = up_to(1);
    CHECK_OK(trol_sampler_new(&sampling, &params.sampler, &error), error);
    CHECK(trol_generate(s, &params, NULL, NULL, NULL, &error) == TROL_ERROR_STATE &&
              strstr(error.message, "rules out all"),
          "%s", error.message);
    trol_sampler_free(params.sampler);
    free(list);
    trol_session_free(s);
}

/* A text of the middle of an answer ends it there, however it is cut into tokens and calls; nothing of it is shown. */
static void check_stop_strings(trol_model *model) {
    enum { N_TOKENS = 60 };
    static shown whole, out;
    int n_spanning = 0;
    for (int salt = 0; salt < 4; salt++) {
        trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, salt);
        trol_generate_params params = up_to(N_TOKENS);
        whole = (shown){.text = ""};
        generate(s, &params, &whole);
        trol_session_free(s);
        const size_t length = strlen(whole.text);
        for (size_t at = 3; at + 9 < length; at += 5) {
            char stop[16] = "", expected[TEXT_BYTES];
            size_t from = at, to;
            while (from < length && (whole.text[from] & 0xc0) == 0x80)
                from++;
            to = from + 1 + at % 7;
            while (to < length && (whole.text[to] & 0xc0) == 0x80)
                to++;
            memcpy(stop, whole.text + from, to - from);
            size_t n_expected = (size_t)(strstr(whole.text, stop) - whole.text);
            memcpy(expected, whole.text, n_expected);
            expected[n_expected] = '\0';
            while (n_expected > 0 && strchr(" \n\t", expected[n_expected - 1]))
                expected[--n_expected] = '\0';
            const char *stops[] = {"occurs nowhere", stop};
            params.stops = stops;
            params.n_stops = 2;
            params.lookup = at % 2 ? 2 : 0;
            s = ask(model, TROL_TRAVERSAL_PROMPT, 0, salt);
            out = (shown){.text = ""};
            trol_stop reason = 0;
            params.max_tokens = at % 3 ? N_TOKENS : 1; /* at once, or token by token */
            for (int i = 0; i < N_TOKENS && reason != TROL_STOP_STRING; i++)
                reason = generate(s, &params, &out);
            CHECK(reason == TROL_STOP_STRING && strcmp(out.text, expected) == 0 && !out.broken,
                  "stop \"%s\": reason %d, \"%s\", expected \"%s\"", stop, (int)reason, out.text, expected);
            const int pieces = out.n_pieces;
            CHECK(generate(s, &params, &out) == TROL_STOP_STRING && out.n_pieces == pieces, "it stays stopped");
            n_spanning += to - from > 4;
            trol_session_free(s);
        }
    }
    CHECK(n_spanning > 5, "no stop string spans tokens: these answers test nothing");
}

/* Cancels its session once `from` bytes were shown; `piece`: the first piece of several plain letters, at `offset`. */
typedef struct cancelling {
    trol_session *session;
    shown out;
    size_t from, offset;
    char piece[32];
} cancelling;

static int take_and_cancel(void *user, const char *text) {
    cancelling *c = user;
    const size_t before = strlen(c->out.text), n = strlen(text);
    size_t plain = 0;
    while (plain < n && text[plain] > ' ')
        plain++;
    if (!c->piece[0] && n > 1 && plain == n && n < sizeof c->piece) {
        strcpy(c->piece, text);
        c->offset = before;
    }
    if (before + n >= c->from)
        trol_session_cancel(c->session);
    return take_text(&c->out, text);
}

static trol_stop answer_with_stop(trol_model *model, const char *stop, int show_all, shown *out) {
    trol_generate_params params = up_to(30);
    trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 1);
    params.show_all = show_all;
    params.stops = &stop;
    params.n_stops = 1;
    *out = (shown){.text = ""};
    const trol_stop reason = generate(s, &params, out);
    trol_session_free(s);
    return reason;
}

/* What could have become a stop string is shown at the answer's end, if it is known to be the end. */
static void check_show_all(trol_model *model) {
    static shown whole, out;
    static cancelling c;
    trol_error error = {0};
    char stop[64], expected[TEXT_BYTES];
    CHECK(answer_with_stop(model, "occurs nowhere", 1, &whole) == TROL_STOP_LENGTH, "the length");
    size_t last = strlen(whole.text) - 3;
    while ((whole.text[last] & 0xc0) == 0x80)
        last--;
    snprintf(stop, sizeof stop, "%s and more", whole.text + last);
    CHECK(answer_with_stop(model, stop, 1, &out) == TROL_STOP_LENGTH && strcmp(out.text, whole.text) == 0,
          "\"%s\", expected \"%s\"", out.text, whole.text);
    CHECK(answer_with_stop(model, stop, 0, &out) == TROL_STOP_LENGTH && strlen(out.text) <= last, "\"%s\"", out.text);
    c = (cancelling){.session = ask(model, TROL_TRAVERSAL_PROMPT, 0, 1), .from = SIZE_MAX};
    trol_generate_params params = up_to(30);
    CHECK_OK(trol_generate(c.session, &params, take_and_cancel, &c, NULL, &error), error);
    trol_session_free(c.session);
    CHECK(c.piece[0], "no piece of several letters: this answer tests nothing");
    for (int show_all = 0; show_all <= 1; show_all++) { /* all of that piece but its first letter is held back */
        const size_t offset = c.offset, n = strlen(c.piece);
        const char *stops[] = {stop};
        snprintf(stop, sizeof stop, "%s and more", c.piece + 1);
        params.stops = stops;
        params.n_stops = 1;
        params.show_all = show_all;
        snprintf(expected, sizeof expected, "%.*s", (int)(offset + (show_all ? n : 1)), whole.text);
        c.session = ask(model, TROL_TRAVERSAL_PROMPT, 0, 1);
        c.out = (shown){.text = ""};
        c.from = offset + 1;
        CHECK(trol_generate(c.session, &params, take_and_cancel, &c, NULL, &error) == TROL_ERROR_CANCELLED, "%s",
              error.message);
        CHECK(strcmp(c.out.text, expected) == 0, "show_all %d: \"%s\", expected \"%s\"", show_all, c.out.text,
              expected);
        trol_session_free(c.session);
    }
}

/* The same seed and penalties give the same text with any number of threads, and in a batch with other sessions. */
static void check_same_text(const char *folder) {
    enum { N_TOKENS = 40 };
    int32_t expected[N_TOKENS];
    for (int32_t n_threads = 1; n_threads <= 3; n_threads++) {
        trol_error error = {0};
        trol_model *model = load_model(folder, n_threads);
        trol_session *alone = ask(model, TROL_TRAVERSAL_PROMPT, 0, 7), *both[2];
        both[0] = ask(model, TROL_TRAVERSAL_PROMPT, 0, 7);
        both[1] = ask(model, TROL_TRAVERSAL_PROMPT, 0, 8);
        const size_t n_prompt = trol_session_n_tokens(alone);
        trol_sampler_params sampling;
        trol_sampler_params_init(&sampling);
        sampling.temperature = 1.2f;
        sampling.top_p = 0.95f;
        sampling.repeat_penalty = 1.2f;
        sampling.frequency_penalty = 0.3f;
        sampling.seed = 99;
        trol_generate_params params = up_to(N_TOKENS + 1);
        static shown out;
        out = (shown){.text = ""};
        CHECK_OK(trol_sampler_new(&sampling, &params.sampler, &error), error);
        generate(alone, &params, &out);
        trol_sampler_free(params.sampler);
        if (n_threads == 1)
            memcpy(expected, trol_session_tokens(alone) + n_prompt, sizeof expected);
        CHECK(memcmp(trol_session_tokens(alone) + n_prompt, expected, sizeof expected) == 0, "%d threads: other tokens",
              n_threads);
        /* Each with a sampler of its own, one of them as above. */
        trol_sampler *samplers[2];
        for (int i = 0; i < 2; i++) {
            sampling.seed = 99 + (uint64_t)i;
            CHECK_OK(trol_sampler_new(&sampling, &samplers[i], &error), error);
            CHECK_OK(
                trol_sampler_begin(samplers[i], trol_session_tokens(both[i]), trol_session_n_tokens(both[i]), &error),
                error);
        }
        for (int k = 0; k < N_TOKENS; k++) {
            int32_t tokens[2];
            for (int i = 0; i < 2; i++) {
                tokens[i] =
                    trol_sampler_choose(samplers[i], logits_of(both[i]), (int32_t)model->config.decoder.vocab_size);
                CHECK_OK(trol_sampler_accept(samplers[i], tokens[i], &error), error);
            }
            CHECK(tokens[0] == expected[k], "in a batch: token %d is %d, expected %d", k, tokens[0], expected[k]);
            CHECK_OK(trol_decode_batch(both, tokens, 2, &error), error);
        }
        for (int i = 0; i < 2; i++) {
            trol_sampler_free(samplers[i]);
            trol_session_free(both[i]);
        }
        trol_session_free(alone);
        trol_model_free(model);
    }
}

/* Logits that are not numbers choose nothing. */
static void check_not_finite(trol_model *model) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    trol_error error = {0};
    trol_sampler_params sampling;
    trol_sampler *samplers[2] = {NULL, NULL};
    trol_sampler_params_init(&sampling);
    sampling.temperature = 1;
    CHECK_OK(trol_sampler_new(&sampling, &samplers[1], &error), error);
    for (int i = 0; i < 3; i++)
        for (int lookup = 0; lookup <= 2; lookup += 2)
            for (int k = 0; k < 2; k++) {
                trol_session *s = ask(model, TROL_TRAVERSAL_PROMPT, 0, 1);
                trol_generate_params params = up_to(5);
                shown out = {.text = ""};
                trol_stop stop;
                params.lookup = lookup;
                params.sampler = samplers[k];
                for (int64_t j = 0; j < s->model->config.decoder.vocab_size; j++)
                    s->logits[j] = bad[i];
                CHECK(trol_generate(s, &params, take_text, &out, &stop, &error) == TROL_ERROR_FORMAT &&
                          strstr(error.message, "logits are not finite") && out.n_pieces == 0,
                      "%g: %s", (double)bad[i], error.message);
                trol_session_free(s);
            }
    trol_sampler_free(samplers[1]);
}

static void run_model(const char *name) {
    char folder[1024];
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    trol_model *model = load_model(folder, 1);
    check_continuing(model);
    check_cancelled(model);
    check_stops(model);
    check_show_all(model);
    check_end(model);
    check_sampling(model);
    check_lookup(model);
    check_token_callback(model);
    check_stop_strings(model);
    check_not_finite(model);
    trol_model_free(model);
    check_same_text(folder);
}

int main(void) {
    run_model("e2e-internlm2");
    run_model("e2e-phi3");
    check_ids();
    return test_summary("test-generate");
}
