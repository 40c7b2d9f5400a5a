/* test-beams.c - beam search: every reference row, a plain search without batches and shared caches in each traversal
 * mode, and the rules around a search: limits, stop strings, threads, the session that it does not change. */
#include "session_cases.h"

static trol_beams_params defaults(int32_t n_beams, int32_t max_tokens) {
    trol_beams_params p;
    trol_beams_params_init(&p);
    p.n_beams = n_beams;
    p.max_tokens = max_tokens;
    return p;
}

static trol_beam_list *search(trol_session *session, const trol_beams_params *params) {
    trol_error error = {0};
    trol_beam_list *list = NULL;
    CHECK_OK(trol_beams(session, params, &list, &error), error);
    if (!list)
        exit(1);
    return list;
}

/* ---- the reference --------------------------------------------------------------------------- */

/* trol_beams returns answers without an end token; the reference's have one where there is room. */
static void check_answer(const char *name, trol_session *session, const trol_beams_params *params,
                         const int32_t *tokens, size_t n_tokens, double score) {
    trol_beam_list *list = search(session, params);
    const trol_beam *best = trol_beam_list_get(list, 0);
    const size_t n = best->n_tokens < (size_t)params->max_tokens ? n_tokens - 1 : n_tokens;
    CHECK(n == best->n_tokens && memcmp(best->tokens, tokens, n * sizeof *tokens) == 0 &&
              (n == n_tokens || tokens[n] == params->end_tokens[0]),
          "%s: %zu tokens from %d on, expected %zu from %d on", name, best->n_tokens,
          best->n_tokens ? best->tokens[0] : -1, n_tokens, tokens[0]);
    CHECK(fabs((double)best->score - score) <= 1e-4, "%s: score %.7g, expected %.7g", name, (double)best->score, score);
    CHECK(best->stop == TROL_STOP_END || best->n_tokens == (size_t)params->max_tokens, "%s: stop %d", name,
          (int)best->stop);
    trol_beam_list_free(list);
}

/* The second picture of case two-images: 255 minus the first, after the resize. */
static trol_features *encode_second(const session_case *c, const char *name) {
    char folder[512];
    trol_error error = {0};
    trol_image *image = NULL;
    trol_features *features = NULL;
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    tensor_source *source = reference_open(folder, "reference.safetensors");
    const tensor *t = tensor_source_find(source, "image_resized"); /* [n, 3, S, S] bytes */
    const int64_t side = t->shape[3], plane = side * side;
    const uint8_t *planes = (const uint8_t *)t->data + 3 * plane;
    uint8_t *rgb = malloc((size_t)(3 * plane));
    for (int64_t i = 0; i < 3 * plane; i++)
        rgb[i] = planes[i % 3 * plane + i / 3];
    CHECK_OK(trol_image_load_rgb(rgb, (int32_t)side, (int32_t)side, (size_t)(3 * side), &image, &error), error);
    CHECK_OK(trol_encode_image(c->model, image, &features, &error), error);
    free(rgb);
    trol_image_free(image);
    tensor_source_close(source);
    return features;
}

static int n_rows;

static void check_case(const char *name) {
    char path[1024], *text = NULL;
    size_t n_bytes = 0, n_tokens, n_ends;
    trol_error error = {0};
    session_case c = open_case(name, 2);
    trol_session *session = open_session(c.model, TROL_TRAVERSAL_PROMPT, 0, 0);
    snprintf(path, sizeof path, "%s/%s/case.json", TEST_REFERENCE, name);
    CHECK_OK(file_read(path, 1 << 24, &text, &n_bytes, &error), error);
    cJSON *json = cJSON_ParseWithLength(text, n_bytes), *row;
    trol_features *features[2] = {c.features, NULL};
    const bool two = strstr(name, "two-images") != NULL;
    if (two)
        features[1] = encode_second(&c, name);
    CHECK_OK(trol_session_prefill(session, c.ids, c.n_ids, features, c.features ? 1 + (size_t)two : 0, &error), error);
    int32_t *tokens = reference_integers(json, "beam5_tokens", &n_tokens), end = 2;
    trol_beams_params params = defaults(5, 6);
    params.end_tokens = &end;
    params.n_end_tokens = 1;
    check_answer(name, session, &params, tokens, n_tokens, cJSON_GetObjectItem(json, "beam5_score")->valuedouble);
    free(tokens);
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "beams")) {
        tokens = reference_integers(row, "tokens", &n_tokens);
        int32_t *ends = reference_integers(row, "eos_token_ids", &n_ends);
        params = defaults(cJSON_GetObjectItem(row, "num_beams")->valueint,
                          cJSON_GetObjectItem(row, "max_new_tokens")->valueint);
        params.length_penalty = (float)cJSON_GetObjectItem(row, "length_penalty")->valuedouble;
        params.end_tokens = ends;
        params.n_end_tokens = n_ends;
        snprintf(path, sizeof path, "%s, row %d", name, n_rows++);
        check_answer(path, session, &params, tokens, n_tokens, cJSON_GetObjectItem(row, "score")->valuedouble);
        free(tokens);
        free(ends);
    }
    cJSON_Delete(json);
    memory_free(text);
    trol_features_free(features[1]);
    trol_session_free(session);
    close_case(&c);
}

