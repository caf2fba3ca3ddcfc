// SPDX-License-Identifier: MIT
//
// Errors as values: what the rooms of the plugin return instead of throwing.
#pragma once

#include <cstdint>
#include <tl/expected.hpp>

#include "text.hpp"

namespace svm_pmu {

struct Error {
  int32_t code = 0;  ///< negated errno, never 0
  Text text;         ///< one line for an operator
};

template <typename T>
using Expected = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(int32_t code, const Text& text) noexcept {
  return tl::unexpected<Error>(Error{code, text});
}

/// A negated errno, to be written by its name: "EBADF". strerror and its like may allocate or read
/// the locale, which vcpu_reset must not.
struct Errno {
  int32_t code;
};
Text& operator<<(Text& text, Errno error) noexcept;

}  // namespace svm_pmu
