/* test-stream.c - text from tokens: all pieces together are what the tokens spell, however they are cut, without white
 * space around it; stop strings end it, and nothing of one is ever shown. The tokens are random, so the text is full of
 * broken UTF-8. */
#include "base/utf8.h"
#include "session_cases.h"

enum { TEXT_BYTES = 1 << 14, N_TOKENS = 60 };

static trol_error error;

static trol_stream *open_stream(const trol_model *model, const char *const *stops, size_t n_stops, bool keep_space) {
    trol_stream *stream = NULL;
    trol_stream_params params;
    trol_stream_params_init(&params);
    params.stops = stops;
    params.n_stops = n_stops;
    params.keep_space = keep_space;
    CHECK_OK(trol_stream_new(model, &params, &stream, &error), error);
    if (!stream)
        exit(1);
    return stream;
}

/* All that comes out of the stream; returns after how many tokens it stopped, or n. Each piece is whole characters. */
static size_t stream_text(trol_stream *stream, const int32_t *tokens, size_t n, char *out) {
    const char *text;
    int32_t stopped = 0;
    size_t n_put = 0;
    out[0] = '\0';
    trol_stream_reset(stream);
    while (n_put < n && !stopped) {
        CHECK_OK(trol_stream_put(stream, tokens[n_put++], &text, &stopped, &error), error);
        CHECK(utf8_valid_prefix(text, strlen(text)) == strlen(text), "\"%s\" is not whole characters", text);
        strncat(out, text, TEXT_BYTES - 1 - strlen(out));
    }
    if (stopped) {
        CHECK_OK(trol_stream_put(stream, tokens[0], &text, &stopped, &error), error);
        CHECK(stopped && !*text, "\"%s\" after the stop", text);
    }
    CHECK_OK(trol_stream_end(stream, &text, &error), error);
    CHECK(!stopped || !*text, "\"%s\" at the end, after the stop", text);
    strncat(out, text, TEXT_BYTES - 1 - strlen(out));
    return n_put;
}

/* Cuts white space off both ends of a text. */
static void trim(char *text) {
    size_t begin = 0, end = 0, n = strlen(text);
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t c = 0;
        length = utf8_decode(text + i, n - i, &c);
        if (!utf8_is_space(c))
            end = i + length;
        else if (end == 0)
            begin = i + length;
    }
    if (end < begin)
        end = begin;
    memmove(text, text + begin, end - begin);
    text[end - begin] = '\0';
}

/* Where the stop that is complete first begins; the longest of those that end together. */
static char *find_stop(char *text, const char *const *stops, size_t n_stops) {
    char *best = NULL, *best_end = NULL;
    for (size_t i = 0; i < n_stops; i++) {
        char *found = strstr(text, stops[i]), *end = found ? found + strlen(stops[i]) : NULL;
        if (found && (!best || end < best_end || (end == best_end && found < best))) {
            best = found;
            best_end = end;
        }
    }
    return best;
}

/* The token of the byte 0, which a C string cannot hold. */
static int32_t nul_token(const trol_model *model) {
    int32_t *tokens, token = -1;
    size_t n;
    CHECK_OK(trol_tokenize(model, "\0", 1, 0, &tokens, &n, &error), error);
    if (n > 0)
        token = tokens[n - 1];
    trol_free(tokens);
    return token;
}

static int32_t *random_tokens(const trol_model *model, const trol_model_info *info, uint64_t *random) {
    static int32_t tokens[N_TOKENS];
    const int32_t nul = nul_token(model);
    for (size_t i = 0; i < N_TOKENS; i++)
        do
            tokens[i] = (int32_t)(test_random(random) % (uint64_t)info->vocab_size);
        while (tokens[i] == nul);
    return tokens;
}