/* ---- a plain search -------------------------------------------------------------------------- */

enum { MAX_BEAMS = 6, MAX_STEPS = 16, MAX_FINISHED = 2 * MAX_BEAMS * MAX_STEPS, MAX_VOCAB = 1024 };

typedef struct plain_beam {
    int32_t tokens[MAX_STEPS];
    size_t n;
    double sum;
} plain_beam;

typedef struct plain_pair {
    double sum;
    int beam;
    int32_t token;
} plain_pair;

static int by_sum(const void *left, const void *right) {
    const plain_pair *a = left, *b = right;
    return a->sum != b->sum ? (a->sum < b->sum ? 1 : -1) : a->beam != b->beam ? a->beam - b->beam : a->token - b->token;
}

/* Finished answers, best first; sum is the score here. */
static plain_beam finished[MAX_FINISHED];

static int by_score(const void *left, const void *right) {
    const plain_beam *a = left, *b = right;
    return a->sum < b->sum ? 1 : a->sum > b->sum ? -1 : 0;
}

/* The log-probabilities after the prompt and a beam's tokens, from a session of its own, token by token. */
static void plain_logprobs(const session_case *c, trol_traversal mode, trol_cache_type cache, const plain_beam *b,
                           double *logprobs) {
    trol_error error = {0};
    trol_session *session = open_session_of(c->model, cache, mode, 0, 0);
    prefill_case(c, session, c->ids, c->n_ids);
    for (size_t i = 0; i < b->n; i++)
        CHECK_OK(trol_session_decode(session, b->tokens[i], &error), error);
    const float *logits = logits_of(session);
    double largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < c->info.vocab_size; i++)
        largest = fmax(largest, (double)logits[i]);
    for (int32_t i = 0; i < c->info.vocab_size; i++)
        sum += exp((double)logits[i] - largest);
    for (int32_t i = 0; i < c->info.vocab_size; i++)
        logprobs[i] = (double)logits[i] - largest - log(sum);
    trol_session_free(session);
}

/* TROL.md's rule, word for word. Returns how many answers there are in `finished`, at most n_beams. */
static size_t plain_search(const session_case *c, trol_traversal mode, trol_cache_type cache,
                           const trol_beams_params *p) {
    static plain_pair pairs[MAX_BEAMS * MAX_VOCAB];
    static double logprobs[MAX_VOCAB];
    plain_beam beams[MAX_BEAMS] = {0}, next[MAX_BEAMS];
    const size_t n_beams = (size_t)p->n_beams, n_taken = (p->n_end_tokens > 1 ? 1 + p->n_end_tokens : 2) * n_beams;
    size_t n_alive = 1, n_finished = 0;
    for (int t = 1;; t++) {
        size_t n_pairs = 0, n_next = 0;
        for (size_t i = 0; i < n_alive; i++) {
            plain_logprobs(c, mode, cache, &beams[i], logprobs);
            for (int32_t k = 0; k < c->info.vocab_size; k++)
                pairs[n_pairs++] = (plain_pair){beams[i].sum + logprobs[k], (int)i, k};
        }
        qsort(pairs, n_pairs, sizeof *pairs, by_sum);
        for (size_t rank = 0; rank < n_taken && n_next < n_beams; rank++) {
            plain_beam b = beams[pairs[rank].beam];
            bool ends = false;
            for (size_t i = 0; i < p->n_end_tokens; i++)
                ends = ends || pairs[rank].token == p->end_tokens[i];
            b.sum = pairs[rank].sum;
            if (!ends) {
                b.tokens[b.n++] = pairs[rank].token;
                next[n_next++] = b;
            } else if (rank < n_beams) {
                b.sum /= pow(t, (double)p->length_penalty);
                finished[n_finished++] = b;
            }
        }
        qsort(finished, n_finished, sizeof *finished, by_score);
        n_finished = n_finished < n_beams ? n_finished : n_beams;
        if (n_finished == n_beams && finished[n_beams - 1].sum >= pairs[0].sum / pow(t, (double)p->length_penalty))
            break;
        memcpy(beams, next, sizeof beams);
        n_alive = n_next;
        if (t < p->max_tokens)
            continue;
        for (size_t i = 0; i < n_alive; i++) {
            finished[n_finished] = beams[i];
            finished[n_finished++].sum = beams[i].sum / pow(t, (double)p->length_penalty);
        }
        qsort(finished, n_finished, sizeof *finished, by_score);
        n_finished = n_finished < n_beams ? n_finished : n_beams;
        break;
    }
    return n_finished;
}

