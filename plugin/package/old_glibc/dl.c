/* SPDX-License-Identifier: MIT
 *
 * In libdl.so.2 before glibc 2.34. */
#include "old_symbol.h"

OLD_SYMBOL(dlopen, "GLIBC_2.2.5");
OLD_SYMBOL(dlsym, "GLIBC_2.2.5");
OLD_SYMBOL(dlclose, "GLIBC_2.2.5");
OLD_SYMBOL(dlerror, "GLIBC_2.2.5");
OLD_SYMBOL(dladdr, "GLIBC_2.2.5");
OLD_SYMBOL(dladdr1, "GLIBC_2.3.3");
