/* test-conversations.c - random conversations: turns with pictures, messages that are edited, dropped and undone,
 * prompts in random pieces beside other sessions in one step, with forks, truncations, saved files and cancelled
 * prompts in between. After each turn the session's logits, its greedy tokens and its gates are those of a fresh
 * session over the whole conversation, to the bit; in modes all and off, which reuse answer tokens, to rounding.
 *
 * test-conversations [SEED [NUMBER [THREADS]]]: conversation i has the seed SEED + i, which a failure names; the
 * threads share the models. */
#include <pthread.h>
#include <stdatomic.h>

#include "files.h"
#include "kernels/linear.h"
#include "session_cases.h"

enum {
    N_TURNS = 6,
    MAX_MESSAGES = 2 * N_TURNS,
    MAX_MESSAGE_TOKENS = 40,
    MAX_IMAGES = 24,
    MAX_TOKENS = 2048,
    N_COMPANIONS = 2
};

static bool to_the_bit = true; /* except where OpenBLAS multiplies prompts */
/* ---- models ---------------------------------------------------------------------------------- */

static const struct model_source {
    const char *folder;     /* below tests/reference */
    const char *image_path; /* NULL: the model has no encoder */
    bool reference;         /* case.json's prompt and reference.safetensors */
} sources[] = {
    {"internlm2-clip", "internlm2-clip/image.png", true},
    {"phi3-internvit", "phi3-internvit/image.png", true},
    {"phi3-internvit-border", NULL, true},
    {"phi3-internvit-longrope", "phi3-internvit-longrope/image.png", true},
    {"internlm2-clip-bias", "internlm2-clip-bias/image.png", true},
    {"phi3-internvit-rms", "phi3-internvit-rms/image.png", true},
    {"e2e-internlm2", "e2e-internlm2/pictures/photo.png", false},
    {"e2e-phi3", "e2e-phi3/pictures/photo.png", false},
    {"../../models/trol-tiny-internlm2", "../../models/pictures/lawn.png", false},
    {"../../models/trol-tiny-phi3", "../../models/pictures/lawn.png", false},
};

/* The forms in which a checkpoint is loaded. */
static const struct form {
    const char *name;
    trol_weight_type weights;
    trol_compute compute;
} forms[] = {{"exact", TROL_WEIGHTS_AS_STORED, TROL_COMPUTE_EXACT},
             {"bf16", TROL_WEIGHTS_AS_STORED, TROL_COMPUTE_BF16},
             {"q8", TROL_WEIGHTS_Q8, TROL_COMPUTE_EXACT},
             {"q4", TROL_WEIGHTS_Q4, TROL_COMPUTE_EXACT}};

enum { N_SOURCES = sizeof sources / sizeof *sources, N_FORMS = sizeof forms / sizeof *forms };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double rounding_seen[N_FORMS]; /* the largest difference where not to the bit */

typedef struct subject {
    trol_model *model; /* NULL: not loaded yet */
    trol_model_info info;
    trol_features *images[3]; /* [n_images] */
    size_t n_images;
    int32_t *ids; /* [n_ids]: the reference's prompt; NULL: there is none */
    size_t n_ids;
    float *expected; /* [3, vocab_size]: the reference's logits after it in each mode; NULL: other arithmetic */
} subject;

static subject subjects[N_SOURCES][N_FORMS];
static trol_threads *pool;

static void read_reference(subject *s, const char *name) {
    static const char *const names[3] = {"prompt_logits", "all_logits", "off_logits"};
    const size_t vocab = (size_t)s->info.vocab_size;
    char folder[900];
    snprintf(folder, sizeof folder, "%s/%s", TEST_REFERENCE, name);
    tensor_source *reference = reference_open(folder, "reference.safetensors");
    s->expected = calloc(3 * vocab, sizeof *s->expected);
    for (size_t mode = 0; mode < 3; mode++) {
        reference_tensor found = {0};
        CHECK(reference_find(reference, names[mode], &found), "%s: no %s", name, names[mode]);
        if (found.values)
            memcpy(s->expected + mode * vocab, found.values, vocab * sizeof *s->expected);
    }
    tensor_source_close(reference);
}

