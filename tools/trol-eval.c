/* trol-eval - asks a model a set of questions with known answers and prints how many it gets right, by kind of
 * question, weight type and traversal mode. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "common/arguments.h"
#include "common/choices.h"
#include "common/eval_set.h"
#include "common/fail.h"
#include "common/output_file.h"
#include "common/signals.h"
#include "common/standard_output.h"
#include "trol.h"

static const char usage[] =
    "usage: trol-eval -m MODEL --eval DIR [OPTIONS]\n"
    "\n"
    "Asks a model every question in DIR/questions.jsonl about the pictures beside it, grades the answers, and prints "
    "the\n"
    "share of right ones by kind of question, for each weight type and traversal mode.\n"
    "\n"
    "  -m, --model DIR       the checkpoint folder, or a hub name\n"
    "  --eval DIR            the folder with questions.jsonl\n"
    "  --type LIST           weight types, separated by commas: as-stored (default), f32, f16, bf16, q8, q4\n"
    "  --vision-type TYPE    of the vision encoder (default: as-stored)\n"
    "  --compute TYPE        exact (default) or bf16\n"
    "  --traversal LIST      prompt (default), all, off\n"
    "  --traversal-skip T    tokens whose gate is below T skip their second pass (default 0)\n"
    "  --cache-type TYPE     of keys and values: f16 (default), q8 or f32\n"
    "  -t, --threads N       threads (default: one for each core)\n"
    "  -n, --n-predict N     at most N tokens per answer (default 80)\n"
    "  --cache-dir DIR       keeps encoded pictures there (at most 4 GiB) for the next evaluation\n"
    "  --limit N             asks only the first N questions\n"
    "  --csv                 prints lines of model,type,traversal,kind,asked,right,percent instead of the table\n"
    "  --floor LIST          exit status 1 if fewer are right than this: a percentage of all, or KIND=PERCENT, ...\n"
    "  --errors FILE         writes each wrong answer there, one JSON object per line\n"
    "  --help, --version\n";

enum { MAX_TYPES = 6, MAX_MODES = 3, MAX_FLOORS = 32 };

static const char *const type_names[] = {WEIGHT_TYPES};
static const char *const mode_names[] = {TRAVERSAL_MODES};

typedef struct options {
    const char *model, *eval, *errors, *cache_dir, *type_list, *mode_list, *floor_list;
    int32_t vision_type, compute, cache_type, n_threads, n_predict, limit;
    float traversal_skip;
    bool csv, help, version;
    int32_t types[MAX_TYPES], modes[MAX_MODES]; /* of the lists: trol_weight_type, trol_traversal */
    int n_types, n_modes;
    struct {
        char kind[32]; /* "total": of all questions */
        double percent;
    } floors[MAX_FLOORS];
    int n_floors;
} options;

#define AT(member) offsetof(options, member)
static const argument_flag flags[] = {
    {"--model", "-m", ARGUMENT_TEXT, AT(model), 0, 0, {0}},
    {"--eval", NULL, ARGUMENT_TEXT, AT(eval), 0, 0, {0}},
    {"--type", NULL, ARGUMENT_TEXT, AT(type_list), 0, 0, {0}},
    {"--vision-type", NULL, ARGUMENT_CHOICE, AT(vision_type), 0, 0, {WEIGHT_TYPES}},
    {"--compute", NULL, ARGUMENT_CHOICE, AT(compute), 0, 0, {COMPUTE_KINDS}},
    {"--cache-type", NULL, ARGUMENT_CHOICE, AT(cache_type), 0, 0, {CACHE_TYPES}},
    {"--traversal", NULL, ARGUMENT_TEXT, AT(mode_list), 0, 0, {0}},
    {"--traversal-skip", NULL, ARGUMENT_NUMBER, AT(traversal_skip), 0, 1, {0}},
    {"--threads", "-t", ARGUMENT_INTEGER, AT(n_threads), 1, 256, {0}},
    {"--n-predict", "-n", ARGUMENT_INTEGER, AT(n_predict), 1, 100000, {0}},
    {"--cache-dir", NULL, ARGUMENT_TEXT, AT(cache_dir), 1, 0, {0}},
    {"--limit", NULL, ARGUMENT_INTEGER, AT(limit), 1, INT32_MAX, {0}},
    {"--csv", NULL, ARGUMENT_SWITCH, AT(csv), 0, 0, {0}},
    {"--floor", NULL, ARGUMENT_TEXT, AT(floor_list), 0, 0, {0}},
    {"--errors", NULL, ARGUMENT_TEXT, AT(errors), 1, 0, {0}},
    {"--help", "-h", ARGUMENT_SWITCH, AT(help), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, AT(version), 0, 0, {0}},
};

