/* trol-cli - asks a TroL model a question about pictures and writes the answer as it is generated. */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cli/batch.h"
#include "cli/beams.h"
#include "cli/chat.h"
#include "cli/cli.h"
#include "cli/constraint.h"
#include "common/arguments.h"
#include "common/choices.h"
#include "common/fail.h"
#include "common/input_file.h"
#include "common/logit_bias.h"
#include "common/logprobs_file.h"
#include "common/npy.h"
#include "common/progress.h"
#include "common/signals.h"
#include "common/standard_output.h"
#include "common/token_file.h"
#include "trol.h"

static const char usage[] =
    "usage: trol-cli -m MODEL --image PICTURE -p QUESTION [OPTIONS]\n"
    "\n"
    "Asks a TroL vision-language model and writes the answer, and nothing else, to standard output.\n"
    "\n"
    "questions\n"
    "  -m, --model DIR          checkpoint folder, or a hub name (BK-Lee/TroL-1.8B) in the hub's cache;\n"
    "                           without it $TROL_MODEL, or else the bundled model\n"
    "  -p, --prompt TEXT        the question; - reads it from standard input\n"
    "      --prompt-file FILE   the question from a file (a byte-order mark at its head and one line break at its end\n"
    "                           are dropped)\n"
    "      --image FILE         a picture: JPEG, PNG, WebP, HEIC, AVIF, BMP, GIF, TGA or PNM (P1 to P6);\n"
    "                           - reads standard input; may be repeated. <image> in the question shows\n"
    "                           where it goes, else it goes first; \\<image> is literal text\n"
    "      --exif-rotate        turn pictures upright by their EXIF orientation (the authors' code does not)\n"
    "      --system TEXT        instead of the authors' system prompt; \"\": none\n"
    "      --chat               a conversation: each line is a question, /help lists the commands; -p is the first\n"
    "                           one. The default on a terminal if there is no question\n"
    "      --ctx-shift          in a chat, drop the oldest turns when the context is full\n"
    "      --batch FILE         questions from a file of JSON lines (- for standard input), an answer line for each;\n"
    "                           tools/cli/README.md has the form\n"
    "      --output FILE        where the batch's answers go (standard output); --resume continues such a file\n"
    "      --parallel N         questions of a batch that are answered at the same time (4)\n"
    "      --raw                the prompt without a template; special tokens in it are recognized\n"
    "      --tokens FILE        token ids instead of text, image tokens included, white space between\n"
    "\n"
    "answers\n"
    "  -n, --n-predict N        tokens at most (256); 0: only read the prompt\n"
    "      --ignore-eos         go on past the model's end tokens\n"
    "      --traversal MODE     which tokens go through each layer twice: prompt (default), all or off\n"
    "      --traversal-skip X   leave out the second pass of tokens whose gate is below X (0: exact)\n"
    "      --temp X             0: greedy (default); else sampling at that temperature\n"
    "      --top-k N, --top-p X, --min-p X\n"
    "                           sample only from the likeliest: N of them (0: all); as few as have X of the\n"
    "                           probability (1: all); those with X of the likeliest's probability (0: all)\n"
    "      --repeat-penalty X, --presence-penalty X, --frequency-penalty X\n"
    "                           tokens used before are less likely (1, 0, 0: off); prompt tokens count for the first\n"
    "      --repeat-last-n N    the penalties look at the last N tokens (64; -1: all)\n"
    "      --logit-bias TOKEN+X add X (or with -: subtract; -inf: never choose it) to a token's logit; may be "
    "repeated\n"
    "      --seed N             of the sampling (0)\n"
    "      --stop TEXT          the answer ends before this text; may be repeated\n"
    "      --json-schema FILE   the answer is JSON that the JSON Schema in the file accepts\n"
    "      --json               the answer is a JSON object\n"
    "      --grammar FILE       the answer is a text of the grammar in the file (GBNF, as in llama.cpp)\n"
    "      --beams N            search for the most probable answer with N beams (0: off); the authors' evaluation: 5\n"
    "      --length-penalty X   of the search: scores are sums of log-probabilities / tokens ^ X (1)\n"
    "      --lookup N           prompt lookup with N-grams: faster, same greedy answer (0: off)\n"
    "\n"
    "computation\n"
    "  -t, --threads N          (one per core)\n"
    "  -c, --ctx-size N         tokens of prompt and answer together, at most (4096, or the model's limit)\n"
    "      --cache-type TYPE    of keys and values: f16 (default), q8 (half the memory) or f32\n"
    "      --type TYPE          of the weights: as-stored (default), f32, f16, bf16, q8 or q4\n"
    "      --vision-type TYPE   the same for the picture encoder\n"
    "      --compute KIND       exact (default), or bf16 where the CPU has it\n"
    "      --session FILE       keep the computed prompt there: a run with the same beginning reuses it\n"
    "      --cache-dir DIR      keep encoded pictures there (at most 4 GiB): asked about again, they are not encoded\n"
    "\n"
    "other output\n"
    "      --logits FILE        float32 .npy [tokens generated, vocabulary]: what each token was chosen from,\n"
    "                           the end token included\n"
    "      --logprobs FILE      each token with its log-probability and the likeliest ones', one JSON object per line\n"
    "      --top-logprobs N     how many of the likeliest (5)\n"
    "      --n-best FILE        all answers of a beam search with scores and tokens, one JSON object per line\n"
    "      --prefill-logits FILE\n"
    "                           float32 .npy [prompt tokens, vocabulary]\n"
    "      --stats              a table of times, speeds and memory on standard error\n"
    "  -q, --quiet              no progress, no notices\n"
    "  -v, --verbose            the library's log on standard error\n"
    "      --version, -h, --help\n"
    "\n"
    "Exit status: 0; 1 for a failure, reported on standard error; 2 for bad usage; 130 after ^C, which ends the\n"
    "answer as far as it was generated (143 after a SIGTERM, 129 after a SIGHUP). A second ^C ends the program at "
    "once.\n";

