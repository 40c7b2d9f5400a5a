#include "cli/beams.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json_text.h"
#include "common/output_file.h"

const char *beams_contradiction(const options *o) {
    if (!o->n_beams)
        return o->n_best ? "--n-best needs --beams" : NULL;
    if (o->chat || o->batch)
        return "--beams cannot be combined with --chat or --batch";
    if (o->sampling.temperature > 0 || o->logit_bias.count > 0 || o->sampling.repeat_penalty != 1 ||
        o->sampling.presence_penalty != 0 || o->sampling.frequency_penalty != 0)
        return "a beam search uses the model's own probabilities: --temp, penalties and --logit-bias cannot be "
               "combined with "
               "--beams";
    if (o->lookup || o->logits || o->logprobs)
        return "--lookup, --logits and --logprobs cannot be combined with --beams";
    return NULL;
}

static const char *stop_name(trol_stop stop) {
    return stop == TROL_STOP_END      ? "end"
           : stop == TROL_STOP_STRING ? "stop"
           : stop == TROL_STOP_LENGTH ? "length"
                                      : "context";
}

/* {"score": -0.5, "stop": "end", "tokens": [...], "text": "..."}, best first, an answer a line. */
static trol_status write_list(const char *path, const trol_beam_list *list, trol_error *error) {
    output_file out;
    const trol_beam *b;
    trol_status status = output_file_open(path, &out, error);
    if (status != TROL_OK)
        return status;
    for (size_t i = 0; (b = trol_beam_list_get(list, i)); i++) {
        fprintf(out.stream, "{\"score\": %.9g, \"stop\": \"%s\", \"tokens\": [", (double)b->score, stop_name(b->stop));
        for (size_t k = 0; k < b->n_tokens; k++)
            fprintf(out.stream, k ? ", %" PRId32 : "%" PRId32, b->tokens[k]);
        fputs("], \"text\": ", out.stream);
        json_text_write(out.stream, b->text, strlen(b->text));
        fputs("}\n", out.stream);
    }
    if (ferror(out.stream))
        status = output_file_failed(&out, error);
    trol_status closed = output_file_close(&out, status == TROL_OK, status == TROL_OK ? error : NULL);
    return status == TROL_OK ? closed : status;
}

trol_status beams_answer(run *r) {
    const options *o = r->chosen;
    trol_beams_params params;
    trol_beam_list *list;
    trol_beams_params_init(&params);
    params.n_beams = o->n_beams;
    params.length_penalty = o->length_penalty;
    params.max_tokens = o->n_predict;
    params.ignore_eos = o->ignore_eos;
    params.stops = o->stops.items;
    params.n_stops = o->stops.count;
    params.constraint = r->constraint;
    trol_status status = trol_beams(r->session, &params, &list, r->error);
    if (status != TROL_OK)
        return status;
    const trol_beam *best = trol_beam_list_get(list, 0);
    r->n_generated = (int64_t)best->n_tokens;
    if (cli_write_answer(r, best->text) || cli_write_answer(r, "\n"))
        status = TROL_ERROR_IO;
    if (status == TROL_OK && best->stop == TROL_STOP_CONTEXT)
        cli_notice(r, "the answer was cut short: the context is full (-c gives it more room)");
    if (status == TROL_OK && o->n_best)
        status = write_list(o->n_best, list, r->error);
    trol_beam_list_free(list);
    return status;
}
