/* SPDX-License-Identifier: MIT
 *
 * _dl_find_object, glibc 2.35, by which libgcc's unwinder finds the unwind table of a code address,
 * over dl_iterate_phdr, by which it did before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>

struct search {
  uintptr_t address;
  struct dl_find_object* found;
};

static int look_at(struct dl_phdr_info* object, size_t size, void* data) {
  struct search* search = data;
  const ElfW(Phdr)* table = NULL;
  int inside = 0;
  (void)size;
  for (ElfW(Half) i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)* segment = &object->dlpi_phdr[i];
    const uintptr_t start = object->dlpi_addr + segment->p_vaddr;
    if (segment->p_type == PT_GNU_EH_FRAME) {
      table = segment;
    } else if (segment->p_type == PT_LOAD && search->address - start < segment->p_memsz) {
      inside = 1;
      search->found->dlfo_map_start = (void*)start;
      search->found->dlfo_map_end = (void*)(start + segment->p_memsz);
    }
  }
  if (!inside || table == NULL) return 0;
  search->found->dlfo_eh_frame = (void*)(object->dlpi_addr + table->p_vaddr);
  return 1;
}

/* 0 and *found, or -1. */
int __wrap__dl_find_object(void* address, struct dl_find_object* found);
int __wrap__dl_find_object(void* address, struct dl_find_object* found) {
  struct search search = {(uintptr_t)address, found};
  found->dlfo_flags = 0;
  found->dlfo_link_map = NULL; /* libgcc does not read it */
  return dl_iterate_phdr(look_at, &search) == 1 ? 0 : -1;
}