static trol_features *encode_noise(trol_model *model, int32_t width, int32_t height) {
    trol_error error = {0};
    uint64_t random = (uint64_t)width;
    uint8_t rgb[40 * 40 * 3];
    trol_image *image = NULL;
    trol_features *features = NULL;
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(test_random(&random) >> 40);
    CHECK_OK(trol_image_load_rgb(rgb, width, height, (size_t)width * 3, &image, &error), error);
    CHECK_OK(trol_encode_image(model, image, &features, &error), error);
    trol_image_free(image);
    return features;
}

/* Under the lock. */
static void load_subject(subject *s, const struct model_source *source, const struct form *form) {
    trol_error error = {0};
    trol_model_params params;
    char path[1024];
    trol_model_params_init(&params);
    params.threads = pool;
    params.weight_type = form->weights;
    params.compute = form->compute;
    snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, source->folder);
    CHECK_OK(trol_model_load(path, &params, &s->model, &error), error);
    s->info.size = sizeof s->info;
    CHECK_OK(trol_model_get_info(s->model, &s->info, &error), error);
    if (source->image_path) {
        snprintf(path, sizeof path, "%s/%s", TEST_REFERENCE, source->image_path);
        s->images[0] = encode_file(s->model, path);
        s->images[1] = encode_noise(s->model, 40, 30);
        s->images[2] = encode_noise(s->model, 30, 40);
        s->n_images = 3;
    }
    if (source->reference)
        s->ids = read_prompt(source->folder, &s->n_ids);
    if (source->reference && form->weights == TROL_WEIGHTS_AS_STORED && form->compute == TROL_COMPUTE_EXACT)
        read_reference(s, source->folder);
}

static const subject *take_subject(size_t source, size_t form) {
    subject *s = &subjects[source][form];
    pthread_mutex_lock(&lock);
    if (!s->model)
        load_subject(s, &sources[source], &forms[form]);
    pthread_mutex_unlock(&lock);
    return s;
}

static void free_subjects(void) {
    for (size_t i = 0; i < N_SOURCES * N_FORMS; i++) {
        subject *s = &subjects[i / N_FORMS][i % N_FORMS];
        for (size_t k = 0; k < s->n_images; k++)
            trol_features_free(s->images[k]);
        trol_model_free(s->model);
        free(s->ids);
        free(s->expected);
    }
}

/* ---- conversations --------------------------------------------------------------------------- */

/* A message: text of the user (a few words, or raw tokens where the model has no tokenizer), or an answer's tokens. */
typedef struct message {
    bool is_answer;
    int32_t tokens[MAX_MESSAGE_TOKENS]; /* [n_tokens] */
    size_t n_tokens;
    char text[256];
    size_t images[3]; /* [n_images]: in front of the text */
    size_t n_images;
} message;

/* A prompt as the session is given it. */
typedef struct prompt {
    int32_t ids[MAX_TOKENS]; /* [n_ids] */
    size_t n_ids;
    trol_features *images[MAX_IMAGES]; /* [n_images] */
    size_t n_images;
    bool is_reference;
} prompt;

typedef struct conversation {
    uint64_t seed, random;
    const subject *subject;
    trol_session_params params;
    trol_session *session;
    message messages[MAX_MESSAGES]; /* [n_messages]: user and answer in turn */
    size_t n_messages;
    prompt prompt;
    size_t form;
    bool has_answered;                  /* answer tokens may be reused in modes all and off */
    trol_session *others[N_COMPANIONS]; /* other sessions in its steps */
    char file[32];
    char history[1024]; /* of what was done, for the message of a failure */
    bool failed;
} conversation;

static size_t below(conversation *c, size_t n) { return (size_t)((test_random(&c->random) >> 20) % n); }

static void note(conversation *c, const char *what) {
    const size_t n = strlen(c->history);
    snprintf(c->history + n, sizeof c->history - n, " %s", what);
}

/* A check within a conversation, which ends at its first failure. */
static bool expect(conversation *c, bool condition, int line, const char *what) {
    pthread_mutex_lock(&lock);
    CHECK(condition, "line %d, seed %llu, mode %d, cache %d:%s: %s", line, (unsigned long long)c->seed,
          (int)c->params.traversal, (int)c->params.cache_type, c->history, what);
    pthread_mutex_unlock(&lock);
    c->failed = c->failed || !condition;
    return condition;
}

