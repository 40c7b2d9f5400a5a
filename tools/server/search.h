/* search.h - a beam search, on a thread of its own beside the engine's: it is one long call of the library. */
#ifndef SERVER_SEARCH_H
#define SERVER_SEARCH_H

#include "server/job.h"

typedef struct search search;

/* Searches for the answer to the prompt that the session holds; the search owns the session until search_end. `wake` is
 * called from its thread at the end. trol_session_cancel stops it. */
trol_status search_start(trol_session *session, const chat_request *request, int32_t max_tokens,
                         void (*wake)(void *user), void *user, search **result, trol_error *error);
bool search_is_over(const search *s);
/* Waits for the end and frees the search. *list is what was found. */
trol_status search_end(search *s, trol_beam_list **list, trol_error *error);

#endif