/* ---- options --------------------------------------------------------------------------------- */

#define AT(member) offsetof(options, member)

static const argument_flag flags[] = {
    {"--model", "-m", ARGUMENT_TEXT, AT(model), 1, 0, {0}},
    {"--prompt", "-p", ARGUMENT_TEXT, AT(prompt), 0, 0, {0}},
    {"--prompt-file", NULL, ARGUMENT_TEXT, AT(prompt_file), 1, 0, {0}},
    {"--image", NULL, ARGUMENT_TEXTS, AT(images), 1, 0, {0}},
    {"--exif-rotate", NULL, ARGUMENT_SWITCH, AT(exif_rotate), 0, 0, {0}},
    {"--system", NULL, ARGUMENT_TEXT, AT(system), 0, 0, {0}},
    {"--chat", NULL, ARGUMENT_SWITCH, AT(chat), 0, 0, {0}},
    {"--batch", NULL, ARGUMENT_TEXT, AT(batch), 1, 0, {0}},
    {"--output", NULL, ARGUMENT_TEXT, AT(output), 1, 0, {0}},
    {"--resume", NULL, ARGUMENT_SWITCH, AT(resume), 0, 0, {0}},
    {"--parallel", NULL, ARGUMENT_INTEGER, AT(parallel), 1, 64, {0}},
    {"--ctx-shift", NULL, ARGUMENT_SWITCH, AT(context_shift), 0, 0, {0}},
    {"--raw", NULL, ARGUMENT_SWITCH, AT(raw), 0, 0, {0}},
    {"--tokens", NULL, ARGUMENT_TEXT, AT(tokens), 1, 0, {0}},
    {"--n-predict", "-n", ARGUMENT_INTEGER, AT(n_predict), 0, 1000000000, {0}},
    {"--ignore-eos", NULL, ARGUMENT_SWITCH, AT(ignore_eos), 0, 0, {0}},
    {"--traversal", NULL, ARGUMENT_CHOICE, AT(traversal), 0, 0, {TRAVERSAL_MODES}},
    {"--traversal-skip", NULL, ARGUMENT_NUMBER, AT(traversal_skip), 0, 1, {0}},
    {"--temp", NULL, ARGUMENT_NUMBER, AT(sampling.temperature), 0, 1000, {0}},
    {"--top-k", NULL, ARGUMENT_INTEGER, AT(sampling.top_k), 0, 1000000000, {0}},
    {"--top-p", NULL, ARGUMENT_NUMBER, AT(sampling.top_p), 1e-6, 1, {0}},
    {"--min-p", NULL, ARGUMENT_NUMBER, AT(sampling.min_p), 0, 1, {0}},
    {"--repeat-penalty", NULL, ARGUMENT_NUMBER, AT(sampling.repeat_penalty), 1e-3, 1000, {0}},
    {"--repeat-last-n", NULL, ARGUMENT_INTEGER, AT(sampling.repeat_last_n), -1, 1000000000, {0}},
    {"--presence-penalty", NULL, ARGUMENT_NUMBER, AT(sampling.presence_penalty), -1000, 1000, {0}},
    {"--frequency-penalty", NULL, ARGUMENT_NUMBER, AT(sampling.frequency_penalty), -1000, 1000, {0}},
    {"--logit-bias", NULL, ARGUMENT_TEXTS, AT(logit_bias), 1, 0, {0}},
    {"--seed", NULL, ARGUMENT_SEED, AT(sampling.seed), 0, 0, {0}},
    {"--stop", NULL, ARGUMENT_TEXTS, AT(stops), 1, 0, {0}},
    {"--json-schema", NULL, ARGUMENT_TEXT, AT(json_schema), 1, 0, {0}},
    {"--json", NULL, ARGUMENT_SWITCH, AT(json), 0, 0, {0}},
    {"--grammar", NULL, ARGUMENT_TEXT, AT(grammar), 1, 0, {0}},
    {"--beams", NULL, ARGUMENT_INTEGER, AT(n_beams), 0, 64, {0}},
    {"--length-penalty", NULL, ARGUMENT_NUMBER, AT(length_penalty), -100, 100, {0}},
    {"--n-best", NULL, ARGUMENT_TEXT, AT(n_best), 1, 0, {0}},
    {"--lookup", NULL, ARGUMENT_INTEGER, AT(lookup), 0, 64, {0}},
    {"--threads", "-t", ARGUMENT_INTEGER, AT(n_threads), 1, 256, {0}},
    {"--ctx-size", "-c", ARGUMENT_INTEGER, AT(context_size), 1, 1000000000, {0}},
    {"--cache-type", NULL, ARGUMENT_CHOICE, AT(cache_type), 0, 0, {CACHE_TYPES}},
    {"--type", NULL, ARGUMENT_CHOICE, AT(weight_type), 0, 0, {WEIGHT_TYPES}},
    {"--vision-type", NULL, ARGUMENT_CHOICE, AT(vision_type), 0, 0, {WEIGHT_TYPES}},
    {"--compute", NULL, ARGUMENT_CHOICE, AT(compute), 0, 0, {COMPUTE_KINDS}},
    {"--session", NULL, ARGUMENT_TEXT, AT(session), 1, 0, {0}},
    {"--cache-dir", NULL, ARGUMENT_TEXT, AT(cache_dir), 1, 0, {0}},
    {"--logits", NULL, ARGUMENT_TEXT, AT(logits), 1, 0, {0}},
    {"--logprobs", NULL, ARGUMENT_TEXT, AT(logprobs), 1, 0, {0}},
    {"--top-logprobs", NULL, ARGUMENT_INTEGER, AT(n_top_logprobs), 0, 1000, {0}},
    {"--prefill-logits", NULL, ARGUMENT_TEXT, AT(prefill_logits), 1, 0, {0}},
    {"--stats", NULL, ARGUMENT_SWITCH, AT(stats), 0, 0, {0}},
    {"--quiet", "-q", ARGUMENT_SWITCH, AT(quiet), 0, 0, {0}},
    {"--verbose", "-v", ARGUMENT_SWITCH, AT(verbose), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, AT(version), 0, 0, {0}},
    {"--help", "-h", ARGUMENT_SWITCH, AT(help), 0, 0, {0}},
};

