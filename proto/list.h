/* Intrusive doubly linked list: a node is a member of what is listed, so joining
   and leaving take no memory and no search. A node is in one list at most.

   This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#ifndef PEACH_LIST_H
#define PEACH_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct node {
    struct node *next, *prev; /* both NULL when in no list */
} node_t;

typedef struct {
    node_t head; /* a ring through the head */
} list_t;

#define LIST_ITEM(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

static inline void list_init(list_t *list) { list->head.next = list->head.prev = &list->head; }
static inline bool list_empty(const list_t *list) { return list->head.next == &list->head; }
static inline bool node_listed(const node_t *node) { return node->next != NULL; }

static inline void node_insert(node_t *node, node_t *before)
{
    node->next = before;
    node->prev = before->prev;
    before->prev->next = node;
    before->prev = node;
}

static inline void list_append(list_t *list, node_t *node) { node_insert(node, &list->head); }
static inline void list_prepend(list_t *list, node_t *node) { node_insert(node, list->head.next); }

static inline void list_remove(node_t *node)
{
    if (!node->next) return;
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = NULL;
}

/* The first node, or NULL. */
static inline node_t *list_first(const list_t *list)
{
    return list_empty(list) ? NULL : list->head.next;
}

/* The node behind this one, or NULL at the end. */
static inline node_t *list_next(const list_t *list, const node_t *node)
{
    return node->next == &list->head ? NULL : node->next;
}

#endif
