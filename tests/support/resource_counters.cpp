// SPDX-License-Identifier: MIT
#include "support/resource_counters.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

#include "sanitizers.hpp"

constinit thread_local ResourceCounters counters;

// The C library's allocator under its other names.
#if !HOST_STUB_SANITIZED
namespace {

/// Whether an allocation may succeed.
bool allocate(size_t size) {
  if (!counters.armed) return true;
  counters.bytes += size;
  return counters.allocations++ < counters.left;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier,readability-*): the C library's names, not ours
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void __libc_free(void*);
void* __libc_memalign(size_t, size_t);

__attribute__((visibility("default"))) void* malloc(size_t size) {
  return allocate(size) ? __libc_malloc(size) : nullptr;
}
__attribute__((visibility("default"))) void* calloc(size_t number, size_t size) {
  return allocate(number * size) ? __libc_calloc(number, size) : nullptr;
}
__attribute__((visibility("default"))) void* realloc(void* old, size_t size) {
  return allocate(size) ? __libc_realloc(old, size) : nullptr;
}
__attribute__((visibility("default"))) void free(void* old) {
  if (counters.armed && old != nullptr) ++counters.frees;
  __libc_free(old);
}
__attribute__((visibility("default"))) void* aligned_alloc(size_t alignment, size_t size) {
  return allocate(size) ? __libc_memalign(alignment, size) : nullptr;
}
__attribute__((visibility("default"))) int posix_memalign(void** out, size_t alignment,
                                                          size_t size) {
  *out = allocate(size) ? __libc_memalign(alignment, size) : nullptr;
  return *out != nullptr ? 0 : ENOMEM;
}
__attribute__((visibility("default"))) int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  if (counters.armed) ++counters.locks;
  // no static initialisation here, which could lock
  static std::atomic<int (*)(pthread_mutex_t*)> real = nullptr;
  if (real == nullptr)
    real = reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  return real.load()(mutex);
}
}
// NOLINTEND(bugprone-reserved-identifier,readability-*)
#endif
