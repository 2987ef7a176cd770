/* cmocka with what it wants included before. */
#ifndef PEACH_UNIT_H
#define PEACH_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