/* Checks the combination of options; NULL if it is right. */
static const char *contradiction(const options *o) {
    int n_prompts = (o->prompt != NULL) + (o->prompt_file != NULL) + (o->tokens != NULL);
    if (o->batch && (o->chat || n_prompts > 0 || o->images.count > 0 || o->raw || o->logits || o->prefill_logits ||
                     o->logprobs || o->lookup || o->ignore_eos || o->logit_bias.count > 0))
        return "--batch has its questions and pictures in a file: --chat, --prompt, --tokens, --image, --raw, "
               "--logits, "
               "--prefill-logits, --logprobs, --lookup, --ignore-eos and --logit-bias cannot be combined with it";
    if (!o->batch && (o->output || o->resume))
        return "--output and --resume need --batch";
    if (o->batch && o->resume && (!o->output || is_stdin(o->output)))
        return "--resume needs an --output FILE to continue";
    if (o->batch && o->n_predict == 0)
        return "-n is 0, expected at least 1 with --batch";
    if (o->chat && (o->tokens || o->raw || o->logits || o->prefill_logits || o->logprobs))
        return "--chat is a conversation: --tokens, --raw, --logits, --prefill-logits and --logprobs cannot be "
               "combined with it";
    if (o->chat && o->n_predict == 0)
        return "-n is 0, expected at least 1 with --chat";
    if (o->session && (o->chat || o->batch))
        return "--session is for one question: it cannot be combined with --batch, or with --chat, which has /save and "
               "/load";
    if (o->context_shift && !o->chat)
        return "--ctx-shift needs --chat";
    if (n_prompts == 0 && !o->chat && !o->batch)
        return "there is no question: -p TEXT, --prompt-file FILE, --tokens FILE, --chat or --batch FILE is needed";
    if (n_prompts > 1)
        return "only one of --prompt, --prompt-file and --tokens can be given";
    if (o->tokens && (o->system || o->raw))
        return "--tokens is the whole prompt: --system and --raw cannot be combined with it";
    if (o->raw && o->system)
        return "--raw has no template: --system cannot be combined with it";
    if (o->logits && o->prefill_logits && strcmp(o->logits, o->prefill_logits) == 0)
        return "--logits and --prefill-logits name the same file";
    if (o->logprobs && ((o->logits && strcmp(o->logits, o->logprobs) == 0) ||
                        (o->prefill_logits && strcmp(o->prefill_logits, o->logprobs) == 0)))
        return "--logprobs and --logits or --prefill-logits name the same file";
    const char *constraints = constraint_contradiction(o), *beams = beams_contradiction(o);
    if (constraints || beams)
        return constraints ? constraints : beams;
    int n_stdin = is_stdin(o->json_schema) + is_stdin(o->grammar) + is_stdin(o->prompt) + is_stdin(o->prompt_file) +
                  is_stdin(o->tokens) + is_stdin(o->batch);
    for (size_t i = 0; i < o->images.count; i++)
        n_stdin += is_stdin(o->images.items[i]);
    if (n_stdin > 0 && o->chat)
        return "a chat's questions come from standard input (-): nothing else can be read from it";
    return n_stdin > 1 ? "standard input (-) can be read only once" : NULL;
}