static void check_texts(const trol_model *model, const trol_model_info *info) {
    static char out[TEXT_BYTES], expected[TEXT_BYTES];
    uint64_t random = 7;
    int n_stopped = 0;
    for (int round = 0; round < 300; round++) {
        const int32_t *tokens = random_tokens(model, info, &random);
        char *text = NULL;
        CHECK_OK(trol_detokenize(model, tokens, N_TOKENS, 0, &text, &error), error);
        for (int keep = 0; keep <= 1; keep++) {
            trol_stream *stream = open_stream(model, NULL, 0, keep);
            snprintf(expected, sizeof expected, "%s", text);
            if (!keep)
                trim(expected);
            stream_text(stream, tokens, N_TOKENS, out);
            CHECK(strcmp(out, expected) == 0, "\"%s\", expected \"%s\"", out, expected);
            trol_stream_free(stream);
        }
        /* Stops cut out of the text itself, that overlap, and one that never comes. */
        char cuts[2][32] = {"", ""};
        const size_t n_text = strlen(text);
        for (int i = 0; i < 2; i++) {
            size_t from = n_text / 2 + (size_t)(test_random(&random) % 8), length = 1 + test_random(&random) % 9;
            while (from < n_text && ((unsigned char)text[from] & 0xc0) == 0x80)
                from++;
            while (from + length < n_text && ((unsigned char)text[from + length] & 0xc0) == 0x80)
                length++;
            snprintf(cuts[i], sizeof cuts[i], "%.*s", (int)length, text + from);
        }
        const char *const stops[] = {cuts[0], cuts[1], "<never>"};
        trol_stream *stream = open_stream(model, stops, 3, false);
        snprintf(expected, sizeof expected, "%s", text);
        char *stop = find_stop(expected, stops, 3);
        if (stop)
            *stop = '\0';
        trim(expected);
        const size_t n_put = stream_text(stream, tokens, N_TOKENS, out);
        CHECK(strcmp(out, expected) == 0, "stops \"%s\" \"%s\": \"%s\", expected \"%s\" of \"%s\"", cuts[0], cuts[1],
              out, expected, text);
        n_stopped += stop != NULL;
        CHECK(!stop || n_put <= N_TOKENS, "the stop was not seen");
        trol_stream_free(stream);
        trol_free(text);
    }
    CHECK(n_stopped > 200, "only %d of 300 texts had a stop in them", n_stopped);
}

