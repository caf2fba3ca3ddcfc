// SPDX-License-Identifier: MIT
//
// What the C++ library lacks when it is linked into a file that hosts load and unload.
#include <cxxabi.h>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): names of the C++ ABI
namespace __gnu_cxx {
void __freeres();  // libsupc++, eh_alloc.cc: frees its reserve for exceptions without memory
}

namespace __cxxabiv1 {
/// Itanium C++ ABI, Exception Handling, 2.2.2: what a thread throws and catches.
struct __cxa_eh_globals {
  void* caught_exceptions;
  unsigned int uncaught_exceptions;
};
// The library's own are allocated at a thread's first exception, and without memory, which is when
// exceptions are thrown, the process is aborted ("cannot allocate memory for thread-local data").
// These are part of every thread from the start.
[[gnu::tls_model("initial-exec")]] constinit static thread_local __cxa_eh_globals globals{};
extern "C" __cxa_eh_globals* __cxa_get_globals() noexcept { return &globals; }
extern "C" __cxa_eh_globals* __cxa_get_globals_fast() noexcept { return &globals; }
}  // namespace __cxxabiv1
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace {
/// The library gets its reserve, 71 KiB, each time that it is loaded, and never gives it back.
[[gnu::destructor]] void unloaded() { __gnu_cxx::__freeres(); }
}  // namespace