#define EXPECT(condition, what) expect(c, condition, __LINE__, what)
#define EXPECT_OK(call)         expect(c, (call) == TROL_OK, __LINE__, error.message)

/* What may differ, of the largest logit: the kernels for prompts and for answers sum in different orders, so a key next
 * to a rounding boundary of its type may round the other way, and with weights or products in fewer bits an activation,
 * too. */
static double rounding_of(const conversation *c) {
    const double of_type[] = {
        [TROL_CACHE_F16] = 1e-3, [TROL_CACHE_F32] = to_the_bit ? 1e-5 : 1e-3, [TROL_CACHE_Q8] = 1e-2};
    return c->form > 0 ? 1e-1 : of_type[c->params.cache_type];
}

/* Equal to the bit or, where answer tokens were reused or OpenBLAS multiplies, to rounding. */
static bool is_same(const conversation *c, const float *found, const float *expected) {
    const bool answers = c->has_answered && c->params.traversal != TROL_TRAVERSAL_PROMPT;
    double largest = 0, difference = 0;
    if (!found || !expected)
        return false;
    if (to_the_bit && !answers)
        return memcmp(found, expected, (size_t)c->subject->info.vocab_size * sizeof *found) == 0;
    for (int32_t i = 0; i < c->subject->info.vocab_size; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
        difference = fmax(difference, fabs((double)found[i] - (double)expected[i]));
    }
    pthread_mutex_lock(&lock);
    double *seen = &rounding_seen[c->form];
    *seen = fmax(*seen, difference / largest);
    pthread_mutex_unlock(&lock);
    return difference <= rounding_of(c) * largest;
}

/* ---- what the user does ---------------------------------------------------------------------- */

static void write_text(conversation *c, message *m) {
    static const char *const words[] = {"What",          " is",     " the", " cat", "\n",
                                        " \xe7\x8c\xab", " <image", " 42",  "?",    " a"};
    m->text[0] = '\0';
    for (size_t n = 1 + below(c, 12); n > 0; n--)
        strcat(m->text, words[below(c, sizeof words / sizeof *words)]);
    m->n_tokens = 1 + below(c, 12);
    for (size_t i = 0; i < m->n_tokens; i++)
        m->tokens[i] = (int32_t)(3 + below(c, 400));
}

static size_t count_image_tokens(const conversation *c) {
    size_t n_tokens = 0;
    for (size_t i = 0; i < c->n_messages; i++)
        for (size_t k = 0; k < c->messages[i].n_images; k++)
            n_tokens += (size_t)trol_features_n_tokens(c->subject->images[c->messages[i].images[k]]);
    return n_tokens;
}

/* Limited, to save time. */
static void choose_images(conversation *c, message *m) {
    enum { MAX_IMAGE_TOKENS = 600 };
    size_t n = c->subject->n_images ? below(c, 6) / 2 % 3 : 0;
    for (m->n_images = 0; n > 0; n--) {
        m->images[m->n_images++] = below(c, c->subject->n_images);
        if (count_image_tokens(c) > MAX_IMAGE_TOKENS)
            m->n_images--;
    }
}

/* Edits earlier messages: the last remaining message is an answer, or there is none. */
static void edit(conversation *c) {
    if (c->n_messages == 0)
        return;
    message *m = &c->messages[below(c, c->n_messages / 2) * 2];
    switch (below(c, 7)) {
    case 0: /* undo the last turns */
        note(c, "undo");
        c->n_messages -= 2 * (1 + below(c, c->n_messages / 2));
        break;
    case 1: /* drop a turn */
        note(c, "drop");
        memmove(m, m + 2, (size_t)(c->messages + c->n_messages - (m + 2)) * sizeof *m);
        c->n_messages -= 2;
        break;
    case 2:
        note(c, "edit");
        write_text(c, m);
        break;
    case 3:
        note(c, "change-pictures");
        choose_images(c, m);
        break;
    case 4: /* an answer is cut */
        note(c, "cut-answer");
        m[1].n_tokens = below(c, m[1].n_tokens + 1);
        break;
    default:
        break;
    }
}

static void put_id(prompt *p, int32_t id) {
    if (p->n_ids < MAX_TOKENS)
        p->ids[p->n_ids++] = id;
}

