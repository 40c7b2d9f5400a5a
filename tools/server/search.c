#include "server/search.h"

#include <stdlib.h>

#include "common/fail.h"

struct search {
    trol_session *session;
    trol_beams_params params;
    void (*wake)(void *user);
    void *user;
    pthread_t thread;
    atomic_bool over;
    trol_beam_list *list;
    trol_status status;
    trol_error error;
};

static void *search_main(void *argument) {
    search *s = argument;
    s->status = trol_beams(s->session, &s->params, &s->list, &s->error);
    atomic_store(&s->over, true);
    s->wake(s->user);
    return NULL;
}

trol_status search_start(trol_session *session, const chat_request *request, int32_t max_tokens,
                         void (*wake)(void *user), void *user, search **result, trol_error *error) {
    search *s = calloc(1, sizeof *s);
    *result = NULL;
    if (!s)
        return fail(error, TROL_ERROR_MEMORY, "there is no memory for a search");
    s->session = session;
    s->wake = wake;
    s->user = user;
    trol_beams_params_init(&s->params);
    s->params.n_beams = request->n_beams;
    s->params.max_tokens = max_tokens;
    s->params.stops = (const char *const *)request->stops;
    s->params.n_stops = request->n_stops;
    if (pthread_create(&s->thread, NULL, search_main, s) != 0) {
        free(s);
        return fail(error, TROL_ERROR_MEMORY, "the thread of a search could not be started");
    }
    *result = s;
    return TROL_OK;
}

bool search_is_over(const search *s) { return atomic_load(&s->over); }

trol_status search_end(search *s, trol_beam_list **list, trol_error *error) {
    pthread_join(s->thread, NULL);
    const trol_status status = s->status;
    *list = s->list;
    if (status != TROL_OK)
        *error = s->error;
    free(s);
    return status;
}