/* Flags that would change nothing without another one; NULL if there is none. */
static const char *without_effect(int argc, char **argv, const options *o) {
    const size_t n_flags = sizeof flags / sizeof *flags;
    const bool greedy = !o->batch && !arguments_given(argc, argv, flags, n_flags, "--temp");
    const bool no_penalties = !o->batch && o->sampling.repeat_penalty == 1 && o->sampling.presence_penalty == 0 &&
                              o->sampling.frequency_penalty == 0;
    const struct {
        const char *flag;
        bool useless;
        const char *message;
    } rows[] = {
        {"--parallel", !o->batch, "--parallel needs --batch"},
        {"--length-penalty", !o->n_beams, "--length-penalty needs --beams"},
        {"--top-logprobs", !o->logprobs, "--top-logprobs needs --logprobs"},
        {"--top-k", greedy, "--top-k needs --temp: without it the likeliest token is chosen"},
        {"--top-p", greedy, "--top-p needs --temp: without it the likeliest token is chosen"},
        {"--min-p", greedy, "--min-p needs --temp: without it the likeliest token is chosen"},
        {"--repeat-last-n", no_penalties,
         "--repeat-last-n needs --repeat-penalty, --presence-penalty or --frequency-penalty"},
        {"--traversal-skip", o->traversal == TROL_TRAVERSAL_OFF,
         "--traversal-skip has no effect with --traversal off, which has no second pass"},
        {"--stats", o->batch != NULL, "--stats cannot be combined with --batch, whose answers have timings each"},
        {"--lookup", o->lookup > 0 && o->traversal == TROL_TRAVERSAL_ALL,
         "--lookup cannot be combined with --traversal all"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].useless && arguments_given(argc, argv, flags, n_flags, rows[i].flag))
            return rows[i].message;
    return NULL;
}