/* What one weight type in one traversal mode got right. */
typedef struct column {
    trol_weight_type type;
    char type_name[32]; /* of the weights in memory */
    trol_traversal mode;
    trol_session *session;
    size_t *right; /* [n_kinds] */
    double seconds;
} column;

/* The whole evaluation. */
typedef struct evaluation {
    const options *chosen;
    eval_set set;
    size_t *asked; /* [n_kinds] */
    column columns[MAX_TYPES * MAX_MODES];
    int n_columns;
    output_file errors; /* not open: not requested */
    bool line_shown;    /* progress, on a terminal */
    trol_error *error;
} evaluation;

/* ---- asking ---------------------------------------------------------------------------------- */

/* An answer being written. */
typedef struct answer {
    char *text; /* [n_bytes] and a NUL; NULL: nothing yet */
    size_t n_bytes;
} answer;

static int take_text(void *user, const char *piece) {
    answer *a = user;
    const size_t n = strlen(piece);
    char *longer = realloc(a->text, a->n_bytes + n + 1);
    if (!longer)
        return 1;
    memcpy(longer + a->n_bytes, piece, n + 1);
    a->text = longer;
    a->n_bytes += n;
    return 0;
}

static trol_status write_error(evaluation *e, const column *c, const eval_question *q, const char *found) {
    static const char *const copied[] = {"image", "kind", "question", "answer"};
    if (!e->errors.stream)
        return TROL_OK;
    cJSON *json = cJSON_CreateObject();
    for (int i = 0; i < 4; i++) {
        cJSON *item = cJSON_GetObjectItemCaseSensitive(q->json, copied[i]);
        if (item)
            cJSON_AddItemToObject(json, copied[i], cJSON_Duplicate(item, 1));
    }
    cJSON_AddStringToObject(json, "found", found);
    cJSON_AddStringToObject(json, "type", c->type_name);
    cJSON_AddStringToObject(json, "traversal", mode_names[c->mode]);
    char *line = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (!line)
        return fail(e->error, TROL_ERROR_MEMORY, "out of memory");
    const bool written = fprintf(e->errors.stream, "%s\n", line) > 0;
    cJSON_free(line);
    return written ? TROL_OK : output_file_failed(&e->errors, e->error);
}

static trol_status ask(evaluation *e, column *c, const eval_question *q, trol_features *features) {
    const trol_message message = {.role = TROL_ROLE_USER, .text = q->question};
    trol_generate_params params;
    trol_generate_params_init(&params);
    params.max_tokens = e->chosen->n_predict;
    answer found = {NULL, 0};
    const double start = clock_seconds();
    trol_status status =
        trol_session_set_prompt_features(c->session, &message, 1, &features, features != NULL, e->error);
    if (status == TROL_OK)
        status = trol_generate(c->session, &params, take_text, &found, NULL, e->error);
    c->seconds += clock_seconds() - start;
    if (status == TROL_OK) {
        const char *text = found.text ? found.text : "";
        if (eval_grade(q, text))
            c->right[q->kind]++;
        else
            status = write_error(e, c, q, text);
    }
    free(found.text);
    return status;
}

static trol_status encode(trol_model *model, const char *path, trol_features **features, trol_error *error) {
    trol_image *image;
    trol_status status = trol_image_load_file(path, NULL, &image, error);
    if (status != TROL_OK)
        return status;
    status = trol_encode_image(model, image, features, error);
    trol_image_free(image);
    return status;
}

static size_t count_right(const column *c, int n_kinds) {
    size_t n = 0;
    for (int i = 0; i < n_kinds; i++)
        n += c->right[i];
    return n;
}

