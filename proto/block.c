/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "block.h"

#include "list.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 4096 };
static const char link_name[] = "/memfd:peach-block";
static const uint64_t idle_ms = 2000;               /* how long a pool keeps what is not used */
static const size_t pool_bytes = (size_t)256 << 20; /* and how much of it */
enum { POOL_BLOCKS = 64 };                          /* and how many: each has a descriptor */
static const size_t copy_bytes = 256 << 10;         /* a reader copies less: a mapping costs more */
enum { MAPPED_MOST = 20000 };                       /* and maps no more than so many */

/* The first page of the file. */
typedef struct {
    uint8_t magic[8];
    uint8_t token[BLOCK_TOKEN_BYTES]; /* changes with each use */
    uint64_t size;
    _Atomic uint32_t users; /* processes that have it open, besides its owner */
} head_t;
static const uint8_t block_magic[8] = "peach\0b1";

struct block {
    _Atomic uint32_t references;
    int fd;       /* -1: it has no name */
    head_t *head; /* NULL: data is a copy, from malloc */
    void *data;   /* NULL: not mapped yet */
    size_t size, capacity;
    Peach__Shared name;
    uint8_t token[BLOCK_TOKEN_BYTES];
    block_pool_t *pool; /* its owner's; NULL in who opened it */
    bool settled;       /* counted in mapped */
    node_t node;        /* in its pool while it is not referred to */
    uint64_t idle_since_ms;
};

struct block_pool {
    pthread_mutex_t lock;
    list_t idle;         /* oldest first */
    size_t bytes, count; /* of the idle ones */
    size_t out;          /* blocks in use */
    bool closed;
};

/* ---- where we are ---- */

static void find_place(char *place, size_t size)
{
    char boot[40] = "";
    struct stat pids;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    bool read = file && fscanf(file, "%36s", boot) == 1;
    if (file) fclose(file);
    *place = 0;
    if (!read) return;
    /* Others may open our descriptors only if we may be traced. */
    if (prctl(PR_GET_DUMPABLE) != 1 || stat("/proc/self/ns/pid", &pids) != 0) return;
    snprintf(place, size, "%s:%llu:%u", boot, (unsigned long long)pids.st_ino, geteuid());
}

static const char *place_of_ours(void)
{
    static char place[96];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool known;
    pthread_mutex_lock(&lock);
    if (!known) find_place(place, sizeof place);
    known = true;
    pthread_mutex_unlock(&lock);
    return place;
}

const char *block_place(void)
{
    const char *wish = getenv("PEACH_SHARED_MEMORY");
    return wish && strcmp(wish, "0") == 0 ? "" : place_of_ours();
}

bool block_local(void) { return *place_of_ours() != 0; }

/* ---- life ---- */

/* Blocks that readers have mapped: the kernel lets a process have 65,530 mappings of all
   kinds, and each of these is two. */
static _Atomic int mapped;

/* Who opened it lets go of its memory: its owner may use it again. */
static void release_memory(block_t *self)
{
    if (self->data) munmap(self->data, self->capacity);
    if (self->settled) atomic_fetch_sub(&mapped, 1);
    if (!self->pool) atomic_fetch_sub(&self->head->users, 1);
    munmap(self->head, HEAD_BYTES);
    self->data = self->head = NULL;
}

static void block_free(block_t *self)
{
    if (self->head)
        release_memory(self);
    else
        free(self->data);
    if (self->fd >= 0) close(self->fd);
    free(self);
}

static bool map_head(block_t *self)
{
    void *head = mmap(NULL, HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
    self->head = head == MAP_FAILED ? NULL : head;
    return self->head;
}

static bool map_data(block_t *self, int how)
{
    void *data = mmap(NULL, self->capacity, PROT_READ | PROT_WRITE, how, self->fd, HEAD_BYTES);
    self->data = data == MAP_FAILED ? NULL : data;
    return self->data;
}

/* Whether so many descriptors are in use that others should have the rest. New ones have the
   least number that is free. */
static bool is_scarce(int fd)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur / 2;
}

static block_t *block_alloc(int fd)
{
    block_t *self = fd < 0 ? NULL : calloc(1, sizeof *self);
    if (!self) {
        if (fd >= 0) close(fd);
        return NULL;
    }
    atomic_init(&self->references, 1);
    self->fd = fd;
    peach__shared__init(&self->name);
    self->name.fd = (uint32_t)fd;
    self->name.token = (ProtobufCBinaryData){BLOCK_TOKEN_BYTES, self->token};
    return self;
}