static void put_images(conversation *c, const message *m) {
    prompt *p = &c->prompt;
    for (size_t i = 0; i < m->n_images; i++)
        p->images[p->n_images++] = c->subject->images[m->images[i]];
}

/* Without a tokenizer: tokens one after the other. */
static void join_tokens(conversation *c) {
    prompt *p = &c->prompt;
    for (size_t i = 0; i < c->n_messages; i++) {
        const message *m = &c->messages[i];
        for (size_t k = 0; k < m->n_images; k++)
            for (int32_t n = trol_features_n_tokens(c->subject->images[m->images[k]]); n > 0; n--)
                put_id(p, c->subject->info.image_token);
        for (size_t k = 0; k < m->n_tokens; k++)
            put_id(p, m->tokens[k]);
    }
}

static void render_template(conversation *c, trol_message *rendered) {
    trol_error error = {0};
    int32_t counts[MAX_IMAGES], *ids = NULL;
    size_t n_ids = 0;
    for (size_t i = 0; i < c->prompt.n_images; i++)
        counts[i] = trol_features_n_tokens(c->prompt.images[i]);
    EXPECT_OK(trol_render_prompt(c->subject->model, rendered, c->n_messages, counts, c->prompt.n_images, 0, &ids,
                                 &n_ids, &error));
    for (size_t i = 0; i < n_ids; i++)
        put_id(&c->prompt, ids[i]);
    trol_free(ids);
}

/* The messages as the interface takes them; texts [n_messages, 320]: the users'. */
static void to_interface(const conversation *c, trol_message *rendered, char (*texts)[320]) {
    for (size_t i = 0; i < c->n_messages; i++) {
        const message *m = &c->messages[i];
        texts[i][0] = '\0';
        for (size_t k = 0; k < m->n_images; k++)
            strcat(texts[i], "<image>\n");
        strcat(texts[i], m->text);
        rendered[i] = m->is_answer
                          ? (trol_message){.role = TROL_ROLE_ASSISTANT, .tokens = m->tokens, .n_tokens = m->n_tokens}
                          : (trol_message){.role = TROL_ROLE_USER, .text = texts[i]};
    }
}

/* The conversation's prompt; sometimes the reference's instead. */
static void make_prompt(conversation *c, trol_message *rendered, char (*texts)[320]) {
    const subject *s = c->subject;
    c->prompt = (prompt){0};
    if (s->ids && below(c, 6) == 0) {
        note(c, "reference");
        bool has_image = false;
        for (size_t i = 0; i < s->n_ids; i++) {
            put_id(&c->prompt, s->ids[i]);
            has_image = has_image || s->ids[i] == s->info.image_token;
        }
        c->prompt.images[0] = s->images[0];
        c->prompt.n_images = has_image;
        c->prompt.is_reference = true;
        return;
    }
    for (size_t i = 0; i < c->n_messages; i++)
        put_images(c, &c->messages[i]);
    to_interface(c, rendered, texts);
    if (s->info.has_tokenizer)
        render_template(c, rendered);
    else
        join_tokens(c);
}

/* ---- ways to put it through the session ------------------------------------------------------ */

static trol_session *new_session(conversation *c) {
    trol_error error = {0};
    trol_session *s = NULL;
    EXPECT_OK(trol_session_new(c->subject->model, &c->params, &s, &error));
    if (!s)
        exit(1);
    return s;
}

/* Items for the other sessions of a step, each with what fits its state: a piece of a prompt, an answer token, or
 * something that fails. */
static size_t add_others(conversation *c, trol_step_item *items, int32_t (*tokens)[8]) {
    trol_error error = {0};
    size_t n = 0;
    for (size_t i = 0; i < N_COMPANIONS; i++) {
        trol_session *other = c->others[i];
        const size_t action = below(c, 6);
        for (size_t k = 0; k < 8; k++)
            tokens[i][k] = (int32_t)(3 + below(c, 400));
        if (action == 0) /* begins a new prompt; an unfinished one is dropped */
            EXPECT_OK(trol_session_prompt_begin(other, 1 + below(c, 30), NULL, 0, &error));
        else if (action == 1)
            (void)!trol_session_prompt_end(other, NULL); /* whether it was complete or not */
        else if (action == 2)
            trol_session_cancel(other);
        else if (action == 3)
            tokens[i][0] = INT32_MAX;
        else
            items[n++] = (trol_step_item){.session = other, .tokens = tokens[i], .n_tokens = 1 + below(c, 8)};
    }
    return n;
}

