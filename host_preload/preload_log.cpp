// SPDX-License-Identifier: MIT
#include "host_preload/preload_log.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmm/plugin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "host_kit/host.hpp"
#include "host_preload/real_calls.hpp"

namespace host_preload {
namespace {

constexpr std::size_t kLineSize = 1024;

constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

/// A level's number in syslog(3), which the journal uses.
int priority_of(uint32_t level) noexcept {
  struct Priority {
    uint32_t level;
    int number;
  };
  constexpr std::array<Priority, 4> kPriorities{
      {{VMM_LOG_ERROR, 3}, {VMM_LOG_WARNING, 4}, {kLogNotice, 5}, {VMM_LOG_INFO, 6}}};
  for (const Priority& each : kPriorities)
    if (level <= each.level) return each.number;
  return 7;
}

/// One entry of the journal; a message without line breaks needs no more than this (sd_journal's
/// native protocol: systemd's docs/JOURNAL_NATIVE_PROTOCOL.md).
void write_entry(int fd, uint32_t level, std::string_view message) noexcept {
  std::array<char, kLineSize + 64> entry;
  const int length = std::snprintf(
      entry.data(), entry.size(), "PRIORITY=%d\nSYSLOG_IDENTIFIER=vmm_preload\nMESSAGE=%.*s\n",
      priority_of(level), static_cast<int>(message.size()), message.data());
  // the socket does not block: what a journal that stands still has no room for is lost
  if (length > 0) static_cast<void>(!write(fd, entry.data(), static_cast<std::size_t>(length)));
}

/// Above the descriptors that programs name by number in scripts and options.
constexpr int kLowestFd = 100;

/// This thread's id, asked once per process: a vCPU thread's system call filter may know no gettid
/// later on. Initial-exec, so that reading it allocates nothing.
struct ThreadId {
  int pid;
  int tid;
};
__attribute__((tls_model("initial-exec"))) constinit thread_local ThreadId thread_id{0, 0};

int current_tid(int pid) noexcept {
  if (thread_id.pid != pid) thread_id = {pid, static_cast<int>(syscall(SYS_gettid))};
  return thread_id.tid;
}

void write_all(int fd, const char* text, std::size_t length) noexcept {
  while (length > 0) {
    const ssize_t n = write(fd, text, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text += n;
    length -= static_cast<std::size_t>(n);
  }
}

}  // namespace

int PreloadLog::open(const char* target) noexcept {
  const KeepErrno keep_errno;
  if (target == nullptr || *target == '\0') return 0;
  if (std::strcmp(target, "journal") == 0) return open_journal(kJournalSocket);
  if (std::strcmp(target, "stderr") == 0) {
    verbose_ = true;
    return 0;
  }
  const int fd = ::open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
  if (fd < 0) return -errno;
  const int result = keep(fd);
  if (result == 0) verbose_ = true;
  return result;
}

int PreloadLog::open_journal(const char* socket_path) noexcept {
  const KeepErrno keep_errno;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(socket_path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  std::memcpy(address.sun_path, socket_path, std::strlen(socket_path) + 1);
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int code = -errno;
    real_close(fd);
    return code;
  }
  journal_ = true;
  return keep(fd);
}

/// Takes a descriptor over, under a number that no program names.
int PreloadLog::keep(int fd) noexcept {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, kLowestFd);
  if (moved >= 0) real_close(fd);
  struct stat info {};
  const int kept = moved >= 0 ? moved : fd;
  if (fstat(kept, &info) != 0) {
    const int code = -errno;
    real_close(kept);
    return code;
  }
  device_ = info.st_dev;
  inode_ = info.st_ino;
  fd_.store(kept, std::memory_order_release);
  return 0;
}

void PreloadLog::set_process() noexcept { pid_.store(getpid(), std::memory_order_relaxed); }

bool PreloadLog::wanted(uint32_t level) const noexcept { return verbose_ || level < VMM_LOG_INFO; }

std::size_t PreloadLog::prefix(char* line, std::size_t size, uint32_t level) const noexcept {
  const int pid = pid_.load(std::memory_order_relaxed);
  const std::string_view name = level == kLogNotice ? "notice" : host_kit::log_level_name(level);
  const int n = std::snprintf(line, size, "vmm_preload[%d/%d] %.*s: ", pid, current_tid(pid),
                              static_cast<int>(name.size()), name.data());
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

// NOLINTNEXTLINE(cert-dcl50-cpp): it neither allocates nor throws, and its format is checked
void PreloadLog::event(uint32_t level, const char* format, ...) noexcept {
  if (!wanted(level)) return;
  const KeepErrno keep;
  std::array<char, kLineSize> line;
  const std::size_t message = prefix(line.data(), line.size(), level);
  std::size_t length = message;
  va_list arguments;
  va_start(arguments, format);
  const int n = std::vsnprintf(line.data() + length, line.size() - length - 1, format, arguments);
  va_end(arguments);
  if (n > 0) length += std::min(static_cast<std::size_t>(n), line.size() - length - 2);
  write_line(level, line.data(), message, length);
}

void PreloadLog::plugin(uint32_t level, std::string_view source,
                        std::string_view message) noexcept {
  event(level, "%.*s: %.*s", static_cast<int>(source.size()), source.data(),
        static_cast<int>(std::min(message.size(), kLineSize)), message.data());
}

/// True while the descriptor is the file that was opened.
bool PreloadLog::file_is_ours() const noexcept {
  struct stat info {};
  // the plain system call: glibc's fstat is newfstatat, which fewer filters know. The struct is the
  // kernel's on x86-64.
  return syscall(SYS_fstat, fd_.load(std::memory_order_relaxed), &info) == 0 &&
         info.st_dev == device_ && info.st_ino == inode_;
}

void PreloadLog::write_line(uint32_t level, char* line, std::size_t message,
                            std::size_t length) noexcept {
  // one event is one line, whatever a plugin puts into its message
  std::replace_if(
      line, line + length, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  line[length++] = '\n';
  int fd = fd_.load(std::memory_order_acquire);
  if (fd >= 0 && !file_is_ours()) {
    fd_.store(-1, std::memory_order_relaxed);
    verbose_ = false;
    fd = -1;
  }
  if (fd >= 0 && journal_)
    write_entry(fd, level, {line + message, length - message - 1});
  else if (fd >= 0)
    write_all(fd, line, length);
  if (fd < 0 ? wanted(level) : level < VMM_LOG_WARNING) write_all(STDERR_FILENO, line, length);
}

}  // namespace host_preload