/* A line that is overwritten, or with `last` wiped. */
static void show_progress(evaluation *e, const column *first, int n, size_t done, bool last) {
    if (!isatty(STDERR_FILENO))
        return;
    fputs("\r\033[K", stderr);
    e->line_shown = !last;
    if (last)
        return;
    fprintf(stderr, "%s: %zu of %zu questions", first->type_name, done, e->set.n_questions);
    for (int i = 0; i < n; i++)
        fprintf(stderr, ", %s %.1f%%", mode_names[first[i].mode],
                100.0 * (double)count_right(&first[i], e->set.n_kinds) / (double)done);
    fflush(stderr);
}

/* All questions in all traversal modes of one weight type: the columns first[0 .. n - 1]. Each picture is encoded once.
 */
static trol_status ask_all(evaluation *e, trol_model *model, column *first, int n) {
    trol_features *features = NULL;
    const char *encoded = NULL;
    trol_status status = TROL_OK;
    for (size_t i = 0; i < e->set.n_questions && status == TROL_OK; i++) {
        const eval_question *q = &e->set.questions[i];
        if (!q->image || !encoded || strcmp(q->image, encoded) != 0) {
            trol_features_free(features);
            features = NULL;
            encoded = q->image;
            if (q->image)
                status = encode(model, q->image, &features, e->error);
        }
        for (int k = 0; k < n && status == TROL_OK; k++)
            status = ask(e, &first[k], q, features);
        if (status == TROL_OK)
            show_progress(e, first, n, i + 1, i + 1 == e->set.n_questions);
    }
    trol_features_free(features);
    return status;
}

static trol_status evaluate_type(evaluation *e, trol_threads *threads, trol_cache *cache, column *first, int n) {
    trol_model_params params;
    trol_session_params session;
    trol_model *model = NULL;
    trol_model_params_init(&params);
    params.threads = threads;
    params.cache = cache;
    params.weight_type = first->type;
    params.vision_type = (trol_weight_type)e->chosen->vision_type;
    params.compute = (trol_compute)e->chosen->compute;
    params.plain_backbone = 1;
    for (int i = 0; i < n; i++)
        params.plain_backbone &= first[i].mode == TROL_TRAVERSAL_OFF;
    trol_session_params_init(&session);
    session.keep_pass2 = 1; /* the next question about a picture begins like the previous one */
    session.cache_type = (trol_cache_type)e->chosen->cache_type;
    session.traversal_skip = e->chosen->traversal_skip;
    trol_status status = trol_model_load(e->chosen->model, &params, &model, e->error);
    trol_model_info info = {.size = sizeof info};
    if (status == TROL_OK)
        status = trol_model_get_info(model, &info, e->error);
    for (int i = 0; i < n && status == TROL_OK; i++) {
        session.traversal = first[i].mode;
        memcpy(first[i].type_name, info.weight_type, sizeof info.weight_type);
        status = trol_session_new(model, &session, &first[i].session, e->error);
    }
    if (status == TROL_OK)
        status = ask_all(e, model, first, n);
    for (int i = 0; i < n; i++) {
        trol_session_free(first[i].session);
        first[i].session = NULL;
    }
    trol_model_free(model);
    return status;
}

static trol_status evaluate(evaluation *e) {
    const options *o = e->chosen;
    trol_threads *threads = NULL;
    trol_cache *cache = NULL;
    trol_cache_params params;
    trol_cache_params_init(&params);
    params.folder = o->cache_dir;
    trol_status status = trol_threads_new(o->n_threads, &threads, e->error);
    if (status == TROL_OK)
        status = trol_cache_new(&params, &cache, e->error);
    for (int i = 0; i < o->n_types && status == TROL_OK; i++)
        status = evaluate_type(e, threads, cache, &e->columns[i * o->n_modes], o->n_modes);
    trol_cache_free(cache);
    trol_threads_free(threads);
    return status;
}

/* ---- output -------------------------------------------------------------------------- */

static double percent(size_t right, size_t asked) { return asked ? 100.0 * (double)right / (double)asked : 0; }

static void print_csv(const evaluation *e) {
    puts("model,type,traversal,kind,asked,right,percent");
    for (int i = 0; i < e->n_columns; i++) {
        const column *c = &e->columns[i];
        for (int k = 0; k <= e->set.n_kinds; k++) {
            const bool total = k == e->set.n_kinds;
            const size_t asked = total ? e->set.n_questions : e->asked[k];
            const size_t right = total ? count_right(c, e->set.n_kinds) : c->right[k];
            printf("%s,%s,%s,%s,%zu,%zu,%.2f\n", e->chosen->model, c->type_name, mode_names[c->mode],
                   total ? "total" : e->set.kinds[k], asked, right, percent(right, asked));
        }
    }
}