/* One item of this session beside the others. */
static trol_status step(conversation *c, const int32_t *ids, size_t n_ids, trol_error *error) {
    trol_step_item items[N_COMPANIONS + 1];
    int32_t tokens[N_COMPANIONS][8];
    size_t n = add_others(c, items, tokens), mine = below(c, n + 1);
    items[n] = items[mine];
    items[mine] = (trol_step_item){.session = c->session, .tokens = ids, .n_tokens = n_ids, .error = error};
    const trol_status status = trol_step(items, n + 1, error);
    return status == TROL_OK ? items[mine].status : status;
}

/* In random pieces, some of them in steps beside others. */
static trol_status feed_pieces(conversation *c, bool beside, trol_error *error) {
    const prompt *p = &c->prompt;
    const size_t longest = 1 + below(c, below(c, 2) ? 6 : 60);
    trol_status status = trol_session_prompt_begin(c->session, p->n_ids, p->images, p->n_images, error);
    for (size_t done = 0; status == TROL_OK && done < p->n_ids;) {
        size_t n = below(c, longest + 1);
        n = n < p->n_ids - done ? n : p->n_ids - done;
        status =
            beside ? step(c, p->ids + done, n, error) : trol_session_prompt_append(c->session, p->ids + done, n, error);
        done += n;
    }
    return status == TROL_OK ? trol_session_prompt_end(c->session, error) : status;
}

static trol_status feed(conversation *c, const trol_message *rendered, trol_error *error) {
    const prompt *p = &c->prompt;
    const size_t way = below(c, 4);
    if (way == 0 && !p->is_reference && c->subject->info.has_tokenizer) {
        note(c, "messages");
        return trol_session_set_prompt_features(c->session, rendered, c->n_messages, p->images, p->n_images, error);
    }
    note(c, way == 1 ? "pieces" : way == 2 ? "steps" : "whole");
    if (way == 1 || way == 2)
        return feed_pieces(c, way == 2, error);
    return trol_session_prefill(c->session, p->ids, p->n_ids, p->images, p->n_images, error);
}

static int stop_somewhere(void *user, int64_t position, const float *logits, int32_t vocab_size) {
    (void)position, (void)logits, (void)vocab_size;
    return (*(size_t *)user)-- == 0;
}

/* Does something to the session between two turns; the conversation continues with the result. */
static void disturb(conversation *c, const trol_message *rendered) {
    trol_error error = {0};
    trol_session *other = NULL;
    size_t left = below(c, 20);
    switch (below(c, 9)) {
    case 0:
        note(c, "fork");
        EXPECT_OK(trol_session_fork(c->session, &other, &error));
        (void)!trol_session_decode(c->session, 7, NULL); /* the other one's result does not matter */
        (void)!trol_session_truncate(c->session, trol_session_n_tokens(c->session) / 2, NULL);
        (void)!trol_session_decode(c->session, 9, NULL);
        trol_session_free(c->session);
        c->session = other;
        break;
    case 1:
        note(c, "truncate");
        EXPECT_OK(trol_session_truncate(c->session, below(c, trol_session_n_tokens(c->session) + 1), &error));
        break;
    case 2:
        note(c, "file");
        EXPECT_OK(trol_session_save(c->session, NULL, c->file, &error));
        EXPECT_OK(trol_session_load(c->subject->model, c->file, NULL, &other, NULL, &error));
        trol_session_free(c->session);
        c->session = other;
        break;
    case 3:
        note(c, "cancelled");
        trol_session_set_logits_callback(c->session, stop_somewhere, &left);
        (void)!feed(c, rendered, NULL);
        trol_session_set_logits_callback(c->session, NULL, NULL);
        break;
    case 4:
        note(c, "given-up");
        EXPECT_OK(trol_session_prompt_begin(c->session, c->prompt.n_ids, c->prompt.images, c->prompt.n_images, &error));
        (void)!trol_session_prompt_append(c->session, c->prompt.ids, below(c, c->prompt.n_ids), NULL);
        break;
    case 5:
        note(c, "decode-before");
        (void)!trol_session_decode(c->session, 11, NULL);
        c->has_answered = true;
        break;
    default:
        break;
    }
}