/* ---- the run and its callbacks --------------------------------------------------------------- */

/* For the signal handler, which takes no arguments. The session is that of an answer being written. */
static volatile sig_atomic_t caught_signal;
static trol_session *volatile session_to_cancel;

/* Until there is output, nothing needs to end cleanly: reading, decoding and encoding a picture and processing the
 * prompt stop at once, however long they would take. */
static void stop_session(int number) {
    if (!session_to_cancel || caught_signal)
        signals_end_at_once(number);
    caught_signal = number;
    trol_session_cancel(session_to_cancel);
}

/* A program started without one of the standard streams must not get one of its own files in that place. Opened only
 * for reading, so that writing to it fails. */
static void fill_standard_streams(void) {
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDONLY);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor >= 0)
        close(descriptor);
}

/* ---- input ----------------------------------------------------------------------------------- */

enum { MAX_PROMPT_BYTES = 64 << 20 };

static trol_status check_text(run *r, const char *name, const char *text, size_t n_bytes) {
    const size_t valid = utf8_valid_prefix(text, n_bytes);
    return valid == n_bytes ? TROL_OK
                            : fail(r->error, TROL_ERROR_FORMAT, "%s: byte %zu is not valid UTF-8", name, valid + 1);
}

static trol_status read_prompt(run *r) {
    const options *o = r->chosen;
    if (o->system && check_text(r, "--system", o->system, strlen(o->system)) != TROL_OK)
        return r->error->status;
    if (o->tokens)
        return token_file_read(o->tokens, &r->tokens, &r->n_tokens, r->error);
    if (o->prompt && !is_stdin(o->prompt)) {
        r->prompt = strdup(o->prompt);
        return r->prompt ? check_text(r, "--prompt", r->prompt, strlen(r->prompt))
                         : fail(r->error, TROL_ERROR_MEMORY, "out of memory");
    }
    const char *path = o->prompt_file ? o->prompt_file : "-";
    size_t n;
    trol_status status = input_file_read(path, MAX_PROMPT_BYTES, &r->prompt, &n, r->error);
    if (status != TROL_OK)
        return status;
    if (n >= 3 && memcmp(r->prompt, "\xef\xbb\xbf", 3) == 0) { /* a byte-order mark is not text */
        n -= 3;
        memmove(r->prompt, r->prompt + 3, n + 1);
    }
    if (memchr(r->prompt, '\0', n))
        return fail(r->error, TROL_ERROR_FORMAT, "the prompt from %s contains a NUL byte, so it is not text",
                    is_stdin(path) ? "standard input" : path);
    if (n > 0 && r->prompt[n - 1] == '\n')
        r->prompt[--n] = '\0';
    if (n > 0 && r->prompt[n - 1] == '\r')
        r->prompt[--n] = '\0';
    return check_text(r, is_stdin(path) ? "standard input" : path, r->prompt, n);
}

