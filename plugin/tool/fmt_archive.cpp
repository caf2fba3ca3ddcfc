// SPDX-License-Identifier: MIT
//
// The part of fmt that is compiled once, for programs that have it inside: format-inl.h defines
// what fmt's other headers declare, but for the templates that they call extern.
#include <fmt/format-inl.h>

template auto fmt::detail::thousands_sep_impl<char>(fmt::detail::locale_ref)
    -> fmt::detail::thousands_sep_result<char>;
template auto fmt::detail::decimal_point_impl<char>(fmt::detail::locale_ref) -> char;
#if FMT_VERSION >= 100000 && FMT_VERSION < 110000  // before: implicit; since: no template
template void fmt::detail::vformat_to<char>(fmt::detail::buffer<char>&, fmt::string_view,
                                            fmt::detail::vformat_args<char>::type,
                                            fmt::detail::locale_ref);
#endif