/* All answers, in every mode; in case "border" the rope changes during the answer, and mode all computes the text
 * again. */
static void check_plain(const char *name) {
    static const int32_t ends[] = {7, 163, 300, 12, 470, 79};
    session_case c = open_case(name, 2);
    int n_ended = 0;
    for (int i = 0; i < 9; i++) {
        const trol_traversal mode = (trol_traversal)(i % 3);
        const trol_cache_type cache = i % 2 ? TROL_CACHE_Q8 : TROL_CACHE_F32;
        trol_beams_params params = defaults(2 + i / 3 * 2, 4 + i % 4 * 4 > MAX_STEPS ? MAX_STEPS : 4 + i % 4 * 4);
        char what[256];
        params.length_penalty = i % 2 ? 1 : 0.3f;
        params.end_tokens = ends;
        params.n_end_tokens = i < 4 ? 1 : 6;
        trol_session *session = open_session_of(c.model, cache, mode, 0, 0);
        prefill_case(&c, session, c.ids, c.n_ids);
        const size_t n_expected = plain_search(&c, mode, cache, &params);
        trol_beam_list *list = search(session, &params);
        CHECK(trol_beam_list_count(list) == n_expected, "%zu answers, expected %zu", trol_beam_list_count(list),
              n_expected);
        for (size_t k = 0; k < n_expected && k < trol_beam_list_count(list); k++) {
            const trol_beam *b = trol_beam_list_get(list, k);
            snprintf(what, sizeof what, "%s, mode %d, cache %d, %d beams, answer %zu", name, (int)mode, (int)cache,
                     params.n_beams, k);
            CHECK(b->n_tokens == finished[k].n &&
                      memcmp(b->tokens, finished[k].tokens, b->n_tokens * sizeof *b->tokens) == 0,
                  "%s: other tokens", what);
            CHECK(fabs((double)b->score - finished[k].sum) < 2e-6 * (1 + fabs(finished[k].sum)),
                  "%s: score %.9g, expected %.9g", what, (double)b->score, finished[k].sum);
            n_ended += b->stop == TROL_STOP_END;
        }
        trol_beam_list_free(list);
        trol_session_free(session);
    }
    CHECK(n_ended > 0, "%s: no answer ended: this test shows little", name);
    close_case(&c);
}

/* ---- around a search ------------------------------------------------------------------------- */

static void check_refused(trol_session *session, const trol_beams_params *params, trol_status status,
                          const char *text) {
    trol_error error = {0};
    trol_beam_list *list = (trol_beam_list *)&error;
    CHECK(trol_beams(session, params, &list, &error) == status && !list && strstr(error.message, text), "%s: \"%s\"",
          text, error.message);
}

static void check_refusals(const session_case *c) {
    trol_error error = {0};
    trol_session *session = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0);
    trol_beams_params p = defaults(5, 6);
    CHECK(trol_beams(session, &p, NULL, &error) == TROL_ERROR_ARGUMENT, "no out-pointer");
    check_refused(NULL, &p, TROL_ERROR_ARGUMENT, "session is NULL");
    check_refused(session, &p, TROL_ERROR_STATE, "no prompt to answer");
    p.n_beams = 0;
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "n_beams is 0");
    p.n_beams = 65;
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "n_beams is 65");
    p = defaults(5, -1);
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "max_tokens is -1");
    p = defaults(5, 6);
    p.length_penalty = NAN;
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "length_penalty");
    p = defaults(5, 6);
    p.n_end_tokens = 1;
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "end tokens are NULL");
    p.end_tokens = (int32_t[]){100000};
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "100000");
    p = defaults(5, 6);
    prefill_case(c, session, c->ids, c->n_ids);
    p.n_stops = 1;
    check_refused(session, &p, TROL_ERROR_ARGUMENT, "stop strings are NULL");
    p = defaults(5, 6);
    trol_session_cancel(session);
    check_refused(session, &p, TROL_ERROR_CANCELLED, "cancelled");
    trol_beam_list *list = search(session, &p);
    CHECK(trol_beam_list_get(list, trol_beam_list_count(list)) == NULL, "past the end");
    trol_beam_list_free(list);
    CHECK(trol_beam_list_count(NULL) == 0 && trol_beam_list_get(NULL, 0) == NULL, "NULL");
    trol_beam_list_free(NULL);
    trol_session_free(session);
}

