/* chat.c - turns of a conversation. Each turn gives the whole conversation to the library, answers as the tokens that
 * were generated; the library reuses what the session already holds of it and computes the rest, so every turn has the
 * logits of a fresh run, whatever was undone, edited or dropped before. */
#include "cli/chat.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/line_editor.h"
#include "common/conversation.h"
#include "common/fail.h"
#include "common/input_file.h"
#include "common/signals.h"
#include "base/utf8.h"

enum { MOST_IMAGES = 64 }; /* of one question */

typedef struct chat {
    run *r;
    line_editor *editor;
    conversation talk;
    conversation_image images[MOST_IMAGES]; /* [n_images]: for the next question */
    size_t n_images;
    int32_t context_size;
    int32_t *answer; /* [n_answer]: tokens of the answer that is being written, without the end token */
    size_t n_answer, answer_capacity;
    char *text; /* [n_text]: the same, as it was shown */
    size_t n_text, text_capacity;
    bool context_announced;
    int64_t prompt_before, reused_before, decoded_before; /* stats when the turn began */
    double prompt_seconds_before, decode_seconds_before;
} chat;

/* ---- ^C -------------------------------------------------------------------------------------- */

/* For the signal handler, which takes no arguments. */
static volatile sig_atomic_t interrupted;
static trol_session *volatile running; /* NULL: nothing is computed in it */

/* ^C stops what is being computed, or the line that is being typed; the program continues. */
static void stop_answer(int number) {
    if (number != SIGINT)
        signals_end_at_once(number);
    interrupted = 1;
    if (running)
        trol_session_cancel(running);
}

