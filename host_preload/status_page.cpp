// SPDX-License-Identifier: MIT
#include "host_preload/status_page.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "host_preload/real_calls.hpp"

namespace host_preload {
namespace {

/// Copies what fits, with a NUL after it; the target is zeroed before.
template <std::size_t Size>
void copy_text(char (&to)[Size], std::string_view text) noexcept {
  std::memset(to, 0, Size);
  text.copy(to, Size - 1);
}

constexpr int32_t kFree = -1, kTaken = -2;  // values of StatusVm::fd

/// A change of an entry: readers see an odd sequence meanwhile. One thread at a time.
class Change {
 public:
  explicit Change(StatusVm& vm) noexcept : vm_(vm) {
    vm_.sequence.fetch_or(1);  // a full barrier on x86-64, the only machine that has this library
  }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;
  ~Change() { vm_.sequence.fetch_add(1, std::memory_order_release); }

 private:
  StatusVm& vm_;
};

/// How many descriptors the process's table has room for now ("FDSize" of proc(5)); 0: not known.
int table_size() noexcept {
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  std::array<char, 1024> text{};  // the line is among the first ten
  const ssize_t size = read(file, text.data(), text.size() - 1);
  real_close(file);
  constexpr const char* kField = "\nFDSize:";
  const char* found = size > 0 ? std::strstr(text.data(), kField) : nullptr;
  return found != nullptr ? static_cast<int>(std::strtol(found + std::strlen(kField), nullptr, 10))
                          : 0;
}

/// A descriptor out of the way of the VMM's, which would otherwise get other numbers than without
/// us: one of the last that the table has room for. Not above them: if a process has threads, the
/// kernel lets a table grow after an RCU grace period only, some 10 ms (fs/file.c, expand_fdtable).
int raised(int fd) noexcept {
  constexpr int kLast = 8;
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, std::max(table_size() - kLast, fd));
  if (high < 0) return fd;
  real_close(fd);
  return high;
}

/// The file: of the page's size, for good. A negated errno if there can be none.
int make_file() noexcept {
  // the function is of glibc 2.27
  const int low =
      static_cast<int>(syscall(SYS_memfd_create, kStatusName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (low < 0) return -errno;
  const int fd = raised(low);
  if (ftruncate(fd, static_cast<off_t>(kStatusSize)) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
    return fd;
  const int code = -errno;
  real_close(fd);
  return code;
}

}  // namespace

StatusPage::~StatusPage() {
  if (page_ != nullptr) munmap(page_, kStatusSize);
  if (fd_ >= 0) real_close(fd_);
}

int StatusPage::create(pid_t pid, std::string_view host, const PluginInstances& plugins) noexcept {
  page_ = nullptr;
  if (fd_ >= 0) real_close(fd_);  // the parent's; its mapping stays
  fd_ = make_file();
  if (fd_ < 0) return fd_;
  void* memory = mmap(nullptr, kStatusSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (memory == MAP_FAILED) {
    const int code = -errno;
    real_close(fd_);
    fd_ = -1;
    return code;
  }
  Page& page = *static_cast<Page*>(memory);  // zeroes
  for (StatusVm& vm : page.vms) vm.fd.store(kFree, std::memory_order_relaxed);
  for (std::size_t i = 0; i < std::min<std::size_t>(plugins.size(), kStatusPlugins); ++i) {
    copy_text(page.plugins[i].name, plugins[i]->name());
    copy_text(page.plugins[i].version, plugins[i]->version());
    copy_text(page.plugins[i].options, plugins[i]->options());
  }
  StatusHeader& header = page.header;
  header.version = kStatusVersion;
  header.header_size = sizeof(StatusHeader);
  header.plugin_size = sizeof(StatusPlugin);
  header.plugin_count = kStatusPlugins;
  header.vm_size = sizeof(StatusVm);
  header.vm_count = kStatusVms;
  header.pid = static_cast<uint32_t>(pid);
  header.plugins = static_cast<uint32_t>(plugins.size());
  copy_text(header.host, host);
  // last: now it is one. x86-64 keeps the order of stores, so only the compiler has to.
  std::atomic_signal_fence(std::memory_order_release);
  std::memcpy(header.magic, kStatusMagic, sizeof kStatusMagic);
  page_ = &page;
  return 0;
}

StatusVm* StatusPage::add_vm(int fd) noexcept {
  if (page_ == nullptr) return nullptr;
  for (StatusVm& vm : page_->vms) {
    int32_t free = kFree;
    if (!vm.fd.compare_exchange_strong(free, kTaken, std::memory_order_acquire)) continue;
    const Change change(vm);
    vm.plugins = 0;
    vm.resets.store(0, std::memory_order_relaxed);
    vm.failed_resets.store(0, std::memory_order_relaxed);
    std::memset(vm.states, 0, sizeof vm.states);
    vm.fd.store(fd, std::memory_order_relaxed);
    return &vm;
  }
  page_->header.vms_without_room.fetch_add(1, std::memory_order_relaxed);
  return nullptr;
}

void say_state(StatusVm* vm, std::size_t plugin, std::string_view state) noexcept {
  if (vm == nullptr || plugin >= kStatusPlugins) return;
  const Change change(*vm);
  vm->plugins |= 1u << plugin;
  copy_text(vm->states[plugin], state);
}

void count_reset(StatusVm* vm, int32_t result) noexcept {
  if (vm == nullptr) return;
  vm->resets.fetch_add(1, std::memory_order_relaxed);
  if (result < 0) vm->failed_resets.fetch_add(1, std::memory_order_relaxed);
}

void end_vm(StatusVm* vm) noexcept {
  if (vm == nullptr) return;
  vm->fd.store(kFree, std::memory_order_release);
}

}  // namespace host_preload
