// SPDX-License-Identifier: MIT
//
// A line of text of bounded length, built without allocation, locale or system call, so that it may
// be used in vcpu_reset (sandbox level S2 of vmm/plugin.h). What does not fit is cut at a UTF-8
// boundary.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace svm_pmu {

/// The largest prefix of `text` of at most `limit` bytes that does not split a UTF-8 sequence.
constexpr std::string_view utf8_prefix(std::string_view text, std::size_t limit) noexcept {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0u) == 0x80u) --limit;
  return text.substr(0, limit);
}

/// A number to be written in base 16, without a prefix, as MSR addresses and values are.
struct Hex {
  uint64_t value;
  int width = 1;  ///< padded with zeros on the left
};

class Text {
 public:
  static constexpr std::size_t kCapacity = 512;

  Text() noexcept = default;
  explicit Text(std::string_view text) noexcept { *this << text; }

  Text& operator<<(std::string_view part) noexcept {
    part = utf8_prefix(part, kCapacity - 1 - size_);
    size_ += part.copy(storage_.data() + size_, part.size());
    storage_[size_] = '\0';
    return *this;
  }
  Text& operator<<(const char* part) noexcept { return *this << std::string_view(part); }
  Text& operator<<(uint64_t value) noexcept { return number(value, 10, 1); }
  Text& operator<<(uint32_t value) noexcept { return number(value, 10, 1); }
  Text& operator<<(int32_t value) noexcept {
    const int64_t wide = value;
    if (wide < 0) *this << "-";
    return number(static_cast<uint64_t>(wide < 0 ? -wide : wide), 10, 1);
  }
  Text& operator<<(Hex hex) noexcept { return number(hex.value, 16, hex.width); }

  std::string_view view() const noexcept { return {storage_.data(), size_}; }
  const char* c_str() const noexcept { return storage_.data(); }

 private:
  Text& number(uint64_t value, int base, int width) noexcept {
    std::array<char, 24> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, base).ptr;
    for (auto length = end - digits.data(); length < width; ++length) *this << "0";
    return *this << std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data()));
  }

  std::array<char, kCapacity> storage_{};
  std::size_t size_ = 0;
};

}  // namespace svm_pmu
