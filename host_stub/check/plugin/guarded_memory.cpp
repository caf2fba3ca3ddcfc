// SPDX-License-Identifier: MIT
#include "check/plugin/guarded_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace host_stub::validate {

GuardedMemory::GuardedMemory(std::size_t size) : size_(size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  usable_ = (size + page - 1) / page * page;
  void* pages =
      mmap(nullptr, usable_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED ||
      mprotect(static_cast<std::byte*>(pages) + usable_, page, PROT_NONE) != 0)
    throw std::bad_alloc();
  pages_ = static_cast<std::byte*>(pages);
  data_ = pages_ + usable_ - size;
}

void GuardedMemory::close() noexcept { mprotect(pages_, usable_, PROT_NONE); }

}  // namespace host_stub::validate
