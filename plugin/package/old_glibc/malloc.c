/* SPDX-License-Identifier: MIT
 *
 * mallinfo2, glibc 2.33, over mallinfo, whose fields are narrower: right up to 4 GiB. */
#include <malloc.h>
#include <stddef.h>

struct mallinfo old_mallinfo(void);
__asm__(".symver old_mallinfo, mallinfo@GLIBC_2.2.5");

struct mallinfo2 __wrap_mallinfo2(void);
struct mallinfo2 __wrap_mallinfo2(void) {
  const struct mallinfo old = old_mallinfo();
  const struct mallinfo2 info = {
      (unsigned)old.arena,    (unsigned)old.ordblks, (unsigned)old.smblks,  (unsigned)old.hblks,
      (unsigned)old.hblkhd,   (unsigned)old.usmblks, (unsigned)old.fsmblks, (unsigned)old.uordblks,
      (unsigned)old.fordblks, (unsigned)old.keepcost};
  return info;
}