/* The session is as it was; one beam is greedy; the context is a limit; any number of threads gives the same bits. */
static void check_session(const session_case *c) {
    trol_error error = {0};
    trol_session *s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, 0);
    prefill_case(c, s, c->ids, c->n_ids);
    const size_t vocab = (size_t)c->info.vocab_size;
    float *before = malloc(vocab * sizeof *before);
    memcpy(before, logits_of(s), vocab * sizeof *before);
    trol_beams_params p = defaults(1, 12);
    p.ignore_eos = 1;
    trol_beam_list *list = search(s, &p);
    CHECK(trol_session_n_tokens(s) == c->n_ids && memcmp(before, logits_of(s), vocab * sizeof *before) == 0,
          "the search changed the session");
    CHECK(stats_of(s).decoded_tokens == 11, "%lld tokens were decoded", (long long)stats_of(s).decoded_tokens);
    const trol_beam *b = trol_beam_list_get(list, 0);
    for (size_t i = 0; i < 12; i++) {
        const int32_t token = trol_sampler_choose(NULL, logits_of(s), (int32_t)vocab);
        CHECK(b->n_tokens == 12 && b->stop == TROL_STOP_LENGTH && b->tokens[i] == token, "one beam is not greedy");
        CHECK_OK(trol_session_decode(s, token, &error), error);
    }
    trol_beam_list_free(list);
    trol_session_free(s);
    s = open_session(c->model, TROL_TRAVERSAL_PROMPT, 0, (int32_t)c->n_ids + 3);
    prefill_case(c, s, c->ids, c->n_ids);
    p = defaults(3, 0);
    p.ignore_eos = 1;
    list = search(s, &p);
    b = trol_beam_list_get(list, 2);
    CHECK(b && b->n_tokens == 4 && b->stop == TROL_STOP_CONTEXT, "the context's end");
    trol_beam_list_free(list);
    trol_session_free(s);
    free(before);
}

static void check_threads(const char *name) {
    trol_beam_list *first = NULL;
    for (int32_t n_threads = 1; n_threads <= 3; n_threads++) {
        session_case c = open_case(name, n_threads);
        trol_session *s = open_session(c.model, TROL_TRAVERSAL_PROMPT, 0, 0);
        prefill_case(&c, s, c.ids, c.n_ids);
        const trol_beams_params p = defaults(5, 14);
        trol_beam_list *list = search(s, &p);
        for (size_t i = 0; first && i < 5; i++) {
            const trol_beam *a = trol_beam_list_get(first, i), *b = trol_beam_list_get(list, i);
            CHECK(a->score == b->score && a->n_tokens == b->n_tokens &&
                      memcmp(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens) == 0 &&
                      strcmp(a->text, b->text) == 0,
                  "%d threads: answer %zu differs", n_threads, i);
        }
        trol_beam_list_free(first);
        first = list;
        trol_session_free(s);
        close_case(&c);
    }
    trol_beam_list_free(first);
}

