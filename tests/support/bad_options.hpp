// SPDX-License-Identifier: MIT
//
// Option strings that must be refused, what the message must name, and what it must say is allowed.
#pragma once

#include <ostream>

struct BadOptions {
  const char* what;
  const char* options;
  const char* names;    ///< the culprit, as the message shows it
  const char* allowed;  ///< the alternative that it offers
};

inline std::ostream& operator<<(std::ostream& out, const BadOptions& row) {
  return out << row.what;
}

inline constexpr BadOptions kBadOptions[] = {
    {"unknown key", "pmu=off", "unknown key 'pmu'", "pmu-cap-disabled, pmu-off-method"},
    {"upper-case key", "STRICT=on", "unknown key 'STRICT'", "strict"},
    {"empty key", "=on", "the key before '=on' is empty", "pmu-cap-disabled"},
    {"key without =", "strict", "'strict' has no '='", "key=value"},
    {"empty value", "strict=", "the value of 'strict' is empty", "on|off"},
    {"blank before key", " strict=on", "unknown key ' strict' (blanks are part of a key)",
     "strict"},
    {"blank after key", "strict =on", "unknown key 'strict ' (blanks are part of a key)", "strict"},
    {"blank before value", "strict= on", "' on' of 'strict'", "on|off"},
    {"blank after value", "strict=on ", "'on ' of 'strict'", "on|off"},
    {"two commas between options", "strict=on,,verify=on", "'on,verify=on' of 'strict'", "on|off"},
    {"two commas alone", ",,", "',' has no '='", "key=value"},
    {"trailing comma", "strict=on,", "empty option", "comma"},
    {"leading comma", ",strict=on", "empty option", "comma"},
    {"lone comma", ",", "empty option", "comma"},
    {"duplicate key", "strict=on,strict=on", "'strict' is given more than once", ""},
    {"duplicate key with another value", "strict=on,verify=on,strict=off", "'strict'", "once"},
    {"bad boolean", "strict=maybe", "'maybe' of 'strict'", "on|off|true|false|yes|no|1|0"},
    {"bad method", "pmu-off-method=xyz", "'xyz' of 'pmu-off-method'", "auto|cap|msr-filter"},
    {"number where none belongs", "log-level=3", "'3' of 'log-level'", "error|warning|info|debug"},
    {"number as boolean", "strict=2", "'2' of 'strict'", "on|off"},
    {"negative number", "strict=-1", "'-1' of 'strict'", "on|off"},
    {"upper-case value", "strict=ON", "'ON' of 'strict'", "on|off"},
    {"second = in the value", "strict=on=off", "'on=off' of 'strict'", "on|off"},
    {"invalid UTF-8", "strict=\xff\xfe", "not valid UTF-8", ""},
    {"overlong UTF-8", "strict=\xc0\xaf", "not valid UTF-8", ""},
    {"UTF-8 surrogate", "strict=\xed\xa0\x80", "not valid UTF-8", ""},
    {"cut UTF-8", "strict=\xe2\x82", "not valid UTF-8", ""},
    {"valid UTF-8 that is no word", "strict=\xc3\xa4", "'\\xc3\\xa4' of 'strict'", "on|off"},
    {"the good before the bad", "verify=on,pmu-off-method=none", "'none'", "auto|cap|msr-filter"},
};
