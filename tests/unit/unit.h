/* cmocka with what it wants included before. */
#ifndef PEACH_UNIT_H
#define PEACH_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netdb.h>
#include <stdbool.h>

/* Not on a machine where nobody wrote a file of hosts yet. */
static inline bool knows_localhost(void)
{
    struct addrinfo *found;
    bool known = getaddrinfo("localhost", NULL, NULL, &found) == 0;
    if (known) freeaddrinfo(found);
    return known;
}

#endif