/* Texts are what the tokens spell; a stop string ends an answer as an end token does, and is not shown. */
static void check_texts(const char *name) {
    char folder[1024];
    trol_error error = {0};
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    trol_model *model = load_model(folder, 2);
    trol_session *s = open_session(model, TROL_TRAVERSAL_PROMPT, 0, 0);
    CHECK_OK(trol_session_ask(s, "What is it?", NULL, 0, &error), error);
    trol_beams_params p = defaults(5, 20);
    p.ignore_eos = 1;
    trol_beam_list *list = search(s, &p), *stopped;
    const trol_beam *best = trol_beam_list_get(list, 0);
    char *text = NULL, stop[8] = "";
    CHECK_OK(trol_detokenize(model, best->tokens, best->n_tokens, 0, &text, &error), error);
    CHECK(strstr(text, best->text) && strlen(best->text) > 8, "\"%s\", the tokens spell \"%s\"", best->text, text);
    size_t at = 3;
    while ((best->text[at] & 0xc0) == 0x80)
        at++;
    size_t end = at + 2;
    while ((best->text[end] & 0xc0) == 0x80)
        end++;
    memcpy(stop, best->text + at, end - at);
    p.stops = (const char *[]){stop};
    p.n_stops = 1;
    stopped = search(s, &p);
    int n_stopped = 0;
    for (size_t i = 0; i < trol_beam_list_count(stopped); i++) {
        const trol_beam *b = trol_beam_list_get(stopped, i);
        CHECK(!strstr(b->text, stop), "a stop string is shown: \"%s\"", b->text);
        n_stopped += b->stop == TROL_STOP_STRING;
        CHECK(i == 0 || b->score <= trol_beam_list_get(stopped, i - 1)->score, "the order of the answers");
    }
    CHECK(n_stopped > 0, "no answer stopped at \"%s\"", stop);
    trol_free(text);
    trol_beam_list_free(list);
    trol_beam_list_free(stopped);
    trol_session_free(s);
    trol_model_free(model);
}

/* Whether the text is a list of letters from a to c in brackets. */
static bool is_list(const char *text) {
    size_t i = 1;
    for (; text[0] == '[' && text[i] >= 'a' && text[i] <= 'c'; i += 2)
        if (text[i + 1] != ',')
            return text[i + 1] == ']' && text[i + 2] == '\0';
    return false;
}

/* Every answer satisfies the constraint, also where the limit cuts it; the caller's constraint does not change. */
static void check_constraint(const char *name) {
    static const char grammar[] = "root ::= \"[\" [a-c] (\",\" [a-c])* \"]\"";
    char folder[1024];
    trol_error error = {0};
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    trol_model *model = load_model(folder, 2);
    trol_session *s = open_session(model, TROL_TRAVERSAL_PROMPT, 0, 0);
    trol_constraint *constraint = NULL;
    CHECK_OK(trol_session_ask(s, "What is it?", NULL, 0, &error), error);
    CHECK_OK(trol_constraint_new_gbnf(model, grammar, strlen(grammar), &constraint, &error), error);
    int n_long = 0;
    for (int i = 0; i < 6; i++) {
        trol_beams_params p = defaults(i % 2 ? 5 : 3, i < 2 ? 6 : 15);
        p.ignore_eos = i >= 4;
        p.constraint = constraint;
        trol_beam_list *list = search(s, &p);
        for (size_t k = 0; k < trol_beam_list_count(list); k++) {
            const trol_beam *b = trol_beam_list_get(list, k);
            CHECK(is_list(b->text), "%s, search %d, answer %zu: \"%s\"", name, i, k, b->text);
            CHECK(b->n_tokens <= (size_t)p.max_tokens, "%zu tokens", b->n_tokens);
            CHECK(!p.ignore_eos || b->stop == TROL_STOP_END, "stop %d", (int)b->stop);
            n_long += b->n_tokens > 6;
        }
        CHECK(trol_beam_list_count(list) > 0, "no answer");
        trol_beam_list_free(list);
    }
    CHECK(n_long > 0, "%s: all answers are short", name);
    trol_beams_params p = defaults(3, 1);
    p.constraint = constraint;
    trol_beam_list *list = NULL;
    CHECK(trol_beams(s, &p, &list, &error) != TROL_OK && !list, "an answer of one token");
    p = defaults(3, 9);
    p.constraint = constraint;
    p.end_tokens = (int32_t[]){2};
    p.n_end_tokens = 1;
    check_refused(s, &p, TROL_ERROR_ARGUMENT, "cannot be combined with a constraint");
    trol_constraint_free(constraint);
    trol_session_free(s);
    trol_model_free(model);
}

int main(void) {
    static const char *const cases[] = {
        "internlm2-clip",     "internlm2-clip-bias",   "internlm2-clip-text",     "internlm2-clip-two-images",
        "phi3-internvit",     "phi3-internvit-border", "phi3-internvit-longrope", "phi3-internvit-rms",
        "phi3-internvit-text"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(cases[i]);
    CHECK(n_rows == 125, "%d rows", n_rows);
    check_plain("internlm2-clip-text");
    check_plain("phi3-internvit-border");
    session_case c = open_case("internlm2-clip-text", 2);
    check_refusals(&c);
    check_session(&c);
    close_case(&c);
    check_threads("phi3-internvit-text");
    check_texts("e2e-internlm2");
    check_texts("e2e-phi3");
    check_constraint("e2e-internlm2");
    check_constraint("e2e-phi3");
    return test_summary("test-beams");
}
