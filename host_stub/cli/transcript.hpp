// SPDX-License-Identifier: MIT
//
// Shows events: as a transcript for people, or as JSON, one object a line.
#pragma once

#include <cstdio>
#include <string>

#include "stub_vmm/event.hpp"

namespace host_stub {

class Transcript {
 public:
  enum class Format : uint8_t { text, json };

  /// `color`: ANSI colours in the text format.
  Transcript(std::FILE* out, Format format, bool color);

  void show(const Event& event);

 private:
  void show_text(const Event& event);
  void show_json(const Event& event);

  std::FILE* out_;
  Format format_;
  bool color_;
};

}  // namespace host_stub
