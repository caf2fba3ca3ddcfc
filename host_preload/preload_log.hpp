// SPDX-License-Identifier: MIT
//
// The interposer's log: one line per event, "vmm_preload[PID/TID] LEVEL: EVENT key=value ...".
// Written with one write(2) from a buffer on the stack: no allocation, no lock, no stdio; lines of
// several threads and processes do not mix (O_APPEND).
//
// Without a target errors, warnings and notices (one per VM) are written, to standard error. With
// the target "journal" the same goes to systemd's journal, by its native protocol: one datagram to
// /run/systemd/journal/socket per line, never waited for. With a file or "stderr" all events are
// written. Errors go to standard error in any case: a VMM that does not start says why where its
// own message stands.
//
// Opened once, when the process first uses KVM: before that a VMM may still close all that it did
// not open. Should it do so later and get the number for a disk image, the log notices (device and
// inode differ) and falls silent rather than write into it.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <string_view>

namespace host_preload {

/// Beside the plugins' levels: what an operator reads when all is well.
constexpr uint32_t kLogNotice = 250;

class PreloadLog {
 public:
  constexpr PreloadLog() noexcept = default;
  PreloadLog(const PreloadLog&) = delete;
  PreloadLog& operator=(const PreloadLog&) = delete;

  /// `target`: a file to append to, "stderr", "journal", or nullptr. 0 or a negated errno: then as
  /// without one.
  int open(const char* target) noexcept;

  /// The journal's socket, at another place than systemd's.
  int open_journal(const char* socket_path) noexcept;

  /// Writes one line if the level is wanted; errno stays. Longer than a line can be: cut.
  void event(uint32_t level, const char* format, ...) noexcept
      __attribute__((format(printf, 3, 4)));

  /// A line of a plugin's.
  void plugin(uint32_t level, std::string_view source, std::string_view message) noexcept;

  /// The log was made by this process or its parent; ids in lines are of the process that calls
  /// this.
  void set_process() noexcept;

 private:
  int keep(int fd) noexcept;
  void write_line(uint32_t level, char* line, std::size_t message, std::size_t length) noexcept;
  bool wanted(uint32_t level) const noexcept;
  std::size_t prefix(char* line, std::size_t size, uint32_t level) const noexcept;
  bool file_is_ours() const noexcept;

  std::atomic<int> fd_{-1};  // of the file or the journal's socket; -1 = none
  bool journal_ = false;
  std::atomic<bool> verbose_{false};
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::atomic<int> pid_{0};
};

}  // namespace host_preload
