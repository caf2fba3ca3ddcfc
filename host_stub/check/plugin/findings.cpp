// SPDX-License-Identifier: MIT
#include "check/plugin/findings.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace host_stub::validate {
namespace {

/// Up to the first NUL, whatever stands there.
template <std::size_t N>
std::string text_of(const char (&text)[N]) {
  return {text, std::find(text, text + N, '\0')};
}

}  // namespace

Findings::Findings() {
  void* memory =
      mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  page_ = new (memory) Page{};
}

Findings::~Findings() { munmap(page_, sizeof(Page)); }

void Findings::note(unsigned rule, Verdict verdict, fmt::string_view format,
                    fmt::format_args args) noexcept {
  char text[kText] = "";
  try {
    const auto end = fmt::vformat_to_n(text, kText - 1, format, args).out;
    *end = '\0';
    // one line a note: what a plugin said may hold anything
    std::replace(text, end, '\n', ' ');
  } catch (...) {
    text[0] = '\0';
  }
  // in a loop the same thing comes up again and again, and rows are few
  for (uint32_t i = 0; i < std::min(page_->rows.load(), kRows); ++i) {
    const Row& row = page_->row[i];
    if (row.written && row.rule == rule && std::strcmp(row.text, text) == 0) return;
  }
  const uint32_t next = page_->rows.fetch_add(1);
  if (next >= kRows) return;
  Row& row = page_->row[next];
  row.rule = rule;
  row.verdict = verdict;
  std::memcpy(row.text, text, kText);
  row.written = true;
}

void Findings::enter(std::string_view function) noexcept {
  const std::size_t length = function.copy(page_->function, kName - 1);
  page_->function[length] = '\0';
}

void Findings::finish() noexcept { page_->finished = true; }

std::vector<RuleResult> Findings::results() const {
  std::vector<RuleResult> all;
  const uint32_t rows = std::min(page_->rows.load(), kRows);
  for (uint32_t i = 0; i < rows; ++i) {
    const Row& row = page_->row[i];
    if (row.written) all.push_back({row.rule, row.verdict, text_of(row.text)});
  }
  return all;
}

bool Findings::finished() const noexcept { return page_->finished; }

std::string Findings::function() const { return text_of(page_->function); }

}  // namespace host_stub::validate