/* Pictures are encoded outside the session: the progress callback stops them. */
static int watch_encoding(void *user, trol_stage stage, int64_t done, int64_t total) {
    return interrupted ? 1 : cli_show_progress(user, stage, done, total);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool grow(void **memory, size_t *capacity, size_t wanted, size_t size) {
    if (wanted <= *capacity)
        return true;
    void *larger = realloc(*memory, 2 * wanted * size);
    if (!larger)
        return false;
    *memory = larger;
    *capacity = 2 * wanted;
    return true;
}

/* ---- pictures -------------------------------------------------------------------------------- */

/* A conversation_encoder; user: the chat. */
static trol_status encode_image(void *user, const char *bytes, size_t n_bytes, trol_features **features,
                                trol_error *error) {
    run *r = ((chat *)user)->r;
    trol_image *image;
    *features = NULL;
    trol_status status = cli_decode_image(r, "the picture", bytes, n_bytes, &image);
    if (status != TROL_OK) {
        *error = *r->error;
        return status;
    }
    status = trol_encode_images(r->model, (const trol_image *const *)&image, 1, watch_encoding, r, features, error);
    progress_clear(&r->progress);
    trol_image_free(image);
    return status;
}

static trol_status attach(chat *c, const char *path) {
    trol_image_params limits;
    trol_image_params_init(&limits);
    run *r = c->r;
    conversation_image *image = &c->images[c->n_images];
    trol_image *decoded;
    if (c->n_images == MOST_IMAGES)
        return fail(r->error, TROL_ERROR_ARGUMENT, "a question may have at most %d pictures", MOST_IMAGES);
    trol_status status = input_file_read(path, (size_t)limits.max_bytes, &image->bytes, &image->n_bytes, r->error);
    if (status != TROL_OK)
        return status;
    status = cli_decode_image(r, path, image->bytes, image->n_bytes, &decoded);
    if (status == TROL_OK) {
        status = trol_encode_images(r->model, (const trol_image *const *)&decoded, 1, watch_encoding, r,
                                    &image->features, r->error);
        progress_clear(&r->progress);
        trol_image_free(decoded);
    }
    if (status != TROL_OK)
        conversation_image_free(image);
    else
        c->n_images++;
    return status;
}

static void drop_attached(chat *c) {
    while (c->n_images > 0)
        conversation_image_free(&c->images[--c->n_images]);
}

/* ---- a turn ---------------------------------------------------------------------------------- */

/* A generate_params.token callback: keeps the answer as its tokens. */
static int keep_token(void *user, const trol_token_info *info) {
    chat *c = user;
    for (int32_t i = 0; i < c->r->info.n_end_tokens && !c->r->chosen->ignore_eos; i++)
        if (info->token == c->r->info.end_tokens[i])
            return 0;
    if (!grow((void **)&c->answer, &c->answer_capacity, c->n_answer + 1, sizeof *c->answer))
        return fail(&c->r->inner_error, TROL_ERROR_MEMORY, "there is no memory for the answer") != TROL_OK;
    c->answer[c->n_answer++] = info->token;
    return 0;
}

static int write_text(void *user, const char *text) {
    chat *c = user;
    const size_t n = strlen(text);
    if (!grow((void **)&c->text, &c->text_capacity, c->n_text + n + 1, 1))
        return fail(&c->r->inner_error, TROL_ERROR_MEMORY, "there is no memory for the answer") != TROL_OK;
    memcpy(c->text + c->n_text, text, n + 1);
    c->n_text += n;
    return cli_write_answer(c->r, text);
}

/* The number of tokens of the conversation as a prompt. */
static trol_status count_tokens(chat *c, const trol_message *messages, size_t *n_tokens) {
    int32_t *image_tokens = calloc(c->talk.n_images + 1, sizeof *image_tokens), *tokens;
    if (!image_tokens)
        return fail(c->r->error, TROL_ERROR_MEMORY, "there is no memory for a prompt");
    for (size_t i = 0; i < c->talk.n_images; i++)
        image_tokens[i] = trol_features_n_tokens(c->talk.images[i].features);
    trol_status status = trol_render_prompt(c->r->model, messages, c->talk.n_messages, image_tokens, c->talk.n_images,
                                            0, &tokens, n_tokens, c->r->error);
    if (status == TROL_OK)
        trol_free(tokens);
    free(image_tokens);
    return status;
}

/* --ctx-shift: drops the oldest turns until the prompt leaves room for an answer. */
static trol_status make_room(chat *c) {
    const size_t room = (size_t)c->context_size, wanted = (size_t)c->r->chosen->n_predict;
    const size_t reserve = wanted < room / 4 ? wanted : room / 4, first = c->talk.messages[0].role == TROL_ROLE_SYSTEM;
    int n_dropped = 0;
    for (;;) {
        trol_message *messages;
        trol_features **features;
        size_t n_tokens = 0;
        trol_status status = conversation_view(&c->talk, &messages, &features, c->r->error);
        if (status != TROL_OK)
            return status;
        status = count_tokens(c, messages, &n_tokens);
        free(messages);
        free(features);
        if (status != TROL_OK)
            return status;
        if (n_tokens + reserve <= room || c->talk.n_messages - first < 3)
            break;
        conversation_remove(&c->talk, first, 2);
        n_dropped++;
    }
    if (n_dropped > 0)
        cli_notice(c->r, "the context is full: the oldest %s dropped, what remains is processed again",
                   n_dropped == 1 ? "turn was" : "turns were");
    return TROL_OK;
}

static trol_status set_prompt(chat *c) {
    trol_message *messages;
    trol_features **features;
    trol_status status = conversation_view(&c->talk, &messages, &features, c->r->error);
    if (status != TROL_OK)
        return status;
    running = c->r->session;
    status = trol_session_set_prompt_features(c->r->session, messages, c->talk.n_messages, features, c->talk.n_images,
                                              c->r->error);
    running = NULL;
    progress_clear(&c->r->progress);
    free(messages);
    free(features);
    return status;
}

static trol_status write_answer(chat *c, trol_stop *stop) {
    trol_generate_params params;
    c->n_answer = c->n_text = 0;
    cli_generate_params(c->r, &params);
    params.logits = NULL;
    params.token = keep_token;
    params.token_user = c;
    params.n_top_logprobs = 0;
    *stop = 0;
    running = c->r->session;
    trol_status status = trol_generate(c->r->session, &params, write_text, c, stop, c->r->error);
    running = NULL;
    fputs("\n", stdout);
    if (fflush(stdout) != 0 && status == TROL_OK)
        status = fail(c->r->error, TROL_ERROR_IO, "the answer cannot be written");
    return status;
}

static bool has_image_token(const chat *c) {
    for (size_t i = 0; i < c->n_answer; i++)
        if (c->answer[i] == c->r->info.image_token)
            return true;
    return false;
}

/* Remembers the session's counters at the start of a turn, to report what the turn took. */
static void note_stats(chat *c) {
    trol_session_stats s = {.size = sizeof s};
    trol_session_get_stats(c->r->session, &s);
    c->prompt_before = s.prompt_tokens;
    c->reused_before = s.reused_tokens;
    c->decoded_before = s.decoded_tokens;
    c->prompt_seconds_before = s.prompt_seconds;
    c->decode_seconds_before = s.decode_seconds;
}

static void show_turn_stats(chat *c) {
    trol_session_stats s = {.size = sizeof s};
    trol_session_get_stats(c->r->session, &s);
    const int64_t n = s.decoded_tokens - c->decoded_before;
    const double seconds = s.decode_seconds - c->decode_seconds_before;
    fprintf(stderr, "prompt: %" PRId64 " tokens processed in %.2f s, %" PRId64 " reused; answer: %" PRId64 " tokens",
            s.prompt_tokens - c->prompt_before, s.prompt_seconds - c->prompt_seconds_before,
            s.reused_tokens - c->reused_before, n);
    if (n > 0 && seconds > 0)
        fprintf(stderr, ", %.1f a second", (double)n / seconds);
    fprintf(stderr, "; %zu of %d tokens of the context in use\n", trol_session_n_tokens(c->r->session),
            c->context_size);
}

/* Once the context is nearly full. */
static void announce_context(chat *c) {
    const size_t used = trol_session_n_tokens(c->r->session), room = (size_t)c->context_size;
    if (used < room - room / 5) {
        c->context_announced = false;
    } else if (!c->context_announced) {
        c->context_announced = true;
        cli_notice(c->r, "%zu of %zu tokens of the context are in use%s", used, room,
                   c->r->chosen->context_shift ? "; the oldest turns will be dropped"
                                               : "; /undo, /clear, -c or --ctx-shift make room");
    }
}

/* Adds the question to the conversation, with the pictures that were attached. */
static trol_status add_question(chat *c, const char *question) {
    static const char marker[] = "<image>\n";
    const size_t placed = conversation_count_places(question), n = c->n_images;
    run *r = c->r;
    if (placed > 0 && placed != n)
        return fail(r->error, TROL_ERROR_ARGUMENT,
                    "the question places %zu pictures with <image>, but %zu were attached with /image (\\<image> is "
                    "the text itself)",
                    placed, n);
    char *text = malloc(strlen(question) + n * (sizeof marker - 1) + 1), *to = text;
    if (!text)
        return fail(r->error, TROL_ERROR_MEMORY, "there is no memory for the question");
    for (size_t i = placed; i < n; i++, to += sizeof marker - 1)
        memcpy(to, marker, sizeof marker - 1);
    strcpy(to, question);
    c->n_images = 0; /* the conversation owns them */
    trol_status status = conversation_add(&c->talk, TROL_ROLE_USER, text, NULL, 0, c->images, n, r->error);
    free(text);
    return status;
}

/* Takes back a question that got no answer; its pictures stay for the next one. */
static void take_question_back(chat *c) {
    const size_t n = c->talk.messages[c->talk.n_messages - 1].n_images;
    memcpy(c->images, c->talk.images + c->talk.n_images - n, n * sizeof *c->images);
    c->n_images = n;
    c->talk.n_images -= n;
    c->talk.messages[c->talk.n_messages - 1].n_images = 0;
    conversation_remove(&c->talk, c->talk.n_messages - 1, 1);
}

/* Errors that end the chat are returned; the others are reported, and the chat continues. */
static trol_status take_turn(chat *c, const char *question) {
    run *r = c->r;
    trol_stop stop = 0;
    interrupted = 0;
    note_stats(c);
    trol_status status = add_question(c, question);
    if (status != TROL_OK) {
        tool_say("trol-cli", "%s", r->error->message);
        return TROL_OK;
    }
    status = r->chosen->context_shift ? make_room(c) : TROL_OK;
    if (status == TROL_OK)
        status = set_prompt(c);
    if (status != TROL_OK) {
        take_question_back(c);
        if (status == TROL_ERROR_CANCELLED && interrupted)
            cli_notice(r, "stopped");
        else
            tool_say("trol-cli", "%s%s", r->error->message,
                     status == TROL_ERROR_CONTEXT ? "; /undo, /clear, -c or --ctx-shift make room" : "");
        return status == TROL_ERROR_MEMORY ? status : TROL_OK;
    }
    r->inner_error = (trol_error){TROL_OK, ""};
    status = write_answer(c, &stop);
    if (r->inner_error.status != TROL_OK) {
        *r->error = r->inner_error;
        return r->error->status;
    }
    const bool stopped = status == TROL_ERROR_CANCELLED && interrupted;
    if (status != TROL_OK && !stopped) {
        take_question_back(c);
        tool_say("trol-cli", "%s", r->error->message);
        return TROL_OK;
    }
    r->n_generated += (int64_t)c->n_answer;
    /* A stop string is part of the tokens, but not of the answer; an image token that was generated stands for none. */
    const bool as_text = stop == TROL_STOP_STRING || has_image_token(c);
    const int32_t *tokens = as_text ? NULL : c->answer ? c->answer : (const int32_t[]){0};
    status = conversation_add(&c->talk, TROL_ROLE_ASSISTANT, c->n_text > 0 ? c->text : "", tokens, c->n_answer, NULL, 0,
                              r->error);
    if (status != TROL_OK)
        return status;
    if (stopped)
        cli_notice(r, "stopped; the answer so far is kept (/undo takes it back)");
    if (stop == TROL_STOP_LENGTH)
        cli_notice(r, "the answer was cut after %d tokens (-n allows more)", r->chosen->n_predict);
    if (stop == TROL_STOP_CONTEXT)
        cli_notice(r, "the answer was cut short: the context is full (%s)",
                   r->chosen->context_shift ? "the next question drops the oldest turns"
                                            : "/undo, /clear, -c or --ctx-shift make room");
    else
        announce_context(c);
    if (r->chosen->stats)
        show_turn_stats(c);
    return TROL_OK;
}

/* ---- commands -------------------------------------------------------------------------------- */

static const char help[] =
    "/image FILE    attach a picture to the next question; <image> in it says where, else in front\n"
    "/system TEXT   the system text from now on; /system alone: the model's own; /system \"\": none\n"
    "/undo          take the last question and its answer back\n"
    "/clear         start over\n"
    "/save FILE     keep the conversation, pictures included; /load FILE continues it\n"
    "/stats         times, speeds and memory\n"
    "/help          this list; /exit or ^D ends\n"
    "A line that ends in \\ continues in the next one; \"\"\" begins and ends several lines.\n"
    "^C stops an answer.\n";

/* Sets or removes the system message, which is the first. */
static trol_status set_system(chat *c, const char *text) {
    conversation *talk = &c->talk;
    if (talk->n_messages > 0 && talk->messages[0].role == TROL_ROLE_SYSTEM)
        conversation_remove(talk, 0, 1);
    if (!text)
        return TROL_OK;
    trol_status status = conversation_add(talk, TROL_ROLE_SYSTEM, text, NULL, 0, NULL, 0, c->r->error);
    if (status == TROL_OK) {
        const conversation_message first = talk->messages[talk->n_messages - 1];
        memmove(talk->messages + 1, talk->messages, (talk->n_messages - 1) * sizeof first);
        talk->messages[0] = first;
    }
    return status;
}

static trol_status undo(chat *c) {
    const size_t n = c->talk.n_messages;
    if (n < 2 || c->talk.messages[n - 1].role != TROL_ROLE_ASSISTANT)
        return fail(c->r->error, TROL_ERROR_STATE, "there is no turn to take back");
    const char *question = c->talk.messages[n - 2].text;
    while (strncmp(question, "<image>", 7) == 0 || *question == '\n')
        question += *question == '\n' ? 1 : 7;
    cli_notice(c->r, "taken back: %.60s%s", question, strlen(question) > 60 ? " ..." : "");
    conversation_remove(&c->talk, n - 2, 2);
    return TROL_OK;
}

static void clear(chat *c) {
    const size_t first = c->talk.n_messages > 0 && c->talk.messages[0].role == TROL_ROLE_SYSTEM;
    conversation_remove(&c->talk, first, c->talk.n_messages - first);
    drop_attached(c);
    c->context_announced = false;
}

static void note_conversation(chat *c, const char *path) {
    cli_notice(c->r, "%s: %zu message%s, %zu picture%s", path, c->talk.n_messages, c->talk.n_messages == 1 ? "" : "s",
               c->talk.n_images, c->talk.n_images == 1 ? "" : "s");
}

static trol_status save(chat *c, const char *path) {
    trol_status status = conversation_save(&c->talk, path, c->r->error);
    if (status == TROL_OK)
        note_conversation(c, path);
    return status;
}

static trol_status load(chat *c, const char *path) {
    conversation other;
    trol_status status = conversation_load(path, encode_image, c, &other, c->r->error);
    if (status != TROL_OK)
        return status;
    conversation_free(&c->talk);
    drop_attached(c);
    c->talk = other;
    note_conversation(c, path);
    return TROL_OK;
}

/* A file's name as people write it: in quotes, as a terminal writes what is dragged into it, or from ~ on. *name is
 * from malloc. */
static trol_status read_name(chat *c, const char *argument, char **name) {
    const char *home = strncmp(argument, "~/", 2) == 0 ? getenv("HOME") : NULL;
    const size_t n = strlen(argument), n_home = home ? strlen(home) : 0;
    const bool quoted = n > 2 && (*argument == '"' || *argument == '\'') && argument[n - 1] == *argument;
    *name = malloc(n_home + n + 1);
    if (!*name)
        return fail(c->r->error, TROL_ERROR_MEMORY, "%s: out of memory", argument);
    sprintf(*name, "%s%.*s", home ? home : "", (int)(n - 2 * quoted - (home != NULL)),
            argument + (quoted || home ? 1 : 0));
    return TROL_OK;
}

/* /image, /save and /load. */
static trol_status obey_with_file(chat *c, const char *command, const char *argument) {
    char *name;
    trol_status status = read_name(c, argument, &name);
    if (status != TROL_OK)
        return status;
    status = strcmp(command, "/image") == 0  ? attach(c, name)
             : strcmp(command, "/save") == 0 ? save(c, name)
                                             : load(c, name);
    free(name);
    return status;
}

/* A line that begins with a slash. *leave: the chat is over. */
static void obey(chat *c, char *line, bool *leave) {
    char *argument = line + strcspn(line, " \t");
    if (*argument)
        *argument++ = '\0';
    argument += strspn(argument, " \t");
    for (size_t n = strlen(argument); n > 0 && (argument[n - 1] == ' ' || argument[n - 1] == '\t'); n--)
        argument[n - 1] = '\0';
    const bool takes_file = strcmp(line, "/image") == 0 || strcmp(line, "/save") == 0 || strcmp(line, "/load") == 0;
    static const char *const alone[] = {"/undo", "/clear", "/stats", "/help", "/?", "/exit", "/quit", "/bye"};
    bool stands_alone = false;
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        stands_alone = stands_alone || strcmp(line, alone[i]) == 0;
    trol_status status = TROL_OK;
    interrupted = 0;
    if (takes_file && !*argument)
        status = fail(c->r->error, TROL_ERROR_ARGUMENT, "%s needs a file's name", line);
    else if (stands_alone && *argument)
        status = fail(c->r->error, TROL_ERROR_ARGUMENT, "%s takes nothing after it", line);
    else if (takes_file)
        status = obey_with_file(c, line, argument);
    else if (strcmp(line, "/system") == 0)
        status = set_system(c, !*argument ? NULL : strcmp(argument, "\"\"") == 0 ? "" : argument);
    else if (strcmp(line, "/undo") == 0)
        status = undo(c);
    else if (strcmp(line, "/clear") == 0)
        clear(c);
    else if (strcmp(line, "/stats") == 0)
        cli_print_stats(c->r);
    else if (strcmp(line, "/help") == 0 || strcmp(line, "/?") == 0)
        fputs(help, stdout);
    else if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0 || strcmp(line, "/bye") == 0)
        *leave = true;
    else
        status = fail(c->r->error, TROL_ERROR_ARGUMENT, "there is no command %s; /help lists them", line);
    if (status == TROL_ERROR_CANCELLED && interrupted)
        cli_notice(c->r, "stopped");
    else if (status != TROL_OK)
        tool_say("trol-cli", "%s", c->r->error->message);
    fflush(stdout);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool append(char **text, size_t *n, size_t *capacity, const char *line, const char *end) {
    const size_t length = strlen(line), n_end = strlen(end);
    if (!grow((void **)text, capacity, *n + length + n_end + 1, 1))
        return false;
    memcpy(*text + *n, line, length);
    memcpy(*text + *n + length, end, n_end + 1);
    *n += length + n_end;
    return true;
}

/* One question or command, which may take several lines. *text is from malloc. */
static line_result read_question(chat *c, char **text) {
    static const char quotes[] = "\"\"\"";
    size_t n = 0, capacity = 0;
    bool quoted = false, more = true;
    *text = NULL;
    for (int i = 0; more; i++) {
        const char *line;
        line_result result = line_editor_read(c->editor, i == 0 ? "> " : ". ", &line);
        if (result == LINE_END && i > 0)
            break;
        if (result != LINE_READ) {
            free(*text);
            *text = NULL;
            return result;
        }
        const char *rest = line;
        if (i == 0 && strncmp(line, quotes, 3) == 0) {
            quoted = true;
            rest = line + 3;
            const char *close = strstr(rest, quotes);
            more = !close;
        } else if (quoted)
            more = !strstr(line, quotes);
        const size_t length = strlen(rest);
        const bool goes_on = !quoted && length > 0 && rest[length - 1] == '\\';
        if (!quoted)
            more = goes_on;
        char *copy = strdup(rest);
        if (copy && goes_on)
            copy[length - 1] = '\0';
        if (copy && quoted && !more)
            *strstr(copy, quotes) = '\0';
        const bool first_empty = quoted && i == 0 && copy && !*copy;
        const bool fine = copy && append(text, &n, &capacity, copy, more && !first_empty ? "\n" : "");
        free(copy);
        if (!fine) {
            free(*text);
            *text = NULL;
            return LINE_FAILED;
        }
    }
    if (quoted && n > 0 && (*text)[n - 1] == '\n')
        (*text)[n - 1] = '\0';
    return LINE_READ;
}

static bool is_blank(const char *text) { return text[strspn(text, " \t\r\n")] == '\0'; }

static trol_status handle(chat *c, char *text, bool *leave) {
    const size_t n = strlen(text);
    if (is_blank(text))
        return TROL_OK;
    line_editor_remember(c->editor, text);
    if (utf8_valid_prefix(text, n) != n) {
        tool_say("trol-cli", "byte %zu of the line is not valid UTF-8", utf8_valid_prefix(text, n) + 1);
        return TROL_OK;
    }
    if (text[0] != '/')
        return take_turn(c, text);
    obey(c, text, leave);
    return TROL_OK;
}

static trol_status converse(chat *c) {
    bool leave = false;
    trol_status status = TROL_OK;
    while (!leave && status == TROL_OK) {
        char *text;
        interrupted = 0;
        const line_result result = read_question(c, &text);
        if (result == LINE_END || result == LINE_INTERRUPTED)
            fputs(isatty(STDIN_FILENO) ? "\n" : "", stdout);
        if (result == LINE_END)
            break;
        if (result == LINE_FAILED)
            return fail(c->r->error, TROL_ERROR_IO, "standard input cannot be read");
        if (result == LINE_READ)
            status = handle(c, text, &leave);
        free(text);
    }
    return status;
}

/* The command line's question, before anything is typed. */
static trol_status begin(chat *c) {
    const options *o = c->r->chosen;
    trol_status status = o->system ? set_system(c, o->system) : TROL_OK;
    for (size_t i = 0; i < o->images.count && status == TROL_OK; i++)
        status = attach(c, o->images.items[i]);
    if (status != TROL_OK || (!o->prompt && !o->prompt_file))
        return status;
    bool leave = false;
    return c->r->prompt ? handle(c, c->r->prompt, &leave) : TROL_OK;
}

trol_status chat_run(run *r) {
    enum { SMALLEST_CONTEXT = 4096 }; /* of trol_session_params */
    chat c = {.r = r, .context_size = r->chosen->context_size};
    if (!r->info.has_tokenizer)
        return fail(r->error, TROL_ERROR_STATE, "the checkpoint has no tokenizer.model: there is no chat without one");
    if (c.context_size == 0)
        c.context_size = r->info.max_positions > SMALLEST_CONTEXT ? r->info.max_positions : SMALLEST_CONTEXT;
    c.editor = line_editor_new(&interrupted);
    if (!c.editor)
        return fail(r->error, TROL_ERROR_MEMORY, "there is no memory for a chat");
    signals_catch(stop_answer);
    trol_status status = cli_start_session(r);
    if (status == TROL_OK)
        status = cli_make_sampler(r);
    if (status == TROL_OK && isatty(STDIN_FILENO))
        cli_notice(r, "ask, or type /help; ^D ends");
    if (status == TROL_OK)
        status = begin(&c);
    if (status == TROL_OK)
        status = converse(&c);
    drop_attached(&c);
    conversation_free(&c.talk);
    line_editor_free(c.editor);
    free(c.answer);
    free(c.text);
    return status;
}
