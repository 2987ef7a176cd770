/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "block.h"
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 300000 };

/* A name that outlives its block. */
typedef struct {
    Peach__Shared name;
    uint8_t token[BLOCK_TOKEN_BYTES];
} name_t;

static void copy_name(name_t *copy, block_t *block)
{
    copy->name = *block_name(block);
    memcpy(copy->token, copy->name.token.data, sizeof copy->token);
    copy->name.token.data = copy->token;
}

static void what_is_written_is_seen_and_what_a_reader_writes_is_not(void **state)
{
    (void)state;
    block_pool_t *pool = block_pool_new();
    block_t *block = block_new(pool, SIZE);
    memset(block_data(block), 'a', SIZE);
    block_t *reader = block_open(block_name(block)), *other = block_open(block_name(block));
    assert_int_equal(block_size(reader), SIZE);
    char *bytes = block_data(reader);
    assert_int_equal(bytes[0], 'a');
    assert_int_equal(bytes[SIZE - 1], 'a');
    memset(bytes, 'b', SIZE);
    assert_int_equal(((char *)block_data(block))[0], 'a');
    assert_int_equal(((char *)block_data(other))[0], 'a');
    block_unref(block); /* the memory lives as long as somebody has it */
    assert_int_equal(((char *)block_data(other))[SIZE - 1], 'a');
    block_unref(reader);
    block_unref(other);
    block_pool_destroy(&pool);
}

static void memory_is_used_again_when_nobody_has_it_open(void **state)
{
    (void)state;
    block_pool_t *pool = block_pool_new();
    block_t *first = block_new(pool, SIZE);
    void *memory = block_data(first);
    name_t old;
    copy_name(&old, first);
    block_t *reader = block_open(&old.name);
    block_unref(first);
    block_t *second = block_new(pool, SIZE);
    assert_ptr_not_equal(block_data(second), memory); /* it has a reader */
    block_t *late = block_open(&old.name);            /* and others may come */
    assert_non_null(late);
    block_unref(late);
    block_unref(reader);
    block_t *third = block_new(pool, SIZE - 1000);
    assert_ptr_equal(block_data(third), memory);
    assert_int_equal(block_size(third), SIZE - 1000);
    assert_null(block_open(&old.name)); /* it is another's now */
    assert_int_equal(errno, ENOENT);
    block_t *small = block_new(pool, 1000);
    block_unref(third);
    block_unref(small);
    small = block_new(pool, 1000); /* not out of one that is much too large */
    assert_ptr_not_equal(block_data(small), memory);
    block_unref(small);
    block_unref(second);
    assert_false(block_pool_empty(pool));
    block_pool_trim(pool);
    assert_false(block_pool_empty(pool)); /* not at once */
    block_pool_destroy(&pool);
}

static void a_block_outlives_its_pool(void **state)
{
    (void)state;
    block_pool_t *pool = block_pool_new();
    block_t *block = block_new(pool, SIZE);
    block_pool_destroy(&pool);
    memset(block_data(block), 'x', SIZE);
    block_unref(block);
}

static void a_reader_that_is_killed_costs_its_block_only(void **state)
{
    (void)state;
    block_pool_t *pool = block_pool_new();
    block_t *block = block_new(pool, SIZE);
    void *memory = block_data(block);
    int told[2];
    char byte;
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        block_t *mine = block_open(block_name(block));
        byte = mine && block_data(mine) ? 'y' : 'n';
        _exit(write(told[1], &byte, 1) == 1 && pause());
    }
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    block_unref(block);
    block = block_new(pool, SIZE); /* whether it still has it cannot be known */
    assert_ptr_not_equal(block_data(block), memory);
    block_unref(block);
    block_pool_destroy(&pool);
    close(told[0]);
    close(told[1]);
}

