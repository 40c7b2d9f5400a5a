/* trol-synth - writes a random checkpoint of a published model's full size and layout, for benchmarks and memory tests.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/arguments.h"
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
    "  --tokenizer FOLDER  copies the tokenizer's files from it; without it only raw token ids can be used\n"
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

typedef struct options {
    synthetic_options checkpoint;
    int32_t dtype;
    bool help, version;
} options;

#define AT(member) offsetof(options, member)
static const argument_flag flags[] = {
    {"MODEL", NULL, ARGUMENT_PLACE, AT(checkpoint.model), 1, 0, {0}},
    {"DIR", NULL, ARGUMENT_PLACE, AT(checkpoint.folder), 1, 0, {0}},
    {"--layers", NULL, ARGUMENT_INTEGER, AT(checkpoint.n_layers), 1, 1000, {0}},
    {"--vision-layers", NULL, ARGUMENT_INTEGER, AT(checkpoint.n_vision_layers), 1, 1000, {0}},
    {"--dtype", NULL, ARGUMENT_CHOICE, AT(dtype), 0, 0, {"f16", "bf16", "f32"}},
    {"--seed", NULL, ARGUMENT_SEED, AT(checkpoint.seed), 0, 0, {0}},
    {"--tokenizer", NULL, ARGUMENT_TEXT, AT(checkpoint.tokenizer), 0, 0, {0}},
    {"--force", NULL, ARGUMENT_SWITCH, AT(checkpoint.force), 0, 0, {0}},
    {"--help", "-h", ARGUMENT_SWITCH, AT(help), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, AT(version), 0, 0, {0}},
};

int main(int argc, char **argv) {
    trol_error error = {TROL_OK, ""};
    options chosen = {.checkpoint = {.seed = 1, .cancel = &interrupted}};
    if (!arguments_parse(argc, argv, flags, sizeof flags / sizeof *flags, &chosen, &error))
        return tool_say("trol-synth", "%s (trol-synth --help lists the options)", error.message), 2;
    if (chosen.help)
        return standard_output_text("trol-synth", usage);
    if (chosen.version)
        return standard_output_version("trol-synth");
    synthetic_options *checkpoint = &chosen.checkpoint;
    if (!checkpoint->folder)
        return fputs(usage, stderr), 2;
    checkpoint->type = (random_dtype)chosen.dtype;
    checkpoint->progress = isatty(STDERR_FILENO) ? show_progress : NULL;
    signals_catch(on_interrupt);
    synthetic_result result;
    if (!synthetic_write(checkpoint, &result, &error)) {
        tool_say("trol-synth", "%s%s", error.message,
                 strstr(error.message, "exists already") ? " (--force overwrites)" : "");
        return 1;
    }
    printf("%s: random weights of %s, %d layers, %zu tensors, %.2f GB%s\n", checkpoint->folder, checkpoint->model,
           result.n_layers, result.n_tensors, (double)result.weight_bytes / 1e9,
           checkpoint->tokenizer ? "" : ", no tokenizer");
    return standard_output_end("trol-synth", 0);
}