static void print_table(const evaluation *e) {
    const int n_kinds = e->set.n_kinds;
    printf("%s: %zu questions about %zu pictures, right in percent\n\n%-12s %6s", e->chosen->model, e->set.n_questions,
           e->set.n_images, "kind", "asked");
    for (int i = 0; i < e->n_columns; i++) {
        char head[32];
        snprintf(head, sizeof head, "%s %s", e->columns[i].type_name, mode_names[e->columns[i].mode]);
        printf(" %16s", head);
    }
    putchar('\n');
    for (int k = 0; k < n_kinds; k++) {
        printf("%-12s %6zu", e->set.kinds[k], e->asked[k]);
        for (int i = 0; i < e->n_columns; i++)
            printf(" %16.1f", percent(e->columns[i].right[k], e->asked[k]));
        putchar('\n');
    }
    printf("%-12s %6zu", "total", e->set.n_questions);
    for (int i = 0; i < e->n_columns; i++)
        printf(" %16.1f", percent(count_right(&e->columns[i], n_kinds), e->set.n_questions));
    printf("\n%-12s %6s", "seconds", "");
    for (int i = 0; i < e->n_columns; i++)
        printf(" %16.1f", e->columns[i].seconds);
    putchar('\n');
}

/* The exit status: 1 if a column is below a floor. */
static int check_floors(const evaluation *e) {
    int exit_status = 0;
    for (int f = 0; f < e->chosen->n_floors; f++) {
        const char *kind = e->chosen->floors[f].kind;
        int k = 0;
        while (k < e->set.n_kinds && strcmp(e->set.kinds[k], kind) != 0)
            k++;
        if (k == e->set.n_kinds && strcmp(kind, "total") != 0) {
            tool_say("trol-eval", "there is a floor for %s, but no such question", kind);
            exit_status = 1;
            continue;
        }
        for (int i = 0; i < e->n_columns; i++) {
            const column *c = &e->columns[i];
            const double reached = k == e->set.n_kinds ? percent(count_right(c, k), e->set.n_questions)
                                                       : percent(c->right[k], e->asked[k]);
            if (reached >= e->chosen->floors[f].percent)
                continue;
            tool_say("trol-eval", "%s, traversal %s: %.1f%% of %s are right, expected at least %g%%", c->type_name,
                     mode_names[c->mode], reached, kind, e->chosen->floors[f].percent);
            exit_status = 1;
        }
    }
    return exit_status;
}

/* ---- the command line ------------------------------------------------------------------------ */

static bool parse_real(const char *text, double largest, double *value) {
    char *end;
    *value = strtod(text, &end);
    return end != text && !*end && *value >= 0 && *value <= largest;
}

/* The next item of a comma-separated list, in `item`; *list then points after it. */
static bool next_item(const char **list, char *item, size_t capacity) {
    const size_t n = strcspn(*list, ",");
    if (n == 0 || n >= capacity)
        return false;
    memcpy(item, *list, n);
    item[n] = '\0';
    *list += n + ((*list)[n] == ',');
    return true;
}

/* The names in a list as indices, each once: values [*n], at most `most`. */
static bool parse_names(const char *list, const char *const *names, int n_names, int32_t *values, int most, int *n) {
    char item[32];
    *n = 0;
    do {
        if (*n == most || !next_item(&list, item, sizeof item))
            return false;
        int32_t index = 0;
        while (index < n_names && strcmp(item, names[index]) != 0)
            index++;
        if (index == n_names)
            return false;
        for (int i = 0; i < *n; i++)
            if (values[i] == index)
                return false;
        values[(*n)++] = index;
    } while (*list);
    return true;
}

static bool parse_floors(const char *list, options *chosen) {
    char item[64];
    do {
        if (chosen->n_floors == MAX_FLOORS || !next_item(&list, item, sizeof item))
            return false;
        const char *equals = strchr(item, '=');
        const size_t n = equals ? (size_t)(equals - item) : 0;
        if (n >= sizeof chosen->floors->kind)
            return false;
        snprintf(chosen->floors[chosen->n_floors].kind, sizeof chosen->floors->kind, "%.*s", equals ? (int)n : 5,
                 equals ? item : "total");
        if (!parse_real(equals ? equals + 1 : item, 100, &chosen->floors[chosen->n_floors++].percent))
            return false;
    } while (*list);
    return true;
}