static void nothing_else_is_opened(void **state)
{
    (void)state;
    block_pool_t *pool = block_pool_new();
    block_t *block = block_new(pool, SIZE);
    name_t wrong;
    copy_name(&wrong, block);
    wrong.token[3] ^= 1; /* a guess */
    assert_null(block_open(&wrong.name));
    copy_name(&wrong, block);
    wrong.name.size = 1 << 30; /* more than is there */
    assert_null(block_open(&wrong.name));
    copy_name(&wrong, block);
    FILE *file = tmpfile();
    wrong.name.fd = (uint32_t)fileno(file); /* a file of ours */
    assert_null(block_open(&wrong.name));
    fclose(file);
    /* Memory with the right name and nothing in it; it can be taken away, too. */
    int fd = memfd_create("peach-block", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 8192), 0);
    wrong.name.fd = (uint32_t)fd;
    assert_null(block_open(&wrong.name));
    close(fd);
    wrong.name.pid = 4194304; /* nobody */
    assert_null(block_open(&wrong.name));
    assert_int_equal(errno, ENOENT);
    block_unref(block);
    block_pool_destroy(&pool);
}

static size_t descriptors(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static void what_is_only_read_keeps_no_descriptor(void **state)
{
    enum { BLOCKS = 40 };
    (void)state;
    block_pool_t *pool = block_pool_new();
    block_t *mine[BLOCKS], *theirs[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        mine[i] = block_new(pool, i % 2 ? SIZE : BLOCK_LEAST);
        memset(block_data(mine[i]), i, block_size(mine[i]));
    }
    size_t before = descriptors();
    for (int i = 0; i < BLOCKS; i++) {
        theirs[i] = block_open(block_name(mine[i]));
        block_settle(theirs[i]);
        assert_null(block_name(theirs[i]));
    }
    assert_true(descriptors() <= before + 1);
    for (int i = 0; i < BLOCKS; i++) {
        block_unref(mine[i]); /* and it is there although its owner has no use for it */
        const uint8_t *bytes = block_data(theirs[i]);
        assert_int_equal(bytes[0], i);
        assert_int_equal(bytes[block_size(theirs[i]) - 1], i);
        block_unref(theirs[i]);
    }
    block_pool_destroy(&pool);
}

/* So many are left. */
static void limit_descriptors(size_t spare)
{
    struct rlimit limit;
    int next = dup(0);
    close(next);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = (rlim_t)next + spare;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void where_descriptors_are_scarce_values_travel_otherwise(void **state)
{
    (void)state;
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    block_pool_t *pool = block_pool_new();
    block_t *block = block_new(pool, SIZE), *opened[64];
    memset(block_data(block), 7, SIZE);
    block_unref(block_open(block_name(block))); /* keeps its reserve */
    limit_descriptors(3);
    assert_null(block_new(pool, SIZE + 1)); /* more than half is in use: send a frame */
    for (int i = 0; i < 64; i++) {
        opened[i] = block_open(block_name(block)); /* with the last ones it is a copy */
        assert_non_null(opened[i]);
        assert_int_equal(((uint8_t *)block_data(opened[i]))[SIZE - 1], 7);
    }
    int left = open("/dev/null", O_RDONLY);
    assert_true(left >= 0); /* and there are some for who uses us */
    close(left);
    for (int i = 0; i < 64; i++) block_unref(opened[i]);
    setrlimit(RLIMIT_NOFILE, &before);
    block_unref(block);
    block_pool_destroy(&pool);
}

static void a_file_size_limit_is_respected(void **state)
{
    (void)state;
    struct rlimit before, less;
    getrlimit(RLIMIT_FSIZE, &before);
    less = before;
    less.rlim_cur = 100000;
    setrlimit(RLIMIT_FSIZE, &less);
    block_pool_t *pool = block_pool_new();
    assert_null(block_new(pool, SIZE)); /* and no SIGXFSZ ends us */
    block_t *small = block_new(pool, 50000);
    assert_non_null(small);
    block_unref(small);
    block_pool_destroy(&pool);
    setrlimit(RLIMIT_FSIZE, &before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_seen_and_what_a_reader_writes_is_not),
        cmocka_unit_test(memory_is_used_again_when_nobody_has_it_open),
        cmocka_unit_test(a_block_outlives_its_pool),
        cmocka_unit_test(a_reader_that_is_killed_costs_its_block_only),
        cmocka_unit_test(nothing_else_is_opened),
        cmocka_unit_test(what_is_only_read_keeps_no_descriptor),
        cmocka_unit_test(where_descriptors_are_scarce_values_travel_otherwise),
        cmocka_unit_test(a_file_size_limit_is_respected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
