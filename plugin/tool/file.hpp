// SPDX-License-Identifier: MIT
//
// Files of the operating system: a descriptor that closes itself, and small files read whole.
#pragma once

#include <unistd.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace svm_pmu::tool {

/// Owns a file descriptor; closes it.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

/// A file's content; for files of /proc and /sys, whose size is not known before. Error: errno.
tl::expected<std::string, int> read_file(const std::string& path);

/// The first word of a file; `otherwise` where it cannot be read or is empty.
std::string first_word(const std::string& path, const std::string& otherwise);

/// What a symbolic link leads to. Error: errno.
tl::expected<std::string, int> read_link(const std::string& path);

}  // namespace svm_pmu::tool