/* --raw: special tokens are recognized, each <image> becomes an image's tokens. */
static trol_status make_raw_tokens(run *r) {
    int32_t image_tokens[ARGUMENT_MAX_TEXTS];
    const size_t n_images = r->chosen->images.count;
    const trol_message message = {.role = TROL_ROLE_USER, .text = r->prompt};
    for (size_t i = 0; i < n_images; i++)
        image_tokens[i] = trol_features_n_tokens(r->features[i]);
    return trol_render_prompt(r->model, &message, 1, image_tokens, n_images, TROL_RENDER_RAW | TROL_RENDER_SPECIAL,
                              &r->rendered, &r->n_tokens, r->error);
}

static trol_status prefill_tokens(run *r) {
    double start = clock_seconds();
    size_t n_images = r->chosen->images.count;
    trol_status status = trol_encode_images(r->model, (const trol_image *const *)r->images, n_images, cli_show_progress,
                                            r, r->features, r->error);
    r->image_seconds = clock_seconds() - start;
    if (status == TROL_OK && r->chosen->raw)
        status = make_raw_tokens(r);
    const int32_t *tokens = r->chosen->raw ? r->rendered : r->tokens;
    return status == TROL_OK ? trol_session_prefill(r->session, tokens, r->n_tokens, r->features, n_images, r->error)
                             : status;
}

static trol_status prefill(run *r) {
    const options *o = r->chosen;
    if (o->tokens || o->raw)
        return prefill_tokens(r);
    const trol_message messages[2] = {{.role = TROL_ROLE_SYSTEM, .text = o->system},
                                      {.role = TROL_ROLE_USER, .text = r->prompt}};
    size_t first = o->system ? 0 : 1;
    return trol_session_set_prompt(r->session, messages + first, 2 - first, (const trol_image *const *)r->images,
                                   o->images.count, r->error);
}

/* ---- answer ---------------------------------------------------------------------------------- */

static trol_status generate(run *r) {
    if (r->chosen->n_beams > 0) {
        session_to_cancel = r->session;
        return beams_answer(r);
    }
    trol_generate_params params;
    trol_status status = cli_make_sampler(r);
    if (status != TROL_OK)
        return status;
    cli_generate_params(r, &params);
    trol_stop stop;
    session_to_cancel = r->session;
    status = trol_generate(r->session, &params, cli_write_answer, r, &stop, r->error);
    if (status == TROL_OK)
        status = cli_write_answer(r, "\n") ? TROL_ERROR_IO : TROL_OK;
    else if (r->wrote) { /* the answer so far stays, on its own line */
        fputs("\n", stdout);
        fflush(stdout);
    }
    if (status == TROL_OK && stop == TROL_STOP_CONTEXT)
        cli_notice(r, "the answer was cut short: the context is full (-c gives it more room)");
    return status;
}

/* A large picture takes more memory than anything else after the prompt has been processed. */
static void free_images(run *r) {
    for (size_t i = 0; i < r->chosen->images.count; i++) {
        trol_image_free(r->images[i]);
        r->images[i] = NULL;
    }
}

static trol_status close_outputs(run *r, bool keep) {
    npy_file *logits = r->logits, *prefill_logits = r->prefill_logits;
    logprobs_file *logprobs = r->logprobs;
    r->logits = r->prefill_logits = NULL;
    r->logprobs = NULL;
    trol_status status = npy_close(logits, keep, r->error);
    trol_status second = npy_close(prefill_logits, keep && status == TROL_OK, status == TROL_OK ? r->error : NULL);
    if (status == TROL_OK)
        status = second;
    second = logprobs_file_close(logprobs, keep && status == TROL_OK, status == TROL_OK ? r->error : NULL);
    return status == TROL_OK ? second : status;
}