static bool wrong_list(const char *flag, const char *list, const char *expected, trol_error *error) {
    return !fail(error, TROL_ERROR_ARGUMENT, "%s is \"%s\", expected %s", flag, list, expected);
}

static bool parse_lists(options *chosen, trol_error *error) {
    if (chosen->type_list && !parse_names(chosen->type_list, type_names, 6, chosen->types, MAX_TYPES, &chosen->n_types))
        return wrong_list("--type", chosen->type_list,
                          "as-stored, f32, f16, bf16, q8 or q4, or several with commas between", error);
    if (chosen->mode_list && !parse_names(chosen->mode_list, mode_names, 3, chosen->modes, MAX_MODES, &chosen->n_modes))
        return wrong_list("--traversal", chosen->mode_list, "prompt, all or off, or several with commas between",
                          error);
    if (chosen->floor_list && !parse_floors(chosen->floor_list, chosen))
        return wrong_list("--floor", chosen->floor_list,
                          "a percentage from 0 to 100, or KIND=PERCENT, with commas between", error);
    return true;
}

/* The exit status, or -1 to continue. */
static int parse_arguments(int argc, char **argv, options *chosen) {
    trol_error error = {TROL_OK, ""};
    if (!arguments_parse(argc, argv, flags, sizeof flags / sizeof *flags, chosen, &error) ||
        !parse_lists(chosen, &error))
        return tool_say("trol-eval", "%s (trol-eval --help lists the options)", error.message), 2;
    if (chosen->help)
        return standard_output_text("trol-eval", usage);
    if (chosen->version)
        return standard_output_version("trol-eval");
    if (!chosen->model || !chosen->eval)
        return fputs(usage, stderr), 2;
    return -1;
}

static trol_status prepare(evaluation *e) {
    const options *o = e->chosen;
    trol_status status = eval_set_read(o->eval, (size_t)o->limit, &e->set, e->error);
    if (status != TROL_OK)
        return status;
    const size_t n_kinds = (size_t)e->set.n_kinds;
    bool enough = (e->asked = calloc(n_kinds, sizeof *e->asked)) != NULL;
    for (size_t i = 0; enough && i < e->set.n_questions; i++)
        e->asked[e->set.questions[i].kind]++;
    for (int i = 0; enough && i < o->n_types * o->n_modes; i++) {
        column *c = &e->columns[e->n_columns++];
        *c = (column){.type = (trol_weight_type)o->types[i / o->n_modes],
                      .mode = (trol_traversal)o->modes[i % o->n_modes]};
        enough = (c->right = calloc(n_kinds, sizeof *c->right)) != NULL;
    }
    if (!enough)
        return fail(e->error, TROL_ERROR_MEMORY, "out of memory");
    return o->errors ? output_file_open(o->errors, &e->errors, e->error) : TROL_OK;
}

int main(int argc, char **argv) {
    options chosen = {.n_types = 1, .n_modes = 1, .n_predict = 80}; /* as stored, mode prompt */
    int exit_status = parse_arguments(argc, argv, &chosen);
    if (exit_status >= 0)
        return exit_status;
    signals_catch(signals_end_at_once); /* nothing is printed before the end, and the old --errors file stays */
    trol_error error = {TROL_OK, ""};
    evaluation e = {.chosen = &chosen, .error = &error};
    signals_progress_line(&e.line_shown);
    trol_status status = prepare(&e);
    if (status == TROL_OK)
        status = evaluate(&e);
    trol_status closed = output_file_close(&e.errors, status == TROL_OK, status == TROL_OK ? &error : NULL);
    if (status == TROL_OK)
        status = closed;
    if (status == TROL_OK) {
        if (chosen.csv)
            print_csv(&e);
        else
            print_table(&e);
        exit_status = standard_output_end("trol-eval", check_floors(&e));
    } else {
        tool_say("trol-eval", "%s", error.message);
        exit_status = 1;
    }
    for (int i = 0; i < e.n_columns; i++)
        free(e.columns[i].right);
    free(e.asked);
    eval_set_free(&e.set);
    return exit_status;
}
