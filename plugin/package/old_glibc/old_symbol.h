/* SPDX-License-Identifier: MIT
 *
 * Functions of glibc by their older symbol versions. A file that is linked on a system with a new
 * glibc asks for the newest version of each function, and an older system refuses to load it, even
 * where the function is the same. The linker's --wrap leads every call of NAME in a file, those
 * from inside the archives of libstdc++ and Boost too, to __wrap_NAME here.
 *
 * x86-64, whose first glibc was 2.2.5. Each function has a section of its own: --gc-sections drops
 * those that a file does not call, and what they ask for.
 */
#ifndef OLD_GLIBC_OLD_SYMBOL_H
#define OLD_GLIBC_OLD_SYMBOL_H

/* __wrap_NAME, a jump to NAME of that version. The caller stays on the stack, which dlopen and
 * dlsym look at. */
#define OLD_SYMBOL(name, version)                     \
  __asm__(".symver old_" #name ", " #name "@" version \
          "\n"                                        \
          ".pushsection .text.old_" #name             \
          ",\"ax\",@progbits\n"                       \
          ".globl __wrap_" #name                      \
          "\n"                                        \
          ".hidden __wrap_" #name                     \
          "\n"                                        \
          ".type __wrap_" #name                       \
          ", @function\n"                             \
          "__wrap_" #name                             \
          ":\n"                                       \
          "  endbr64\n"                               \
          "  jmp *old_" #name                         \
          "@GOTPCREL(%rip)\n"                         \
          ".size __wrap_" #name ", . - __wrap_" #name \
          "\n"                                        \
          ".popsection\n")

#endif
