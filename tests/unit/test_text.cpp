// SPDX-License-Identifier: MIT
//
// The plugin's bounded lines of text: what fits, and where the rest is cut.
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <string>
#include <string_view>

#include "error.hpp"
#include "text.hpp"

using svm_pmu::Text;
using svm_pmu::utf8_prefix;

BOOST_AUTO_TEST_SUITE(utf8)

BOOST_AUTO_TEST_CASE(a_cut_never_falls_inside_a_character) {
  constexpr std::string_view kText =
      "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";  // 1, 2, 3, 4, 1 bytes
  constexpr std::size_t kWhole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (std::size_t limit = 0; limit < std::size(kWhole); ++limit)
    BOOST_TEST(utf8_prefix(kText, limit) == kText.substr(0, kWhole[limit]));
}

BOOST_AUTO_TEST_CASE(a_full_line_ends_with_a_whole_character_and_a_nul) {
  for (std::size_t ahead = Text::kCapacity - 6; ahead < Text::kCapacity + 2; ++ahead) {
    const std::string start(ahead, 'x');
    const Text line = Text() << start << "\xe2\x82\xac";
    const std::string_view text = line.view();
    BOOST_TEST(text.size() < Text::kCapacity);
    BOOST_TEST(line.c_str()[text.size()] == '\0');
    const bool fits = ahead + 3 < Text::kCapacity;
    BOOST_TEST(text == (fits ? start + "\xe2\x82\xac" : start.substr(0, Text::kCapacity - 1)));
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(numbers_are_written_whole_at_both_ends_of_their_range) {
  const Text line = Text() << uint64_t{0} << " " << ~uint64_t{0} << " " << INT32_MIN << " "
                           << INT32_MAX << " " << svm_pmu::Hex{0xab, 4} << " "
                           << svm_pmu::Hex{~uint64_t{0}};
  BOOST_TEST(line.view() == "0 18446744073709551615 -2147483648 2147483647 00ab ffffffffffffffff");
}