/* Text that could still become a stop is held back, and shown once it cannot. */
static void check_held_back(const trol_model *model) {
    const char *const stops[] = {"abc", "b?"};
    static const struct {
        const char *text, *shown; /* shown: by the tokens, before the end */
        const char *whole;
        bool stopped;
    } cases[] = {{"x ab", "x", "x ab", false}, {"x abd", "x abd", "x abd", false}, {"x abc y", "x", "x", true},
                 {"xab?", "xa", "xa", true},   {"xababc", "xab", "xab", true},     {"  x  ", "x", "x", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t *tokens, stopped = 0;
        size_t n;
        const char *text;
        char shown[64] = "";
        CHECK_OK(trol_tokenize(model, cases[i].text, strlen(cases[i].text), 0, &tokens, &n, &error), error);
        trol_stream *stream = open_stream(model, stops, 2, false);
        for (size_t k = 0; k < n && !stopped; k++) {
            CHECK_OK(trol_stream_put(stream, tokens[k], &text, &stopped, &error), error);
            strcat(shown, text);
        }
        CHECK(strcmp(shown, cases[i].shown) == 0 && stopped == cases[i].stopped, "\"%s\": \"%s\", stopped %d",
              cases[i].text, shown, stopped);
        CHECK_OK(trol_stream_end(stream, &text, &error), error);
        strcat(shown, text);
        CHECK(strcmp(shown, cases[i].whole) == 0, "\"%s\": \"%s\" at the end", cases[i].text, shown);
        trol_stream_free(stream);
        trol_free(tokens);
    }
}

/* NUL is left out, and what follows it is not lost. */
static void check_nul(const trol_model *model) {
    char out[64];
    int32_t *tokens;
    size_t n;
    CHECK_OK(trol_tokenize(model, "a\0b", 3, 0, &tokens, &n, &error), error);
    trol_stream *stream = open_stream(model, NULL, 0, false);
    stream_text(stream, tokens, n, out);
    CHECK(strcmp(out, "ab") == 0, "\"%s\", expected ab", out);
    trol_stream_free(stream);
    trol_free(tokens);
}

static void check_special(const trol_model *model, const trol_model_info *info) {
    char out[64];
    trol_stream *stream = NULL;
    trol_stream_params params;
    trol_stream_params_init(&params);
    params.special = 1;
    CHECK_OK(trol_stream_new(model, &params, &stream, &error), error);
    stream_text(stream, &info->end_tokens[info->n_end_tokens - 1], 1, out);
    CHECK(strcmp(out, "</s>") == 0, "\"%s\", expected </s>", out);
    trol_stream_free(stream);
}

static void check_refusals(const trol_model *model) {
    trol_stream *stream = (trol_stream *)&error;
    const char *text;
    static const char *const wrong[][2] = {{"a", ""}, {"a", NULL}, {"a", "\xff"}};
    for (size_t i = 0; i < 3; i++) {
        trol_stream_params params;
        trol_stream_params_init(&params);
        params.stops = wrong[i];
        params.n_stops = 2;
        CHECK(trol_stream_new(model, &params, &stream, &error) == TROL_ERROR_ARGUMENT && !stream &&
                  strstr(error.message, "stop string 2"),
              "%s", error.message);
    }
    CHECK(trol_stream_new(NULL, NULL, &stream, &error) == TROL_ERROR_ARGUMENT, "no model");
    CHECK(trol_stream_new(model, NULL, NULL, &error) == TROL_ERROR_ARGUMENT, "no out-pointer");
    CHECK(trol_stream_put(NULL, 1, &text, NULL, &error) == TROL_ERROR_ARGUMENT && !text, "no stream");
    CHECK_OK(trol_stream_new(model, NULL, &stream, &error), error);
    CHECK(trol_stream_put(stream, -1, &text, NULL, &error) == TROL_ERROR_ARGUMENT && strstr(error.message, "-1"), "%s",
          error.message);
    CHECK(trol_stream_put(stream, 1, NULL, NULL, &error) == TROL_ERROR_ARGUMENT, "no out-pointer");
    CHECK(trol_stream_end(NULL, &text, &error) == TROL_ERROR_ARGUMENT, "no stream");
    trol_stream_free(stream);
    trol_stream_free(NULL);
    trol_stream_reset(NULL);
    trol_stream_params_init(NULL);
}

/* Without a tokenizer the text is token ids. */
static void check_ids(void) {
    session_case c = open_case("internlm2-clip-text", 1);
    char out[64];
    trol_stream *stream = open_stream(c.model, NULL, 0, false);
    stream_text(stream, (const int32_t[]){5, 17, 300}, 3, out);
    CHECK(strcmp(out, "5 17 300") == 0, "\"%s\"", out);
    trol_stream_free(stream);
    close_case(&c);
}

int main(void) {
    static const char *const names[] = {"e2e-internlm2", "e2e-phi3"};
    for (size_t i = 0; i < 2; i++) {
        char folder[1024];
        trol_model_info info = {.size = sizeof info};
        snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, names[i]);
        trol_model *model = load_model(folder, 1);
        CHECK_OK(trol_model_get_info(model, &info, &error), error);
        CHECK(info.n_end_tokens == (i == 0 ? 2 : 3), "%s has %d end tokens", names[i], info.n_end_tokens);
        check_texts(model, &info);
        check_held_back(model);
        check_nul(model);
        check_special(model, &info);
        check_refusals(model);
        trol_model_free(model);
    }
    check_ids();
    return test_summary("test-stream");
}
