// SPDX-License-Identifier: MIT
#include "tool/words.hpp"

#include <algorithm>

#include "error.hpp"

namespace svm_pmu::tool {

std::string errno_name(int32_t code) {
  Text text;
  text << Errno{code};
  return std::string(text.view());
}

std::string wrapped(std::string_view head, std::size_t indent, std::string_view text) {
  constexpr std::size_t kColumns = 96;
  std::string out(head);
  out.resize(std::max(indent, out.size()), ' ');
  std::size_t column = out.size();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    if (at != 0 && column + 1 + end - at > kColumns) {
      out += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (at != 0) {
      out += ' ';
      ++column;
    }
    out += text.substr(at, end - at);
    column += end - at;
    at = end + 1;
  }
  return out + '\n';
}

}  // namespace svm_pmu::tool
