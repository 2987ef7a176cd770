/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */

/* The names that there are, for who uses one that is not there. */
#include "shell.h"

#include "nearest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether it is the same as another one with its preload's name in front. */
static bool is_qualified(const Peach__Registration *r, const Peach__Function *function)
{
    const char *preload = r->preloads[function->preload]->name;
    size_t stem = strcspn(preload, ".:");
    return strncmp(function->name, preload, stem) == 0 && strchr(".:", function->name[stem]) &&
           function->name[stem];
}

/* The names that workers have; with all, qualified ones, too. Lent, each once; their number. */
static size_t collect_names(const broker_t *b, bool all, const char **names, size_t most)
{
    static char present;
    size_t count = 0;
    table_t *seen = table_new(&b->seed);
    for (node_t *n = list_first(&b->peers); seen && n; n = list_next(&b->peers, n)) {
        const Peach__Registration *r = LIST_ITEM(n, peer_t, node)->registration;
        for (size_t i = 0; r && i < r->n_functions && count < most; i++) {
            const char *name = r->functions[i]->name;
            if ((!all && is_qualified(r, r->functions[i])) || table_get(seen, name, strlen(name)) ||
                table_put(seen, name, strlen(name), &present) != 0)
                continue;
            names[count++] = name;
        }
    }
    table_destroy(&seen);
    return count;
}

void names_suggest(void *shell, const char *function, char *text, size_t size)
{
    enum { MOST = 4096, TOLD = 12 };
    const broker_t *b = shell;
    const char **names = calloc(MOST, sizeof *names);
    if (!names) return;
    const char *near = nearest(function, names, collect_names(b, true, names, MOST));
    size_t used = near ? (size_t)snprintf(text, size, "; did you mean %s?", near) : 0;
    size_t count = collect_names(b, false, names, MOST);
    for (size_t i = 0; i < count && i < TOLD && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s",
                                 i      ? ", "
                                 : near ? " There are: "
                                        : "; there are: ",
                                 names[i]);
    if (count > TOLD && used < size)
        used += (size_t)snprintf(text + used, size - used, " and %zu more", count - TOLD);
    if (used < size)
        snprintf(text + used, size - used, "%s",
                 count ? " (a preload brings others: -l FILE)"
                       : "; load it with a preload (-l FILE)");
    free(names);
}

void names_of_preloads(const broker_t *b, char *text, size_t size)
{
    static char present;
    size_t used = 0;
    table_t *seen = table_new(&b->seed);
    snprintf(text, size, "none");
    for (node_t *n = list_first(&b->peers); seen && n; n = list_next(&b->peers, n)) {
        const Peach__Registration *r = LIST_ITEM(n, peer_t, node)->registration;
        for (size_t i = 0; r && i < r->n_preloads && used < size; i++) {
            const char *name = r->preloads[i]->name;
            if (table_get(seen, name, strlen(name)) ||
                table_put(seen, name, strlen(name), &present) != 0)
                continue;
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", name);
        }
    }
    table_destroy(&seen);
}
