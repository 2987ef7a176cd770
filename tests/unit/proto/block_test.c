/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "block.h"
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_seen_and_what_a_reader_writes_is_not),
        cmocka_unit_test(memory_is_used_again_when_nobody_has_it_open),
        cmocka_unit_test(a_block_outlives_its_pool),
        cmocka_unit_test(a_reader_that_is_killed_costs_its_block_only),
        cmocka_unit_test(nothing_else_is_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