/* ---- what must be equal ---------------------------------------------------------------------- */

static void check_gates(conversation *c, const trol_session *fresh) {
    const bool loose = !to_the_bit || (c->has_answered && c->params.traversal != TROL_TRAVERSAL_PROMPT);
    const size_t n = trol_session_n_tokens(c->session);
    for (int32_t layer = 0; c->params.keep_gates && layer < c->subject->info.n_layers && !c->failed; layer++) {
        const float *found = trol_session_gates(c->session, layer), *expected = trol_session_gates(fresh, layer);
        if (!EXPECT(found && expected, "no gates"))
            return;
        bool equal = true;
        for (size_t i = 0; i < n; i++)
            equal = equal && ((isnan(found[i]) && isnan(expected[i])) || found[i] == expected[i] ||
                              (loose && fabs((double)found[i] - (double)expected[i]) < fmax(2e-3, rounding_of(c))));
        EXPECT(equal, "gates differ from a fresh run's");
    }
}

static void check_same(conversation *c, const trol_session *fresh, const char *what) {
    const size_t n = trol_session_n_tokens(c->session);
    EXPECT(is_same(c, trol_session_logits(c->session), trol_session_logits(fresh)), what);
    EXPECT(n == trol_session_n_tokens(fresh) &&
               memcmp(trol_session_tokens(c->session), trol_session_tokens(fresh), n * sizeof(int32_t)) == 0,
           "other tokens than a fresh session's");
    check_gates(c, fresh);
}

static void check_reference(conversation *c) {
    const float *found = trol_session_logits(c->session), *expected = c->subject->expected;
    const size_t vocab = (size_t)c->subject->info.vocab_size;
    const bool exact = c->params.cache_type == TROL_CACHE_F32 && c->params.traversal_skip == 0;
    if (!c->prompt.is_reference || !expected || !found || !exact)
        return;
    expected += (size_t)c->params.traversal * vocab;
    double difference = 0;
    for (size_t i = 0; i < vocab; i++)
        difference = fmax(difference, fabs((double)found[i] - (double)expected[i]));
    EXPECT(difference <= 1e-4 * reference_largest(expected, (int64_t)vocab), "differs from the reference");
}

/* A few greedy tokens from both; they become the answer. */
static void answer(conversation *c, trol_session *fresh, message *m) {
    trol_error error = {0};
    *m = (message){.is_answer = true};
    for (size_t n = below(c, 6); n > 0 && !c->failed; n--) {
        const int32_t token = trol_sampler_choose(NULL, trol_session_logits(c->session), c->subject->info.vocab_size);
        m->tokens[m->n_tokens++] = token;
        if (below(c, 2))
            EXPECT_OK(step(c, &token, 1, &error));
        else
            EXPECT_OK(trol_session_decode(c->session, token, &error));
        EXPECT_OK(trol_session_decode(fresh, token, &error));
        check_same(c, fresh, "an answer token's logits differ from a fresh session's");
    }
}

/* The rest of a turn with trol_generate and prompt lookup, which must not change the answer. */
static void generate(conversation *c, trol_session *fresh, message *m) {
    trol_error error = {0};
    trol_generate_params params;
    trol_generate_params_init(&params);
    params.max_tokens = 1 + (int32_t)below(c, 8);
    params.ignore_eos = 1;
    note(c, "generate");
    EXPECT_OK(trol_generate(fresh, &params, NULL, NULL, NULL, &error));
    params.lookup = (int32_t)below(c, 3);
    EXPECT_OK(trol_generate(c->session, &params, NULL, NULL, NULL, &error));
    if (!EXPECT(trol_session_n_tokens(c->session) >= c->prompt.n_ids, "tokens are lost"))
        return;
    *m = (message){.is_answer = true};
    for (size_t i = c->prompt.n_ids; i < trol_session_n_tokens(c->session); i++)
        m->tokens[m->n_tokens++] = trol_session_tokens(c->session)[i];
    const bool same = to_the_bit && (!c->has_answered || c->params.traversal == TROL_TRAVERSAL_PROMPT);
    if (same) /* otherwise a near tie may go the other way */
        check_same(c, fresh, "generated: differs from a fresh session");
}

