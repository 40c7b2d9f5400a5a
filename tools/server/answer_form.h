/* answer_form.h - the form that a chat request asks of its answer (JSON, a JSON Schema, a grammar) as a constraint. */
#ifndef SERVER_ANSWER_FORM_H
#define SERVER_ANSWER_FORM_H

#include "server/chat_request.h"

/* *constraint is NULL where any text may be answered; free it with trol_constraint_free. false with the error. */
bool answer_form_new(trol_model *model, const chat_request *request, trol_constraint **constraint, api_error *error);
/* Whether any answer in the form fits in the request's max_tokens. false with the error. constraint NULL: true. */
bool answer_form_fits(trol_constraint *constraint, const chat_request *request, api_error *error);

#endif
