/* SPDX-License-Identifier: MIT
 *
 * In libpthread.so.0 before glibc 2.34. */
#include "old_symbol.h"

OLD_SYMBOL(pthread_create, "GLIBC_2.2.5");
OLD_SYMBOL(pthread_detach, "GLIBC_2.2.5");
OLD_SYMBOL(pthread_join, "GLIBC_2.2.5");
OLD_SYMBOL(pthread_once, "GLIBC_2.2.5");
OLD_SYMBOL(__pthread_key_create, "GLIBC_2.2.5");