static void take_turn(conversation *c) {
    trol_error error = {0};
    trol_message rendered[MAX_MESSAGES];
    char texts[MAX_MESSAGES][320];
    note(c, "|");
    edit(c);
    if (c->n_messages + 2 > MAX_MESSAGES)
        c->n_messages = 0;
    message *user = &c->messages[c->n_messages++];
    *user = (message){0};
    write_text(c, user);
    choose_images(c, user);
    make_prompt(c, rendered, texts);
    if (c->failed)
        return;
    disturb(c, rendered);
    if (c->failed || !EXPECT_OK(feed(c, rendered, &error)))
        return;
    trol_session *fresh = new_session(c);
    EXPECT_OK(
        trol_session_prefill(fresh, c->prompt.ids, c->prompt.n_ids, c->prompt.images, c->prompt.n_images, &error));
    check_same(c, fresh, "the prompt's logits differ from a fresh session's");
    check_reference(c);
    message *m = &c->messages[c->n_messages++];
    (below(c, 3) ? answer : generate)(c, fresh, m);
    for (size_t i = 0; i < m->n_tokens; i++) /* a sampled image token belongs to no picture */
        if (m->tokens[i] == c->subject->info.image_token)
            m->n_tokens = i;
    c->has_answered = c->has_answered || m->n_tokens > 0;
    trol_session_free(fresh);
}

static void converse(uint64_t seed) {
    conversation *c = calloc(1, sizeof *c);
    c->seed = seed;
    c->random = seed * 0x9e3779b97f4a7c15ull + 1;
    for (int i = 0; i < 4; i++)
        test_random(&c->random);
    const size_t source = below(c, N_SOURCES), form = below(c, N_FORMS);
    c->subject = take_subject(source, form);
    c->form = form;
    note(c, sources[source].folder);
    note(c, forms[form].name);
    trol_session_params_init(&c->params);
    c->params.context_size = MAX_TOKENS;
    c->params.traversal = (trol_traversal)below(c, 3);
    c->params.cache_type = (trol_cache_type)below(c, 3);
    c->params.keep_pass2 = below(c, 4) != 0;
    c->params.keep_gates = below(c, 2) != 0;
    if (c->params.traversal == TROL_TRAVERSAL_PROMPT && below(c, 4) == 0)
        c->params.traversal_skip = 0.5f;
    snprintf(c->file, sizeof c->file, "%llu.session", (unsigned long long)seed);
    c->session = new_session(c);
    for (size_t i = 0; i < N_COMPANIONS; i++)
        c->others[i] = new_session(c);
    for (size_t turns = 1 + below(c, N_TURNS); turns > 0 && !c->failed; turns--)
        take_turn(c);
    for (size_t i = 0; i < N_COMPANIONS; i++)
        trol_session_free(c->others[i]);
    trol_session_free(c->session);
    free(c);
}

/* ---- threads --------------------------------------------------------------------------------- */

static atomic_ullong next_seed;
static uint64_t last_seed;

static void *converse_on(void *unused) {
    for (uint64_t seed; (seed = atomic_fetch_add(&next_seed, 1)) < last_seed;)
        converse(seed);
    return unused;
}

int main(int argc, char **argv) {
    enum { MAX_THREADS = 16 };
    pthread_t threads[MAX_THREADS];
    const kernels *table;
    char text[256];
    trol_error error = {0};
    const uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    const uint64_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : 48;
    size_t n_threads = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    n_threads = n_threads < 1 ? 1 : n_threads < MAX_THREADS ? n_threads : MAX_THREADS;
    CHECK_OK(kernels_get(&table, &error), error);
    to_the_bit = !linear_describe_blas(table, text, sizeof text);
    CHECK_OK(trol_threads_new(2, &pool, &error), error);
    test_make_folder();
    if (chdir(test_folder) != 0)
        return 1;
    atomic_store(&next_seed, first);
    last_seed = first + number;
    for (size_t i = 0; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, converse_on, NULL) != 0)
            return 1;
    for (size_t i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < N_FORMS; i++)
        printf("%s: answer tokens that are reused change at most %.2g of the largest logit\n", forms[i].name,
               rounding_seen[i]);
    free_subjects();
    trol_threads_free(pool);
    test_remove_folder();
    return test_summary("test-conversations");
}
