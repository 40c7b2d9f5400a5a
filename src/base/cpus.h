/* cpus.h - the CPUs that this process should use: those of its affinity mask, one thread for each physical core, no
 * more than its container's quota allows. For any number of possible CPUs. */
#ifndef BASE_CPUS_H
#define BASE_CPUS_H

#include <stdbool.h>
#include <stddef.h>

/* The CPUs that the process may run on, ascending, and the core that each is part of. */
typedef struct cpu_list {
    int *cpus;    /* [n_cpus] */
    int *core_of; /* [n_cpus]: the first CPU in the list that shares a core with this one */
    int n_cpus, n_cores;
} cpu_list;

/* Of the calling thread. Where the mask cannot be read or memory is short, an empty list, which needs no freeing. */
cpu_list cpus_allowed(const char *root);
void cpus_free(cpu_list *list);

/* Of CPUs given ascending: n_cpus of them, what files below `root` ("": the system's own) state about their cores. */
cpu_list cpus_of(const char *root, const int *cpus, int n_cpus);

/* How many CPUs' time the control groups of this process (version 1 and 2) leave it, rounded up; 0 if they set no
 * limit. `root` as above. */
int cpus_quota(const char *root);

/* One thread for each core of the list, within the quota: at least 1. */
int cpus_default_threads(const cpu_list *list, int quota);

#endif
