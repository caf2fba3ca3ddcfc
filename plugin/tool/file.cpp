// SPDX-License-Identifier: MIT
#include "tool/file.hpp"

#include <fcntl.h>
#include <limits.h>

#include <array>
#include <cerrno>

namespace svm_pmu::tool {

tl::expected<std::string, int> read_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return tl::unexpected(errno);
  std::string content;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t size = ::read(fd.get(), part.data(), part.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return tl::unexpected(errno);
    if (size == 0) return content;
    content.append(part.data(), static_cast<std::size_t>(size));
  }
}

std::string first_word(const std::string& path, const std::string& otherwise) {
  const auto content = read_file(path);
  if (!content) return otherwise;
  constexpr const char* kBlanks = " \t\n";
  const std::size_t begin = content->find_first_not_of(kBlanks);
  if (begin == std::string::npos) return otherwise;
  return content->substr(begin, content->find_first_of(kBlanks, begin) - begin);
}

tl::expected<std::string, int> read_link(const std::string& path) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
  if (size < 0) return tl::unexpected(errno);
  return std::string(target.data(), static_cast<std::size_t>(size));
}

}  // namespace svm_pmu::tool
