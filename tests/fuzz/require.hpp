// SPDX-License-Identifier: MIT
//
// What a fuzz target demands of its subject. A demand that is not met ends the program, which is
// what a fuzzer and a replay take for a find.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace fuzz {

[[noreturn]] inline void broken(const char* file, int line, const char* demand,
                                const std::string& detail) {
  std::fprintf(stderr, "%s:%d: not so: %s%s%s\n", file, line, demand, detail.empty() ? "" : ": ",
               detail.c_str());
  std::abort();
}

/// Well-formed UTF-8 in one line: what the ABI asks of every text for people.
inline bool is_line_of_utf8(std::string_view text) {
  int due = 0;  // continuation bytes
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '\n' || byte == '\r' || byte == 0) return false;
    if (due > 0) {
      if ((byte & 0xc0) != 0x80) return false;
      --due;
    } else if (byte >= 0x80) {
      due = (byte & 0xe0) == 0xc0 ? 1 : (byte & 0xf0) == 0xe0 ? 2 : (byte & 0xf8) == 0xf0 ? 3 : -1;
      if (due < 0) return false;
    }
  }
  return due == 0;
}

}  // namespace fuzz

/// FUZZ_REQUIRE(demand, detail): `detail` is made only where the demand is not met.
#define FUZZ_REQUIRE(demand, detail)                                               \
  do {                                                                             \
    if (!(demand)) fuzz::broken(__FILE__, __LINE__, #demand, std::string(detail)); \
  } while (false)
