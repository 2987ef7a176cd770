/* Hash table from numbers to pointers: 16 bytes an entry. Numbers are hashed with a
   keyed multiplication under a secret of the owner, so that no peer can choose ones that
   collide.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_IDMAP_H
#define PEACH_IDMAP_H

#include "table.h"

typedef struct idmap idmap_t;

/* NULL when memory is out. */
idmap_t *idmap_new(const table_seed_t *seed);

/* Does not touch the values. Sets *self_p to NULL. */
void idmap_destroy(idmap_t **self_p);

/* An id that is there already gets the new value. 0 or PEACH_E_MEMORY. value must not be
   NULL. */
int idmap_put(idmap_t *self, uint64_t id, void *value);

/* NULL when the id is not there. remove takes it out. */
void *idmap_get(const idmap_t *self, uint64_t id);
void *idmap_remove(idmap_t *self, uint64_t id);

size_t idmap_count(const idmap_t *self);

/* The values in no particular order: start with *cursor = 0, NULL at the end. The map
   must not change meanwhile. */
void *idmap_next(const idmap_t *self, size_t *cursor);

#endif