static trol_status answer(run *r) {
    r->progress = progress_start(r->chosen->quiet);
    signals_progress_line(&r->progress.shown);
    if (r->chosen->batch) {
        trol_status status = trol_threads_new(r->chosen->n_threads, &r->threads, r->error);
        if (status == TROL_OK)
            status = cli_load_model(r);
        if (status == TROL_OK) /* a wrong schema ends the run instead of failing each line */
            status = constraint_make(r);
        return status == TROL_OK ? batch_run(r) : status;
    }
    if (r->chosen->chat) {
        trol_status status = r->chosen->prompt || r->chosen->prompt_file ? read_prompt(r) : TROL_OK;
        if (status == TROL_OK)
            status = cli_load_model(r);
        if (status == TROL_OK)
            status = constraint_make(r);
        return status == TROL_OK ? chat_run(r) : status;
    }
    trol_status status = read_prompt(r);
    if (status == TROL_OK)
        status = cli_read_images(r);
    if (status == TROL_OK)
        status = cli_load_model(r);
    if (status == TROL_OK)
        status = constraint_make(r);
    if (status == TROL_OK && r->chosen->tokens)
        status = token_file_check(r->chosen->tokens, r->tokens, r->n_tokens, r->info.n_tokens, r->error);
    if (status == TROL_OK)
        status = cli_start_session(r);
    if (status == TROL_OK)
        status = prefill(r);
    free_images(r);
    progress_clear(&r->progress);
    if (status == TROL_OK && r->chosen->n_predict > 0)
        status = generate(r);
    if (status == TROL_OK && r->chosen->session)
        status = trol_session_save(r->session, NULL, r->chosen->session, r->error);
    if (status != TROL_OK && r->inner_error.status != TROL_OK)
        *r->error = r->inner_error; /* the reason why a callback stopped the library */
    if (status != TROL_OK) {
        (void)close_outputs(r, false);
        return status;
    }
    return close_outputs(r, true);
}

static void release(run *r) {
    signals_progress_line(NULL);
    trol_session_free(r->session);
    trol_sampler_free(r->sampler);
    trol_constraint_free(r->constraint);
    free(r->constraint_text);
    for (size_t i = 0; i < r->chosen->images.count; i++)
        trol_features_free(r->features[i]);
    free_images(r);
    trol_model_free(r->model);
    trol_cache_free(r->cache);
    trol_threads_free(r->threads);
    free(r->tokens);
    trol_free(r->rendered);
    free(r->prompt);
}

static int bad_usage(const char *what) {
    tool_say("trol-cli", "%s (trol-cli --help lists the options)", what);
    return 2;
}

int main(int argc, char **argv) {
    options chosen = {.n_predict = 256, .n_top_logprobs = 5, .parallel = 4, .length_penalty = 1};
    trol_sampler_params_init(&chosen.sampling);
    trol_error error = {TROL_OK, ""};
    fill_standard_streams();
    if (!arguments_parse(argc, argv, flags, sizeof flags / sizeof *flags, &chosen, &error))
        return bad_usage(error.message);
    if (chosen.help)
        return standard_output_text("trol-cli", usage);
    if (chosen.version)
        return standard_output_version("trol-cli");
    if (!chosen.prompt && !chosen.prompt_file && !chosen.tokens && !chosen.batch && isatty(STDIN_FILENO) &&
        isatty(STDOUT_FILENO))
        chosen.chat = true;
    const char *wrong = contradiction(&chosen);
    if (!wrong)
        wrong = without_effect(argc, argv, &chosen);
    if (wrong)
        return bad_usage(wrong);
    run r = {.chosen = &chosen, .error = &error};
    if (!logit_bias_read(&chosen.logit_bias, r.logit_bias, &error))
        return bad_usage(error.message);
    signals_catch(stop_session);
    trol_status status = answer(&r);
    session_to_cancel = NULL;
    if (status == TROL_OK && chosen.stats && r.session)
        cli_print_stats(&r);
    release(&r);
    if (status == TROL_OK)
        return 0;
    if (r.stopped_by)
        tool_say("trol-cli", "%s", error.message);
    if (caught_signal || r.stopped_by)
        return 128 + (r.stopped_by ? r.stopped_by : (int)caught_signal);
    tool_say("trol-cli", "%s", error.message);
    return 1;
}
