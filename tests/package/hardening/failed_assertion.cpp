// SPDX-License-Identifier: MIT
//
// What _GLIBCXX_ASSERTIONS does where an assertion fails: it says so and aborts, and does not
// allocate before. vcpu_reset may run where an allocation is fatal or takes a lock that nobody
// gives back, and its assertions must end it with their words all the same. Exit status: 0 aborted
// without an allocation, 1 allocated, 2 went on.
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string_view>

namespace {
std::atomic<bool> armed = false;
std::atomic<int> allocations = 0;

void say(std::string_view text) {
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) _exit(2);
}
}  // namespace

// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): the C library's
extern "C" void* __libc_malloc(std::size_t size);
extern "C" void* malloc(std::size_t size) {
  if (armed) ++allocations;
  return __libc_malloc(size);
}

int main(int argc, char**) {
  std::signal(SIGABRT, [](int) {
    say(allocations == 0 ? "aborted, nothing was allocated\n" : "aborted after an allocation\n");
    _exit(allocations == 0 ? 0 : 1);
  });
  std::array<int, 2> two{};
  armed = true;
  const volatile int none = two[static_cast<std::size_t>(argc) + 1];
  armed = false;
  say("the assertion did not fail\n");
  return 2 + 0 * none;
}
