/* trol-quantize - writes a copy of a checkpoint with its matrices packed to 8 or 4 bits, to be mapped and used as
 * stored.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/arguments.h"
#include "common/fail.h"
#include "common/progress.h"
#include "common/signals.h"
#include "common/standard_output.h"
#include "trol.h"

static const char usage[] =
    "usage: trol-quantize [OPTIONS] IN OUT\n"
    "\n"
    "Writes the checkpoint IN (a folder or a hub name) into the folder OUT with its matrices packed. OUT is used like "
    "IN, opens\n"
    "at once and needs no private memory. Embeddings and norms stay as they are; LoRA and the output head have at "
    "least\n"
    "8 bits.\n"
    "\n"
    "  --type TYPE         q8 (default) or q4\n"
    "  --vision-type TYPE  as-stored (default), q8 or q4, of the vision encoder and the projector\n"
    "  -t, --threads N     default: one per core\n"
    "  --force             overwrites files that are already in OUT\n"
    "  --quiet             no progress line\n"
    "  --help, --version\n";

typedef struct options {
    const char *input, *output;
    int32_t type, vision_type, n_threads;
    bool force, quiet, help, version;
} options;

#define AT(member) offsetof(options, member)

static const argument_flag flags[] = {
    {"IN", NULL, ARGUMENT_PLACE, AT(input), 1, 0, {0}},
    {"OUT", NULL, ARGUMENT_PLACE, AT(output), 1, 0, {0}},
    {"--type", NULL, ARGUMENT_CHOICE, AT(type), 0, 0, {"q8", "q4"}},
    {"--vision-type", NULL, ARGUMENT_CHOICE, AT(vision_type), 0, 0, {"as-stored", "q8", "q4"}},
    {"--threads", "-t", ARGUMENT_INTEGER, AT(n_threads), 1, 256, {0}},
    {"--force", NULL, ARGUMENT_SWITCH, AT(force), 0, 0, {0}},
    {"--quiet", NULL, ARGUMENT_SWITCH, AT(quiet), 0, 0, {0}},
    {"--help", "-h", ARGUMENT_SWITCH, AT(help), 0, 0, {0}},
    {"--version", NULL, ARGUMENT_SWITCH, AT(version), 0, 0, {0}},
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) { interrupted = number; }

static int show(void *user, trol_stage stage, int64_t done, int64_t total) {
    progress_show(user, stage, done, total);
    return interrupted != 0;
}

static void show_warning(void *user, trol_log_level level, const char *message) {
    if (level < TROL_LOG_WARNING)
        return;
    progress_clear(user);
    tool_say("trol-quantize", "%s", message);
}

int main(int argc, char **argv) {
    static const trol_weight_type types[] = {TROL_WEIGHTS_Q8, TROL_WEIGHTS_Q4};
    static const trol_weight_type vision_types[] = {TROL_WEIGHTS_AS_STORED, TROL_WEIGHTS_Q8, TROL_WEIGHTS_Q4};
    options o = {0};
    trol_error error;
    if (!arguments_parse(argc, argv, flags, sizeof flags / sizeof flags[0], &o, &error)) {
        tool_say("trol-quantize", "%s (trol-quantize --help lists the options)", error.message);
        return 2;
    }
    if (o.help)
        return standard_output_text("trol-quantize", usage);
    if (o.version)
        return standard_output_version("trol-quantize");
    if (!o.output)
        return fputs(usage, stderr), 2;
    signals_catch(on_interrupt);
    progress_line line = progress_start(o.quiet);
    trol_quantize_params params;
    trol_quantize_params_init(&params);
    params.weight_type = types[o.type];
    params.vision_type = vision_types[o.vision_type];
    params.n_threads = o.n_threads;
    params.overwrite = o.force;
    params.log = show_warning;
    params.log_user = params.progress_user = &line;
    params.progress = show;
    const trol_status status = trol_quantize(o.input, o.output, &params, &error);
    progress_clear(&line);
    if (status == TROL_OK)
        return 0;
    if (interrupted) {
        tool_say("trol-quantize", "interrupted; nothing was kept");
        return 128 + (int)interrupted;
    }
    tool_say("trol-quantize", "%s%s", error.message,
             strstr(error.message, "exists already") ? " (--force overwrites it)" : "");
    return 1;
}
