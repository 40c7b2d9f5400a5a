/* slot_choice.h - the slot in which a conversation continues. */
#ifndef SERVER_SLOT_CHOICE_H
#define SERVER_SLOT_CHOICE_H

#include "server/engine.h"
#include "server/slot.h"

/* Of slots [params->n_slots] the idle one that was unused longest, an empty one first, and not `but`. NULL: none. */
slot *slot_find_idle(const engine_params *params, slot *slots, const slot *but);
/* An idle slot for the job's prompt with what can be reused in it; there must be one. The longest conversation that
 * shares a beginning is taken over if most of it is shared, else copied, so that it stays for the conversation that it
 * belongs to.
 */
trol_status slot_take(const engine_params *params, slot *slots, const job *j, trol_features *const *features,
                      slot **result, trol_error *error);

#endif
