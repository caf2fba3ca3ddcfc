// SPDX-License-Identifier: MIT
//
// The bytes of one fuzz input, taken as numbers and texts. Behind the end everything is 0, so each
// input of any length means something.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace fuzz {

class Input {
 public:
  Input(const uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  bool flag() { return (byte() & 1) != 0; }

  /// One of `count` (1 or more), 0 first: an input that ends gives 0.
  uint32_t below(uint32_t count) { return byte() % count; }

  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | byte();
    return value;
  }
  uint64_t wide() {
    const uint64_t high = word();
    return high << 32 | word();
  }

  /// One of a table's entries, the first where the input has ended.
  template <typename T, std::size_t N>
  const T& one_of(const T (&table)[N]) {
    static_assert(N <= 256);
    return table[below(static_cast<uint32_t>(N))];
  }

 private:
  const uint8_t* data_;
  std::size_t left_;
};

}  // namespace fuzz
