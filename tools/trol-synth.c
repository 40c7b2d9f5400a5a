/* trol-synth - writes a random checkpoint of a published model's full size and layout, for benchmarks and memory tests.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/signals.h"
#include "common/standard_output.h"
#include "common/synthetic.h"
#include "trol.h"

static const char usage[] =
    "usage: trol-synth MODEL DIR [OPTIONS]\n"
    "\n"
    "Writes a checkpoint with random weights in the size and layout of MODEL (TroL-1.8B, TroL-3.8B or TroL-7B) into "
    "the\n"
    "folder DIR, which is created if necessary.\n"
    "\n"
    "  --layers N          decoder layers (default: all)\n"
    "  --vision-layers N   layers of the vision encoder (default: all)\n"
    "  --dtype TYPE        f16 (default), bf16 or f32\n"
    "  --seed N            of the random numbers (default 1)\n"
    "  --tokenizer FOLDER  copies the tokenizer's files from there; without it only raw token ids can be used\n"
    "  --force             overwrites files that exist\n"
    "  --help, --version\n";

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static void show_progress(int64_t done, int64_t total) {
    fprintf(stderr, "\rwriting %d%%%s", (int)(100 * done / total), done == total ? "\n" : "");
}

static int bad_usage(const char *what, const char *value) {
    tool_say("trol-synth", "%s %s (trol-synth --help lists the options)", what, value);
    return 2;
}

static bool parse_number(const char *text, uint64_t smallest, uint64_t largest, uint64_t *value) {
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *value >= smallest && *value <= largest;
}

static bool parse_dtype(const char *text, random_dtype *type) {
    static const char *const names[] = {"f16", "bf16", "f32"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *type = (random_dtype)i;
            return true;
        }
    return false;
}

/* An option with a value. */
static bool parse_option(const char *option, const char *value, synthetic_options *options) {
    uint64_t number = 0;
    if (strcmp(option, "--layers") == 0 && parse_number(value, 1, 1000, &number))
        options->n_layers = (int)number;
    else if (strcmp(option, "--vision-layers") == 0 && parse_number(value, 1, 1000, &number))
        options->n_vision_layers = (int)number;
    else if (strcmp(option, "--seed") == 0 && parse_number(value, 0, UINT64_MAX, &number))
        options->seed = number;
    else if (strcmp(option, "--tokenizer") == 0)
        options->tokenizer = value;
    else
        return strcmp(option, "--dtype") == 0 && parse_dtype(value, &options->type);
    return true;
}

/* The exit status, or -1 to continue. */
static int parse_arguments(int argc, char **argv, synthetic_options *options) {
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)
            return standard_output_text("trol-synth", usage);
        if (strcmp(argument, "--version") == 0)
            return standard_output_version("trol-synth");
        if (strcmp(argument, "--force") == 0)
            options->force = true;
        else if (argument[0] != '-' && !options->model)
            options->model = argument;
        else if (argument[0] != '-' && !options->folder)
            options->folder = argument;
        else if (argument[0] != '-')
            return bad_usage("takes a model and a folder, and does not know what to do with", argument);
        else if (i + 1 == argc)
            return bad_usage("does not know, or misses the value of,", argument);
        else if (!parse_option(argument, argv[i + 1], options))
            return tool_say("trol-synth", "does not understand %s %s (trol-synth --help lists the options)", argument,
                            argv[i + 1]),
                   2;
        else
            i++;
    }
    if (!options->folder)
        return fputs(usage, stderr), 2;
    return -1;
}

int main(int argc, char **argv) {
    synthetic_options options = {
        .seed = 1, .cancel = &interrupted, .progress = isatty(STDERR_FILENO) ? show_progress : NULL};
    int exit_status = parse_arguments(argc, argv, &options);
    if (exit_status >= 0)
        return exit_status;
    signals_catch(on_interrupt);
    synthetic_result result;
    trol_error error;
    if (!synthetic_write(&options, &result, &error)) {
        tool_say("trol-synth", "%s%s", error.message,
                 strstr(error.message, "exists already") ? " (--force overwrites)" : "");
        return 1;
    }
    printf("%s: random weights of %s, %d layers, %zu tensors, %.2f GB%s\n", options.folder, options.model,
           result.n_layers, result.n_tensors, (double)result.weight_bytes / 1e9,
           options.tokenizer ? "" : ", no tokenizer");
    return standard_output_end("trol-synth", 0);
}