/* Whether the process may make a file of that size; a memfd counts as one. */
static bool is_allowed(size_t size)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) != 0 || size <= limit.rlim_cur;
}

static block_t *make(size_t capacity)
{
    if (!is_allowed(HEAD_BYTES + capacity)) return NULL;
    block_t *self = block_alloc(memfd_create(link_name + 7, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!self) return NULL;
    self->capacity = capacity;
    /* Sealed, so that nobody who has it open can take its memory away from the others. */
    if (is_scarce(self->fd) || ftruncate(self->fd, (off_t)(HEAD_BYTES + capacity)) != 0 ||
        fcntl(self->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0 || !map_head(self) ||
        !map_data(self, MAP_SHARED)) {
        self->pool = NULL;
        if (self->head) atomic_store(&self->head->users, 1);
        block_free(self);
        return NULL;
    }
    memcpy(self->head->magic, block_magic, sizeof block_magic);
    return self;
}

/* Makes it ours alone, under a new name; false when somebody has it open. Everybody who
   was to open it has done so; one that comes too late counts itself first, and finds the
   wrong token then. */
static bool claim(block_t *self, size_t size)
{
    if (atomic_load(&self->head->users) != 0) return false;
    randombytes_buf(self->token, sizeof self->token);
    memcpy(self->head->token, self->token, sizeof self->token);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&self->head->users) != 0) return false;
    self->size = size;
    self->head->size = size;
    self->name.pid = (uint32_t)getpid();
    self->name.size = size;
    return true;
}

/* ---- opening ---- */

static bool attach(block_t *self, const Peach__Shared *name)
{
    struct stat file;
    int seals = fcntl(self->fd, F_GET_SEALS);
    if (fstat(self->fd, &file) != 0 || file.st_size < HEAD_BYTES || seals < 0 ||
        !(seals & F_SEAL_SHRINK) || !map_head(self)) {
        errno = EINVAL;
        return false;
    }
    self->capacity = (size_t)file.st_size - HEAD_BYTES;
    atomic_fetch_add(&self->head->users, 1);
    self->size = (size_t)name->size;
    errno = ENOENT; /* its owner uses it for something else */
    return memcmp(self->head->magic, block_magic, sizeof block_magic) == 0 &&
           memcmp(self->head->token, name->token.data, BLOCK_TOKEN_BYTES) == 0 &&
           self->size <= self->capacity;
}

/* Reads what is in it into memory of this process alone; false with errno. */
static bool copy(block_t *self)
{
    uint8_t *bytes = malloc(self->size ? self->size : 1);
    size_t done = 0;
    while (bytes && done < self->size) {
        ssize_t n = pread(self->fd, bytes + done, self->size - done, (off_t)(HEAD_BYTES + done));
        if (n <= 0 && errno != EINTR) break;
        if (n > 0) done += (size_t)n;
    }
    if (!bytes || done < self->size) {
        free(bytes);
        if (!bytes) errno = ENOMEM;
        return false;
    }
    release_memory(self);
    self->data = bytes;
    return true;
}

static void forget_name(block_t *self)
{
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
}

static block_t *open_path(const char *path, const Peach__Shared *name)
{
    block_t *self = block_alloc(open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!self) return NULL;
    bool scarce = is_scarce(self->fd);
    if (!attach(self, name) || (scarce && !copy(self))) {
        int why = errno;
        block_free(self);
        errno = why;
        return NULL;
    }
    if (scarce) forget_name(self);
    memcpy(self->token, name->token.data, BLOCK_TOKEN_BYTES);
    self->name.pid = (uint32_t)getpid();
    self->name.size = self->size;
    return self;
}

/* A descriptor that is kept: when there is no other a block can be copied with it. */
static _Atomic int reserve_fd = -1;

static void keep_reserve(void)
{
    int none = -1, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && !atomic_compare_exchange_strong(&reserve_fd, &none, fd)) close(fd);
}

block_t *block_open(const Peach__Shared *name)
{
    char path[64], link[64];
    snprintf(path, sizeof path, "/proc/%u/fd/%u", name->pid, name->fd);
    ssize_t length = readlink(path, link, sizeof link - 1);
    if (length < 0) return NULL;
    link[length] = 0;
    /* Nothing else is opened, whatever the name says. */
    if (strncmp(link, link_name, sizeof link_name - 1) != 0) {
        errno = ENOENT;
        return NULL;
    }
    if (atomic_load(&reserve_fd) < 0) keep_reserve();
    block_t *self = open_path(path, name);
    if (self || (errno != EMFILE && errno != ENFILE)) return self;
    int spare = atomic_exchange(&reserve_fd, -1);
    if (spare >= 0) close(spare);
    self = open_path(path, name);
    int why = errno;
    keep_reserve();
    errno = why;
    return self;
}

