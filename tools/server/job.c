#include "server/job.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

job *job_new(chat_request *request) {
    job *j = calloc(1, sizeof *j);
    event *spare = calloc(1, sizeof *spare);
    api_error *error = calloc(1, sizeof *error);
    const int event_fd = j && spare && error ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (event_fd < 0) {
        free(error);
        free(spare);
        free(j);
        chat_request_free(request);
        return NULL;
    }
    spare->kind = EVENT_ERROR;
    spare->error = error;
    j->spare = spare;
    j->request = *request;
    j->event_fd = event_fd;
    j->last = &j->first;
    atomic_init(&j->references, 1);
    pthread_mutex_init(&j->mutex, NULL);
    *request = (chat_request){0};
    return j;
}

job *job_retain(job *j) {
    atomic_fetch_add(&j->references, 1);
    return j;
}

void job_release(job *j) {
    if (!j || atomic_fetch_sub(&j->references, 1) > 1)
        return;
    for (event *e = j->first, *next; e; e = next) {
        next = e->next;
        event_free(e);
    }
    event_free(j->spare);
    chat_request_free(&j->request);
    trol_constraint_free(j->constraint);
    trol_free(j->tokens);
    free(j->gates.values);
    close(j->event_fd);
    pthread_mutex_destroy(&j->mutex);
    free(j);
}

void event_free(event *e) {
    if (!e)
        return;
    free(e->text);
    free(e->logprobs);
    free(e->error);
    free(e);
}

void job_put(job *j, event *e) {
    const uint64_t one = 1;
    e->next = NULL;
    pthread_mutex_lock(&j->mutex);
    *j->last = e;
    j->last = &e->next;
    pthread_mutex_unlock(&j->mutex);
    if (write(j->event_fd, &one, sizeof one) < 0) { /* the counter is full: it is readable anyway */
    }
}

void job_put_error(job *j, const api_error *error) {
    event *e = j->spare;
    j->spare = NULL;
    *e->error = *error;
    job_put(j, e);
}

event *job_take(job *j) {
    uint64_t count;
    pthread_mutex_lock(&j->mutex);
    event *e = j->first;
    if (e) {
        j->first = e->next;
        if (!j->first)
            j->last = &j->first;
    }
    if (!j->first && read(j->event_fd, &count, sizeof count) < 0) { /* it was empty already */
    }
    pthread_mutex_unlock(&j->mutex);
    return e;
}

void job_cancel(job *j) {
    pthread_mutex_lock(&j->mutex);
    atomic_store(&j->cancelled, true);
    if (j->running)
        trol_session_cancel(j->running);
    pthread_mutex_unlock(&j->mutex);
}

void job_set_running(job *j, trol_session *session) {
    pthread_mutex_lock(&j->mutex);
    j->running = session;
    if (session && atomic_load(&j->cancelled))
        trol_session_cancel(session);
    pthread_mutex_unlock(&j->mutex);
}
