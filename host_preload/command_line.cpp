// SPDX-License-Identifier: MIT
#include "host_preload/command_line.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "host_preload/real_calls.hpp"

namespace host_preload {
namespace {

/// The first option of "a,b=c,..." from `at` on, which then is the place after its comma.
std::string next_option(std::string_view text, std::size_t& at) {
  std::string option;
  for (; at < text.size(); ++at) {
    if (text[at] == ',') {
      if (at + 1 == text.size() || text[at + 1] != ',') break;
      ++at;
    }
    option += text[at];
  }
  ++at;
  return option;
}

std::string name_in(std::string_view value) {
  constexpr std::string_view kGuest = "guest=";
  std::string name;
  for (std::size_t at = 0; at < value.size();) {
    const bool first = at == 0;
    const std::string option = next_option(value, at);
    if (option.starts_with(kGuest))
      name = option.substr(kGuest.size());
    else if (first && option.find('=') == std::string::npos)
      name = option;  // QEMU's short form
  }
  return name;
}

}  // namespace

std::vector<std::string> own_command_line() {
  std::vector<std::string> arguments;
  const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return arguments;
  std::array<char, 4096> part;
  bool inside = false;
  for (;;) {
    const ssize_t n = read(fd, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    for (const char c : std::string_view(part.data(), static_cast<std::size_t>(n))) {
      if (!inside) arguments.emplace_back();
      inside = c != '\0';
      if (inside) arguments.back() += c;
    }
  }
  real_close(fd);
  return arguments;
}

std::string vm_name(const std::vector<std::string>& command_line) {
  std::string name;
  for (std::size_t i = 1; i < command_line.size(); ++i) {
    const std::string& argument = command_line[i];
    if ((argument == "-name" || argument == "--name") && i + 1 < command_line.size())
      name = name_in(command_line[++i]);
    else if (argument.starts_with("--name="))
      name = name_in(std::string_view(argument).substr(7));
  }
  return name;
}

}  // namespace host_preload