void block_settle(block_t *self)
{
    if (self->fd < 0 || self->pool) return;
    if (self->size < copy_bytes || atomic_load(&mapped) >= MAPPED_MOST) copy(self);
    if (!block_data(self)) return; /* its reader says so */
    forget_name(self);
    self->settled = self->head != NULL;
    if (self->settled) atomic_fetch_add(&mapped, 1);
}

block_t *block_ref(block_t *self)
{
    atomic_fetch_add(&self->references, 1);
    return self;
}

void *block_data(block_t *self)
{
    if (!self->data && self->capacity > 0) map_data(self, MAP_PRIVATE);
    return self->data;
}

size_t block_size(const block_t *self) { return self->size; }
Peach__Shared *block_name(block_t *self) { return self->fd >= 0 ? &self->name : NULL; }

/* ---- pools ---- */

block_pool_t *block_pool_new(void)
{
    block_pool_t *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    pthread_mutex_init(&self->lock, NULL);
    list_init(&self->idle);
    return self;
}

static void drop_idle(block_pool_t *self, block_t *block)
{
    list_remove(&block->node);
    self->bytes -= block->capacity;
    self->count--;
    block_free(block);
}

static void pool_free(block_pool_t *self)
{
    pthread_mutex_destroy(&self->lock);
    free(self);
}

void block_pool_destroy(block_pool_t **self_p)
{
    block_pool_t *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    pthread_mutex_lock(&self->lock);
    for (node_t *n; (n = list_first(&self->idle)) != NULL;)
        drop_idle(self, LIST_ITEM(n, block_t, node));
    self->closed = true;
    bool last = self->out == 0;
    pthread_mutex_unlock(&self->lock);
    if (last) pool_free(self);
}

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void block_pool_trim(block_pool_t *self)
{
    uint64_t now_ms = clock_ms();
    pthread_mutex_lock(&self->lock);
    for (node_t *n; (n = list_first(&self->idle)) != NULL;) {
        block_t *block = LIST_ITEM(n, block_t, node);
        if (now_ms - block->idle_since_ms < idle_ms) break;
        drop_idle(self, block);
    }
    pthread_mutex_unlock(&self->lock);
}

bool block_pool_empty(block_pool_t *self)
{
    pthread_mutex_lock(&self->lock);
    bool empty = list_empty(&self->idle);
    pthread_mutex_unlock(&self->lock);
    return empty;
}

/* One that is not in use and not much too large. */
static block_t *reuse(block_pool_t *pool, size_t size)
{
    for (node_t *n = list_first(&pool->idle); n; n = list_next(&pool->idle, n)) {
        block_t *block = LIST_ITEM(n, block_t, node);
        if (block->capacity < size || block->capacity / 2 > size) continue;
        if (!claim(block, size)) continue;
        list_remove(n);
        pool->bytes -= block->capacity;
        pool->count--;
        return block;
    }
    return NULL;
}

block_t *block_new(block_pool_t *pool, size_t size)
{
    const size_t step = 32 << 10;
    pthread_mutex_lock(&pool->lock);
    block_t *block = reuse(pool, size);
    if (block) {
        atomic_store(&block->references, 1);
    } else if ((block = make((size + step - 1) / step * step)) != NULL) {
        block->pool = pool;
        claim(block, size);
    } else { /* descriptors that nobody uses may be what is missing */
        while (!list_empty(&pool->idle))
            drop_idle(pool, LIST_ITEM(list_first(&pool->idle), block_t, node));
    }
    if (block) pool->out++;
    pthread_mutex_unlock(&pool->lock);
    return block;
}

void block_unref(block_t *self)
{
    if (!self || atomic_fetch_sub(&self->references, 1) != 1) return;
    block_pool_t *pool = self->pool;
    if (!pool) {
        block_free(self);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->out--;
    bool last = pool->closed && pool->out == 0;
    if (pool->closed) {
        block_free(self);
    } else {
        self->idle_since_ms = clock_ms();
        pool->bytes += self->capacity;
        list_append(&pool->idle, &self->node);
        pool->count++;
        while (pool->bytes > pool_bytes || pool->count > POOL_BLOCKS)
            drop_idle(pool, LIST_ITEM(list_first(&pool->idle), block_t, node));
    }
    pthread_mutex_unlock(&pool->lock);
    if (last) pool_free(pool);
}
